"""The program itself: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.backup.world import data_of, zitcache
from tests.clean.world import SNAPSHOT, put
from tests.cli.harness import Result, fake, returning, run_program
from tests.cli.harness import clean_report as report


def test_a_dry_run_lists_and_tells_the_line_that_removes(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    done = zitcache("clean", "--cache", cache, "--min-age", "0")
    assert done.returncode == 0 and path.exists(), done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("can go in 1 item:")
    assert str(path) in done.stdout and "unfinished-download: A download that broke off." in done.stdout
    assert lines[-1] == (
        f"Nothing was removed. To remove this: zitcache clean --delete --min-age 0 --cache {cache}"
    )
    command = lines[-1].partition("this: zitcache ")[2].split()
    assert "freed: 1 item removed." in zitcache(*command).stdout and not path.exists()
    assert zitcache(*command).stdout == "Nothing to clean.\n"


def test_delete_with_dry_run_removes_nothing(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    done = zitcache("clean", "--cache", cache, "--min-age", "0", "--delete", "--dry-run", "--json")
    assert data_of(done)["dry_run"] is True and path.exists()


def test_json_has_what_was_promised(cache: Path) -> None:
    path = put(cache / SNAPSHOT / os.fsdecode(b"caf\xe9\n.bin.incomplete"))
    time.sleep(0.05)
    data = data_of(zitcache("clean", "--cache", cache, "--min-age", "0", "--delete", "--json"))
    (item,) = data["items"]
    assert set(item) >= {
        "path", "kind", "size_bytes", "reason", "age_seconds", "removed", "kept_because"
    }  # fmt: skip
    assert item["path"].endswith("caf\\xe9\n.bin.incomplete") and item["removed"] is True
    assert item["kept_because"] is None and item["age_seconds"] >= 0.05
    assert data["bytes_found"] == data["bytes_freed"] == item["size_bytes"]
    assert data["dry_run"] is False and not path.exists()


def test_what_is_new_is_shown_as_left_alone(cache: Path) -> None:
    put(cache / SNAPSHOT / "x.bin.incomplete")
    done = zitcache("clean", "--cache", cache, "--delete")
    assert done.returncode == 0
    assert done.stdout.startswith("Nothing to remove: 1 leftover found, all left alone.")
    assert "only what is older than 1 h goes (--min-age)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--kind", "everything"), "The kinds are: unfinished-download"),
        (("--min-age", "30"), "--min-age 30m"),
    ],
)
def test_senseless_arguments_are_usage_errors(arguments: tuple[str, ...], hint: str) -> None:
    done = zitcache("clean", *arguments)
    assert done.returncode == 2 and hint in done.stderr


def test_a_cache_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    assert zitcache("clean", "--cache", tmp_path / "nothing").returncode == 6


def test_the_largest_comes_first_and_a_hostile_name_stays_on_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = report().items
    items[0].path = "/c/evil\x1b[2J\nNothing to clean."
    fake(monkeypatch, "clean.clean", returning(report(items=items)))
    result: Result = run_program(capsys, "clean")
    assert "\x1b" not in result.out and "evil\\x1b[2J\\nNothing to clean." in result.out
