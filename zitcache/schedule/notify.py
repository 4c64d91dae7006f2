"""Telling somebody: pings, a webhook, any Apprise target. None of them can fail a night.

The ping protocol is that of healthchecks.io (https://healthchecks.io/docs/http_api/): ``URL/start``, then
``URL/EXIT_CODE`` with the end of the log as the body, both with the same ``rid``. It is the only one that
notices a night which did not happen at all.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from zitcache.events import Notice
from zitcache.schedule.sections import Level, NotifyConfig

TIMEOUT_SECONDS = 10.0
MAX_PING_BODY = 100_000
"""Bytes of the log that go with a ping: what healthchecks.io takes."""

_ORDER: dict[str, int] = {"ok": 0, "warning": 1, "failure": 2}
_SECRET = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s'\"]+")


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told. ``log``: the whole of it, of which each channel takes what it can.

    ``ping_code``: what the ping service hears instead of ``exit_code``, which is that of this run alone.
    """

    title: str
    body: str
    level: Level
    exit_code: int
    log: str = ""
    data: object = None
    ping_code: int | None = None


@dataclass(slots=True)
class Teller:
    """Tells about one run through every channel that is configured. ``run_id`` ties start to end."""

    config: NotifyConfig
    timeout_seconds: float = TIMEOUT_SECONDS
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def started(self) -> list[Notice]:
        """Say that the run begins."""
        if not self.config.ping:
            return []
        return _guarded("ping", lambda: self._ping("start", b""))

    def finished(self, message: Message) -> list[Notice]:
        """Say how the run went. Returns a notice for each channel that could not be reached."""
        notices: list[Notice] = []
        if self.config.ping:
            notices += _guarded("ping", lambda: self._ping_end(message))
        if _ORDER[message.level] < _ORDER[self.config.on]:
            return notices
        webhook = self.config.webhook
        if webhook:
            notices += _guarded("webhook", lambda: self._post_json(webhook, message))
        if self.config.apprise:
            notices += _guarded("apprise", lambda: tell_apprise(self.config.apprise, message))
        return notices

    def _ping_end(self, message: Message) -> None:
        body = f"{message.title}\n{message.body}\n\n{message.log}".encode("utf-8", "backslashreplace")
        code = message.exit_code if message.ping_code is None else message.ping_code
        self._ping(str(code), body[-MAX_PING_BODY:])

    def stopped(self, message: Message) -> None:
        """Tell the ping service alone of a run that was stopped: there is no time for more."""
        if self.config.ping:
            _guarded("ping", lambda: self._ping_end(message))

    def _ping(self, suffix: str, body: bytes) -> None:
        assert self.config.ping is not None
        parts = urlsplit(self.config.ping)
        query = "&".join(part for part in (parts.query, urlencode({"rid": self.run_id})) if part)
        url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{suffix}", query=query))
        _post(url, body, "text/plain; charset=utf-8", self.timeout_seconds)

    def _post_json(self, url: str, message: Message) -> None:
        body = msgspec.json.encode(
            {
                "schema": "zitcache-notify/1",
                "run": self.run_id,
                "title": message.title,
                "body": message.body,
                "level": message.level,
                "exit_code": message.exit_code,
                "data": message.data,
            }
        )
        _post(url, body, "application/json", self.timeout_seconds)


def tell_apprise(urls: Sequence[str], message: Message) -> None:
    """Send through Apprise. Raises ``RuntimeError`` if it is not installed or a target refused."""
    try:
        import apprise
    except ImportError:
        raise RuntimeError("the package apprise is not installed: pip install 'zitcache[notify]'") from None
    sender = apprise.Apprise()
    for url in urls:
        if not sender.add(url):
            raise RuntimeError(f"{scrub(url)} is no target that Apprise knows")
    kinds = {"ok": apprise.NotifyType.SUCCESS, "warning": apprise.NotifyType.WARNING}
    kind = kinds.get(message.level, apprise.NotifyType.FAILURE)
    if not sender.notify(title=message.title, body=message.body, notify_type=kind):
        raise RuntimeError("a target did not take the message")


def scrub(text: str) -> str:
    """``text`` without the part of any URL that may be a secret: a ping URL or a chat hook is a password."""
    return _SECRET.sub(lambda match: _host_only(match[0]), text)


def _host_only(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in {"http", "https"} else None
    except ValueError:
        host = None
    return f"{url.partition('://')[0]}://{host or ''}…"


def _post(url: str, body: bytes, content_type: str, timeout_seconds: float) -> None:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError("the URL does not begin with http:// or https://")
    headers = {"Content-Type": content_type, "User-Agent": "zitcache"}
    request = urllib.request.Request(url, data=body, method="POST", headers=headers)
    with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
        answer.read(4096)


def _guarded(channel: str, tell: Callable[[], None]) -> list[Notice]:
    try:
        tell()
    except urllib.error.HTTPError as error:
        reason = f"the server answered {error.code}"
        error.close()
    except Exception as error:  # whatever a library or a server does, the night goes on
        reason = scrub(str(getattr(error, "reason", None) or error) or type(error).__name__)
    else:
        return []
    return [
        Notice(
            code="not-told",
            message=f"Nobody was told through {channel}: {reason}.",
            hint="Correct it in the section [notify], then try: zitcache night --test",
        )
    ]
