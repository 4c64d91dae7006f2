"""`env --write`: real shells then see the variables, and every other byte of their files stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.environment.machine import (
    DEBIAN_BASHRC,
    SELECTED,
    Machine,
    as_nobody,
    codes,
    needs_root,
    remove_all,
    shell,
    write_all,
)
from tests.environment.test_blocks import contents
from zitcache.errors import UsageError
from zitcache.tasks.environment import installed

SHOW = 'printf "%s %s\\n" "$MODELSCOPE_CACHE" "$HF_HOME"'
SET = "/data/model_cache /data/model_cache\n"


def test_a_fresh_home_gets_what_bash_and_sh_read(machine: Machine) -> None:
    written, _ = write_all()
    assert {str(machine.home / ".bashrc"), str(machine.home / ".profile")} <= set(written)
    assert installed() == SELECTED
    assert shell("bash", "-lc", SHOW, home=machine.home).stdout == SET
    assert shell("bash", "-ic", SHOW, home=machine.home).stdout == SET
    assert shell("dash", "-lc", SHOW, home=machine.home).stdout == SET
    assert remove_all()[0] == written
    assert not any(machine.home.iterdir()), "what was made for us goes"
    assert installed() == {}


def test_bash_that_is_no_terminal_gets_them_before_debians_early_return(machine: Machine) -> None:
    machine.write(".bashrc", DEBIAN_BASHRC)
    write_all()
    assert shell("bash", "-c", f". ~/.bashrc; {SHOW}", home=machine.home).stdout == SET


def test_an_older_setting_loses_in_terminals_and_out_of_them_and_is_named(machine: Machine) -> None:
    bashrc = machine.write(".bashrc", DEBIAN_BASHRC + b"export HF_HOME=/old\n")
    _, notices = write_all()
    assert shell("bash", "-ic", SHOW, home=machine.home).stdout == SET
    assert shell("bash", "-c", f". ~/.bashrc; {SHOW}", home=machine.home).stdout == SET
    (notice,) = [notice for notice in notices if notice.code == "old-setting"]
    number = bashrc.read_bytes().split(b"\n").index(b"export HF_HOME=/old") + 1
    assert f"{bashrc}:{number} " in notice.message
    assert "sets HF_HOME to /old" in notice.message and "block after it wins" in notice.message
    assert notice.hint is not None and notice.hint.startswith("Look at it, then delete it: ")
    subprocess.run(notice.hint.partition(": ")[2], shell=True, check=True)
    assert b"/old" not in bashrc.read_bytes()
    assert write_all()[1] == [], "the hint settles it"


def test_an_older_setting_before_the_early_return_loses_too(machine: Machine) -> None:
    machine.write(".bashrc", b'export HF_HOME=/old \\\n  A=1\n[ -z "$PS1" ] && return\nalias a=b\n')
    write_all()
    assert shell("bash", "-c", f". ~/.bashrc; {SHOW}", home=machine.home).stdout == SET
    assert shell("bash", "-ic", SHOW, home=machine.home).stdout == SET


def test_bash_profile_hides_profile_so_it_gets_a_block(machine: Machine) -> None:
    machine.write(".bash_profile", "alias x=y\n")
    written, _ = write_all()
    assert str(machine.home / ".bash_profile") in written
    assert str(machine.home / ".profile") not in written, "nothing would read it"
    assert shell("bash", "-lc", SHOW, home=machine.home).stdout == SET


def test_bash_login_comes_before_profile(machine: Machine) -> None:
    machine.write(".bash_login", "exec true\n")
    machine.write(".profile", "x=1\n")
    written, _ = write_all()
    assert {str(machine.home / name) for name in (".bash_login", ".profile")} <= set(written)
    machine.write(".bash_login", (machine.home / ".bash_login").read_bytes().replace(b"exec true", b""))
    assert shell("bash", "-lc", SHOW, home=machine.home).stdout == SET


def test_every_zsh_sees_them_and_zshrc_cannot_take_them_back(machine: Machine) -> None:
    machine.write(".zshrc", "export MODELSCOPE_CACHE=/old\n")
    machine.write(".zprofile", "x=1\n")
    written, _ = write_all()
    assert str(machine.home / ".zprofile") not in written
    assert shell("zsh", "-c", SHOW, home=machine.home).stdout == SET
    assert shell("zsh", "-ic", SHOW, home=machine.home).stdout == SET


def test_zdotdir_is_where_zsh_looks(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = machine.home / "zsh"
    monkeypatch.setenv("ZDOTDIR", str(folder))
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    write_all()
    assert shell("zsh", "-c", SHOW, home=machine.home, ZDOTDIR=str(folder)).stdout == SET


def test_fish_sees_them_and_config_fish_cannot_take_them_back(machine: Machine) -> None:
    machine.write(".config/fish/config.fish", "set -gx HF_HOME /old\n")
    write_all()
    command = 'printf "%s %s\\n" $MODELSCOPE_CACHE $HF_HOME'
    assert shell("fish", "-c", command, home=machine.home).stdout == SET
    assert shell("fish", "-ic", command, home=machine.home).stdout.endswith(SET)


def test_shells_that_are_not_there_get_no_files(machine: Machine) -> None:
    write_all()
    names = {path.name for path in machine.home.rglob("*") if path.is_file()}
    assert names == {".bashrc", ".profile"}


def test_root_writes_for_every_login_and_cron(machine: Machine) -> None:
    needs_root()
    environment = machine.write("/etc/environment", 'PATH="/usr/bin"\nHF_HOME=/old')
    write_all()
    text = environment.read_text()
    assert text.startswith('PATH="/usr/bin"\nHF_HOME=/old\n# >>> zitcache >>>\n')
    assert "\nMODELSCOPE_CACHE=/data/model_cache\n" in text, "no quotes, no export: pam_env has neither"
    profile = machine.system / "etc/profile.d/zitcache.sh"
    assert shell("sh", "-c", f". {profile}; {SHOW}", home=machine.home).stdout == SET
    assert not (machine.system / "etc/systemd").exists(), "systemd does not run this machine"
    remove_all()
    assert environment.read_text() == 'PATH="/usr/bin"\nHF_HOME=/old'
    assert not profile.exists()


def test_root_writes_for_services_where_systemd_runs(machine: Machine) -> None:
    needs_root()
    (machine.system / "run/systemd/system").mkdir(parents=True)
    _, notices = write_all()
    conf = machine.system / "etc/systemd/system.conf.d/50-zitcache.conf"
    expected = (
        '[Manager]\nDefaultEnvironment="HF_HOME=/data/model_cache" "MODELSCOPE_CACHE=/data/model_cache"\n'
    )
    assert expected in conf.read_text()
    assert "HF_HOME=" in (machine.home / ".config/environment.d/50-zitcache.conf").read_text()
    assert "systemd-reload-needed" in codes(notices)
    remove_all()
    assert not conf.exists()


def test_what_running_programs_do_not_see_is_said_once(machine: Machine) -> None:
    _, notices = write_all()
    (notice,) = notices
    assert notice.code == "restart-needed" and 'eval "$(zitcache env --format sh)"' in (notice.hint or "")
    assert write_all() == ([], []), "nothing changed, nothing to say"


def test_settings_in_other_files_are_named(machine: Machine) -> None:
    machine.write("/etc/profile.d/old.sh", "# x\nexport HF_HOME=/old\n")
    machine.write("/proc/1/environ", b"A=1\0MODELSCOPE_CACHE=/image\0")
    _, notices = write_all()
    said = [notice for notice in notices if notice.code == "other-setting"]
    assert len(said) == 2
    assert "container sets MODELSCOPE_CACHE to /image" in said[0].message
    assert "-e MODELSCOPE_CACHE=/data/model_cache" in (said[0].hint or "")
    assert f"{machine.system}/etc/profile.d/old.sh:2 sets HF_HOME to /old" in said[1].message


def test_a_line_that_outranks_hf_home_is_named(machine: Machine) -> None:
    machine.write(".bashrc", "export HF_HUB_CACHE=/old/hub\n")
    _, notices = write_all()
    (notice,) = [notice for notice in notices if notice.code == "outranking-setting"]
    number = (machine.home / ".bashrc").read_text().split("\n").index("export HF_HUB_CACHE=/old/hub") + 1
    assert "sets HF_HUB_CACHE to /old/hub" in notice.message and "before HF_HOME" in notice.message
    assert number == 1
    machine.write(".bashrc", "export HF_HUB_CACHE=/data/model_cache/hub\n")
    assert "outranking-setting" not in codes(write_all()[1]), "it says the same"


def test_mode_and_owner_stay(machine: Machine) -> None:
    bashrc = machine.write(".bashrc", b"a=1")
    bashrc.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(bashrc, 1234, 2345)
    before = bashrc.stat()
    write_all()
    after = bashrc.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_extended_attributes_stay(machine: Machine) -> None:
    bashrc = machine.write(".bashrc", b"a=1")
    try:
        os.setxattr(bashrc, "user.note", b"mine")
    except OSError as error:
        pytest.skip(f"this file system has no extended attributes: {error}")
    write_all()
    assert os.getxattr(bashrc, "user.note") == b"mine"


def test_a_new_file_in_the_home_of_another_user_is_his(machine: Machine) -> None:
    needs_root()
    os.chown(machine.home, 1234, 2345)
    (machine.home / ".config/fish").mkdir(parents=True)
    os.chown(machine.home / ".config/fish", 1234, 2345)
    write_all()
    for name in (".bashrc", ".config/fish/conf.d", ".config/fish/conf.d/zitcache.fish"):
        status = (machine.home / name).stat()
        assert (status.st_uid, status.st_gid) == (1234, 2345), name


def test_a_symlinked_dotfile_is_written_through_to_the_real_file(machine: Machine) -> None:
    real = machine.write("dotfiles/bash/bashrc", b"a=1\n")
    link = machine.home / ".bashrc"
    link.symlink_to("dotfiles/bash/bashrc")
    write_all()
    assert link.is_symlink() and os.readlink(link) == "dotfiles/bash/bashrc"
    assert b"zitcache" in real.read_bytes()
    assert shell("bash", "-ic", SHOW, home=machine.home).stdout == SET
    remove_all()
    assert link.is_symlink() and real.read_bytes() == b"a=1\n"


def test_a_symlink_to_nowhere_gets_its_file_and_loses_it_again(machine: Machine) -> None:
    link = machine.home / ".bashrc"
    link.symlink_to("gone/bashrc")
    write_all()
    assert (machine.home / "gone/bashrc").is_file() and link.is_symlink()
    remove_all()
    assert link.is_symlink() and not (machine.home / "gone/bashrc").exists()


def test_a_hard_linked_file_keeps_its_other_name(machine: Machine) -> None:
    bashrc = machine.write(".bashrc", b"a=1\n")
    os.link(bashrc, machine.home / "other")
    write_all()
    assert (machine.home / "other").read_bytes() == bashrc.read_bytes() != b"a=1\n"
    remove_all()
    assert (machine.home / "other").read_bytes() == bashrc.read_bytes() == b"a=1\n"


@pytest.mark.root
def test_a_file_mounted_on_its_own_is_written_in_place(machine: Machine) -> None:
    needs_root()
    environment = machine.write("/etc/environment", b"A=1\n")
    outside = machine.write("outside", b"A=1\n")
    if subprocess.run(["mount", "--bind", outside, environment], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        written, notices = write_all()
        assert str(environment) in written and "file-not-written" not in codes(notices)
        assert b"HF_HOME=/data/model_cache" in outside.read_bytes()
        remove_all()
        assert outside.read_bytes() == b"A=1\n"
    finally:
        subprocess.run(["umount", environment], check=True)


def test_a_read_only_file_stays_and_is_warned_of(machine: Machine) -> None:
    bashrc = machine.write(".bashrc", b"a=1\n")
    bashrc.chmod(0o444)
    written, notices = write_all()
    assert bashrc.read_bytes() == b"a=1\n"
    assert str(bashrc) not in written and str(machine.home / ".profile") in written
    (notice,) = [notice for notice in notices if notice.code == "read-only-file"]
    assert notice.hint == f"Make it writable and repeat the command: chmod u+w {bashrc}"


def test_what_is_no_file_is_left_alone_and_warned_of(machine: Machine) -> None:
    (machine.home / ".bashrc").mkdir()
    os.mkfifo(machine.home / ".profile")
    written, notices = write_all()
    assert codes(notices).count("file-not-read") == 2
    assert not any(str(machine.home) in name for name in written)


def test_one_file_that_cannot_be_written_does_not_stop_the_others(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zitcache.tasks.environment import changes

    really = changes.replace_file

    def failing(path: Path, data: bytes) -> None:
        if path.name == ".bashrc":
            raise OSError(28, "No space left on device")
        really(path, data)

    monkeypatch.setattr(changes, "replace_file", failing)
    written, notices = write_all()
    assert str(machine.home / ".profile") in written
    (notice,) = [notice for notice in notices if notice.code == "file-not-written"]
    assert ".bashrc could not be written: No space left on device." in notice.message


def test_a_block_without_its_end_is_left_to_the_user(machine: Machine) -> None:
    bashrc = machine.write(".bashrc", b"a=1\n# >>> zitcache >>>\nexport HF_HOME=/x\n")
    before = bashrc.read_bytes()
    _, notices = write_all()
    (notice,) = [notice for notice in notices if notice.code == "broken-block"]
    assert f"{bashrc}:2 " in notice.message
    assert bashrc.read_bytes() == before
    assert "broken-block" in codes(remove_all()[1])


def test_without_a_home_only_the_system_is_written(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent/home")
    written, _ = write_all()
    assert all(name.startswith(str(machine.system)) for name in written)
    assert not Path("/nonexistent").exists()


def test_a_value_that_cannot_be_held_changes_nothing(machine: Machine) -> None:
    before = machine.files()
    with pytest.raises(UsageError, match="line break"):
        write_all({"HF_HOME": "/a\nrm -rf /"})
    assert machine.files() == before


def test_a_value_that_pam_cannot_hold_is_written_for_the_shells(machine: Machine) -> None:
    needs_root()
    written, notices = write_all({"HF_HOME": "/data/#1"})
    assert str(machine.system / "etc/environment") not in written
    assert "value-not-writable" in codes(notices)
    assert shell("bash", "-ic", 'printf %s "$HF_HOME"', home=machine.home).stdout == "/data/#1"


def test_no_variables_means_remove(machine: Machine) -> None:
    write_all()
    assert write_all({})[0]
    assert installed() == {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), contents), min_size=8, max_size=8))
def test_install_and_uninstall_give_back_the_identical_home(
    machine: Machine, given: list[bytes | None]
) -> None:
    names = (
        ".bashrc", ".profile", ".bash_profile", ".zshenv", ".zshrc", ".config/fish/config.fish",
        ".config/environment.d/50-zitcache.conf", "/etc/environment",
    )  # fmt: skip
    for folder in (machine.home, machine.system):
        shutil.rmtree(folder)
        folder.mkdir()
    for name, data in zip(names, given, strict=True):
        if data is not None:
            machine.write(name, data)
    before = machine.files()
    write_all()
    write_all({"HF_HOME": "/elsewhere"})
    remove_all()
    assert machine.files() == before


@pytest.fixture
def home_of_nobody() -> Iterator[Path]:
    """A home that belongs to another user; pytest's own folders let nobody in."""
    needs_root()
    home = Path(tempfile.mkdtemp(prefix="zitcache-nobody-", dir="/tmp"))
    home.chmod(0o755)
    shutil.chown(home, 65534, 65534)
    yield home
    shutil.rmtree(home)


