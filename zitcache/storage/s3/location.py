"""``s3://bucket/prefix?endpoint_url=…&region=…``: all that is needed to find a repository, but no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from zitcache.errors import UsageError
from zitcache.storage.s3.limits import parse_rate

SCHEME = "s3://"
DEFAULT_CONCURRENCY = 16
MAX_CONCURRENCY = 128
DEFAULT_GIVE_UP_SECONDS = 300
_MAX_GIVE_UP_SECONDS = 86_400
_MAX_LOCK_DAYS = 36_500
_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){1,253}[A-Za-z0-9]")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:@+/=,-]{0,127}")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_SECRET = re.compile(r"secret|token|passw|access_?key|credential|^(ak|sk|key|user|id)$", re.IGNORECASE)
_ADDRESSING = ("path", "virtual")
_KEYS_HINT = (
    "Give keys to the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or to a profile: aws configure"
)


@dataclass(frozen=True, slots=True)
class S3Location:
    """Where a repository is, and how to speak to its endpoint. Names are those of the URL's parameters.

    ``endpoint_url``: None for what boto3 finds (``AWS_ENDPOINT_URL``, the profile, AWS itself).
    ``addressing``: "path" or "virtual"; None to find out. ``concurrency``: requests in flight.
    ``limit_upload``, ``limit_download``: as typed ("20M"). ``object_lock_days``: retention that every
    object gets when it is written.
    ``give_up_after``: seconds without any success after which a request is given up.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: str | None = None
    concurrency: int | None = None
    limit_upload: str | None = None
    limit_download: str | None = None
    object_lock_days: int | None = None
    give_up_after: int | None = None

    def __str__(self) -> str:
        """The same as a URL, in one spelling, so that two ways to type a place compare equal."""
        given = {name: getattr(self, name) for name in PARAMETERS if getattr(self, name) is not None}
        path = f"{SCHEME}{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")
        return path + (f"?{urlencode(given, safe=':/', quote_via=quote)}" if given else "")

    def key(self, name: str) -> str:
        """The key of the object ``name``."""
        return f"{self.prefix}/{name}" if self.prefix else name


SETTINGS = ("endpoint_url", "region", "profile", "concurrency", "limit_upload", "limit_download")
"""Those parameters that options, variables (``ZITCACHE_ENDPOINT_URL``) and the configuration can give."""
PARAMETERS = tuple(field.name for field in fields(S3Location) if field.name not in {"bucket", "prefix"})


def parse_location(text: str) -> S3Location:
    """Read an ``s3://`` location. Raises ``UsageError``, which never repeats what might be a secret."""
    rest = text[len(SCHEME) :]
    place, _, query = rest.partition("?")
    bucket, _, prefix = place.partition("/")
    if "@" in bucket:
        raise UsageError(
            "Access keys do not belong in the place of a repository (s3://…@…).", hint=_KEYS_HINT
        )
    values = _parameters(query)
    if not bucket:
        raise UsageError("The bucket is missing: s3://BUCKET/PREFIX.", hint="As in: s3://my-bucket/zitcache")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{bucket!r} cannot be the name of a bucket.",
            hint="Bucket names have 3 to 63 lower-case letters, digits, dots and hyphens: s3://my-bucket/zitcache",
        )
    location = S3Location(
        bucket=bucket,
        prefix=_prefix(prefix),
        endpoint_url=checked_endpoint(values["endpoint_url"]) if "endpoint_url" in values else None,
        region=_matching("region", values.get("region"), _REGION, "eu-central-1"),
        profile=_matching("profile", values.get("profile"), _WORD, "backup"),
        addressing=_addressing(values.get("addressing")),
        concurrency=_number("concurrency", values.get("concurrency"), 1, MAX_CONCURRENCY),
        limit_upload=_rate("limit_upload", values.get("limit_upload")),
        limit_download=_rate("limit_download", values.get("limit_download")),
        object_lock_days=_number("object_lock_days", values.get("object_lock_days"), 1, _MAX_LOCK_DAYS),
        give_up_after=_number("give_up_after", values.get("give_up_after"), 1, _MAX_GIVE_UP_SECONDS),
    )
    return _without_bucket_in_endpoint(location)


