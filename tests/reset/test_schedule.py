"""The schedule is armed again: what ran zitcache before the reset runs it after, once."""

from __future__ import annotations

import json

import pytest

from tests.reset.machine import Machine
from tests.reset.test_reset import backed_up, migrated, recovered

pytestmark = pytest.mark.root

FOREIGN = "5 4 * * * rsync /data/zitcache /nas"
JOB = "0 2 * * * /opt/venv/bin/zitcache backup --quiet -r /data/zitcache"


def with_crontab(machine: Machine, *lines: str) -> None:
    text = "\n".join(lines)
    ran = machine.run(f"mkdir -p /opt/venv/bin; printf '%s\\n' '{text}' | crontab -")
    assert ran.code == 0, ran.err


def test_the_line_of_the_crontab_comes_back_and_runs_the_kit(machine: Machine) -> None:
    with_crontab(machine, FOREIGN, JOB)
    before = backed_up(machine)
    machine.reset()
    ran = recovered(machine)
    expected = "0 2 * * * /bin/sh /data/zitcache/kit/zitcache backup --quiet -r /data/zitcache"
    assert ran.data["schedule"] == [f"crontab: {expected}"]
    crontab = machine.run("crontab -l").out
    assert expected in crontab.splitlines() and "rsync" not in crontab, "what is not ours is not taken along"
    # It is a line that works.
    command = expected.split("* * * ", 1)[1]
    ran = machine.run(f"MODELSCOPE_CACHE=/root/workspace/model_cache {command.replace('--quiet', '--json')}")
    assert ran.code == 0 and ran.data["files"] == 21, ran.err
    assert before
    assert recovered(machine).data["schedule"] == [], "never twice"
    assert machine.run("crontab -l").out == crontab


def test_lines_that_are_there_stay_and_are_not_doubled(machine: Machine) -> None:
    with_crontab(machine, JOB)
    backed_up(machine)
    machine.reset()
    mine = "0 2 * * *   /usr/bin/zitcache   backup --quiet -r /data/zitcache"
    with_crontab(machine, FOREIGN, mine)
    before = machine.run("crontab -l").out
    assert recovered(machine).data["schedule"] == []
    assert machine.run("crontab -l").out == before


def test_files_of_cron_and_systemd_come_back(machine: Machine) -> None:
    machine.run(
        "mkdir -p /etc/systemd/system/timers.target.wants && cd /etc/systemd/system && "
        "printf '[Service]\\nExecStart=/opt/venv/bin/zitcache night --repo /data/zitcache\\n' "
        "> zitcache-backup.service && "
        "printf '[Timer]\\nOnCalendar=daily\\n[Install]\\nWantedBy=timers.target\\n' "
        "> zitcache-backup.timer && "
        "ln -s /etc/systemd/system/zitcache-backup.timer timers.target.wants/ && "
        "ln -s /dev/null zitcache-masked.service && "
        "printf '0 3 * * * root /opt/venv/bin/zitcache check\\n' > /etc/cron.d/zitcache"
    )
    migrated(machine)
    machine.reset()
    machine.run("printf '# mine\\n' > /etc/cron.d/other")
    ran = recovered(machine)
    assert sorted(ran.data["schedule"]) == [
        "/etc/cron.d/zitcache",
        "/etc/systemd/system/zitcache-backup.service",
        "/etc/systemd/system/zitcache-backup.timer",
    ]
    service = machine.run("cat /etc/systemd/system/zitcache-backup.service").out
    assert "ExecStart=/bin/sh /data/model_cache/.zitcache-kit/zitcache night --repo /data/zitcache" in service
    wants = "/etc/systemd/system/timers.target.wants/zitcache-backup.timer"
    assert machine.run(f"cat {wants}").out.startswith("[Timer]"), "enabled, as it was"
    assert machine.run("stat -c '%a %U' /etc/cron.d/zitcache").out == "644 root\n"
    assert "nothing-schedules" in ran.codes, "no cron daemon and no systemd run in there"
    assert recovered(machine).data["schedule"] == []


def test_the_schedule_follows_the_disk(machine: Machine) -> None:
    with_crontab(machine, JOB)
    backed_up(machine)
    machine.reset()
    machine.data_at = "/mnt/disk"
    recovered(machine, "sh /mnt/disk/zitcache-recover.sh")
    crontab = machine.run("crontab -l").out
    assert "/bin/sh /mnt/disk/zitcache/kit/zitcache backup --quiet -r /mnt/disk/zitcache" in crontab
    assert "/data/" not in crontab


def test_no_schedule_before_none_after(machine: Machine) -> None:
    backed_up(machine)
    machine.reset()
    ran = recovered(machine)
    assert ran.data["schedule"] == [] and machine.run("crontab -l").code == 1
    assert "nothing-schedules" not in [notice["code"] for notice in json.loads(ran.out)["warnings"]]
