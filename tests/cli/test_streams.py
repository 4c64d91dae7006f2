"""stdout is the result, stderr everything else, and neither may bring the program down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import harness
from tests.cli.harness import Result, fake, returning
from zitcache.errors import Exit

ROOT = Path(__file__).parents[2]
PRINT_A_LOT = """
import sys
from tests.cli.harness import backup_report
from zitcache.cli.runner import run
from zitcache.events import Outcome
from zitcache.ui.output import OutputOptions
options = OutputOptions(json="--json" in sys.argv)
lines = ["x" * 99] * 20000
report = backup_report(left_out=lines)
sys.exit(run("backup", options, lambda session: Outcome(data=report), lambda report, view: lines))
"""
WRITE_THROUGH_MAIN = """
import zitcache.tasks.backup
from tests.cli.harness import backup_report, returning
from zitcache.cli.main import main
zitcache.tasks.backup.backup = returning(backup_report())
main()
"""


def program(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stderr=subprocess.PIPE, **options  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_reader_that_went_away_is_quiet_and_changes_no_exit_code(arguments: tuple[str, ...]) -> None:
    process = program("-c", PRINT_A_LOT, *arguments, stdout=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_help_page_that_is_cut_short_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = program("-m", "zitcache", "--help", stdout=writer)
    os.close(writer)
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_full_disk_under_stdout_is_an_error(arguments: tuple[str, ...]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        process = program("-c", WRITE_THROUGH_MAIN, "backup", *arguments, stdout=full)
        error = process.stderr.read().decode()
    assert process.wait() == Exit.NO_SPACE
    assert error.startswith("error: No space left: ") and "writing the result to stdout" in error
    assert "Traceback" not in error and "Exception ignored" not in error


def test_a_result_that_cannot_be_written_is_no_success(zitcache, monkeypatch) -> None:
    import errno
    import io

    class Full(io.RawIOBase):
        full = True

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:
            if Full.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(bytes(data))

    fake(monkeypatch, "backup.backup", returning(harness.backup_report()))
    for arguments in (("backup",), ("backup", "--json")):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(Full()), encoding="utf-8"))
        result: Result = zitcache(*arguments)
        assert result.code == Exit.NO_SPACE
        assert "writing the result to stdout" in result.err
    Full.full = False


def test_closed_streams_do_no_harm() -> None:
    process = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m zitcache init >&- 2>&-'], cwd=ROOT
    )
    assert process.returncode == Exit.USAGE


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    code = "from zitcache.ui.output import write_result; write_result('模型 ok\\n')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, check=True)
    assert done.stdout == b"\\u6a21\\u578b ok\n"


def test_the_result_is_on_stdout_and_warnings_are_on_stderr(zitcache, monkeypatch) -> None:
    def task(request, session):
        session.warn("same-disk", "Same disk.", "zitcache init /data/zitcache")
        return harness.Outcome(data=harness.backup_report(), warnings=session.warnings)

    fake(monkeypatch, "backup.backup", task)
    result: Result = zitcache("backup")
    assert result.out.startswith("Backed up 32.8 GB")
    assert result.err == "warning: Same disk.\n  hint: zitcache init /data/zitcache\n"


def test_quiet_says_nothing_when_all_is_well_and_warns_all_the_same(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "backup.backup", returning(harness.backup_report()))
    assert zitcache("backup", "-q") == Result(0, "", "")

    def warning(request, session):
        session.warn("same-disk", "Same disk.")
        return harness.Outcome(data=harness.backup_report())

    fake(monkeypatch, "backup.backup", warning)
    assert zitcache("backup", "-q") == Result(0, "", "warning: Same disk.\n")


def test_quiet_still_shows_damage_and_lists(zitcache, monkeypatch) -> None:
    report = harness.verify_report(damaged=[harness.damaged_file()])
    fake(monkeypatch, "verify.verify", returning(report, exit_code=Exit.DAMAGE))
    assert "bit-flips" in zitcache("verify", "-q").out
    fake(monkeypatch, "snapshots.snapshots", returning(harness.SNAPSHOTS_REPORT))
    assert "3fa4b2c1" in zitcache("snapshots", "-q").out


def test_colour_only_when_asked_for_or_on_a_terminal(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "backup.backup", returning(harness.backup_report()))
    assert "\x1b" not in zitcache("backup").out
    assert "\x1b" not in zitcache("backup", "--color", "never").out
    assert "\x1b[32mBacked up\x1b[0m" in zitcache("backup", "--color", "always").out


@pytest.mark.parametrize(
    ("choice", "terminal", "environ", "expected"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_who_decides_about_colour(
    choice: str, terminal: bool, environ: dict[str, str], expected: bool
) -> None:
    import io

    from zitcache.ui.style import ColorChoice, use_color

    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    assert use_color(ColorChoice(choice), stream, environ) is expected
