"""cron runs what is meant: whole lines, nothing twice, other people's lines untouched."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zitcache.errors import UsageError
from zitcache.schedule.cron import (
    BLOCK_BEGIN,
    BLOCK_END,
    Tools,
    system_file,
    user_block,
    with_block,
    without_block,
)
from zitcache.schedule.jobs import Installation, example

ROOT = Path(__file__).parents[2]


def test_the_example_in_the_project_is_the_generated_one() -> None:
    assert (ROOT / "crontab.example").read_text() == system_file(example())


def test_the_system_file_has_what_cron_does_not_give() -> None:
    text = system_file(example())
    assert text.endswith("\n")
    assert all(f"\n{name}=" in text for name in ("SHELL", "PATH", "HOME"))
    night, missed = text.splitlines()[-2:]
    assert night.startswith("0 2 * * * root /")
    assert "flock -n" in night and "--if-missed" not in night
    assert missed.startswith("17 * * * * root /") and "--if-missed '0 2 * * *'" in missed


def test_a_percent_sign_is_no_line_break() -> None:
    odd = Installation(program=("/bin/zitcache",), repository="/d", options=("--repo", "/data/50%"))
    assert "50\\%" in system_file(odd)


def what_cron_runs(line: str) -> list[str]:
    """The words of the command as cron's shell sees them: ``\\%`` undone, then ``sh -c``."""
    command = line.replace("\\%", "%")
    script = f"set -- {command}\nfor word; do printf '%s\\n' \"$word\"; done"
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize(
    "place", ["/data/a b", "/data/50%", "/data/it's", "/data/$HOME", '/data/"x"', "/数据"]
)
def test_odd_paths_reach_the_command_as_they_are(place: str) -> None:
    odd = Installation(program=("/bin/zitcache",), repository=place, options=("--repo", place))
    line = system_file(odd).splitlines()[-1].split(" ", 6)[6]
    words = what_cron_runs(line)
    assert words[words.index("--repo") + 1] == place


def test_a_second_run_does_not_start_while_the_first_runs(tmp_path: Path) -> None:
    if shutil.which("flock") is None:
        pytest.skip("needs flock (package util-linux)")
    program = tmp_path / "zitcache"
    program.write_text(f"#!/bin/sh\necho run >>{tmp_path}/runs\nsleep 1\n")
    program.chmod(0o755)
    job = Installation(program=(str(program),), repository="/d", user="me", home=str(tmp_path))
    command = (
        system_file(job, Tools(flock=shutil.which("flock"), nice=None)).splitlines()[-1].split(" ", 6)[6]
    )
    first = subprocess.Popen(["sh", "-c", command])
    while not (tmp_path / "runs").exists():
        assert first.poll() is None or (tmp_path / "runs").exists()
    second = subprocess.run(["sh", "-c", command])
    assert (first.wait(), second.returncode) == (0, 0)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_line_break_is_refused() -> None:
    with pytest.raises(UsageError):
        system_file(Installation(program=("/bin/zitcache",), repository="/d", options=("--repo", "a\nb")))


lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=30), max_size=8)


@given(lines, st.booleans())
def test_other_lines_of_a_crontab_stay_as_they_are(texts: list[str], ends: bool) -> None:
    crontab = "\n".join(texts) + ("\n" if ends and texts else "")
    block = user_block(example())
    once = with_block(crontab, block)
    assert with_block(once, block) == once, "installing twice changes nothing"
    back = without_block(once)
    assert back == crontab or back == crontab + "\n"


def test_a_block_without_an_end_is_not_guessed_at() -> None:
    with pytest.raises(UsageError):
        without_block(f"1 1 * * * a\n{BLOCK_BEGIN}\n2 2 * * * b\n")
    assert without_block(f"a\n{BLOCK_BEGIN}\nx\n{BLOCK_END}\nb\n") == "a\nb\n"


def test_cron_accepts_the_users_crontab(tmp_path: Path) -> None:
    crontab = shutil.which("crontab")
    if crontab is None:
        pytest.skip("needs crontab (package cron)")
    path = tmp_path / "crontab"
    path.write_text(user_block(example()))
    done = subprocess.run([crontab, "-n", str(path)], capture_output=True, text=True)
    if "usage" in done.stderr.lower():
        pytest.skip("this crontab has no -n (check only)")
    assert done.returncode == 0, done.stderr
