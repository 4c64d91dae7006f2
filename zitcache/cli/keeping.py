"""The options of ``forget`` and ``prune`` that say what stays, and how their values are read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.errors import UsageError

if TYPE_CHECKING:
    from zitcache.repository.retention import Policy, Span
    from zitcache.tasks.prune import PruneRequest

Grace = Annotated[
    str,
    typer.Option(
        "--grace",
        metavar="SPAN",
        help="How long what was marked or forgotten can be had back: 24h, 7d.",
        show_default=True,
    ),
]
MaxUnused = Annotated[
    str,
    typer.Option(
        "--max-unused",
        metavar="SHARE",
        help="How much may lie unused in packs that are kept: 5%, 0%, unlimited.",
        show_default=True,
    ),
]
MaxRepack = Annotated[
    str | None,
    typer.Option("--max-repack-size", metavar="SIZE", help="Copy at most so much in this run: 10G, 500M."),
]

_SPAN = re.compile(r"(?:(\d{1,4})y)?(?:(\d{1,5})m)?(?:(\d{1,6})d)?(?:(\d{1,7})h)?", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:([kmgt])(i)?)?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_NO_LIMIT = 1e9


def parse_policy(
    *,
    last: str | None,
    hourly: str | None,
    daily: str | None,
    weekly: str | None,
    monthly: str | None,
    yearly: str | None,
    within: str | None,
    tags: list[str] | None,
) -> Policy | None:
    """The policy that the options describe; None if none was given. Raises ``UsageError``."""
    from zitcache.repository.retention import Policy

    if not tags and all(text is None for text in (last, hourly, daily, weekly, monthly, yearly, within)):
        return None
    return Policy(
        last=parse_count("--keep-last", last),
        hourly=parse_count("--keep-hourly", hourly),
        daily=parse_count("--keep-daily", daily),
        weekly=parse_count("--keep-weekly", weekly),
        monthly=parse_count("--keep-monthly", monthly),
        yearly=parse_count("--keep-yearly", yearly),
        within=None if within is None else parse_span("--keep-within", within),
        tags=parse_tag_groups("--keep-tag", tags),
    )


def parse_count(option: str, text: str | None) -> int:
    """A number of snapshots, or "unlimited" (-1); None is 0. Raises ``UsageError``."""
    if text is None:
        return 0
    typed = text.strip().lower()
    if typed == "unlimited":
        return -1
    if re.fullmatch(r"\d{1,6}", typed):
        return int(typed)
    raise UsageError(
        f"{option} cannot be {text!r}: it is no number of snapshots.",
        hint=f"Write {option} 7 or {option} unlimited.",
    )


def parse_span(option: str, text: str) -> Span:
    """A span of the calendar: ``1y5m7d2h`` (years, months, days, hours). Raises ``UsageError``."""
    from zitcache.repository.retention import Span

    match = _SPAN.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise UsageError(
            f"{option} cannot be {text!r}: it is no span of time.",
            hint=f"Write it as {option} 30d or {option} 1y5m7d2h (years, months, days, hours).",
        )
    years, months, days, hours = (int(part or 0) for part in match.groups())
    return Span(years, months, days, hours)


def parse_tag_groups(option: str, texts: list[str] | None) -> tuple[frozenset[str], ...]:
    """Each text is tags separated by commas, which must all be there. Raises ``UsageError``."""
    groups = []
    for text in texts or ():
        group = frozenset(word.strip() for word in text.split(","))
        if "" in group:
            raise UsageError(f"{option} cannot be {text!r}: a tag is empty.")
        groups.append(group)
    return tuple(groups)


def parse_size(option: str, text: str) -> int:
    """Bytes, written as ``10G`` or ``500MB`` (decimal), ``4GiB`` or ``1048576``. Raises ``UsageError``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{option} cannot be {text!r}: it is no size.", hint=f"Write it as {option} 10G or {option} 500M."
        )
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS[(match[2] or "").lower()])


def prune_request(
    *, repository: str | None, grace: str, max_unused: str, max_repack_size: str | None, dry_run: bool
) -> PruneRequest:
    """What the options of ``prune`` ask for. Raises ``UsageError``."""
    from zitcache.cli.values import parse_share, parse_time_span
    from zitcache.tasks.prune import PruneRequest

    is_unlimited = max_unused.strip().lower() == "unlimited"
    return PruneRequest(
        repository=repository,
        grace_seconds=parse_time_span("--grace", grace),
        max_unused=_NO_LIMIT if is_unlimited else parse_share("--max-unused", max_unused),
        max_repack_bytes=(
            None if max_repack_size is None else parse_size("--max-repack-size", max_repack_size)
        ),
        dry_run=dry_run,
    )
