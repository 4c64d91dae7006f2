"""A data disk on which somebody else could write: what lies there decides nothing about this machine."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.reset.machine import CACHE, Machine
from tests.reset.test_reset import RECOVER, backed_up, migrated, recovered

pytestmark = pytest.mark.root

SHOW = "zitcache restore --json"
KIT = "/data/model_cache/.zitcache-kit"


def with_marker(machine: Machine, **changes: object) -> None:
    """Change fields of the marker, as a forger would."""
    path = "/data/model_cache/.zitcache-migrated.json"
    marker = json.loads(machine.run(f"cat {path}").out) | changes
    assert machine.run(f"printf %s {shlex.quote(json.dumps(marker))} > {path}").code == 0


def state(machine: Machine) -> str:
    return machine.run("find /etc /root /usr/local /opt -xdev -printf '%p %y %l %s\\n' | sort").out


@pytest.mark.parametrize("source", ["/etc", "/etc/cron.d/x", "/root", "/usr/bin/python3", "/", "/home"])
def test_a_marker_that_names_the_system_is_refused(machine: Machine, source: str) -> None:
    migrated(machine)
    machine.reset()
    with_marker(machine, source=source)
    before = state(machine)
    ran = machine.run(f"{RECOVER} --json")
    assert ran.code == 6 and "no place for a cache" in ran.out
    assert state(machine) == before, "nothing at all was changed"


def test_a_link_in_the_way_to_the_system_is_seen_through(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    machine.run("mkdir -p /home/user && ln -s /etc /home/user/.cache")
    with_marker(machine, source="/home/user/.cache/passwd")
    before = state(machine)
    assert machine.run(f"{RECOVER} --json").code == 6
    assert state(machine) == before


def test_root_makes_no_link_in_a_directory_of_another_user(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    machine.run("mkdir -p /home/user/cache && chown -R 1234 /home/user")
    with_marker(machine, source="/home/user/cache/models")
    ran = recovered(machine)
    link = ran.data["links"][0]
    assert link["state"] == "impossible" and "belongs to user 1234" in link["reason"]
    assert machine.run("find /home/user").out == "/home/user\n/home/user/cache\n"


@pytest.mark.parametrize("make_foreign", ["chown -R 1234 /data/model_cache", "chmod 777 /data/model_cache"])
def test_what_another_user_could_have_put_there_must_be_named(machine: Machine, make_foreign: str) -> None:
    migrated(machine)
    machine.reset()
    machine.run(make_foreign)
    before = state(machine)
    ran = machine.run(
        f"cp -a {KIT} /opt/kit && sh /opt/kit/zitcache restore --json; code=$?; rm -rf /opt/kit; exit $code"
    )
    error = json.loads(ran.out)["error"]
    assert ran.code == 6 and "not used without being named" in error["message"]
    assert error["hint"] == "If you know whose it is: zitcache restore --from /data/model_cache"
    assert state(machine) == before
    # Whoever runs recover.sh from there has said so.
    assert recovered(machine).data["action"] == "relinked"


def test_a_foreign_repository_must_be_named(machine: Machine) -> None:
    backed_up(machine)
    machine.reset()
    machine.run("cp -a /data/zitcache/kit /opt/kit; chown -R 1234 /data/zitcache")
    ran = machine.run("sh /opt/kit/zitcache restore --json")
    assert ran.code == 6 and "zitcache restore --from /data/zitcache" in ran.out
    assert machine.run(f"test -e {CACHE}").code == 1
    assert recovered(machine).data["action"] == "restored"


def test_a_marker_cannot_set_other_variables(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    forged = {"LD_PRELOAD": "/data/evil.so", "PATH": "/data", "HF_HOME": "/data/model_cache"}
    with_marker(machine, variables=forged)
    ran = recovered(machine)
    assert ran.data["variables"] == {"HF_HOME": "/data/model_cache"}
    assert ran.codes.count("variable-refused") == 2
    assert "LD_PRELOAD" not in machine.run("cat /etc/environment /etc/profile.d/* /root/.*rc").out


def test_settings_that_another_user_wrote_schedule_nothing(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    evil = "* * * * * /bin/zitcache backup; sh /data/evil"
    change = f's|"crontab": \\[\\]|"crontab": ["{evil}"]|'
    edit = (
        f"cd {KIT}/machines && for f in *.json; do "
        f"sed -i {shlex.quote(change)} $f; grep -q evil $f; chown 1234 $f; done"
    )
    assert machine.run(edit).code == 0
    ran = machine.run(f"cp -a {KIT} /opt/kit && sh /opt/kit/zitcache restore --json")
    assert ran.code == 0 and ran.data["action"] == "relinked" and ran.data["schedule"] == []
    assert "evil" not in machine.run("crontab -l").out


def test_damaged_markers_are_passed_over(machine: Machine) -> None:
    before = backed_up(machine)
    machine.run("mkdir /data/broken && echo '{' > /data/broken/.zitcache-migrated.json")
    machine.run("mkdir /data/link && ln -s /etc/passwd /data/link/.zitcache-migrated.json")
    machine.run("mkdir /data/pipe && mkfifo /data/pipe/.zitcache-migrated.json")
    machine.reset()
    ran = recovered(machine)
    assert ran.codes.count("marker-unreadable") == 3 and ran.data["action"] == "restored"
    assert before


def test_the_pointer_never_replaces_a_file_of_somebody_else(machine: Machine) -> None:
    machine.run("echo mine > /data/zitcache-recover.sh")
    backed_up(machine)
    assert machine.run("cat /data/zitcache-recover.sh").out == "mine\n"
    machine.run("rm -rf /data/zitcache* /root/workspace; ln -s /etc/passwd /data/zitcache-recover.sh")
    backed_up(machine)
    assert machine.run("readlink /data/zitcache-recover.sh").out == "/etc/passwd\n"
