"""A proxy on loopback between zitcache and an S3 server that breaks what a test tells it to.

::

    with FaultProxy(server.address) as proxy:
        proxy.answer(503, "SlowDown", times=20)                   # storms
        proxy.cut_response(after=100_000, method="GET", times=3)  # the connection breaks inside a body
        proxy.flip_response(at=5000, path="/packs/")              # one wrong bit
        ...
        assert proxy.count("PUT", "/packs/") == 7

A rule has a filter (``method``, ``path``: a part of the path, ``listing``, ``match``: any predicate), and
ends after ``times`` requests or ``seconds``. The first rule that fits a request is applied. Signatures stay
valid, because the proxy passes on the ``Host`` that the client signed.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import unquote

from tests.s3.server import BUCKET

_BLOCK = 64 << 10
_TIMEOUT = 120


@dataclass(slots=True)
class Request:
    """One request that passed. ``sent`` and ``received``: bytes of bodies, to and from the client's side."""

    method: str
    target: str
    headers: dict[str, str]
    length: int
    status: int = 0
    sent: int = 0
    received: int = 0
    fault: str = ""

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def is_listing(self) -> bool:
        query = self.target.partition("?")[2]
        return self.method == "GET" and ("list-type=" in query or "prefix=" in query)


@dataclass(slots=True, eq=False)
class Rule:
    """What is done to which requests. ``hits``: how often it was applied."""

    action: str
    method: str | None = None
    path: str = ""
    listing: bool | None = None
    match: Callable[[Request], bool] | None = None
    times: int | None = None
    skip: int = 0
    until: float | None = None
    values: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    def fits(self, request: Request) -> bool:
        return (
            (self.until is None or time.monotonic() < self.until)
            and (self.times is None or self.hits < self.times)
            and (self.method is None or self.method == request.method)
            and (self.listing is None or self.listing == request.is_listing)
            and self.path in request.path
            and (self.match is None or self.match(request))
        )


class _Gone(Exception):
    """The connection to the client ends here."""


