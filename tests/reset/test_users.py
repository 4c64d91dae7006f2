"""Somebody who is not root has a cache, too."""

from __future__ import annotations

import json
import shlex
import sys

import pytest

from tests.reset.machine import Machine, Ran
from tests.reset.test_reset import contents

pytestmark = pytest.mark.root

HOME = "/home/alice"
CACHE = f"{HOME}/.cache/modelscope"
BECOME = f"setpriv --reuid 4321 --regid 4321 --clear-groups env HOME={HOME}"


def as_alice(machine: Machine, line: str, *, tools: bool = False) -> Ran:
    return machine.run(f"cd {HOME} && {BECOME} sh -c {shlex.quote(line)}", tools=tools)


def with_alice(machine: Machine) -> None:
    machine.run(
        "grep -q ^alice: /etc/passwd || echo 'alice:x:4321:4321::/home/alice:/bin/bash' >> /etc/passwd; "
        f"mkdir -p {HOME} /data/alice && chown 4321:4321 {HOME} /data/alice && chmod 755 / /home /data"
    )


def prepared(machine: Machine) -> str:
    """Alice's sample cache, migrated by herself."""
    with_alice(machine)
    # The Python of the tests lies where only root can look: it works for her, and then gives her the files.
    sample = machine.zitcache("sample", CACHE)
    assert sample.code == 0, sample.err
    before = contents(machine, CACHE)
    moved = machine.zitcache("migrate", "/data/alice/cache", "--cache", CACHE, "--yes", "--no-env")
    assert moved.code == 0, moved.err
    machine.run("chown -hR 4321:4321 /data/alice")
    machine.reset()
    with_alice(machine)
    return before


def test_her_cache_comes_back_to_her_home(machine: Machine) -> None:
    if sys.base_prefix == "/usr":
        pytest.skip("needs a Python that can be mounted for everybody")
    before = prepared(machine)
    ran = as_alice(machine, "sh /data/zitcache-recover.sh --json")
    assert ran.code == 0, ran.out + ran.err
    assert ran.data["action"] == "relinked"
    assert contents(machine, CACHE) == before
    assert machine.run(f"stat -c %u {CACHE}").out == "4321\n"
    assert ran.data["launcher"] == f"{HOME}/.local/bin/zitcache"
    assert all(path.startswith(HOME) for path in ran.data["environment_files"])
    assert machine.run("ls -A /usr/local/bin /etc/environment 2>/dev/null").out.split() == ["/usr/local/bin:"]
    again = as_alice(machine, "~/.local/bin/zitcache restore --json")
    assert again.data["action"] == "nothing to do", "what is hers needs no naming"


def test_root_does_not_take_it_without_being_told(machine: Machine) -> None:
    prepared(machine)
    ran = machine.run("cp -a /data/alice/cache/.zitcache-kit /opt/kit; sh /opt/kit/zitcache restore --json")
    error = json.loads(ran.out)["error"]
    assert ran.code == 6 and "belongs to alice" in error["message"]


def test_another_user_cannot_be_led_by_her(machine: Machine) -> None:
    prepared(machine)
    machine.run(
        "mkdir -p /opt /srv/bob && cp -a /data/alice/cache/.zitcache-kit /opt/kit && chown -R 0:0 /opt/kit"
    )
    machine.run("chmod 777 /srv/bob")
    become = "setpriv --reuid 1001 --regid 1001 --clear-groups env HOME=/srv/bob"
    ran = machine.run(f"cd /srv/bob && {become} sh /opt/kit/zitcache restore --json")
    assert ran.code == 6 and "belongs to alice" in ran.out