def fold(place: str, given: Mapping[str, str | None]) -> str:
    """``place`` with the parameters ``given`` written into it; those that it has already are replaced.

    A place that is not in S3 is refused if anything is given. Raises ``UsageError``.
    """
    chosen = {name: value for name, value in given.items() if value}
    if not chosen:
        return place
    if not is_s3(place):
        option = "--" + next(iter(chosen)).replace("_", "-")
        raise UsageError(
            f"{option} is for repositories in S3, and {place} is none.", hint=f"Leave out {option}."
        )
    place, _, query = place.partition("?")
    merged = {**_parameters(query), **chosen}
    return str(parse_location(f"{place}?{urlencode(merged, safe=':/', quote_via=quote)}"))


def fill(place: str, defaults: Mapping[str, str | None]) -> str:
    """``place``, which is in S3, with those of ``defaults`` that it does not say itself, in one spelling."""
    said = _parameters(place.partition("?")[2])
    missing = {name: value for name, value in defaults.items() if name not in said}
    return fold(str(parse_location(place)), missing)


def is_s3(place: str) -> bool:
    """Whether ``place`` is a location in S3."""
    return place[: len(SCHEME)].lower() == SCHEME


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = (
            parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
        )
    except ValueError:
        raise UsageError(
            "What follows the question mark in the place of the repository cannot be read.",
            hint="Write it as s3://bucket/prefix?endpoint_url=https://host&region=name, in quotes.",
        ) from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            raise _unknown(name)
        if name in values and values[name] != value:
            raise UsageError(f"{name} is given twice in the place of the repository.", hint="Give it once.")
        if value:
            values[name] = value
    return values


def _unknown(name: str) -> UsageError:
    if _SECRET.search(name):
        return UsageError("Access keys do not belong in the place of a repository.", hint=_KEYS_HINT)
    from difflib import get_close_matches

    near = get_close_matches(name.lower().replace("-", "_"), (*PARAMETERS, "endpoint"), n=1)
    meant = "endpoint_url" if near == ["endpoint"] else near[0] if near else None
    return UsageError(
        f"The place of a repository has no parameter {name[:40]!r}.",
        hint=f"Did you mean {meant}?" if meant else f"There are: {', '.join(PARAMETERS)}.",
    )


def _prefix(text: str) -> str:
    prefix = text.strip("/")
    parts = prefix.split("/") if prefix else []
    if any(part in {"", ".", ".."} for part in parts) or not prefix.isprintable() or len(prefix) > 512:
        raise UsageError(
            f"{prefix[:60]!r} cannot be the prefix of a repository.",
            hint="Choose a plain name: s3://bucket/zitcache",
        )
    return prefix


def checked_endpoint(text: str) -> str:
    """An endpoint's URL in one spelling. Raises ``UsageError``, which never repeats what may be a secret."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(
            "The endpoint's URL cannot be read.", hint="As in: https://s3.example.com:9000"
        ) from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise UsageError("Access keys do not belong in the endpoint's URL.", hint=_KEYS_HINT)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        shown = text[:100]
        raise UsageError(
            f"The endpoint {shown!r} is no URL of a server.",
            hint=f"Begin it with https:// (or http://): https://{shown.rpartition('//')[2]}",
        )
    if parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise UsageError(
            "The endpoint's URL holds more than a server.", hint="As in: https://s3.example.com:9000"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "") + parts.path.rstrip("/")


def _without_bucket_in_endpoint(location: S3Location) -> S3Location:
    """OSS and COS show users an endpoint that begins with the bucket: take that off."""
    if location.endpoint_url is None:
        return location
    scheme, _, host = location.endpoint_url.partition("://")
    stem = f"{location.bucket.lower()}."
    if not host.startswith(stem) or "." not in host[len(stem) :]:
        return location
    return replace(location, endpoint_url=f"{scheme}://{host[len(stem) :]}")


def _matching(name: str, value: str | None, pattern: re.Pattern[str], example: str) -> str | None:
    if value is not None and not pattern.fullmatch(value):
        raise UsageError(f"{name} cannot be {value[:60]!r}.", hint=f"As in: {name}={example}")
    return value


def _addressing(value: str | None) -> str | None:
    if value is None or value == "auto":
        return None
    if value not in _ADDRESSING:
        raise UsageError(f"addressing cannot be {value[:60]!r}.", hint="It is path, virtual or auto.")
    return value


def _number(name: str, value: str | None, lowest: int, highest: int) -> int | None:
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 9 or not lowest <= int(value) <= highest:
        raise UsageError(
            f"{name} cannot be {value[:60]!r}.", hint=f"It is a number from {lowest} to {highest}."
        )
    return int(value)


def _rate(name: str, value: str | None) -> str | None:
    if value is not None:
        parse_rate(name, value)
    return value
