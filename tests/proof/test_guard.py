"""No socket leaves the drawing process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import zitcache

PROGRAM = """
import json, socket, sys, threading
sys.path.insert(0, sys.argv[1])
from zitcache.proof.drawing.guard import stay_offline
attempts, outcomes = [], {}
stay_offline(attempts.append)

def attempt(name, work):
    try:
        work()
        outcomes[name] = "done"
    except OSError as error:
        outcomes[name] = str(error)

attempt("connect", lambda: socket.create_connection(("192.0.2.1", 443), timeout=1))
attempt("connect_ex", lambda: socket.socket().connect_ex(("192.0.2.1", 80)))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
attempt("resolve", lambda: socket.getaddrinfo("modelscope.cn", 443))
attempt("loopback", lambda: socket.create_connection(("127.0.0.1", 9), timeout=1))
thread = threading.Thread(target=attempt, args=("thread", lambda: socket.gethostbyname("huggingface.co")))
thread.start(); thread.join()
left, right = socket.socketpair()
left.sendall(b"x")
outcomes["unix"] = right.recv(1).decode()
print(json.dumps([attempts, outcomes]))
"""


def test_every_way_out_is_refused_and_told() -> None:
    project = str(Path(zitcache.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, project], capture_output=True, text=True, check=True, timeout=60
    )
    attempts, outcomes = json.loads(done.stdout)
    assert outcomes.pop("unix") == "x", "sockets inside the machine still work"
    assert all("tried to reach the network" in outcome for outcome in outcomes.values()), outcomes
    assert attempts == [
        "192.0.2.1",
        "192.0.2.1:80",
        "192.0.2.1:53",
        "modelscope.cn",
        "127.0.0.1",
        "huggingface.co",
    ]
