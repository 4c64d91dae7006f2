"""Whatever is broken, doctor says so and goes on: dead disks, bad settings, no network, no directory."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import make_sample
from tests.doctor.world import SIZE, Box, as_lines, check, examine, state
from tests.storage.disks import python_environment
from zitcache.errors import Exit
from zitcache.tasks.doctor import CHECKS, facts, summary


@contextmanager
def dead_mount(place: Path) -> Iterator[Path]:
    """A network mount whose server never answers: a FUSE mount that nobody serves."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")
    place.mkdir()
    fd = os.open("/dev/fuse", os.O_RDWR)
    library = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    if library.mount(b"server:/export", os.fsencode(place), b"fuse.dead", 0, options):
        os.close(fd)
        pytest.skip(f"cannot mount here: {os.strerror(ctypes.get_errno())}")
    try:
        yield place
    finally:
        library.umount2(os.fsencode(place), 2)  # MNT_DETACH
        os.close(fd)  # whoever still waits for an answer gets an error


def run_doctor(box: Box, *words: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """The program itself, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "zitcache", "doctor", "--json", *words],
        capture_output=True,
        text=True,
        env={**python_environment(), **environ},
        timeout=120,
        cwd=box.home,
    )
    envelope = json.loads(done.stdout)
    assert isinstance(envelope, dict)
    return done.returncode, envelope


def test_a_dead_disk_is_told_and_nothing_waits_for_it(box: Box) -> None:
    cache = box.cache()
    with dead_mount(box.place / "nfs") as place:
        outcome = examine()
        assert outcome.data.headline.startswith(f"Your {SIZE} are on the system disk")
        found = check(outcome, "disks")
        assert found.status == "warn" and f"{place} did not answer" in found.evidence
        dead = outcome.data.disks[-1]
        assert (dead.mount_point, dead.bytes_free, dead.is_network) == (str(place), None, True)
        assert outcome.data.command is None, "nothing is moved to a disk that does not answer"
        assert outcome.data.cache == str(cache)


def test_a_cache_on_a_dead_disk(box: Box) -> None:
    with dead_mount(box.place / "nfs") as place:
        box.patch.setenv("MODELSCOPE_CACHE", str(place / "cache"))
        outcome = examine(cache=str(place / "cache"))
    assert outcome.exit_code is Exit.DAMAGE
    assert "does not answer" in outcome.data.headline
    assert state(outcome, "cache-found") == "fail"
    assert [found.id for found in outcome.data.checks] == list(CHECKS)


def test_a_repository_on_a_dead_disk(box: Box) -> None:
    box.cache()
    with dead_mount(box.place / "nfs") as place:
        box.patch.setenv("ZITCACHE_REPO", str(place / "zitcache"))
        outcome = examine()
    assert state(outcome, "repository") == "fail"
    assert "does not answer" in check(outcome, "repository").evidence
    assert state(outcome, "cache-found") == "ok"


def test_a_link_to_a_dead_disk_is_given_up_on(box: Box) -> None:
    """Its name does not say where it leads."""
    with dead_mount(box.place / "nfs") as place:
        (box.place / "link").symlink_to(place)
        outcome = examine(cache=str(box.place / "link" / "cache"))
    assert state(outcome, "cache-found") == "fail"
    assert "no answer" in check(outcome, "cache-found").evidence


def test_the_program_ends_although_a_disk_does_not_answer(box: Box) -> None:
    with dead_mount(box.place / "nfs") as place:
        code, envelope = run_doctor(box, "--cache", str(place / "cache"))
    assert code == 1
    assert envelope["data"]["cache"] is None


def test_settings_that_cannot_be_used(box: Box) -> None:
    box.cache()
    box.patch.setenv("ZITCACHE_CONFIG", str(box.place / "none.toml"))
    outcome = examine()
    found = check(outcome, "cache-found")
    assert found.status == "fail" and "none.toml does not exist" in found.evidence
    assert found.advice == "Correct or unset ZITCACHE_CONFIG."
    assert state(outcome, "repository") == "fail"
    assert "none.toml" in outcome.data.headline
    assert outcome.exit_code is Exit.DAMAGE


def test_a_named_cache_that_is_a_file(box: Box) -> None:
    (box.place / "file").write_bytes(b"x")
    outcome = examine(cache=str(box.place / "file"))
    assert state(outcome, "cache-found") == "fail"
    assert "is a file" in check(outcome, "cache-found").evidence


def test_a_working_directory_that_is_gone(box: Box) -> None:
    box.cache()
    gone = box.place / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    outcome = examine()
    assert outcome.data.headline.startswith(f"Your {SIZE} are on the system disk")


def test_everything_is_broken_at_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("all is lost")

    for name in (
        "look_at_disks",
        "capture",
        "find_gpus",
        "survey",
        "look_at_cache",
        "look_at_repository",
        "find_provider",
        "find_container",
    ):
        monkeypatch.setattr(facts, name, broken)
    outcome = examine()
    assert [found.id for found in outcome.data.checks] == list(CHECKS)
    assert {found.status for found in outcome.data.checks} <= {"skip", "fail", "ok"}
    assert state(outcome, "cache-found") in {"skip", "fail"}
    assert outcome.data.headline


@pytest.mark.parametrize("check_id", list(CHECKS))
def test_a_check_that_falls_over_is_skipped_and_the_others_go_on(
    box: Box, monkeypatch: pytest.MonkeyPatch, check_id: str
) -> None:
    def falling(_: object) -> Iterator[Any]:
        raise ZeroDivisionError("division by zero")
        yield

    monkeypatch.setitem(CHECKS, check_id, falling)
    outcome = examine()
    found = check(outcome, check_id)
    assert found.status == "skip" and "ZeroDivisionError" in found.evidence
    assert len(outcome.data.checks) == len(CHECKS)


def test_the_headline_survives_what_it_sums_up(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "protection", lambda *_: 1 // 0)
    box.cache()
    assert examine().data.headline


def test_nothing_is_changed(box: Box) -> None:
    cache = box.cache()
    box.backup(cache, box.place / "zitcache")
    before = as_lines(box.place)
    examine()
    assert as_lines(box.place) == before


OFFLINE = """
import sys
used = []
def watch(event, arguments):
    if event.startswith("socket."):
        used.append((event, repr(arguments)))
sys.addaudithook(watch)
from zitcache.cli.main import main
try:
    main(["doctor", "--json"])
finally:
    print(used, "boto3" in sys.modules, "torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("repository", ["local", "s3://bucket/prefix"])
def test_no_socket_is_opened(box: Box, repository: str) -> None:
    """And neither the cloud's library nor torch is imported, which would take longer than all the rest."""
    cache = box.cache()
    if repository == "local":
        box.backup(cache, box.place / "zitcache")
    else:
        box.patch.setenv("ZITCACHE_REPO", repository)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], capture_output=True, text=True, env=python_environment(), timeout=120
    )
    assert json.loads(done.stdout)["data"]["cache"] == str(cache)
    assert done.stderr.splitlines()[-1] == "[] False False"


