"""The steps of a night: each calls one task and says in a line how it went."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zitcache.errors import (
    CacheNotFound,
    CredentialsError,
    Exit,
    Interrupted,
    NotFound,
    ZitcacheError,
)
from zitcache.events import Outcome, Session
from zitcache.machine.fstab import unmounted
from zitcache.machine.space import amount
from zitcache.tasks.configuration import Config
from zitcache.tasks.night.words import policy_of, share_of
from zitcache.tasks.report import ReportData
from zitcache.tasks.settings import keeps_kit

if TYPE_CHECKING:
    from zitcache.tasks.prove import ProofOptions

STEPS = ("backup", "forget", "prune", "check", "drill", "proof", "report")


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may need. ``repository``: the place, as it was found when the night began.

    ``draws``: whether this night may draw; ``drew``: whether its drill has drawn a picture. ``state``: the
    state directory of this machine.
    """

    config: Config
    repository: str | None
    cache: str | None
    render: Callable[[ReportData], str]
    state: Path
    draws: bool = False
    drew: bool = False

    @property
    def beside(self) -> str | None:
        """The repository's path, for what lies beside it (``REPOSITORY-drill``); None for a remote one."""
        if self.repository is None or "://" in self.repository:
            return None
        return os.path.abspath(self.repository).rstrip("/")


@dataclass(frozen=True, slots=True)
class Done:
    """How a step went: a line for a person, and the report of its command for machines."""

    exit_code: Exit
    message: str
    data: object = None
    hint: str | None = None


def run_step(name: str, context: Context, session: Session) -> Done:
    """Run one step. Raises nothing but ``Interrupted``: whatever goes wrong is how the step went."""
    try:
        return _FUNCTIONS[name](context, session)
    except Interrupted:
        raise
    except ZitcacheError as error:
        return Done(error.exit_code, error.message, hint=error.hint)
    except OSError as error:
        return Done(Exit.UNREACHABLE, f"The system refused: {error}.")
    except Exception as error:  # a bug in one step must not keep the others from running, nor be hidden
        return Done(Exit.BUG, f"This is a bug in zitcache: {type(error).__name__}: {error}.")


def _backup(context: Context, session: Session) -> Done:
    from zitcache.tasks.backup import BackupRequest, backup

    share = share_of(context.config.night.reread, "night.reread")
    request = BackupRequest(
        repository=context.repository, cache=context.cache, reread=share, kit=keeps_kit(False)
    )
    outcome = backup(request, session)
    report = outcome.data
    said = (
        f"{amount(report.size_bytes)} in {report.files} files; {amount(report.bytes_read)} read, "
        f"{amount(report.bytes_new_stored)} new"
    )
    if report.suspect:
        said = f"the cache is damaged: {_first(report.damaged) or 'see the warnings'}"
    elif report.left_out:
        said += f"; left out: {_first(report.left_out)}"
    return _done(outcome, said)


def _forget(context: Context, session: Session) -> Done:
    from zitcache.tasks.forget import ForgetRequest, forget

    refused = _deletes_refused(context, session)
    if refused is not None:
        return refused
    policy = policy_of(context.config)
    outcome = forget(ForgetRequest(repository=context.repository, policy=policy), session)
    return _done(outcome, f"{outcome.data.kept} snapshots kept, {outcome.data.forgotten} forgotten")


def _prune(context: Context, session: Session) -> Done:
    from zitcache.tasks.prune import PruneRequest, prune

    refused = _deletes_refused(context, session)
    if refused is not None:
        return refused
    outcome = prune(PruneRequest(repository=context.repository), session)
    report = outcome.data
    return _done(
        outcome, f"{amount(report.bytes_freed)} freed, {amount(report.bytes_marked)} marked for later"
    )


def _check(context: Context, session: Session) -> Done:
    from zitcache.tasks.check import CheckRequest, check

    share = share_of(context.config.night.read_data, "night.read_data")
    subset = f"{share * 100:.4f}%" if share else None
    outcome = check(CheckRequest(repository=context.repository, subset=subset), session)
    report = outcome.data
    said = f"{report.snapshots} snapshots sound, {amount(report.bytes_read)} read back"
    return _done(outcome, said if not report.damaged else f"{len(report.damaged)} blobs are damaged")


