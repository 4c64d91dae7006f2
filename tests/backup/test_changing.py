"""Files that change, vanish or cannot be read while the backup runs: left out, and said."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backup.world import (
    MIB,
    Watching,
    back_up,
    bring_back,
    codes,
    command,
    data_of,
    entries_in,
    make_model,
    make_repository,
    make_sample,
    noise,
    require_same,
    require_sound,
    settle,
    snapshots_in,
    unprivileged,
    zitcache,
)
from tests.storage.disks import python_environment
from zitcache.errors import Exit


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other bytes, as many as before")


def _replace(path: Path) -> None:
    """As a hub SDK does it: the file that is being read stays what it was, but the name is another's."""
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


def _truncate(path: Path) -> None:
    os.truncate(path, MIB)


@pytest.mark.parametrize("change", [_append, _rewrite, _replace, _truncate])
@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_file_that_changes_while_it_is_read_is_left_out(
    change: Callable[[Path], None], moment: str, cache: Path, repository: Path, target: Path
) -> None:
    make_model(cache, {"a.bin": noise(100), "busy.bin": noise(12 * MIB), "z.bin": noise(200)})
    settle(cache)
    good = back_up(repository, cache)
    settle(cache)
    busy = cache / "busy.bin"
    os.utime(busy)  # so that it is read again
    once: list[bool] = []

    def disturb() -> None:
        if not once:
            once.append(True)
            change(busy)

    progress = Watching(
        on_file=lambda path: disturb() if moment == "before" and path.endswith("busy.bin") else None,
        on_advance=lambda count: disturb() if moment == "during" and count >= MIB else None,
    )
    report = back_up(repository, cache, progress)
    assert once
    assert (report.exit_code, report.data.left_out) == (Exit.PARTIAL, ["busy.bin"])
    assert "changed-while-read" in codes(report)
    assert "busy.bin" not in entries_in(repository)
    record = snapshots_in(repository)[-1].record
    assert (record.left_out, record.suspect) == (["busy.bin"], False)
    assert not any(model.complete for model in record.models)
    # It is no snapshot to restore when there is a whole one.
    restored = bring_back(repository, target)
    assert restored.data.snapshot_id == good.data.snapshot_id
    assert "newer-snapshot-passed-over" in codes(restored)
    settle(cache)
    again = back_up(repository, cache)
    assert again.exit_code is Exit.OK
    shutil.rmtree(target)
    bring_back(repository, target)
    require_same(cache, target)


def test_a_program_that_writes_all_the_time(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache, {"a.bin": noise(6 * MIB), "log.bin": noise(9 * MIB)})
    stop = threading.Event()

    def write() -> None:
        with (cache / "log.bin").open("ab") as file:
            while not stop.wait(0.001):
                file.write(b"x")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        report = back_up(repository, cache)
    finally:
        stop.set()
        writer.join()
    assert (report.exit_code, report.data.left_out) == (Exit.PARTIAL, ["log.bin"])
    require_sound(repository)
    restored = bring_back(repository, target)
    assert restored.exit_code is Exit.OK  # there is no better one, and it says what it lacks
    assert "partial-snapshot" in codes(restored)
    assert sorted(path.name for path in target.iterdir()) == ["a.bin", "config.json"]


def test_a_file_that_vanishes_is_left_out(cache: Path, repository: Path) -> None:
    make_model(cache, {"a.bin": noise(1000), "gone.bin": noise(2000)})
    os.link(cache / "gone.bin", cache / "second-name.bin")

    def remove(path: str) -> None:
        if path.endswith("gone.bin"):
            os.unlink(path)

    report = back_up(repository, cache, Watching(on_file=remove))
    assert (report.exit_code, "vanished" in codes(report)) == (Exit.PARTIAL, True)
    # The second name is the same file: without its content, it is left out with it, and said so.
    assert report.data.left_out == ["gone.bin", "second-name.bin"]
    assert sorted(entries_in(repository)) == ["a.bin", "config.json"]
    assert back_up(repository, cache).exit_code is Exit.OK
    assert "second-name.bin" in entries_in(repository)