class FaultProxy:
    """Listens on a free port of 127.0.0.1 until the ``with`` block ends."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._born: dict[str, float] = {}
        self._closing = False
        self.port = 0
        self.requests: list[Request] = []

    # -- what a test says ---------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def place(self, prefix: str | None = None, **more: object) -> str:
        """A location behind the proxy; a new prefix unless one is given."""
        from tests.s3.fixtures import S3Server

        return S3Server(self.endpoint).place(prefix, **more)

    def answer(self, status: int, code: str, *, headers: dict[str, str] | None = None, **rule: Any) -> Rule:
        """Answer with an error (or ``body``) instead of passing the request on."""
        text = rule.pop("text", f"{code} by the fault proxy")
        values = {"status": status, "code": code, "text": text, "headers": headers or {}}
        return self._add("answer", rule, **values, body=rule.pop("body", None))

    def cut_request(self, *, after: int, **rule: Any) -> Rule:
        """Break both connections when ``after`` bytes of the request's body have passed."""
        return self._add("cut_request", rule, after=after)

    def cut_response(self, *, after: int, **rule: Any) -> Rule:
        """Break the connection when ``after`` bytes of the response's body have passed."""
        return self._add("cut_response", rule, after=after)

    def truncate_response(self, *, by: int, **rule: Any) -> Rule:
        """Leave out the last bytes of the body, with a Content-Length that says so."""
        return self._add("truncate_response", rule, by=by)

    def flip_response(self, *, at: int, **rule: Any) -> Rule:
        """Change one bit of byte ``at`` of the response's body."""
        return self._add("flip_response", rule, at=at)

    def flip_request(self, *, at: int, **rule: Any) -> Rule:
        """Change one bit of byte ``at`` of the request's body."""
        return self._add("flip_request", rule, at=at)

    def lose_answer(self, **rule: Any) -> Rule:
        """Pass the request on and break the connection instead of passing the answer back."""
        return self._add("lose_answer", rule)

    def delay(self, seconds: float, **rule: Any) -> Rule:
        """Wait before passing a request on."""
        return self._add("delay", rule, seconds=seconds)

    def stall(self, **rule: Any) -> Rule:
        """Take the request and never answer."""
        return self._add("stall", rule)

    def edit_response(self, edit: Callable[[bytes], bytes], **rule: Any) -> Rule:
        """Pass the body of the response through ``edit``."""
        return self._add("edit_response", rule, edit=edit)

    def edit_headers(self, headers: dict[str, str | None], **rule: Any) -> Rule:
        """Pass the request on with other headers (None removes one). Signed ones must stay as they are."""
        return self._add("edit_headers", rule, headers=headers)

    def hide_new(self, seconds: float, **rule: Any) -> Rule:
        """Leave keys that were written less than ``seconds`` ago out of listings."""
        rule.setdefault("listing", True)
        return self._add(
            "edit_response", rule, edit=lambda body: self._without_new(body, time.monotonic() - seconds)
        )

    def refuse(self, seconds: float) -> None:
        """Close all connections and refuse new ones for a while; returns at once."""
        self._stop_listening()

        def return_later() -> None:
            time.sleep(seconds)
            if not self._closing:
                self._listen()

        threading.Thread(target=return_later, daemon=True).start()

    def clear(self) -> None:
        """Forget all rules and requests."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def count(self, method: str | None = None, path: str = "", *, listing: bool | None = None) -> int:
        """How many requests of a kind came, those that were answered with an error included."""
        return len(self.seen(method, path, listing=listing))

    def seen(
        self, method: str | None = None, path: str = "", *, listing: bool | None = None
    ) -> list[Request]:
        with self._lock:
            return [
                request
                for request in self.requests
                if (method is None or request.method == method)
                and path in request.path
                and (listing is None or listing == request.is_listing)
            ]

    def bytes_sent(self, path: str = "/packs/") -> int:
        """Bytes of bodies that were uploaded and accepted."""
        return sum(request.sent for request in self.seen("PUT", path) if 200 <= request.status < 300)

    # -- running ------------------------------------------------------------------------------------

    def __enter__(self) -> FaultProxy:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._stop_listening()

    def _add(self, action: str, rule: dict[str, Any], **values: Any) -> Rule:
        seconds = rule.pop("seconds", None) if action != "delay" else rule.pop("for_seconds", None)
        until = None if seconds is None else time.monotonic() + seconds
        made = Rule(action, until=until, values=values, **rule)
        with self._lock:
            self._rules.append(made)
        return made

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            open_now = list(self._open)
        for each in open_now:
            _reset(each)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(_TIMEOUT)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upstream = http.client.HTTPConnection(*self._upstream, timeout=_TIMEOUT)
        reader = client.makefile("rb")
        try:
            while (request := _read_head(reader)) is not None:
                with self._lock:
                    self.requests.append(request)
                self._relay(request, client, reader, upstream)
        except (_Gone, OSError, http.client.HTTPException):
            pass
        finally:
            upstream.close()
            with self._lock:
                self._open.discard(client)
            with contextlib.suppress(OSError):
                reader.close()
            client.close()

    def _rule_for(self, request: Request) -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if rule.fits(request):
                    if rule.skip > 0:
                        rule.skip -= 1
                        continue
                    rule.hits += 1
                    request.fault = rule.action
                    return rule
        return None

    def _relay(
        self, request: Request, client: socket.socket, reader: BinaryIO, upstream: http.client.HTTPConnection
    ) -> None:
        rule = self._rule_for(request)
        action, values = (rule.action, rule.values) if rule else ("", {})
        if action == "answer":
            self._answer(request, client, reader, values)
            return
        if action == "delay":
            time.sleep(values["seconds"])
        if action == "stall":
            while not self._closing:
                time.sleep(0.05)
            raise _Gone
        if request.headers.get("expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        changes = values["headers"] if action == "edit_headers" else {}
        _send_head(upstream, request, changes)
        for block in _body(request, reader):
            if action == "cut_request" and request.sent + len(block) > values["after"]:
                upstream.send(block[: max(0, values["after"] - request.sent)])
                upstream.close()
                _reset(client)
                raise _Gone
            data = block
            if action == "flip_request" and request.sent <= values["at"] < request.sent + len(block):
                data = _flipped(block, values["at"] - request.sent)
            upstream.send(data)
            request.sent += len(block)
        response = upstream.getresponse()
        request.status = response.status
        if request.method == "PUT" and response.status < 300:
            self._born[request.path] = time.monotonic()
        if action == "lose_answer":
            response.read()
            _reset(client)
            raise _Gone
        self._pass_back(request, response, client, action, values)

    def _pass_back(
        self,
        request: Request,
        response: http.client.HTTPResponse,
        client: socket.socket,
        action: str,
        values: dict[str, Any],
    ) -> None:
        length = response.getheader("Content-Length")
        whole: bytes | None = None
        if request.method == "HEAD":
            client.sendall(_head(response, length or "0"))
            response.read()
            return
        if length is None or action == "edit_response":
            whole = response.read()
            if action == "edit_response" and response.status < 300:
                whole = values["edit"](whole)
            length = str(len(whole))
        size = int(length)
        if action == "truncate_response":
            size = max(0, size - values["by"])
        client.sendall(_head(response, str(size)))
        while request.received < size:
            if whole is not None:
                block = whole[request.received : request.received + _BLOCK]
            else:
                block = response.read(min(_BLOCK, size - request.received))
            if not block:
                raise _Gone
            if action == "cut_response" and request.received + len(block) > values["after"]:
                client.sendall(block[: max(0, values["after"] - request.received)])
                time.sleep(0.02)  # a reset that overtakes the data would take them along
                _reset(client)
                raise _Gone
            if action == "flip_response" and request.received <= values["at"] < request.received + len(block):
                block = _flipped(block, values["at"] - request.received)
            client.sendall(block)
            request.received += len(block)
        if whole is None:
            response.read()

    def _answer(
        self, request: Request, client: socket.socket, reader: BinaryIO, values: dict[str, Any]
    ) -> None:
        request.status = values["status"]
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><Error>'
            f"<Code>{values['code']}</Code><Message>{values['text']}</Message>"
            f"{values.get('more', '')}<Resource>{request.path}</Resource></Error>"
        ).encode()
        if values["body"] is not None:
            body = values["body"]
        expects = "expect" in request.headers
        if not expects:
            for _ in _body(request, reader):
                pass
        headers = {"Content-Type": "application/xml", "Content-Length": str(len(body)), **values["headers"]}
        if expects:
            headers["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {values['status']} Fault\r\n{lines}\r\n".encode()
        client.sendall(head + (b"" if request.method == "HEAD" else body))
        if expects:
            raise _Gone

    def _without_new(self, body: bytes, since: float) -> bytes:
        hidden = {path for path, born in self._born.items() if born > since}

        def keep(match: re.Match[bytes]) -> bytes:
            return b"" if f"/{BUCKET}/{unquote(match[1].decode())}" in hidden else match[0]

        return re.sub(rb"<Contents><Key>(.*?)</Key>.*?</Contents>", keep, body, flags=re.DOTALL)


def _read_head(reader: BinaryIO) -> Request | None:
    line = reader.readline(_BLOCK)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := reader.readline(_BLOCK)) not in {b"\r\n", b"\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Request(method, target, headers, int(headers.get("content-length", "0")))


def _body(request: Request, reader: BinaryIO) -> Any:
    left = request.length
    while left:
        block = reader.read1(min(_BLOCK, left))  # type: ignore[attr-defined]
        if not block:
            raise _Gone
        left -= len(block)
        yield block


def _send_head(
    upstream: http.client.HTTPConnection, request: Request, changes: dict[str, str | None]
) -> None:
    upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in {**request.headers, **changes}.items():
        if value is not None and name not in {"expect", "connection"}:
            upstream.putheader(name, value)
    upstream.endheaders()


def _head(response: http.client.HTTPResponse, length: str) -> bytes:
    dropped = {"content-length", "transfer-encoding", "connection"}
    lines = [f"{name}: {value}\r\n" for name, value in response.getheaders() if name.lower() not in dropped]
    if response.status != 204:
        lines.append(f"Content-Length: {length}\r\n")
    return f"HTTP/1.1 {response.status} {response.reason}\r\n{''.join(lines)}\r\n".encode("latin-1")


def _flipped(block: bytes, at: int) -> bytes:
    changed = bytearray(block)
    changed[at] ^= 0x10
    return bytes(changed)


def _reset(connection: socket.socket) -> None:
    """Close with a reset, as a router does that forgot the connection."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
