"""Runs several actors on one storage, operation by operation, in every order that can make a difference.

Each actor is an ordinary function of a storage and runs in a thread of its own, but every storage operation
waits until it is that actor's turn. An *order* is the list of turns. Orders that differ only in operations
that do not touch each other (another folder; two reads; another object) lead to the same end, so one of each
such class is run: the search is depth first with sleep sets (Godefroid, "Partial-Order Methods", 1996).

``explore`` runs all classes; ``switches`` runs every order with at most so many changes of turn, for actors
that do too much for that. Both start from a fresh copy of the same storage each time. While they run, the
clock stands still and random bytes are the same for the same actor each time: an order can be repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from unittest import mock

from tests.prune.memory import MemoryStorage
from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter, Storage

Actor = Callable[[Storage], object]
_NOW = time.time() + 3600
"""Later than whatever the scene was made at."""
CHANGES = {"store", "create", "commit", "delete"}


@dataclass(frozen=True, slots=True)
class Step:
    """An operation that an actor is about to do. ``name``: an object, or a folder to be listed."""

    verb: str
    name: str

    def touches(self, other: Step) -> bool:
        """Whether the order of the two can make a difference."""
        if self.verb not in CHANGES and other.verb not in CHANGES:
            return False
        if "list" in (self.verb, other.verb):
            return _folder(self) == _folder(other)
        return self.name == other.name


def _folder(step: Step) -> str:
    return step.name if step.verb == "list" else step.name.rpartition("/")[0]


class _Seat:
    """One actor's place: what it wants to do next, and the permission to do it."""

    def __init__(self) -> None:
        self.pending: Step | None = None
        self.finished = False
        self.error: BaseException | None = None
        self.ready = threading.Event()
        self.go = threading.Event()
        self.lock = threading.Lock()


