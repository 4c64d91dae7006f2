"""What is printed means the same to everything that reads it: judged by the readers themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment.machine import shell
from zitcache.errors import UsageError
from zitcache.tasks.environment.other_files import (
    crontab_settings,
    environment_d_settings,
    pam_settings,
    system_conf_settings,
)
from zitcache.tasks.environment.placing import settings_of
from zitcache.tasks.environment.syntax import Syntax, check_variables, unsuitable, write_lines

VALUES = [
    "/data/model_cache",
    "/data/with space/two  spaces",
    "/data/it's",
    '/data/"quoted"',
    "/data/$HOME/${HOME}/$(id)/`id`",
    "/data/100%/%h",
    "/data/back\\slash\\\\n",
    "/data/#hash",
    "/data/~/*?[a]{b,c}!x;y&z|<>()",
    "/data/模型/ü",
    "~/relative",
    "/data/a=b",
    "'/data/in quotes'",
    '"/data/in quotes"',
    "/data/ends in space ",
    "/data/ends in backslash\\",
]


def text_of(value: str, syntax: Syntax) -> str:
    return "\n".join(write_lines({"HF_HOME": value, "MODELSCOPE_CACHE": value}, syntax)) + "\n"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["sh", "dash", "bash", "zsh"])
def test_shells_get_the_exact_value(tmp_path: Path, name: str, value: str) -> None:
    script = 'eval "$ZIT"; unset ZIT; printf "%s\\n" "$HF_HOME" "$MODELSCOPE_CACHE"; exec env'
    done = shell(name, "-c", script, home=tmp_path, ZIT=text_of(value, Syntax.SH))
    first, second, *exported = done.stdout.split("\n")
    assert (first, second) == (value, value), done.stderr
    assert f"HF_HOME={value}" in exported and f"MODELSCOPE_CACHE={value}" in exported


@pytest.mark.parametrize("value", VALUES)
def test_fish_gets_the_exact_value(tmp_path: Path, value: str) -> None:
    done = shell("fish", "-c", "source; env", home=tmp_path, stdin=text_of(value, Syntax.FISH))
    assert f"HF_HOME={value}" in done.stdout.split("\n"), done.stderr


@pytest.mark.parametrize("value", VALUES)
def test_docker_takes_the_line_as_it_is(value: str) -> None:
    assert text_of(value, Syntax.DOTENV).split("\n")[0] == f"HF_HOME={value}"


@pytest.mark.parametrize("value", VALUES)
def test_json_is_one_object_of_names_and_values(value: str) -> None:
    assert json.loads(text_of(value, Syntax.JSON)) == {"HF_HOME": value, "MODELSCOPE_CACHE": value}


@pytest.mark.parametrize("value", VALUES)
def test_an_environment_file_of_systemd_can_be_read_by_a_shell_too(tmp_path: Path, value: str) -> None:
    script = 'set -a; eval "$ZIT"; printf %s "$HF_HOME"'
    done = shell("sh", "-c", script, home=tmp_path, ZIT=text_of(value, Syntax.SYSTEMD))
    assert done.stdout == value


GENERATOR = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"


def generated(tmp_path: Path, text: str) -> dict[str, str]:
    """What systemd's own reader of environment.d makes of ``text``."""
    if not os.path.exists(GENERATOR):
        pytest.skip("needs systemd's environment generator")
    folder = tmp_path / "environment.d"
    folder.mkdir()
    (folder / "50-zitcache.conf").write_text(text)
    environ = {"HOME": "/home/u", "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run([GENERATOR], env=environ, capture_output=True, text=True, check=True)
    # Its output is for a shell, but for a tilde at the beginning, which it does not quote.
    script = f'{done.stdout}\nprintf "%s\\0" "$HF_HOME" "$MODELSCOPE_CACHE"'
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split(
        "\0"
    )
    return {"HF_HOME": words[0], "MODELSCOPE_CACHE": words[1]}


@pytest.mark.parametrize("value", [value for value in VALUES if value[0] != "~"])
def test_systemd_reads_environment_d_as_it_was_meant(tmp_path: Path, value: str) -> None:
    found = generated(tmp_path, text_of(value, Syntax.ENVIRONMENT_D))
    assert found == {"HF_HOME": value, "MODELSCOPE_CACHE": value}


@pytest.mark.parametrize("value", [value for value in VALUES if "$" not in value and value[0] != "~"])
def test_systemd_reads_an_environment_file_as_it_was_meant(tmp_path: Path, value: str) -> None:
    # The same parser; only environment.d puts variables in afterwards.
    assert generated(tmp_path, text_of(value, Syntax.SYSTEMD))["HF_HOME"] == value


@pytest.mark.root
@pytest.mark.parametrize("value", [value for value in VALUES if "%" not in value])
def test_systemd_reads_default_environment_as_it_was_meant(value: str) -> None:
    """The manager in its test mode, for plain users alone; ``Environment=`` goes through the same parser."""
    manager = "/usr/lib/systemd/systemd"
    if os.geteuid() != 0 or not os.path.exists(manager):
        pytest.skip("needs root (to become a plain user) and systemd")
    import tempfile

    section, line = write_lines({"HF_HOME": value}, Syntax.SYSTEM_CONF)
    assert section == "[Manager]"
    place = Path(tempfile.mkdtemp(prefix="zitcache-systemd-", dir="/tmp"))
    try:
        alone = "[Unit]\nDefaultDependencies=no\n"
        for name in ("basic", "sysinit", "shutdown"):
            (place / f"{name}.target").write_text(alone)
        (place / "default.target").write_text(alone + "Requires=a.service\n")
        service = line.replace("DefaultEnvironment=", "Environment=")
        (place / "a.service").write_text(f"{alone}[Service]\n{service}\nExecStart=/bin/true\n")
        (place / "run").mkdir(mode=0o700)
        shutil.chown(place / "run", 65534, 65534)
        place.chmod(0o755)
        done = subprocess.run(
            [manager, "--user", "--test", "--unit=default.target"],
            user=65534, group=65534, extra_groups=[], check=False, capture_output=True, text=True, timeout=60,
            env={"XDG_RUNTIME_DIR": str(place / "run"), "SYSTEMD_UNIT_PATH": str(place), "HOME": "/none"},
        )  # fmt: skip
    finally:
        shutil.rmtree(place)
    if done.returncode:
        pytest.skip(f"systemd has no test mode here: {done.stderr[-200:]}")
    assert f"\t\tEnvironment: HF_HOME={value}\n" in done.stdout


PAM = """
import ctypes, sys
lib = ctypes.CDLL("libpam.so.0")
class Conversation(ctypes.Structure):
    _fields_ = [("function", ctypes.c_void_p), ("data", ctypes.c_void_p)]
handle = ctypes.c_void_p()
started = lib.pam_start_confdir(
    b"zitcache", b"nobody", ctypes.byref(Conversation()), sys.argv[1].encode(), ctypes.byref(handle)
)
assert started == 0 and lib.pam_open_session(handle, 0) == 0
lib.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)
found = lib.pam_getenvlist(handle)
place = 0
while found[place]:
    sys.stdout.buffer.write(found[place] + b"\\0")
    place += 1
"""


def pam_environment(folder: Path, text: str) -> list[str]:
    """What the real pam_env makes of ``text`` as ``/etc/environment``."""
    (folder / "environment").write_text(text)
    rule = f"session required pam_env.so conffile=/dev/null envfile={folder}/environment readenv=1\n"
    (folder / "pam").mkdir()
    (folder / "pam/zitcache").write_text(rule)
    done = subprocess.run(
        [sys.executable, "-c", PAM, str(folder / "pam")], capture_output=True, text=True, check=False
    )
    if "pam_start_confdir" in done.stderr or "libpam.so.0" in done.stderr:
        pytest.skip("needs Linux-PAM 1.4 or later")
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("value", VALUES)
def test_pam_reads_etc_environment_as_it_was_meant_or_it_is_not_written(tmp_path: Path, value: str) -> None:
    variables = {"HF_HOME": value, "MODELSCOPE_CACHE": value}
    if unsuitable(variables, Syntax.PAM):
        assert any(odd in value for odd in "#'\"\\ "), "nothing ordinary is refused"
        return
    found = pam_environment(tmp_path, text_of(value, Syntax.PAM))
    assert found == [f"HF_HOME={value}", f"MODELSCOPE_CACHE={value}"]


def test_pam_really_cannot_hold_what_is_refused(tmp_path: Path) -> None:
    assert pam_environment(tmp_path, "HF_HOME=/data/#hash\n") == ["HF_HOME=/data/"]
    assert unsuitable({"HF_HOME": "/data/#hash"}, Syntax.PAM)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("syntax", [Syntax.SH, Syntax.FISH, Syntax.ENVIRONMENT_D, Syntax.SYSTEM_CONF])
def test_what_is_written_is_read_back_by_us(syntax: Syntax, value: str) -> None:
    found = settings_of(text_of(value, syntax), syntax)
    assert {one.name: one.value for one in found} == {"HF_HOME": value, "MODELSCOPE_CACHE": value}


@pytest.mark.parametrize("value", VALUES)
def test_crontab_lines_are_read_back(value: str) -> None:
    found = crontab_settings(text_of(value, Syntax.CRONTAB))
    assert [(one.name, one.value) for one in found] == [("HF_HOME", value), ("MODELSCOPE_CACHE", value)]


@pytest.mark.parametrize(
    "value", ["", "/a\nb", "/a\rb", "/a\0b", "/a\tb", "/a\x1b[31m", "/a\udcffb", "x" * 4097]
)
def test_what_no_reader_can_hold_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="HF_HOME cannot be"):
        check_variables({"HF_HOME": value})


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "Ä", "A;id"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        check_variables({name: "/x"})