def _deletes_refused(context: Context, session: Session) -> Done | None:
    """How forget and prune go where the keys of this machine may only add: well, and without them.

    Such keys are a choice: whoever breaks into this machine cannot delete its backups. Of a directory that
    cannot be written to, that would be no choice.
    """
    from zitcache.tasks.deleting import open_for_deleting, require_deletable

    if context.beside is not None:
        return None
    repository, _ = open_for_deleting(context.repository, session)
    try:
        require_deletable(repository)
    except CredentialsError:
        return Done(
            Exit.OK,
            "left to somebody else: the keys of this machine may not delete",
            hint="With keys that may, now and then: zitcache forget --prune",
        )
    return None


def _drill(context: Context, session: Session) -> Done:
    from zitcache.tasks.night.drilling import drill_of_night

    outcome = drill_of_night(context, session)
    report = outcome.data
    failed = next((step for step in report.steps if not step.ok), None)
    if failed is not None:
        return _done(outcome, f"{failed.name} failed: {failed.detail}")
    return _done(outcome, f"{amount(report.size_bytes)} brought back and compared in {report.seconds:.0f} s")


def _proof(context: Context, session: Session) -> Done:
    from zitcache.proof.errors import PackagesMissing
    from zitcache.tasks.verify import VerifyRequest, verify

    if context.drew:
        return Done(Exit.OK, "the drill has drawn already")
    request = VerifyRequest(path=context.cache, repository=context.repository, proof=proof_options(context))
    try:
        outcome = verify(request, session)
    except PackagesMissing as error:
        return Done(Exit.OK, f"skipped: {error.message}", hint=error.hint)
    except CacheNotFound:
        raise
    except NotFound as error:
        return Done(Exit.OK, f"skipped: {error.message}")
    proof = outcome.data.proof
    said = "nothing was drawn" if proof is None else f"{proof.verdict.value}: {_first(proof.reasons)}"
    return _done(outcome, said.removesuffix(": "))


def _report(context: Context, session: Session) -> Done:
    from zitcache.tasks.report import ReportRequest, report

    request = ReportRequest(
        render=context.render,
        repository=context.repository,
        cache=context.cache,
        output=_page(context),
    )
    outcome = report(request, session)
    # The figures are in the page; the history need not hold them every night.
    return Done(outcome.exit_code, f"written: {outcome.data.output}")


def proof_options(context: Context) -> ProofOptions:
    """How a night draws: as always, but never into the working directory, which is ``/``."""
    from zitcache.tasks.prove import ProofOptions

    if context.beside is not None:
        return ProofOptions()  # beside the repository
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    return ProofOptions(directory=context.state / "proofs" / stamp)


def _page(context: Context) -> Path:
    """Where the page goes: as configured, else into the repository, else into the state directory."""
    configured = context.config.night.report
    if configured:
        page = Path(configured).expanduser()
        require_mounted(page, "night.report")
        return page
    return Path(context.beside or context.state) / "report.html"


def require_mounted(path: Path, setting: str) -> None:
    """Raise ``NotFound`` where the disk for ``path`` is not mounted: it would go to the system disk."""
    place = unmounted(path)
    if place is not None:
        raise NotFound(
            f"{setting} is {path}, and {place} is not mounted.", hint=f"Mount it: mount {shlex.quote(place)}"
        )


def _done(outcome: Outcome[msgspec.Struct], message: str) -> Done:
    return Done(outcome.exit_code, message, outcome.data)


def _first(lines: list[str]) -> str:
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{lines[0]}{more}" if lines else ""


_FUNCTIONS: dict[str, Callable[[Context, Session], Done]] = {
    "backup": _backup,
    "forget": _forget,
    "prune": _prune,
    "check": _check,
    "drill": _drill,
    "proof": _proof,
    "report": _report,
}