class Turned:
    """The storage as one actor sees it: every operation waits for its turn. Writes to a writer do not."""

    def __init__(self, inner: MemoryStorage, seat: _Seat) -> None:
        self._inner, self._seat = inner, seat

    @property
    def location(self) -> str:
        return self._inner.location

    @property
    def is_remote(self) -> bool:
        return False

    @property
    def concurrency(self) -> int:
        return 1

    def _turn(self, verb: str, name: str) -> None:
        with self._seat.lock:
            self._seat.pending = Step(verb, name)
            self._seat.go.clear()
            self._seat.ready.set()
            assert self._seat.go.wait(30), "the explorer forgot an actor"

    def store(self, name: str, data: Buffer) -> None:
        self._turn("store", name)
        self._inner.store(name, data)

    def create(self, name: str, data: Buffer) -> bool:
        self._turn("create", name)
        return self._inner.create(name, data)

    def writer(self) -> ObjectWriter:
        inner, turn = self._inner.writer(), self._turn

        class Writer:
            def write(self, data: Buffer) -> None:
                inner.write(data)

            def commit(self, name: str) -> None:
                turn("commit", name)
                inner.commit(name)

            def __enter__(self) -> Writer:
                return self

            def __exit__(self, *error: object) -> None:
                inner.__exit__(None, None, None)

        return Writer()

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self._turn("load", name)
        return self._inner.load(name, offset, length)

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        self._turn("load", name)
        self._inner.load_into(name, offset, buffer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._turn("list", prefix)
        return self._inner.list(prefix)

    def info(self, name: str) -> ObjectInfo:
        self._turn("load", name)
        return self._inner.info(name)

    def delete(self, name: str) -> None:
        self._turn("delete", name)
        self._inner.delete(name)


@dataclass(slots=True)
class Run:
    """One execution: what was done in which order, and how each actor ended (None: without an error)."""

    storage: MemoryStorage
    steps: list[tuple[int, Step]] = field(default_factory=list)
    errors: list[BaseException | None] = field(default_factory=list)


class _Execution:
    """Actors that stand before their next operation until :meth:`step` lets one of them do it."""

    def __init__(self, base: MemoryStorage, actors: Sequence[Actor]) -> None:
        self.run = Run(base.copy())
        self.seats = [_Seat() for _ in actors]
        self._threads = [
            threading.Thread(target=self._body, args=(actor, seat), name=f"actor-{number}", daemon=True)
            for number, (actor, seat) in enumerate(zip(actors, self.seats, strict=True))
        ]
        self._drawn: Counter[str] = Counter()
        self._repeatable = contextlib.ExitStack()
        self._repeatable.enter_context(mock.patch.object(os, "urandom", self._urandom))
        self._repeatable.enter_context(mock.patch.object(time, "time", lambda: _NOW))
        for thread, seat in zip(self._threads, self.seats, strict=True):
            thread.start()
            seat.ready.wait()

    def _urandom(self, size: int) -> bytes:
        name = threading.current_thread().name
        self._drawn[name] += 1
        return hashlib.shake_128(f"{name} {self._drawn[name]}".encode()).digest(size)

    def _body(self, actor: Actor, seat: _Seat) -> None:
        try:
            actor(Turned(self.run.storage, seat))
        except BaseException as error:
            seat.error = error
        seat.pending, seat.finished = None, True
        seat.ready.set()

    def enabled(self) -> dict[int, Step]:
        return {number: seat.pending for number, seat in enumerate(self.seats) if seat.pending is not None}

    def step(self, number: int) -> Step:
        seat = self.seats[number]
        step = seat.pending
        assert step is not None
        self.run.steps.append((number, step))
        seat.pending = None
        seat.ready.clear()
        seat.go.set()
        assert seat.ready.wait(30), f"actor {number} hangs after {step}"
        return step

    def finish(self) -> Run:
        """Let the rest happen in any order, and collect the ends."""
        while pending := self.enabled():
            self.step(min(pending))
        for thread in self._threads:
            thread.join()
        self._repeatable.close()
        self.run.errors = [seat.error for seat in self.seats]
        return self.run


def explore(base: MemoryStorage, actors: Sequence[Actor], limit: int = 1_000_000) -> Iterator[Run]:
    """One run of every class of orders. Fails if there are more than ``limit``."""
    pending: list[tuple[list[int], set[int]]] = [([], set())]
    count = 0
    while pending:
        prefix, sleeping = pending.pop()
        execution = _Execution(base, actors)
        for number in prefix:
            execution.step(number)
        path, asleep = list(prefix), set(sleeping)
        is_new = True
        while enabled := execution.enabled():
            choices = [number for number in enabled if number not in asleep]
            if not choices:
                is_new = False  # every continuation has been run in another order
                break
            first, *others = choices
            explored = {first}
            for other in others:
                still = {each for each in asleep | explored if not enabled[each].touches(enabled[other])}
                pending.append(([*path, other], still))
                explored.add(other)
            taken = enabled[first]
            asleep = {each for each in asleep if not enabled[each].touches(taken)}
            execution.step(first)
            path.append(first)
        run = execution.finish()
        if is_new:
            count += 1
            assert count <= limit, f"more than {limit} classes of orders"
            yield run


def switches(base: MemoryStorage, actors: Sequence[Actor], changes: int, *, stride: int = 1) -> Iterator[Run]:
    """Every order with at most ``changes`` changes of turn between two actors, whichever begins.

    ``stride``: only every n-th place for each change.
    """
    lengths = []
    for actor in actors:
        execution = _Execution(base, [actor])
        lengths.append(len(execution.finish().steps) + 1)
    for first in range(len(actors)):
        turns = [(first + number) % len(actors) for number in range(changes)]
        for places in itertools.product(*(range(0, lengths[turn] + 1, stride) for turn in turns)):
            execution = _Execution(base, actors)
            for turn, place in zip(turns, places, strict=True):
                for _ in range(place):
                    if execution.seats[turn].pending is None:
                        break
                    execution.step(turn)
            rest = (first + changes) % len(actors)
            while execution.seats[rest].pending is not None:
                execution.step(rest)
            yield execution.finish()