@pytest.mark.root
def test_a_plain_user_changes_his_home_alone(home_of_nobody: Path) -> None:
    system = home_of_nobody / "system"
    (system / "etc/profile.d").mkdir(parents=True)
    for path in (system, system / "etc", system / "etc/profile.d"):
        path.chmod(0o777)

    def work() -> object:
        written, notices = write_all()
        return written, codes(notices), installed()

    written, said, now = as_nobody(work, HOME=str(home_of_nobody), ZITCACHE_SYSTEM_ROOT=str(system))
    assert written == [str(home_of_nobody / ".bashrc"), str(home_of_nobody / ".profile")]
    assert (said, now) == (["restart-needed"], SELECTED)
    assert (home_of_nobody / ".bashrc").stat().st_uid == 65534
    assert shell("bash", "-lc", SHOW, home=home_of_nobody).stdout == SET


@pytest.mark.root
def test_a_plain_user_is_told_of_files_that_are_not_his(home_of_nobody: Path) -> None:
    bashrc = home_of_nobody / ".bashrc"
    bashrc.write_bytes(b"a=1\n")
    bashrc.chmod(0o644)

    def work() -> object:
        written, notices = write_all()
        return written, codes(notices)

    environ = {"HOME": str(home_of_nobody), "ZITCACHE_SYSTEM_ROOT": str(home_of_nobody / "system")}
    written, said = as_nobody(work, **environ)
    assert written == [str(home_of_nobody / ".profile")]
    assert "read-only-file" in said
    assert bashrc.read_bytes() == b"a=1\n" and bashrc.stat().st_uid == 0


@pytest.mark.root
def test_a_file_of_another_owner_that_may_be_written_keeps_its_owner(home_of_nobody: Path) -> None:
    bashrc = home_of_nobody / ".bashrc"
    bashrc.write_bytes(b"a=1\n")
    bashrc.chmod(0o666)
    environ = {"HOME": str(home_of_nobody), "ZITCACHE_SYSTEM_ROOT": str(home_of_nobody / "system")}
    assert str(bashrc) in as_nobody(lambda: write_all()[0], **environ)
    assert bashrc.stat().st_uid == 0 and b"zitcache" in bashrc.read_bytes()
