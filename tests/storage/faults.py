"""A storage that fails where a test wants it to: for every test of everything above the storage.

Every call on the storage, and every ``write`` and ``commit`` on its writers, is one numbered operation
(1, 2, …) in :attr:`FaultyStorage.operations`. A :class:`Plan` says what goes wrong at which number.

Stop at operation k for every k, before it and after it took effect::

    def run(storage: Storage) -> None: ...            # the work, all of it

    for plan in every_stop(run, fresh):               # fresh(): a new, empty storage each time
        inner = fresh()
        with contextlib.suppress(Killed):
            run(FaultyStorage(inner, plan))
        assert ...                                    # `inner` is what the next process finds

After a stop the storage is dead: every further call raises :class:`Killed` again, and unfinished writers
leave their temporary file behind, as ``kill -9`` does. ``Killed`` is a ``BaseException``, so that
``except Exception`` in the code under test does not survive it; ``finally`` blocks do run, but can change
nothing.

Errors (a full disk, a dead one), short reads and flipped bits::

    Plan(errors={4: NoSpace("full")}), Plan(short_reads={2: 10}), Plan(flips={2: 77})

With hypothesis: ``@given(plans(max_operations=40))``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from hypothesis import strategies as st

from zitcache.errors import NoSpace, ObjectTruncated, Unreachable, ZitcacheError
from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter, Storage


class Killed(BaseException):
    """The process was killed at this operation."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked of the storage. ``name``: the object or prefix; empty while a writer has no name yet."""

    number: int
    verb: str
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes wrong at which operation number.

    ``stop_before``: killed before it has any effect. ``stop_after``: killed after all of its effect.
    ``errors``: raised instead of doing it (an unfinished writer then loses its object, as the contract says).
    ``short_reads``: bytes cut from the end of what is read. ``flips``: the bit (modulo the length) to flip.
    """

    stop_before: int | None = None
    stop_after: int | None = None
    errors: Mapping[int, Exception] = field(default_factory=dict)
    short_reads: Mapping[int, int] = field(default_factory=dict)
    flips: Mapping[int, int] = field(default_factory=dict)


class FaultyStorage:
    """``inner``, with the faults of ``plan``. Thread-safe; operations are numbered as they begin."""

    def __init__(self, inner: Storage, plan: Plan | None = None) -> None:
        self.inner = inner
        self.plan = plan or Plan()
        self.operations: list[Operation] = []
        self.is_dead = False
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        return self.inner.location

    @property
    def is_remote(self) -> bool:
        return self.inner.is_remote

    @property
    def concurrency(self) -> int:
        return self.inner.concurrency

    def count(self, verb: str) -> int:
        """How often ``verb`` was asked for."""
        return sum(operation.verb == verb for operation in self.operations)

    def store(self, name: str, data: Buffer) -> None:
        with self._operation("store", name):
            self.inner.store(name, data)

    def create(self, name: str, data: Buffer) -> bool:
        with self._operation("create", name):
            return self.inner.create(name, data)

    def writer(self) -> ObjectWriter:
        with self._operation("writer", ""):
            return FaultyWriter(self, self.inner.writer())

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._operation("load", name) as number:
            data = bytearray(self.inner.load(name, offset, length))
            cut = min(self.plan.short_reads.get(number, 0), len(data))
            del data[len(data) - cut :]
            self._flip(number, memoryview(data))
            return bytes(data)

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        with self._operation("load_into", name) as number:
            self.inner.load_into(name, offset, buffer)
            if self.plan.short_reads.get(number, 0):
                raise ObjectTruncated(f"{name} is too short: a fault of the test.")
            self._flip(number, buffer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._operation("list", prefix):
            return iter(tuple(self.inner.list(prefix)))

    def info(self, name: str) -> ObjectInfo:
        with self._operation("info", name):
            return self.inner.info(name)

    def delete(self, name: str) -> None:
        with self._operation("delete", name):
            self.inner.delete(name)

    def __getattr__(self, name: str) -> object:
        """What only some storages have (``exists``, ``close``) is passed on and not an operation."""
        return getattr(self.inner, name)

    @contextlib.contextmanager
    def _operation(self, verb: str, name: str) -> Iterator[int]:
        with self._lock:
            if self.is_dead:
                raise Killed
            number = len(self.operations) + 1
            self.operations.append(Operation(number, verb, name))
            if number == self.plan.stop_before:
                self.is_dead = True
                raise Killed
        if number in self.plan.errors:
            raise self.plan.errors[number]
        yield number
        if number == self.plan.stop_after:
            self.is_dead = True
            raise Killed

    def _flip(self, number: int, data: memoryview) -> None:
        if number in self.plan.flips and data.nbytes:
            bit = self.plan.flips[number] % (8 * data.nbytes)
            data[bit // 8] ^= 1 << bit % 8


class FaultyWriter:
    """A writer of a :class:`FaultyStorage`."""

    def __init__(self, storage: FaultyStorage, inner: ObjectWriter) -> None:
        self._storage = storage
        self._inner = inner

    def write(self, data: Buffer) -> None:
        with self._removed_on_error(), self._storage._operation("write", ""):
            self._inner.write(data)

    def commit(self, name: str) -> None:
        with self._removed_on_error(), self._storage._operation("commit", name):
            self._inner.commit(name)

    def __enter__(self) -> FaultyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._storage.is_dead:
            self._inner.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _removed_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._inner.__exit__(type(error), error, error.__traceback__)
            raise


def count_operations(run: Callable[[Storage], object], inner: Storage) -> int:
    """How many operations ``run`` needs when nothing goes wrong."""
    storage = FaultyStorage(inner)
    run(storage)
    return len(storage.operations)


def every_stop(run: Callable[[Storage], object], fresh: Callable[[], Storage]) -> Iterator[Plan]:
    """A plan for each place where ``run`` can be killed. ``run`` is called once here, to count."""
    for number in range(1, count_operations(run, fresh()) + 1):
        yield Plan(stop_before=number)
        yield Plan(stop_after=number)


def every_error(
    run: Callable[[Storage], object], fresh: Callable[[], Storage], error: ZitcacheError
) -> Iterator[Plan]:
    """A plan for each operation of ``run`` at which ``error`` can strike once."""
    for number in range(1, count_operations(run, fresh()) + 1):
        yield Plan(errors={number: error})


def plans(max_operations: int) -> st.SearchStrategy[Plan]:
    """Any combination of at most one stop and a few errors, short reads and flips."""
    numbers = st.integers(1, max_operations)
    errors = st.sampled_from([NoSpace("The disk is full."), Unreachable("The disk did not answer.")])
    return st.builds(
        Plan,
        stop_before=st.none() | numbers,
        stop_after=st.none() | numbers,
        errors=st.dictionaries(numbers, errors, max_size=2),
        short_reads=st.dictionaries(numbers, st.integers(1, 1000), max_size=2),
        flips=st.dictionaries(numbers, st.integers(0, 1 << 20), max_size=2),
    )
