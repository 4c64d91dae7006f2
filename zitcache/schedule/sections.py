"""The sections of the configuration that are about nights. Light: reading a setting must not import more."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Level = Literal["ok", "warning", "failure"]
Backend = Literal["auto", "systemd", "cron", "daemon"]
Count = Annotated[int, msgspec.Meta(ge=-1, le=1_000_000)]
Days = Annotated[float, msgspec.Meta(gt=0, le=36_500)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration: unknown names are refused."""


class ScheduleConfig(Section, frozen=True, kw_only=True):
    """``[schedule]``: when nights begin (a cron expression), and what runs them."""

    at: str = "0 2 * * *"
    backend: Backend = "auto"


class RetentionConfig(Section, frozen=True, kw_only=True):
    """``[retention]``: as the options of ``zitcache forget``; -1 is "unlimited"."""

    keep_last: Count = 0
    keep_hourly: Count = 0
    keep_daily: Count = 7
    keep_weekly: Count = 4
    keep_monthly: Count = 6
    keep_yearly: Count = 0
    keep_within: str = ""
    keep_tag: list[str] = []


class NightConfig(Section, frozen=True, kw_only=True):
    """``[night]``: what a night does beside the backup.

    ``reread``: the share of the unchanged live files that is read again each night, ``read_data``: the share
    of the repository; 1/30 of each reads all of both once a month. ``*_days``: how often. ``proof``: draw in
    the drill. ``scratch``: where the drill restores to. ``report``: the HTML page to write, "" for none.
    """

    reread: str = "1/30"
    read_data: str = "1/30"
    prune_days: Days = 7
    drill_days: Days = 30
    proof_days: Days = 30
    proof: bool = True
    scratch: str = ""
    report: str = ""


class NotifyConfig(Section, frozen=True, kw_only=True):
    """``[notify]``: who is told.

    ``ping``: a healthchecks-style URL. ``webhook``: gets a POST with one JSON object. ``apprise``: URLs for
    Apprise (needs ``pip install 'zitcache[notify]'``). ``on``: the least level that the last two are told of.
    """

    ping: str | None = None
    webhook: str | None = None
    apprise: list[str] = []
    on: Level = "warning"


class HookConfig(Section, frozen=True, kw_only=True):
    """``[hooks]``: shell commands. A failing ``before`` skips the night when ``required``."""

    before: str | None = None
    after: str | None = None
    required: bool = False


class MetricsConfig(Section, frozen=True, kw_only=True):
    """``[metrics]``: the file for the node exporter's textfile collector (it must end in ``.prom``)."""

    textfile: str = ""


class StatusConfig(Section, frozen=True, kw_only=True):
    """``[status]``: from how many hours or days on something counts as stale."""

    backup_hours: Days = 36
    check_days: Days = 40
    drill_days: Days = 40
    proof_days: Days = 40
