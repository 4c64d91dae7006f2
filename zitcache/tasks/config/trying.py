"""Try every value of a configuration: what is found out here is not found out in the night."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from zitcache.errors import UsageError
from zitcache.machine.fstab import unmounted
from zitcache.schedule.notify import scrub
from zitcache.schedule.times import parse_times
from zitcache.tasks.configuration import Config
from zitcache.tasks.night.words import policy_of, share_of


def problems_in(config: Config) -> list[str]:
    """What a type cannot tell: times that never come, shares above one, places that nobody can write to."""
    problems = [
        *_refusal(lambda: parse_times(config.schedule.at)),
        *_refusal(lambda: share_of(config.night.reread, "night.reread")),
        *_refusal(lambda: share_of(config.night.read_data, "night.read_data")),
        *_refusal(lambda: policy_of(config)),
        *_refusal(lambda: _try_bucket(config)),
    ]
    if _keeps_nothing(config):
        problems.append("The section [retention] keeps nothing; every night would forget all but the last.")
    return [*problems, *_places(config), *_addresses(config)]


def _refusal(try_it: Callable[[], object]) -> list[str]:
    try:
        try_it()
    except UsageError as error:
        return [f"{error.message} {error.hint or ''}".strip()]
    return []


def _try_bucket(config: Config) -> None:
    """The settings for repositories in S3, on the one that is named or on any. Raises ``UsageError``."""
    from zitcache.storage.s3.location import SETTINGS, fill

    values = {name: str(value) for name in SETTINGS if (value := getattr(config, name))}
    place = config.repo or ""
    if values or place[:5].lower() == "s3://":
        fill(place if place[:5].lower() == "s3://" else "s3://bucket/prefix", values)


def _keeps_nothing(config: Config) -> bool:
    try:
        return policy_of(config).is_empty
    except UsageError:
        return False  # said already


def _places(config: Config) -> Iterator[str]:
    """Files and folders that a night writes to. A scheduled run has no working directory."""
    for name, text in (
        ("night.report", config.night.report),
        ("night.scratch", config.night.scratch),
        ("metrics.textfile", config.metrics.textfile),
    ):
        if not text:
            continue
        path = Path(text).expanduser()
        if not path.is_absolute():
            yield f"{name} must be an absolute path: a scheduled run has no working directory. It is {text}"
            continue
        absent = unmounted(path)
        if absent is not None:
            yield f"{name} is {text}, and {absent} is not mounted."
        elif name != "night.scratch" and not path.parent.is_dir():
            yield f"{name} is {text}, but there is no folder {path.parent}."
    textfile = config.metrics.textfile
    if textfile and not textfile.endswith(".prom"):
        yield f"metrics.textfile must end in .prom, or the exporter passes it over: {textfile}"
    repo = config.repo or ""
    absent = unmounted(os.path.expanduser(repo)) if repo and "://" not in repo else None
    if absent is not None:
        yield f"repo is {repo}, and {absent} is not mounted."


def _addresses(config: Config) -> Iterator[str]:
    """Who is to be told. Addresses may be secrets, so they are not repeated."""
    for name in ("ping", "webhook"):
        url = getattr(config.notify, name)
        if url and not _is_http(url):
            yield f"notify.{name} must begin with https:// (or http://) and name a server."
    if not config.notify.apprise:
        return
    try:
        import apprise
    except ImportError:
        yield "notify.apprise needs the package apprise: pip install 'zitcache[notify]'"
        return
    for url in config.notify.apprise:
        if not apprise.Apprise().add(url):
            yield f"notify.apprise: {scrub(url)} is no target that Apprise knows."


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
