"""The steps of a night: each calls one task and says in a line how it went."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zitcache.errors import CacheNotFound, Exit, Interrupted, NotFound, UsageError, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.machine.space import amount
from zitcache.tasks.configuration import Config
from zitcache.tasks.report import ReportData

if TYPE_CHECKING:
    from zitcache.repository.retention import Policy, Span

STEPS = ("backup", "forget", "prune", "check", "drill", "proof", "report")


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may need. ``draws``: whether this night may draw; ``drew``: whether its drill has drawn a
    picture. ``state``: the state directory of this machine.
    """

    config: Config
    repository: str | None
    cache: str | None
    render: Callable[[ReportData], str]
    state: Path
    draws: bool = False
    drew: bool = False


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


def share_of(text: str, setting: str) -> float:
    """A share 0..1 of the configuration: "1/30", "0.03", "3%". Raises ``UsageError``."""
    typed = text.strip()
    try:
        value = Fraction(typed[:-1]) / 100 if typed.endswith("%") else Fraction(typed)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if not 0 <= value <= 1:
        raise UsageError(
            f"{setting} in the configuration cannot be {text!r}.", hint=f'Write {setting} = "1/30" or "3%"'
        )
    return float(value)


def _backup(context: Context, session: Session) -> Done:
    from zitcache.tasks.backup import BackupRequest, backup

    share = share_of(context.config.night.reread, "night.reread")
    request = BackupRequest(
        repository=context.repository, cache=context.cache, reread=share, kit=context.config.kit
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

    policy = policy_of(context.config)
    outcome = forget(ForgetRequest(repository=context.repository, policy=policy), session)
    return _done(outcome, f"{outcome.data.kept} snapshots kept, {outcome.data.forgotten} forgotten")


def _prune(context: Context, session: Session) -> Done:
    from zitcache.tasks.prune import PruneRequest, prune

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


def _drill(context: Context, session: Session) -> Done:
    from zitcache.tasks.drill import DrillRequest, drill
    from zitcache.tasks.prove import ProofOptions

    request = DrillRequest(
        cache=context.cache,
        repository=context.repository,
        scratch=context.config.night.scratch or None,
        proof=ProofOptions() if context.draws else None,
    )
    outcome = drill(request, session)
    report = outcome.data
    failed = next((step for step in report.steps if not step.ok), None)
    if failed is not None:
        return _done(outcome, f"{failed.name} failed: {failed.detail}")
    return _done(outcome, f"{amount(report.size_bytes)} brought back and compared in {report.seconds:.0f} s")


def _proof(context: Context, session: Session) -> Done:
    from zitcache.proof.errors import PackagesMissing
    from zitcache.tasks.prove import ProofOptions
    from zitcache.tasks.verify import VerifyRequest, verify

    if context.drew:
        return Done(Exit.OK, "the drill has drawn already")
    request = VerifyRequest(path=context.cache, repository=context.repository, proof=ProofOptions())
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
        output=_page(context, session),
    )
    outcome = report(request, session)
    # The figures are in the page; the history need not hold them every night.
    return Done(outcome.exit_code, f"written: {outcome.data.output}")


def _page(context: Context, session: Session) -> Path:
    """Where the page goes: as configured, else into the repository, else into the state directory."""
    from zitcache.tasks.locations import open_repository

    if context.config.night.report:
        return Path(context.config.night.report)
    location = open_repository(context.repository, session).storage.location
    return (context.state if "://" in location else Path(location)) / "report.html"


def policy_of(config: Config) -> Policy:
    """The retention policy of the configuration. Raises ``UsageError``."""
    from zitcache.repository.retention import Policy

    words = config.retention
    return Policy(
        last=words.keep_last,
        hourly=words.keep_hourly,
        daily=words.keep_daily,
        weekly=words.keep_weekly,
        monthly=words.keep_monthly,
        yearly=words.keep_yearly,
        within=_span(words.keep_within) if words.keep_within else None,
        tags=tuple(frozenset(group.split(",")) for group in words.keep_tag),
    )


def _span(text: str) -> Span:
    from zitcache.repository.retention import Span

    match = re.fullmatch(r"(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)d)?(?:(\d+)h)?", text.strip())
    if match is None or not any(match.groups()):
        raise UsageError(
            f"retention.keep_within in the configuration cannot be {text!r}.",
            hint='Write it as keep_within = "1y5m7d2h"',
        )
    years, months, days, hours = (int(part or 0) for part in match.groups())
    return Span(years, months, days, hours)


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