NOBODY = 65534


@contextmanager
def another_user(box: Box) -> Iterator[None]:
    """For the time of the block, this process has the rights of nobody in particular."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    examine()  # what is imported late must be imported now
    # pytest's folders are closed to others.
    closed = {
        folder: folder.stat().st_mode & 0o7777
        for folder in (box.place, *box.place.parents)
        if not folder.stat().st_mode & 0o005
    }
    for folder, mode in closed.items():
        folder.chmod(mode | 0o055)
    os.chown(box.home, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in closed.items():
            folder.chmod(mode)


@pytest.mark.root
def test_an_ordinary_user_sees_as_much(box: Box) -> None:
    box.cache()
    with another_user(box):
        outcome = examine()
    assert outcome.data.headline.startswith(f"Your {SIZE} are on the system disk")
    told = [found.evidence for found in outcome.data.checks if "could not be looked at" in found.evidence]
    assert told == []


@pytest.mark.root
def test_a_cache_that_is_closed_is_not_called_empty(box: Box) -> None:
    cache = box.cache()
    cache.chmod(0o700)
    with another_user(box):
        outcome = examine(cache=str(cache))
    assert outcome.data.headline.startswith(f"{cache} cannot be read by this user.")
    assert state(outcome, "cache-found") == "fail"
    assert state(outcome, "repository") == "warn"


def test_the_page_names_every_check() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "see-the-danger.md").read_text()
    assert [name for name in CHECKS if f"`{name}`" not in page] == []


# -- exit codes and --fix -----------------------------------------------------------------------------


@pytest.mark.root
def test_exit_codes(box: Box) -> None:
    cache = box.cache()
    code, envelope = run_doctor(box)
    assert (code, envelope["exit_code"], envelope["ok"], envelope["error"]) == (1, 1, False, None)
    # The program sees the disks of all tests: only where it is told to look matters here.
    repository = box.backup(cache, box.disk() / "zitcache")
    code, envelope = run_doctor(box, "--repo", str(repository), "--cache", str(cache))
    assert (code, envelope["ok"]) == (0, True), envelope["data"]["headline"]
    code, envelope = run_doctor(box, "--strict", "--repo", str(repository), "--cache", str(cache))
    assert code == 1


def test_fix_sets_the_variables_and_says_where(box: Box) -> None:
    cache = box.cache()
    outcome = examine(fix=True)
    (fixed,) = outcome.data.fixed
    assert fixed.id == "variables" and "MODELSCOPE_CACHE" in fixed.done
    assert fixed.files and all(Path(file).exists() for file in fixed.files)
    assert any(str(cache) in Path(file).read_text() for file in fixed.files)
    assert state(outcome, "variables-reach") == "ok", "looked at again afterwards"
    assert outcome.exit_code is Exit.DAMAGE, "the danger is not gone by that"
    assert examine(fix=True).data.fixed == []


def test_fix_makes_the_kit(box: Box) -> None:
    cache = box.cache()
    repository = box.backup(cache, box.place / "zitcache")
    outcome = examine(fix=True)
    kit = [fixed for fixed in outcome.data.fixed if fixed.id == "kit"]
    assert len(kit) == 1 and (repository / "kit" / "recover.sh").is_file()
    assert state(outcome, "kit") == "ok"


def test_fix_does_nothing_to_the_cache(box: Box) -> None:
    cache = box.cache()
    (next(cache.rglob("vae")) / "x.safetensors.incomplete").write_bytes(b"x")
    before = as_lines(cache)
    examine(fix=True)
    assert as_lines(cache) == before


def test_without_fix_no_file_is_written(box: Box) -> None:
    make_sample(box.home / ".cache" / "modelscope")
    before = as_lines(box.place)
    assert examine().data.fixed == []
    assert as_lines(box.place) == before


def test_what_cannot_be_fixed_is_a_warning(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from zitcache.errors import CredentialsError
    from zitcache.tasks.doctor import fixes

    def refused(*_: object) -> None:
        raise CredentialsError("Not allowed.", hint="Use sudo.")

    monkeypatch.setattr(fixes, "env", refused)
    box.cache()
    outcome = examine(fix=True)
    assert outcome.data.fixed == []
    assert [(notice.code, notice.hint) for notice in outcome.warnings] == [("not-fixed", "Use sudo.")]