def test_other_peoples_quotes_in_etc_environment_are_understood() -> None:
    text = "# no\nexport HF_HOME=\"/a b\"\nMODELSCOPE_CACHE='/c' # why\n  X=1\nbroken\n"
    found = {one.name: (one.value, one.line) for one in pam_settings(text)}
    assert found == {"HF_HOME": ("/a b", 2), "MODELSCOPE_CACHE": ("/c", 3), "X": ("1", 4)}


def test_other_peoples_systemd_files_are_understood() -> None:
    conf = (
        '[Manager]\nDefaultEnvironment=A=1 "HF_HOME=/a b" \\\n  MODELSCOPE_CACHE=/c\n#DefaultEnvironment=B=2'
    )
    assert [(one.name, one.value, one.line) for one in system_conf_settings(conf)] == [
        ("A", "1", 2), ("HF_HOME", "/a b", 2), ("MODELSCOPE_CACHE", "/c", 2)
    ]  # fmt: skip
    text = "; c\n# c\nHF_HOME=/plain path\nMODELSCOPE_CACHE=${HOME}/x\nE=\n"
    found = environment_d_settings(text)
    assert [(one.name, one.line, one.literal) for one in found] == [
        ("HF_HOME", 3, True), ("MODELSCOPE_CACHE", 4, False), ("E", 5, True)
    ]  # fmt: skip
    assert found[0].value == "/plain path"
