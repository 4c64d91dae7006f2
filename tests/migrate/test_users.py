"""Ordinary users, the program on a terminal, and the environment it writes."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.backup.world import NOBODY, codes, command, data_of, unprivileged, zitcache
from tests.migrate.world import Disks, look, make_cache, make_small_cache, move, require_moved
from tests.storage.disks import python_environment
from zitcache.errors import CredentialsError, Exit
from zitcache.tasks.migrate.names import old_place

pytestmark = pytest.mark.root


def own(place: Path) -> None:
    subprocess.run(["chown", "-R", "-h", f"{NOBODY}:{NOBODY}", place], check=True)


@pytest.fixture
def open_disks(disks: Disks) -> Disks:
    """Disks on which nobody in particular owns everything, and that everybody can reach."""
    for parent in [disks.system, *disks.system.parents]:
        if str(parent) in ("/", "/tmp"):
            break
        parent.chmod(0o755)
    make_cache(disks.cache)
    own(disks.system)
    own(disks.data)
    # What is loaded late must be loaded now: another user may not be able to read this Python.
    move(disks.target, disks.cache)
    move(None, disks.cache, undo=True, delete_source=True)
    own(disks.system)
    return disks


def test_an_ordinary_user_moves_a_cache_of_their_own(open_disks: Disks) -> None:
    before = look(open_disks.cache)
    with unprivileged():
        done = move(open_disks.target, open_disks.cache)
        assert codes(done) == ["writers-unseen"] and done.exit_code is Exit.OK
        assert move(open_disks.target, open_disks.cache, delete_source=True).data.source_deleted
    require_moved(open_disks, before, old_copy=False)
    assert open_disks.target.stat().st_uid == NOBODY
    with unprivileged():
        move(None, open_disks.cache, undo=True, delete_source=True)
    assert look(open_disks.cache) == before and not open_disks.target.exists()


def test_what_may_not_be_read_stops_it_before_it_begins(open_disks: Disks) -> None:
    os.chown(open_disks.cache / "token", 0, 0)
    with unprivileged(), pytest.raises(CredentialsError) as caught:
        move(open_disks.target, open_disks.cache)
    assert "token" in caught.value.message and not open_disks.target.exists()
    os.chown(open_disks.cache / "token", NOBODY, NOBODY)
    os.chown(open_disks.cache / "empty", 0, 0)
    (open_disks.cache / "empty").chmod(0o700)
    with unprivileged(), pytest.raises(CredentialsError) as caught:
        move(open_disks.target, open_disks.cache)
    assert "empty" in caught.value.message and not open_disks.cache.is_symlink()


def test_a_destination_that_may_not_be_written(open_disks: Disks) -> None:
    os.chown(open_disks.data, 0, 0)
    with unprivileged(), pytest.raises(CredentialsError) as caught:
        move(open_disks.target, open_disks.cache)
    assert caught.value.exit_code is Exit.CREDENTIALS and not open_disks.cache.is_symlink()


def test_a_parent_of_someone_else_cannot_be_switched(open_disks: Disks) -> None:
    before = look(open_disks.cache)
    os.chown(open_disks.cache.parent, 0, 0)
    with unprivileged():
        done = move(open_disks.target, open_disks.cache)
    assert "not-linked" in codes(done) and "parent" in done.warnings[-1].message
    assert look(open_disks.cache) == before == look(open_disks.target)
    os.chown(open_disks.cache.parent, NOBODY, NOBODY)


# -- the program ------------------------------------------------------------------------------------


def test_the_program_in_json(disks: Disks, system_root: Path) -> None:
    make_small_cache(disks.cache)
    line = ["migrate", disks.target, "--cache", disks.cache, "--no-kit", "--json"]
    done = zitcache(*line)
    assert done.returncode == 0, done.stderr
    data = data_of(done)
    assert {"source", "target", "method", "files", "bytes", "seconds", "linked", "source_deleted"} <= set(
        data
    )
    assert (data["method"], data["linked"], data["source_deleted"]) == ("copy", True, False)
    assert data["files"] == 3 and data["variables"]["MODELSCOPE_CACHE"] == str(disks.target)
    assert str(disks.target) in (system_root / "etc" / "environment").read_text()
    back = data_of(zitcache("migrate", "--undo", disks.target, "--no-kit", "--json"))
    assert back["action"] == "undone" and not disks.cache.is_symlink()
    nothing = zitcache("migrate", "--json")
    assert nothing.returncode == 2 and json.loads(nothing.stdout)["error"]["hint"]


def test_without_a_terminal_it_asks_nothing_and_deletes_nothing(disks: Disks) -> None:
    make_small_cache(disks.cache)
    done = zitcache("migrate", disks.target, "--cache", disks.cache, "--no-kit", "--no-env")
    assert done.returncode == 0 and "[" not in done.stderr
    assert done.stdout.startswith("Moved ")
    assert "--delete-source" in done.stdout and old_place(disks.cache).is_dir()


def on_a_terminal(arguments: list[object], answers: list[str]) -> tuple[int, str]:
    """Run the program on a pseudo-terminal, and answer its questions; exit code and all it showed."""
    child, terminal = pty.fork()
    if child == 0:
        line = [str(word) for word in arguments]
        os.execve(command()[0], command(*line), {**python_environment(), "TERM": "dumb"})
    shown, waiting = "", list(answers)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        if ready:
            try:
                part = os.read(terminal, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part.decode(errors="replace")
        if waiting and shown.rstrip(" ").endswith("]"):
            os.write(terminal, waiting.pop(0).encode() + b"\n")
            shown += "\n"
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown


@pytest.mark.parametrize(
    ("answers", "code", "moved", "deleted"),
    [
        (["n"], 130, False, False),
        (["", ""], 0, True, False),
        (["maybe", "y", "no"], 0, True, False),
        (["yes", "yes"], 0, True, True),
    ],
)
def test_on_a_terminal_it_asks_twice(
    disks: Disks, answers: list[str], code: int, moved: bool, deleted: bool
) -> None:
    make_small_cache(disks.cache)
    line: list[object] = ["migrate", disks.target, "--cache", disks.cache, "--no-kit", "--no-env"]
    got, shown = on_a_terminal(line, answers)
    assert got == code, shown
    assert disks.cache.is_symlink() == moved
    assert old_place(disks.cache).exists() == (moved and not deleted)
    assert "swap the old path" in shown and "Go on? [Y/n]" in shown
    assert ("Delete the old copy" in shown) == moved


def test_yes_asks_nothing_and_keeps_the_old_copy(disks: Disks) -> None:
    make_small_cache(disks.cache)
    code, shown = on_a_terminal(
        ["migrate", disks.target, "--cache", disks.cache, "--no-kit", "--no-env", "--yes"], []
    )
    assert code == 0 and "?" not in shown and old_place(disks.cache).is_dir()
