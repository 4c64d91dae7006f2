"""`zitcache env`: every variable, the line that sets it, and whether it does anything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment.machine import SELECTED, Machine, needs_root, write_all
from zitcache.tasks.environment import VariableState, survey


def look(machine: Machine, **environ: str) -> list[VariableState]:
    full = {"HOME": str(machine.home), "ZITCACHE_SYSTEM_ROOT": str(machine.system), **environ}
    return survey(full, machine.home)


def only(machine: Machine, **environ: str) -> VariableState:
    (state,) = look(machine, **environ)
    return state


def cache(machine: Machine) -> str:
    place = machine.home / "cache/hub"
    place.mkdir(parents=True, exist_ok=True)
    return str(place.parent)


def test_nothing_set_is_an_empty_list(machine: Machine) -> None:
    assert look(machine) == []


def test_a_sound_setting_has_no_warning(machine: Machine) -> None:
    state = only(machine, HF_HOME=cache(machine))
    assert (state.name, state.origin, state.effective, state.warning) == ("HF_HOME", "process", True, None)
    assert state.path == f"{cache(machine)}/hub"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        (".bashrc", "export HF_HOME={}"),
        (".profile", "HF_HOME='{}'; export HF_HOME"),
        (".bash_profile", 'export HF_HOME="{}"'),
        (".zshrc", "export HF_HOME={}"),
        (".zshenv", "typeset -x HF_HOME={}"),
        (".config/fish/config.fish", "set -gx HF_HOME {}"),
        (".config/fish/conf.d/a.fish", "set -gx HF_HOME {}"),
        (".config/fish/fish_variables", "SETUVAR --export HF_HOME:{}"),
        (".config/environment.d/a.conf", "HF_HOME={}"),
        ("/etc/environment", "HF_HOME={}"),
        ("/etc/security/pam_env.conf", "HF_HOME DEFAULT={}"),
        ("/etc/profile", "export HF_HOME={}"),
        ("/etc/profile.d/x.sh", "export HF_HOME={}"),
        ("/etc/bash.bashrc", "export HF_HOME={}"),
        ("/etc/zsh/zshenv", "export HF_HOME={}"),
        ("/etc/systemd/system.conf.d/x.conf", '[Manager]\nDefaultEnvironment="HF_HOME={}"'),
        ("/etc/environment.d/x.conf", "HF_HOME={}"),
        ("/etc/crontab", "HF_HOME={}"),
        ("/etc/cron.d/zitcache", "HF_HOME={}"),
    ],
)
def test_the_line_that_sets_it_is_named(machine: Machine, file: str, line: str) -> None:
    place = cache(machine)
    path = machine.write(file, "# first\n" + line.format(place) + "\n")
    number = path.read_text().rstrip("\n").count("\n") + 1
    state = only(machine, HF_HOME=place)
    assert (state.origin, state.effective) == (f"{path}:{number}", True)


def test_the_environment_of_the_container_is_named(machine: Machine) -> None:
    place = cache(machine)
    machine.write("/proc/1/environ", f"A=1\0HF_HOME={place}\0".encode())
    assert only(machine, HF_HOME=place).origin == "PID 1"


def test_of_several_lines_the_last_one_read_is_the_origin(machine: Machine) -> None:
    place = cache(machine)
    machine.write("/etc/environment", f"HF_HOME={place}\n")
    machine.write(".bashrc", f"export HF_HOME={place}\n")
    state = only(machine, HF_HOME=place)
    assert state.origin == f"{machine.home}/.bashrc:1"
    assert state.origins == [f"{machine.system}/etc/environment:1", f"{machine.home}/.bashrc:1"]
    assert state.warning is None


def test_the_home_directory_in_a_line_is_understood(machine: Machine) -> None:
    machine.write(".bashrc", 'export HF_HOME="$HOME/cache"\n')
    assert only(machine, HF_HOME=cache(machine)).origin == f"{machine.home}/.bashrc:1"


def test_what_only_shells_see_is_said(machine: Machine) -> None:
    machine.write(".bashrc", f"export HF_HOME={cache(machine)}\n")
    assert "cron, services and notebooks may not see it" in (
        only(machine, HF_HOME=cache(machine)).warning or ""
    )


def test_a_file_that_says_something_else_is_a_line_of_its_own(machine: Machine) -> None:
    machine.write(".bashrc", "export HF_HOME=/new\n")
    process, file = look(machine, HF_HOME=cache(machine))
    assert "Differs from" in (process.warning or "") and ".bashrc:1" in (process.warning or "")
    assert (file.value, file.origin, file.effective) == ("/new", f"{machine.home}/.bashrc:1", False)
    assert "new shells" in (file.warning or "") and cache(machine) in (file.warning or "")


def test_a_setting_that_is_not_in_this_process_yet_is_shown(machine: Machine) -> None:
    machine.write("/etc/environment", "MODELSCOPE_CACHE=/new\n")
    state = only(machine)
    assert (state.effective, state.origin) == (False, f"{machine.system}/etc/environment:1")
    assert "not set in this process" in (state.warning or "")


def test_a_line_that_a_later_one_overrides_is_told_apart(machine: Machine) -> None:
    machine.write(".bashrc", "export HF_HOME=/one\nexport HF_HOME=/two\n")
    one, two = look(machine)
    assert f"Overridden by {machine.home}/.bashrc:2." in (one.warning or "")
    assert "new shells" in (two.warning or "")


def test_a_line_without_export_is_told_apart(machine: Machine) -> None:
    machine.write(".bashrc", "HF_HOME=/x\n")
    assert "not exported" in (only(machine).warning or "")


@pytest.mark.parametrize(
    ("environ", "effective", "said"),
    [
        ({"MODELSCOPE_CACHE": ""}, False, "counts as not set"),
        ({"ZITCACHE_CACHE": ""}, False, "counts as not set"),
        ({"HF_HOME": ""}, True, "uses the working directory"),
        ({"HF_HUB_CACHE": "'/x'"}, True, "The quotes are part of the path; set it to /x."),
        ({"MODELSCOPE_CACHE": "$HOME/x"}, True, "takes the dollar sign literally"),
        ({"HF_HOME": "$NOWHERE/x"}, True, "a variable that is not set"),
        ({"HF_HOME": "rel"}, True, "It is relative: here it is"),
        ({"MODELSCOPE_CACHE": "rel"}, True, "It is relative: here it is"),
        ({"MODELSCOPE_CACHE": "/nonexistent/x"}, True, "/nonexistent/x does not exist."),
        ({"TRANSFORMERS_CACHE": "/x"}, False, "It is ignored"),
        ({"HF_CACHE": "/x"}, False, "It is ignored"),
        ({"HF_HUB_CACHE_DIR": ""}, False, "It is ignored"),
        ({"MS_CACHE_HOME": "/x"}, False, "fails because of it"),
    ],
)
def test_what_is_odd_is_said(machine: Machine, environ: dict[str, str], effective: bool, said: str) -> None:
    state = only(machine, **environ)
    assert state.effective is effective
    assert said in (state.warning or "")


def test_what_outranks_a_variable_is_named(machine: Machine) -> None:
    states = {
        state.name: state
        for state in look(
            machine, HF_HUB_CACHE="/a", HUGGINGFACE_HUB_CACHE="/b", HF_HOME="/c", XDG_CACHE_HOME="/d"
        )
    }
    assert [state.effective for state in states.values()] == [True, False, False, False]
    assert "Overridden by HF_HUB_CACHE." in (states["HUGGINGFACE_HUB_CACHE"].warning or "")
    assert "Overridden by HF_HUB_CACHE; the login is still kept there." in (states["HF_HOME"].warning or "")


def test_variables_that_agree_do_not_warn_of_each_other(machine: Machine) -> None:
    place = cache(machine)
    states = look(machine, HF_HUB_CACHE=f"{place}/hub", HF_HOME=place)
    assert [state.warning for state in states] == [None, None]


@pytest.mark.parametrize(
    ("environ", "effective"),
    [
        ({"HF_HUB_OFFLINE": "1"}, [True]),
        ({"HF_HUB_OFFLINE": "0"}, [False]),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "yes"}, [False, True]),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, [False, False]),
    ],
)
def test_offline_is_judged_as_huggingface_hub_does(
    machine: Machine, environ: dict[str, str], effective: list[bool]
) -> None:
    assert [state.effective for state in look(machine, **environ)] == effective


@pytest.mark.models
@pytest.mark.parametrize(
    "environ",
    [
        {"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0"},
        {"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "yes"},
        {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"},
    ],
)  # fmt: skip
def test_huggingface_hub_agrees_about_offline(machine: Machine, environ: dict[str, str]) -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("needs huggingface_hub: pip install 'zitcache[test-models]'")
    code = "from huggingface_hub.constants import HF_HUB_OFFLINE as o; print(o)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "HOME": "/h"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip() == "True") is any(state.effective for state in look(machine, **environ))


@pytest.mark.models
def test_modelscope_really_fails_because_of_ms_cache_home(tmp_path: Path) -> None:
    if importlib.util.find_spec("modelscope") is None:
        pytest.skip("needs modelscope: pip install 'zitcache[test-models]'")
    from importlib.metadata import version

    if not version("modelscope").startswith("1.40."):
        pytest.skip("found in modelscope 1.40")
    code = """
from modelscope import snapshot_download
try:
    snapshot_download("a/b", local_files_only=True)
except AttributeError as error:
    print("broken", error)
"""
    environ = {"HOME": str(tmp_path), "MS_CACHE_HOME": str(tmp_path / "ms")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert "broken" in done.stdout


def test_what_we_wrote_is_the_origin_of_what_a_new_shell_has(machine: Machine) -> None:
    needs_root()
    write_all()
    states = look(machine, **SELECTED)
    assert [state.origin for state in states] == [f"{machine.home}/.bashrc:5", f"{machine.home}/.bashrc:4"]
    assert all("shells alone" not in (state.warning or "") for state in states), "cron has it, too"


def test_a_removed_working_directory_is_no_trouble(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = machine.home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    full = {"HOME": str(machine.home), "ZITCACHE_SYSTEM_ROOT": str(machine.system), "HF_HOME": "/x"}
    assert [state.name for state in survey(full)] == ["HF_HOME"]
