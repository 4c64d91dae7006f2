"""The crontab: the variables above its entries, and no line of it ever lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.environment.machine import (
    NOBODY,
    SELECTED,
    Machine,
    as_nobody,
    codes,
    needs_root,
    program,
    remove_all,
    write_all,
)
from zitcache.tasks.environment.blocks import find_blocks

ENTRIES = "# nightly\nMAILTO=me@example.org\n0 3 * * * /usr/local/bin/zitcache backup\n@reboot echo 100\\%\n"

PROGRAM = """#!/bin/sh
# Like cron's: prints, or takes from stdin after a check of every line.
store="{store}"
case "$1" in
-l)
    if [ -e "$store.broken" ]; then echo "crontab: cannot open: Input/output error" >&2; exit 1; fi
    if [ ! -e "$store" ]; then echo "no crontab for tester" >&2; exit 1; fi
    cat "$store" ;;
-)
    if [ -e "$store.refuses" ]; then echo '"-":1: bad minute' >&2; exit 1; fi
    if [ -e "$store.cuts" ]; then rm "$store.cuts"; head -n 2 > "$store"; exit 0; fi
    cat > "$store" ;;
*) exit 2 ;;
esac
"""


@pytest.fixture
def crontab(machine: Machine) -> Path:
    """Where the crontab of a stand-in for ``crontab`` is kept."""
    store = machine.system / "crontab"
    machine.write("/usr/bin/crontab", PROGRAM.format(store=store)).chmod(0o755)
    return store


def test_the_variables_stand_above_the_entries_and_come_out_again(crontab: Path) -> None:
    crontab.write_text(ENTRIES)
    written, _ = write_all()
    assert written[-1] == "crontab"
    text = crontab.read_text()
    assert text.endswith(ENTRIES)
    assert text.index("\nMODELSCOPE_CACHE=/data/model_cache\n") < text.index("0 3 * * *")
    assert write_all() == ([], [])
    assert remove_all()[0][-1] == "crontab"
    assert crontab.read_text() == ENTRIES


def test_what_the_crontab_sets_itself_stays_and_loses(crontab: Path) -> None:
    crontab.write_text("HF_HOME=/old\n" + ENTRIES)
    write_all()
    text = crontab.read_text()
    assert text.startswith("HF_HOME=/old\n# >>> zitcache >>>\n") and text.endswith(ENTRIES)


def test_a_setting_between_the_entries_is_named(crontab: Path) -> None:
    crontab.write_text(ENTRIES + "HF_HOME=/old\n0 4 * * * x\n")
    _, notices = write_all()
    (notice,) = [notice for notice in notices if notice.code == "old-setting"]
    assert "The crontab sets HF_HOME to /old in line 10;" in notice.message
    assert crontab.read_text().split("\n")[9] == "HF_HOME=/old"


@pytest.mark.parametrize("text", [None, "", "# only a comment\n", "MAILTO=x\n"])
def test_a_crontab_that_starts_nothing_is_left_alone(crontab: Path, text: str | None) -> None:
    if text is not None:
        crontab.write_text(text)
    written, _ = write_all()
    assert "crontab" not in written
    assert (crontab.read_text() if crontab.exists() else None) == text


def test_as_root_pam_gives_cron_the_system_file_so_the_crontab_stays(machine: Machine, crontab: Path) -> None:
    needs_root()
    machine.write("/etc/pam.d/cron", "@include common-session\n")
    machine.write("/etc/pam.d/common-session", "session required pam_env.so\n")
    crontab.write_text(ENTRIES)
    written, _ = write_all()
    assert "crontab" not in written and crontab.read_text() == ENTRIES


def test_a_list_that_fails_is_no_empty_crontab(crontab: Path) -> None:
    crontab.write_text(ENTRIES)
    crontab.with_name("crontab.broken").touch()
    written, notices = write_all()
    assert "crontab" not in written and crontab.read_text() == ENTRIES
    (notice,) = [notice for notice in notices if notice.code == "crontab-not-written"]
    assert "Input/output error" in notice.message


def test_a_crontab_that_is_refused_stays(crontab: Path) -> None:
    crontab.write_text(ENTRIES)
    crontab.with_name("crontab.refuses").touch()
    written, notices = write_all()
    assert "crontab" not in written and crontab.read_text() == ENTRIES
    assert "bad minute" in next(n.message for n in notices if n.code == "crontab-not-written")


def test_a_crontab_that_arrives_cut_off_is_put_back(crontab: Path) -> None:
    crontab.write_text(ENTRIES)
    crontab.with_name("crontab.cuts").touch()
    written, notices = write_all()
    assert "crontab" not in written and crontab.read_text() == ENTRIES
    assert "crontab-not-written" in codes(notices)


lines = st.sampled_from(
    [
        "0 3 * * * x",
        "HF_HOME=/old",
        "A = 'b'",
        "# c",
        "",
        "@daily y % z",
        "MODELSCOPE_CACHE=/data/model_cache",
        "\xe9",
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=8), st.booleans())
def test_write_and_remove_give_back_the_identical_crontab(
    crontab: Path, parts: list[str], final: bool
) -> None:
    text = "\n".join(parts) + ("\n" if final else "")
    crontab.write_text(text)
    write_all()
    assert not find_blocks(crontab.read_bytes()) or "0 3" in text or "@daily" in text or "\xe9" in text
    write_all({"HF_HOME": "/elsewhere"})
    remove_all()
    assert crontab.read_text() == text


@pytest.mark.root
def test_the_real_crontab_of_a_plain_user(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_root()
    program("crontab")
    listed = subprocess.run(["crontab", "-u", "nobody", "-l"], capture_output=True, text=True)
    if listed.returncode == 0 or "no crontab" not in listed.stderr:
        pytest.skip("nobody has a crontab here, or may not have one")
    home = Path(tempfile.mkdtemp(prefix="zitcache-cron-", dir="/tmp"))
    shutil.chown(home, NOBODY, NOBODY)
    try:
        subprocess.run(["crontab", "-u", "nobody", "-"], input=ENTRIES, text=True, check=True)
        environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
        written = as_nobody(lambda: write_all()[0], **environ)
        assert written[-1] == "crontab"
        text = subprocess.run(
            ["crontab", "-u", "nobody", "-l"], capture_output=True, text=True, check=True
        ).stdout
        assert f"HF_HOME={SELECTED['HF_HOME']}\n" in text and text.endswith(ENTRIES)
        assert as_nobody(lambda: write_all()[0], **environ) == []
        as_nobody(lambda: remove_all()[0], **environ)
        again = subprocess.run(["crontab", "-u", "nobody", "-l"], capture_output=True, text=True, check=True)
        assert again.stdout == ENTRIES
    finally:
        subprocess.run(["crontab", "-u", "nobody", "-r"], capture_output=True)
        shutil.rmtree(home)
