"""A first configuration file, filled in by asking the machine instead of the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from zitcache.cache.environment import locate_cache
from zitcache.errors import UsageError, ZitcacheError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.machine.files import write_durably
from zitcache.machine.mounts import data_mounts, free_space, survival_of_mount
from zitcache.tasks.locations import discovered_repositories
from zitcache.tasks.settings import config_path

_TEMPLATE = """\
# The configuration of zitcache. Options and ZITCACHE_… variables outrank it.
# See what is in force: zitcache config show --origin     Check this file: zitcache config validate

{repo}
{cache}

[schedule]
at = "0 2 * * *"            # every night at two; arm it with: zitcache schedule install

[retention]
keep_daily = 7
keep_weekly = 4
keep_monthly = 6

[night]
reread = "1/30"             # all live files are read again once a month
read_data = "1/30"          # and so is the whole repository
drill_days = 30             # a drill with a proof each month
{scratch}

[notify]
# ping = "https://hc-ping.com/your-uuid"        # says so when a night does not happen
# webhook = "https://example.com/hook"
# apprise = ["dingtalk://token/phone"]          # pip install 'zitcache[notify]'
on = "warning"              # ok, warning or failure

[metrics]
# textfile = "/var/lib/prometheus/node-exporter/zitcache.prom"
"""


class ConfigInitReport(msgspec.Struct, kw_only=True):
    """``path``: the file, ``text``: its content. ``repo``/``cache``: what was found, or None.

    ``repo_exists``: there is a repository already.
    """

    path: str
    repo: str | None
    cache: str | None
    text: str
    repo_exists: bool = False
    dry_run: bool = False


def init_config(
    session: Session,
    *,
    output: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Outcome[ConfigInitReport]:
    """Write a configuration for this machine.

    Raises ``UsageError`` if there is one already (unless ``force``), ``CredentialsError``, ``NoSpace``, ….
    """
    place = Path(output).expanduser() if output else config_path(environ)[0]
    if place is None:
        raise UsageError("There is no home directory to write the configuration to.", hint="Name it: -o FILE")
    place = Path(os.path.abspath(place))
    if place.exists() and not force and not dry_run:
        raise UsageError(
            f"{place} exists already.", hint="Look at it: zitcache config show; replace it with --force"
        )
    (repo, exists), cache = _repository(environ), _cache(environ)
    text = _TEMPLATE.format(
        repo=_line("repo", repo, "/data/zitcache", "a data disk: none is mounted"),
        cache=_line("cache", cache, "/root/workspace/model_cache", "no model cache was found"),
        scratch=_scratch(repo),
    )
    if not dry_run:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_durably(place, text.encode(), mode=0o600)  # it may come to hold secrets
        except OSError as error:
            raise from_os_error(error, f"writing {place}") from error
    report = ConfigInitReport(
        path=str(place), repo=repo, cache=cache, text=text, repo_exists=exists, dry_run=dry_run
    )
    return Outcome(data=report, warnings=session.warnings)


def _repository(environ: Mapping[str, str]) -> tuple[str | None, bool]:
    """The one that is there (and whether it is), else where one may be: the roomiest disk that survives."""
    if environ.get("ZITCACHE_REPO"):
        return environ["ZITCACHE_REPO"], True
    found = discovered_repositories()
    if found:
        return found[0], True
    disks = []
    for mount in data_mounts():
        try:
            if not os.access(mount.mount_point, os.W_OK):
                continue
            verdict = survival_of_mount(mount).verdict
            free = free_space(mount.mount_point).bytes_free
        except OSError:
            continue
        if verdict != "lost":
            disks.append((verdict == "survives", free, mount.mount_point))
    return (f"{max(disks)[2].rstrip('/')}/zitcache" if disks else None), False


def _cache(environ: Mapping[str, str]) -> str | None:
    try:
        return str(locate_cache(None, environ, Path.home(), Path.cwd()).path)
    except ZitcacheError:
        return None


def _line(name: str, value: str | None, example: str, why: str) -> str:
    if value is None:
        return f"# {name} = {_quoted(example)}    # {why}"
    return f"{name} = {_quoted(value)}"


def _scratch(repo: str | None) -> str:
    if repo is None or "://" in repo:
        return '# scratch = "/data/zitcache-drill"   # where the drill restores to'
    return f"scratch = {_quoted(repo.rstrip('/') + '-drill')}   # where the drill restores to"


def _quoted(text: str) -> str:
    """A TOML basic string. Source: https://toml.io/en/v1.0.0#string."""
    return msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()
