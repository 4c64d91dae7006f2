"""Somebody is told, by real requests to a real server; and whatever goes wrong there, the night goes on."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zitcache.schedule.hooks import run_hook
from zitcache.schedule.notify import Message, Teller, scrub
from zitcache.schedule.sections import NotifyConfig

GOOD = Message("Backup fine", "32.8 GB are safe.", "ok", 0, log="line 1\nline 2")
BAD = Message("Backup failed", "No space left.", "failure", 5, log="the log", data={"exit_code": 5})


@dataclass
class Receiver:
    """A server on loopback that remembers what it got. ``answer``: the status it gives, ``delay`` s late."""

    url: str = ""
    answer: int = 200
    delay: float = 0.0
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path.partition("?")[0] for path, _ in self.requests]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append((self.path, body))
            time.sleep(found.delay)
            self.send_response(found.answer)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


def test_the_ping_service_hears_of_the_start_and_of_the_exit_code(receiver: Receiver) -> None:
    teller = Teller(NotifyConfig(ping=f"{receiver.url}/uuid"))
    assert teller.started() == [] and teller.finished(BAD) == []
    assert receiver.paths() == ["/uuid/start", "/uuid/5"]
    assert {path.partition("?rid=")[2] for path, _ in receiver.requests} == {teller.run_id}
    body = receiver.requests[1][1].decode()
    assert "Backup failed" in body and "the log" in body


def test_a_good_night_pings_too_but_bothers_nobody(receiver: Receiver) -> None:
    config = NotifyConfig(ping=f"{receiver.url}/p/", webhook=f"{receiver.url}/hook")
    assert Teller(config).finished(GOOD) == []
    assert receiver.paths() == ["/p/0"]


@pytest.mark.parametrize(("on", "told"), [("ok", True), ("warning", True), ("failure", False)])
def test_the_level_decides_who_is_bothered(receiver: Receiver, on: str, told: bool) -> None:
    warned = Message("Partly", "2 files left out.", "warning", 3)
    config = NotifyConfig(webhook=f"{receiver.url}/hook", on=on)  # type: ignore[arg-type]
    assert Teller(config).finished(warned) == []
    assert bool(receiver.requests) is told


def test_a_webhook_gets_one_json_object(receiver: Receiver) -> None:
    assert Teller(NotifyConfig(webhook=f"{receiver.url}/hook?key=1")).finished(BAD) == []
    told = json.loads(receiver.requests[0][1])
    assert told["schema"] == "zitcache-notify/1"
    assert (told["title"], told["level"], told["exit_code"]) == ("Backup failed", "failure", 5)
    assert told["data"] == {"exit_code": 5}


def test_apprise_reaches_its_targets(receiver: Receiver) -> None:
    pytest.importorskip("apprise", reason="needs apprise: pip install 'zitcache[notify]'")
    target = receiver.url.replace("http://", "json://") + "/chat"
    assert Teller(NotifyConfig(apprise=[target])).finished(BAD) == []
    told = json.loads(receiver.requests[0][1])
    assert told["title"] == "Backup failed" and "No space left." in told["message"]


@pytest.mark.parametrize("name", ["ping", "webhook", "apprise"])
@pytest.mark.parametrize("trouble", ["refuses", "errors", "hangs", "nonsense"])
def test_nobody_there_is_a_warning_and_no_failure(receiver: Receiver, name: str, trouble: str) -> None:
    url = {
        "refuses": "http://127.0.0.1:9/secret-token",
        "errors": f"{receiver.url}/secret-token",
        "hangs": f"{receiver.url}/secret-token",
        "nonsense": "not a url secret-token",
    }[trouble]
    receiver.answer = 500
    receiver.delay = 1.0 if trouble == "hangs" else 0.0
    if name == "apprise":
        pytest.importorskip("apprise", reason="needs apprise: pip install 'zitcache[notify]'")
        config = NotifyConfig(apprise=[url.replace("http://", "json://")])
    else:
        config = NotifyConfig(ping=url) if name == "ping" else NotifyConfig(webhook=url)
    notices = Teller(config, timeout_seconds=0.3).finished(BAD)
    assert [notice.code for notice in notices] == ["not-told"]
    assert name in notices[0].message


def test_a_secret_url_is_not_repeated() -> None:
    assert scrub("could not reach https://hc-ping.com/6f1c-secret?x=1 at all") == (
        "could not reach https://hc-ping.com… at all"
    )
    assert "token" not in scrub("dingtalk://token@secret/ is no target")
    assert scrub("https://user:password@host.example/x") == "https://host.example…"


def test_a_missing_apprise_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    (notice,) = Teller(NotifyConfig(apprise=["json://127.0.0.1:9"])).finished(BAD)
    assert "zitcache[notify]" in notice.message


def test_a_hook_sees_how_it_went(tmp_path: Path) -> None:
    command = f'echo "$ZITCACHE_EXIT_CODE" > {tmp_path}/seen; echo noise'
    assert run_hook("after", command, {"ZITCACHE_EXIT_CODE": "5"}) is None
    assert (tmp_path / "seen").read_text() == "5\n"


def test_no_hook_is_no_notice() -> None:
    assert run_hook("before", None, {}) is None


@pytest.mark.parametrize(
    ("command", "says"), [("echo why; exit 3", "exit code 3: why"), ("sleep 5", "did not end within")]
)
def test_a_hook_that_fails_or_hangs_is_said(command: str, says: str) -> None:
    notice = run_hook("before", command, {}, timeout_seconds=0.5)
    assert notice is not None and says in notice.message
