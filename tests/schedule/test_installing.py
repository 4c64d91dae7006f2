"""``schedule install`` puts it where something alive reads it, or says that nothing does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.schedule.world import Machine, as_user, configure, make_machine, shell_words
from zitcache.errors import CredentialsError, Exit, NoSpace, RepositoryNotFound, UsageError, ZitcacheError
from zitcache.machine.schedule_entries import read_crontab

FOREIGN = "# mine\nMAILTO=me@example.com\n5 5 * * * /usr/bin/true 50\\%\n@reboot /usr/bin/something\n"
ODD = ["a b", "50%", "it's", 'with "quotes"', "$HOME", "数据", "back\\slash", "-dash", "semi;colon&more"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(tmp_path, monkeypatch)


# -- which one ---------------------------------------------------------------------------------------


def test_systemd_comes_first_then_cron(machine: Machine) -> None:
    machine.alive |= {"cron", "systemd"}
    report, code, _ = machine.install()
    assert (report.backend, code) == ("systemd", Exit.OK)
    machine.alive -= {"systemd"}
    report, code, _ = machine.install()
    assert (report.backend, code) == ("cron", Exit.OK)


def test_a_user_without_crontab_or_session_gets_the_daemon(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zitcache.events import Session
    from zitcache.tasks.schedule.installing import choose_backend

    as_user(monkeypatch)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine.base / "no-session"))
    machine.alive |= {"systemd", "cron", "no-crontab"}
    assert choose_backend("auto", Session()) == "daemon"
    with pytest.raises(UsageError, match="no session"):
        choose_backend("systemd", Session())
    with pytest.raises(UsageError, match="no program crontab"):
        choose_backend("cron", Session())


@pytest.mark.parametrize("backend", ["systemd", "launchd"])
def test_a_backend_that_is_not_here_is_refused(machine: Machine, backend: str) -> None:
    before = machine.everything()
    with pytest.raises(UsageError, match=r"cannot be|does not run"):
        machine.install(backend=backend)
    assert machine.everything() == before


def test_the_configuration_names_time_and_backend(machine: Machine) -> None:
    configure(machine, '[schedule]\nat = "15 4 * * *"\nbackend = "cron"\n')
    machine.alive |= {"systemd", "cron"}
    report, _, _ = machine.install()
    assert (report.backend, report.at) == ("cron", "15 4 * * *")
    report, _, _ = machine.install(at="05:30", backend="systemd")
    assert (report.backend, report.at) == ("systemd", "30 5 * * *")


# -- what a run needs ----------------------------------------------------------------------------------


def test_a_schedule_for_a_repository_that_is_not_there_is_refused(machine: Machine) -> None:
    machine.alive.add("cron")
    with pytest.raises(RepositoryNotFound):
        machine.install(repository=str(machine.base / "mnt/zitcache"))
    assert not machine.cron_file.exists() and not (machine.base / "mnt").exists()


def test_everything_is_named_by_an_absolute_path(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.alive.add("cron")
    monkeypatch.chdir(machine.base)
    machine.install(repository="data/zitcache", cache="cache")
    line = machine.cron_file.read_text().splitlines()[-2]
    words = shell_words(line.split(" ", 6)[6])
    assert words[words.index("--repo") + 1] == str(machine.place)
    assert words[words.index("--cache") + 1] == str(machine.cache)
    program = words[words.index("19") + 1]
    assert Path(program).is_absolute() and os.access(program, os.X_OK)


def test_a_named_configuration_is_used_at_night(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    config = machine.base / "my config.toml"
    config.write_text("")
    monkeypatch.setenv("ZITCACHE_CONFIG", str(config))
    machine.alive.add("cron")
    machine.install()
    assert f'ZITCACHE_CONFIG="{config}"' in machine.cron_file.read_text()


def test_a_kit_runs_from_where_it_is(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = machine.place / "kit/zitcache"
    launcher.parent.mkdir()
    launcher.write_text("#!/bin/sh\n")
    monkeypatch.setenv("ZITCACHE_KIT_LAUNCHER", str(launcher))
    machine.alive.add("cron")
    report, code, _ = machine.install()
    assert f"/bin/sh {launcher} night --repo" in machine.cron_file.read_text()
    assert code == Exit.OK
    launcher.unlink()
    report, code = machine.status()
    assert code == Exit.DAMAGE and str(launcher) in str(report.problem)


def test_keys_in_the_environment_of_a_shell_are_not_there_at_night(
    monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    from zitcache.events import Session
    from zitcache.schedule.jobs import Installation
    from zitcache.tasks.schedule.installing import _warn_of_keys

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    bucket = Installation(program=("/bin/zitcache",), repository="s3://bucket/x")
    session = Session()
    _warn_of_keys("cron", bucket, session)
    assert session.warnings[0].code == "keys-not-at-night"
    quiet = Session()
    _warn_of_keys("daemon", bucket, quiet)
    assert quiet.warnings == []


# -- cron ----------------------------------------------------------------------------------------------


def test_root_gets_a_file_of_its_own(machine: Machine) -> None:
    machine.alive.add("cron")
    machine.crontab.write_text(FOREIGN)
    report, code, _ = machine.install(at="30 3 * * *")
    assert code == Exit.OK and report.armed
    assert report.next_run is not None and report.entries == ["/etc/cron.d/zitcache"]
    assert machine.cron_file.stat().st_mode & 0o777 == 0o644, "cron ignores files that others may change"
    assert machine.crontab.read_text() == FOREIGN


@pytest.mark.parametrize("foreign", ["", FOREIGN, FOREIGN.rstrip("\n"), "# only a comment\n"])
def test_a_users_crontab_keeps_every_other_line(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, foreign: str
) -> None:
    as_user(monkeypatch)
    machine.alive.add("cron")
    if foreign:
        machine.crontab.write_text(foreign)
    report, code, _ = machine.install()
    assert code == Exit.OK and report.backend == "cron" and report.changed[0] == "crontab"
    text = machine.crontab.read_text()
    assert all(line in text.splitlines() for line in foreign.splitlines())
    machine.install(at="03:00")
    assert machine.crontab.read_text().count("zitcache schedule >>>") == 1, "replaced, not added"
    assert "0 3 * * *" in machine.crontab.read_text()
    machine.remove()
    assert machine.crontab.read_text().rstrip("\n") == foreign.rstrip("\n")


def test_a_crontab_that_cannot_be_read_is_not_replaced(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch)
    machine.alive.add("cron")
    machine.crontab.write_text(FOREIGN)
    (machine.root / "refuse").touch()
    assert read_crontab() is None
    with pytest.raises(UsageError, match="could not be read"):
        machine.install()
    assert machine.crontab.read_text() == FOREIGN


def test_an_entry_that_nobody_reads_is_not_called_armed(machine: Machine) -> None:
    report, code, session = machine.install(backend="cron")
    assert code == Exit.DAMAGE and not report.armed
    assert "no cron daemon is running" in str(report.problem)
    assert [notice.code for notice in session.warnings] == ["no-cron-daemon"]
    assert machine.status()[1] == Exit.DAMAGE


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_odd_paths_in_cron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, user: bool) -> None:
    machine = make_machine(tmp_path, monkeypatch, place=f"data {name}/zitcache")
    machine.alive.add("cron")
    if user:
        as_user(monkeypatch)
    report, code, _ = machine.install()
    assert code == Exit.OK and report.armed
    text = (machine.crontab if user else machine.cron_file).read_text()
    line = next(line for line in text.splitlines() if line.startswith("0 2 "))
    command = line.split(" ", 5)[5] if user else line.split(" ", 6)[6]
    words = shell_words(command.replace("\\%", "%"))
    assert words[words.index("--repo") + 1] == str(machine.place)
    program = shutil.which("crontab", path="/usr/bin:/bin")
    if (
        program is not None
        and user
        and "-n" in subprocess.run([program, "-h"], capture_output=True, text=True).stderr
    ):
        done = subprocess.run([program, "-n", str(machine.crontab)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_line_break_in_a_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = make_machine(tmp_path, monkeypatch, place="data\nroot rm -rf /\n/zitcache")
    machine.alive |= {"cron", "systemd"}
    for backend in ("cron", "systemd"):
        with pytest.raises(UsageError, match=r"line break|control character"):
            machine.install(backend=backend)
    assert not machine.cron_file.exists() and not machine.units.exists()


def test_a_line_too_long_for_cron_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = make_machine(tmp_path, monkeypatch, place="/".join(["x" * 200] * 5) + "/zitcache")
    machine.alive.add("cron")
    with pytest.raises(UsageError, match="longer than"):
        machine.install()


# -- systemd -------------------------------------------------------------------------------------------


def test_systemd_is_told_in_the_right_order(machine: Machine) -> None:
    machine.alive.add("systemd")
    report, code, _ = machine.install()
    assert code == Exit.OK and report.armed and report.backend == "systemd"
    assert report.at == "0 2 * * *" and report.next_run is not None
    timers = "zitcache-backup.timer zitcache-check.timer zitcache-proof.timer"
    told = [line.replace("--no-ask-password ", "") for line in machine.told_systemd()]
    assert told == ["daemon-reload", f"enable --now {timers}", f"restart {timers}"]
    unit = (machine.units / "zitcache-backup.service").read_text()
    assert f"RequiresMountsFor={machine.place} " in unit
    assert Path(f"{machine.place}-proofs").is_dir(), "what a protected unit writes to must be there"
    report, _, _ = machine.remove()
    assert not list(machine.units.glob("**/zitcache*")), "the links of the timers, too"
    assert machine.told_systemd()[-1].endswith("daemon-reload")
    assert machine.status()[0].backend is None


def test_a_user_has_units_of_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch)
    runtime = machine.base / "run"
    (runtime / "systemd").mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    machine.alive.add("systemd")
    report, code, session = machine.install()
    assert code == Exit.OK and report.backend == "systemd"
    assert (machine.home / ".config/systemd/user/zitcache-backup.timer").is_file()
    assert all("--user" in line for line in machine.told_systemd())
    assert "no-linger" in [notice.code for notice in session.warnings]
    assert "ProtectSystem" not in (machine.home / ".config/systemd/user/zitcache-backup.service").read_text()
    machine.remove()
    assert not list(machine.home.glob(".config/systemd/user/**/zitcache*"))


def test_a_systemd_that_refuses_is_said(machine: Machine) -> None:
    machine.alive.add("systemd")
    (machine.root / "refuse").touch()
    with pytest.raises(CredentialsError, match="Access denied"):
        machine.install()
    assert machine.status()[1] == Exit.DAMAGE


def test_timers_that_are_not_enabled_are_not_armed(machine: Machine) -> None:
    machine.alive.add("systemd")
    machine.install()
    for link in machine.units.glob("*.wants/*"):
        link.unlink()
    report, code = machine.status()
    assert (code, report.problem) == (Exit.DAMAGE, "The timers are there but not enabled.")


@pytest.mark.parametrize("name", ODD)
def test_odd_paths_in_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine = make_machine(tmp_path, monkeypatch, place=f"data {name}/zitcache")
    machine.alive.add("systemd")
    assert machine.install()[1] == Exit.OK
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (package systemd)")
    units = sorted(map(str, machine.units.glob("zitcache-*.*")))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# -- changing and removing -----------------------------------------------------------------------------


def test_another_backend_takes_the_place_of_the_first(machine: Machine) -> None:
    machine.alive |= {"cron", "systemd"}
    machine.install(backend="cron")
    report, _, _ = machine.install(backend="systemd")
    assert not machine.cron_file.exists()
    assert any("etc/cron.d/zitcache (removed)" in line for line in report.changed)
    report, _, _ = machine.install(backend="cron")
    assert machine.cron_file.exists() and not list(machine.units.glob("zitcache*"))


def test_the_old_schedule_stays_when_the_new_one_fails(machine: Machine) -> None:
    machine.alive |= {"cron", "systemd"}
    machine.install(backend="cron")
    (machine.root / "refuse").touch()
    with pytest.raises(CredentialsError):
        machine.install(backend="systemd")
    assert machine.cron_file.exists()


def test_a_full_disk_leaves_the_schedule_as_it_was(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.alive.add("cron")
    machine.install()
    before = machine.everything()

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zitcache.tasks.schedule.installing.write_durably", full)
    with pytest.raises(NoSpace):
        machine.install(at="04:00")
    assert machine.everything() == before


def test_removing_takes_everything_of_ours_and_nothing_else(machine: Machine) -> None:
    machine.alive |= {"cron", "systemd"}
    other = machine.root / "etc/cron.d/zz-other"
    other.write_text("1 1 * * * root /usr/bin/true\n")
    machine.install(backend="systemd")
    (machine.units / "zitcache-mine.service").write_text("[Service]\nExecStart=/usr/bin/true\n")
    before = other.read_text()
    report, code, _ = machine.remove()
    assert code == Exit.OK and not report.armed
    assert other.read_text() == before
    assert [path.name for path in machine.units.glob("zitcache*")] == ["zitcache-mine.service"]
    assert machine.remove()[0].changed == []


@pytest.mark.parametrize("backend", ["cron", "systemd", "daemon"])
def test_a_dry_run_changes_nothing(machine: Machine, backend: str) -> None:
    machine.alive |= {"cron", "systemd"}
    before = machine.everything()
    report, code, _ = machine.install(backend=backend, dry_run=True)
    assert code == Exit.OK and report.dry_run and report.changed
    assert bool(report.texts) is (backend != "daemon")
    assert machine.everything() == before
    machine.install(backend="cron")
    before = machine.everything()
    report, code, _ = machine.remove(dry_run=True)
    assert code == Exit.OK and report.changed == ["/etc/cron.d/zitcache (would be removed)"]
    assert machine.everything() == before


@pytest.mark.parametrize("at", ["0 25 * * *", "tomorrow", "* * *", "0 0 31 2 *"])
def test_a_time_that_is_none_changes_nothing(machine: Machine, at: str) -> None:
    machine.alive.add("cron")
    machine.install()
    before = machine.everything()
    with pytest.raises(ZitcacheError):
        machine.install(at=at)
    assert machine.everything() == before


def test_nothing_at_all_says_how_to_begin(machine: Machine) -> None:
    report, code = machine.status()
    assert code == Exit.DAMAGE and report.backend is None
    assert report.problem == "Nothing is scheduled: no night comes by itself."
