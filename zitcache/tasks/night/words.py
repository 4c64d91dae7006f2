"""Words of the configuration that a type cannot tell: shares of a whole, and what to keep how long."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from zitcache.errors import UsageError
from zitcache.tasks.configuration import Config

if TYPE_CHECKING:
    from zitcache.repository.retention import Policy, Span


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
