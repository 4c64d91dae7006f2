"""``drill``: backup, wipe of a scratch copy, restore, comparison and proof, timed: the fire drill.

``scratch``: where it happens · ``comparing``: is everything back · ``proof``: does it draw · here: the
steps. Nothing outside the scratch folder is ever deleted: with the real cache, what is wiped is the (empty)
place it is restored to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from zitcache.cache.walk import scan_tree
from zitcache.errors import Exit, Interrupted, UsageError, ZitcacheError, from_os_error
from zitcache.events import Notice, Outcome, Progress, Session
from zitcache.machine.files import remove_tree
from zitcache.tasks.backup import BackupReport, BackupRequest, backup
from zitcache.tasks.drill.comparing import Facts, differences, facts_in_snapshot, facts_on_disk
from zitcache.tasks.drill.proof import can_draw, options_for_sample, prove_restored
from zitcache.tasks.drill.scratch import Room, Scratch, make_scratch
from zitcache.tasks.locations import live_cache, open_repository
from zitcache.tasks.prove import ProofOptions, ProofReport
from zitcache.tasks.restore import RestoreRequest, restore
from zitcache.tasks.sample import SampleLayout, sample

_SLACK_BYTES = 64 << 20
_EXPECTED_WARNINGS = frozenset({"same-disk", "system-disk", "in-memory", "several-caches"})
"""Said by the steps because the scratch repository lies where no real one should."""


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """``use_sample``: drill on the built-in sample instead of the real cache. ``scratch``: where to work.

    ``proof``: draw in the end, how; None for a drill without a picture.
    """

    use_sample: bool = False
    cache: str | None = None
    repository: str | None = None
    scratch: str | None = None
    keep: bool = False
    proof: ProofOptions | None = None


class DrillStep(msgspec.Struct, kw_only=True):
    """One step: its name, how long it took, whether it went well, and a short remark."""

    name: str
    seconds: float
    ok: bool
    detail: str


class DrillReport(msgspec.Struct, kw_only=True):
    """All steps in order; ``ok`` if every one is. ``scratch``: the folder if it was kept, else "".

    ``proof``: of the last step, None without one; ``seconds_to_picture``: from "wiped" to "drawn".
    """

    steps: list[DrillStep]
    ok: bool
    scratch: str
    size_bytes: int
    stored_bytes: int
    seconds: float
    proof: ProofReport | None = None
    seconds_to_picture: float | None = None


def drill(request: DrillRequest, session: Session) -> Outcome[DrillReport]:
    """Rehearse the reset.

    Exit codes: 0; that of the first step that failed (1 where something did not come back), and the steps up
    to it are reported; 3 if files of the cache cannot be backed up. The scratch folder is removed at the end
    and on Ctrl-C, kept with ``keep`` and after a failure. Raises ``CacheNotFound``, ``NoSpace`` or
    ``UsageError`` before the first step.
    """
    started = time.monotonic()
    if request.use_sample and request.repository is not None:
        raise UsageError(
            "A drill on the sample uses a repository of its own: a snapshot of the sample would become the "
            "newest one of yours.",
            hint="Leave out one of the two: zitcache drill --sample",
        )
    if request.use_sample and request.cache is not None:
        raise UsageError("--sample and --cache exclude each other.", hint="zitcache drill --sample")
    run = _sample_run(request, session) if request.use_sample else _real_run(request, session)
    if request.proof is not None:
        run.options = options_for_sample(request.proof) if request.use_sample else request.proof
    try:
        run.all_steps()
    except (Interrupted, KeyboardInterrupt):
        _remove(run.scratch, session)
        raise
    except BaseException:
        _say_kept(run.scratch, session)
        raise
    failed = any(not step.ok for step in run.steps)
    kept = request.keep or failed
    if not kept:
        _remove(run.scratch, session)
    elif failed:
        _say_kept(run.scratch, session)
    report = DrillReport(
        steps=run.steps,
        ok=not failed,
        scratch=str(run.scratch.path) if kept else "",
        size_bytes=run.backed_up.size_bytes if run.backed_up else 0,
        stored_bytes=run.backed_up.bytes_new_stored if run.backed_up else 0,
        seconds=time.monotonic() - started,
        proof=run.proof,
        seconds_to_picture=run.seconds_to_picture,
    )
    return Outcome(data=report, warnings=session.warnings, exit_code=run.exit_code)


@dataclass(slots=True)
class _Run:
    """A drill under way. ``target``: where the cache is restored to; ``expected``: what must be there."""

    session: Session
    scratch: Scratch
    cache: Path
    target: Path
    repository: str
    is_sample: bool
    own_repository: bool
    steps: list[DrillStep] = field(default_factory=list)
    exit_code: Exit = Exit.OK
    expected: dict[str, Facts] = field(default_factory=dict)
    backed_up: BackupReport | None = None
    options: ProofOptions | None = None
    proof: ProofReport | None = None
    wiped_at: float = 0.0
    seconds_to_picture: float | None = None

    def all_steps(self) -> None:
        """Run the steps until one fails."""
        steps: list[tuple[str, Callable[[Session], tuple[str, Exit]]]] = [
            ("backup", self._backup),
            ("wipe", self._wipe),
            ("restore", self._restore),
            ("compare", self._compare),
        ]
        if self.is_sample:
            steps.insert(0, ("sample", self._sample))
        if self.options is not None:
            steps.append(("proof", self._prove))
        for name, work in steps:
            if not self._step(name, work):
                return

    def _step(self, name: str, work: Callable[[Session], tuple[str, Exit]]) -> bool:
        started = time.monotonic()
        inner = Session(_WithoutWarnings(self.session.progress), self.session.cancel)
        try:
            detail, code = work(inner)
        except Interrupted:
            raise
        except ZitcacheError as error:
            detail, code = error.message, error.exit_code
            inner.warnings.append(Notice(code=error.code, message=error.message, hint=error.hint))
        for notice in inner.warnings:
            if not (self.own_repository and notice.code in _EXPECTED_WARNINGS):
                self.session.warn(notice.code, notice.message, notice.hint)
        ok = code in {Exit.OK, Exit.PARTIAL}
        if name == "wipe":
            self.wiped_at = time.monotonic()
        self.steps.append(DrillStep(name=name, seconds=time.monotonic() - started, ok=ok, detail=detail))
        if code is not Exit.OK:
            self.exit_code = code
        return ok

    def _sample(self, session: Session) -> tuple[str, Exit]:
        made = sample(self.cache, SampleLayout.MODELSCOPE, session).data
        self.expected = facts_on_disk(self.cache, session, "Fingerprinting")
        return f"{made.model}, {made.files} files, {_size(made.size_bytes)}", Exit.OK

    def _backup(self, session: Session) -> tuple[str, Exit]:
        request = BackupRequest(
            repository=self.repository,
            cache=str(self.cache),
            init=self.own_repository,
            tags=("drill",),
            # What the sample draws before the wipe is what it must draw after it.
            proof=self._golden_options() if self.is_sample and can_draw() else None,
        )
        outcome = backup(request, session)
        self.backed_up = report = outcome.data
        if outcome.exit_code is Exit.DAMAGE:
            return "The cache is damaged: " + ", ".join(report.damaged or report.models), Exit.DAMAGE
        share = 100 * report.bytes_new_stored / max(report.size_bytes, 1)
        detail = f"{report.files} files, stored in {_size(report.bytes_new_stored)} ({share:.0f} %)"
        if report.left_out:
            detail += f"; {len(report.left_out)} left out"
        if not self.is_sample:
            self.expected = self._snapshot_facts(session)
        return detail, outcome.exit_code

    def _golden_options(self) -> ProofOptions | None:
        """As in the end, but that picture goes away with the scratch folder."""
        return None if self.options is None else replace(self.options, directory=None)

    def _snapshot_facts(self, session: Session) -> dict[str, Facts]:
        repository = open_repository(self.repository, session)
        return facts_in_snapshot(repository.tree(repository.load_snapshot(self._snapshot_id())))

    def _snapshot_id(self) -> str:
        assert self.backed_up is not None and self.backed_up.snapshot_id is not None
        return self.backed_up.snapshot_id

    def _wipe(self, session: Session) -> tuple[str, Exit]:
        if self.is_sample:
            try:
                remove_tree(self.cache)
            except OSError as error:
                raise from_os_error(error, f"wiping {self.cache}") from error
            return "The copy of the cache is gone", Exit.OK
        if os.path.lexists(self.target):
            raise UsageError(f"{self.target} is not empty.")
        return "An empty disk: the restore goes to the scratch folder, your cache stays", Exit.OK

    def _prove(self, session: Session) -> tuple[str, Exit]:
        assert self.options is not None
        self.proof, detail = prove_restored(
            self.target,
            open_repository(self.repository, session),
            self.options,
            session,
            passing=self.own_repository,
        )
        if self.proof is not None and self.proof.image is not None:
            self.seconds_to_picture = time.monotonic() - self.wiped_at
        failed = self.proof is not None and self.proof.verdict.value == "failed"
        return detail, Exit.PROOF_FAILED if failed else Exit.OK

    def _restore(self, session: Session) -> tuple[str, Exit]:
        request = RestoreRequest(
            repository=self.repository, snapshot=self._snapshot_id(), to=str(self.target)
        )
        outcome = restore(request, session)
        report = outcome.data
        if report.failed:
            return f"{len(report.failed)} files could not be brought back: {report.failed[0]}", Exit.DAMAGE
        return f"{report.files} files, {_size(report.bytes_written)}", outcome.exit_code

    def _compare(self, session: Session) -> tuple[str, Exit]:
        found = facts_on_disk(self.target, session, "Comparing")
        wrong = differences(self.expected, found)
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            return wrong[0] + more, Exit.DAMAGE
        files = sum(facts.blake3 is not None for facts in found.values())
        return f"{files} files are the same to the last byte", Exit.OK


class _WithoutWarnings(Progress):
    """Passes progress on; the drill decides which warnings of its steps are worth showing."""

    def __init__(self, outer: Progress) -> None:
        self._outer = outer

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self._outer.stage(name, total_bytes)

    def advance(self, byte_count: int) -> None:
        self._outer.advance(byte_count)

    def file(self, path: str) -> None:
        self._outer.file(path)


def _sample_run(request: DrillRequest, session: Session) -> _Run:
    scratch = make_scratch(request.scratch, Room(_SLACK_BYTES, 1000), {})
    cache = scratch.path / "cache"
    repository = str(scratch.path / "repository")
    return _Run(session, scratch, cache, cache, repository, is_sample=True, own_repository=True)


def _real_run(request: DrillRequest, session: Session) -> _Run:
    """Look at the real cache and make room for the drill; the look is the first step."""
    started = time.monotonic()
    cache = live_cache(request.cache, session)
    session.progress.stage("Looking at the cache")
    items = scan_tree(cache).items
    size_bytes = sum(item.size for item in items)
    own_repository = request.repository is None
    room = Room(size_bytes * (2 if own_repository else 1) + _SLACK_BYTES, len(items) + 1000)
    forbidden = {"cache": cache}
    if request.repository is not None:
        repository = open_repository(request.repository, session).storage.location
        if "://" not in repository:
            forbidden["repository"] = Path(os.path.realpath(repository))
    scratch = make_scratch(request.scratch, room, forbidden)
    run = _Run(
        session,
        scratch,
        cache,
        scratch.path / "restored",
        str(scratch.path / "repository") if own_repository else repository,
        is_sample=False,
        own_repository=own_repository,
    )
    detail = f"{len(items)} names, {_size(size_bytes)} in {cache}"
    run.steps.append(DrillStep(name="scan", seconds=time.monotonic() - started, ok=True, detail=detail))
    return run


def _size(byte_count: int) -> str:
    return f"{byte_count / 1e9:.2f} GB" if byte_count >= 1e9 else f"{byte_count / 1e6:.1f} MB"


def _remove(scratch: Scratch, session: Session) -> None:
    try:
        scratch.remove()
    except OSError as error:
        session.warn(
            "scratch-not-removed", f"{scratch.path} could not be removed: {error}", f"rm -r {scratch.path}"
        )


def _say_kept(scratch: Scratch, session: Session) -> None:
    session.warn(
        "scratch-kept",
        f"The scratch folder is kept, so that you can look into it: {scratch.path}",
        f"Afterwards: rm -r {scratch.path}",
    )