def test_a_file_that_becomes_a_pipe_or_a_folder_does_not_hang(cache: Path, repository: Path) -> None:
    make_model(cache, {"a.bin": noise(1000), "pipe.bin": noise(1000), "folder.bin": noise(1000)})

    def change(path: str) -> None:
        if path.endswith(("pipe.bin", "folder.bin")):
            os.unlink(path)
            (os.mkfifo if "pipe" in path else os.mkdir)(path)

    report = back_up(repository, cache, Watching(on_file=change))
    assert (report.exit_code, report.data.left_out) == (Exit.PARTIAL, ["folder.bin", "pipe.bin"])
    settle(cache)
    report = back_up(repository, cache)
    assert (report.exit_code, report.data.left_out) == (Exit.PARTIAL, ["pipe.bin"])
    assert "special-file" in codes(report)


@pytest.mark.root
def test_a_file_that_one_may_not_read_is_left_out(open_place: Path) -> None:
    cache, repository = open_place / "cache", open_place / "data" / "zitcache"
    make_model(cache, {"a.bin": noise(1000), "secret.bin": noise(1000)})
    (cache / "secret.bin").chmod(0o600)
    (cache / "closed").mkdir(mode=0o700)
    (cache / "closed" / "file").write_bytes(b"inside")
    with unprivileged():
        report = back_up(repository, cache)
    assert (report.exit_code, report.data.left_out) == (Exit.PARTIAL, ["closed", "secret.bin"])
    assert codes(report).count("unreadable") == 2
    assert sorted(entries_in(repository)) == ["a.bin", "config.json"]


def test_a_file_on_a_bad_sector_is_left_out_and_named(cache: Path, repository: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    make_model(cache, {"a.bin": noise(5 * MIB), "bad.bin": noise(9 * MIB)})
    make_repository(repository)
    program = command("backup", "--json", "-r", repository, "--cache", cache)
    trace = ["strace", "-f", "-qq", "-o", tmp_path / "trace", "-P", cache / "bad.bin"]
    inject = ["-e", "trace=preadv,preadv2", "-e", "inject=preadv,preadv2:error=EIO:when=2"]
    done = subprocess.run(
        [*trace, *inject, *program], capture_output=True, text=True, env=python_environment()
    )
    if not (tmp_path / "trace").exists() or "ptrace" in done.stderr:
        pytest.skip("strace is not allowed here")
    assert done.returncode == Exit.PARTIAL, done.stderr
    assert data_of(done)["left_out"] == ["bad.bin"]
    assert "bad.bin" in done.stdout
    assert "Input/output error" in done.stdout
    assert sorted(entries_in(repository)) == ["a.bin", "config.json"]
    require_sound(repository)


def test_links_that_lead_nowhere_are_kept_and_those_that_lead_out_are_left_out(
    cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache)
    (cache / "dangling").symlink_to("not/there")
    kept = cache / "absolute"
    kept.symlink_to(cache / "models")
    outside = cache.with_name("outside")
    outside.mkdir()
    (outside / "secret").write_text("secret")
    for name, to in {
        "up": "../outside",
        "absolute-out": str(outside),
        "etc": "/etc/passwd",
        "dangling-out": "../../not/there",
        "through": "models/../../outside",
    }.items():
        (cache / name).symlink_to(to)
    report = back_up(repository, cache)
    assert report.exit_code is Exit.PARTIAL
    assert report.data.left_out == ["absolute-out", "dangling-out", "etc", "through", "up"]
    assert codes(report).count("escaping-symlink") == 5
    bring_back(repository, target)
    assert os.readlink(target / "dangling") == "not/there"
    assert os.readlink(target / "absolute") == str(cache / "models")
    assert not (target / "up").is_symlink()


def test_an_unreadable_file_is_said_on_the_terminal(cache: Path, repository: Path) -> None:
    make_sample(cache)
    (cache / "out").symlink_to("/etc")
    done = zitcache("backup", "--init", "-r", repository, "--cache", cache)
    assert done.returncode == 3
    assert "Left out" in done.stdout + done.stderr
    assert "out" in done.stderr
