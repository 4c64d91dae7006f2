"""The services of the compose file do what they say, as an ordinary user on a root that cannot be written."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.backup.world import describe, make_sample, snapshots_in
from tests.containers.box import GID, UID, Box, own

pytestmark = pytest.mark.root


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, Path]:
    """The two volumes as they are when fresh: folders that belong to the user of the image."""
    found = {name: tmp_path / name for name in ("cache", "repository")}
    for path in found.values():
        path.mkdir()
    return found


@pytest.fixture
def box(tmp_path: Path, volumes: dict[str, Path]) -> Box:
    made = Box(tmp_path / "box", volumes)
    for path in volumes.values():
        own(path)
    return made


def fill(volumes: dict[str, Path], box: Box) -> None:
    """A cache, and a snapshot of it."""
    make_sample(volumes["cache"])
    own(volumes["cache"])
    done = box.run("zitcache", "backup", "--init")
    assert done.returncode == 0, done.stderr


def empty(volume: Path) -> None:
    for path in list(volume.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_the_box_is_as_narrow_as_the_image(box: Box) -> None:
    """What the other tests stand on: no root, no capability, nothing to write but the volumes."""
    box_script = box.directory / "bin/zitcache"
    box_script.write_text(
        "#!/bin/sh\nid -u; id -g; grep CapEff /proc/self/status; touch /x /usr/x /image/x 2>&1\n"
        "touch /tmp/x /cache/x; tail -n +3 /proc/net/dev | wc -l\n"
    )
    done = box.run("zitcache")
    lines = done.stdout.splitlines()
    assert lines[:2] == [str(UID), str(GID)] and lines[2].split()[1] == "0" * 16
    assert sum("Read-only file system" in line for line in lines) == 3
    assert done.stderr == "" and lines[-1] == "1", "only the loopback"


def test_a_named_volume_that_is_fresh_takes_the_first_backup(box: Box, volumes: dict[str, Path]) -> None:
    fill(volumes, box)
    assert len(snapshots_in(volumes["repository"])) == 1
    assert all(path.stat().st_uid == UID for path in volumes["repository"].rglob("*"))


def content(folder: Path) -> dict[str, object]:
    """The names below ``folder``, with what they hold."""
    return {name: facts[0] for name, facts in describe(folder).items()}


def test_the_cache_comes_back_before_the_application_starts(
    box: Box, volumes: dict[str, Path], tmp_path: Path
) -> None:
    fill(volumes, box)
    kept = make_sample(tmp_path / "kept")
    empty(volumes["cache"])
    done = box.run("restore")
    assert done.returncode == 0, done.stderr
    assert content(volumes["cache"]) == content(kept)
    before = describe(volumes["cache"])
    again = box.run("restore")
    assert (again.returncode, again.stdout) == (0, "") and describe(volumes["cache"]) == before


def test_what_is_damaged_is_brought_back_too(box: Box, volumes: dict[str, Path]) -> None:
    fill(volumes, box)
    shard = next(volumes["cache"].rglob("transformer/*.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000])
    assert box.run("restore").returncode == 0 and shard.read_bytes() == whole


def test_several_containers_at_once_on_one_volume(box: Box, volumes: dict[str, Path], tmp_path: Path) -> None:
    fill(volumes, box)
    kept = content(volumes["cache"])
    empty(volumes["cache"])
    boxes = [Box(tmp_path / f"box{number}", volumes) for number in range(3)]
    running = [one.start("restore", environment={"ZITCACHE_WAIT_SECONDS": "1"}) for one in boxes]
    for one in running:
        _, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
    assert content(volumes["cache"]) == kept


def test_without_a_snapshot_the_application_does_not_start(box: Box) -> None:
    done = box.run("restore")
    assert done.returncode == 6 and "hint:" in done.stderr


@pytest.mark.parametrize("volume", ["repository", "cache"])
def test_a_volume_of_another_user_is_named_with_the_ids(
    box: Box, volumes: dict[str, Path], volume: str
) -> None:
    fill(volumes, box)
    empty(volumes["cache"])
    own(volumes[volume], 0)
    volumes[volume].chmod(0o700 if volume == "repository" else 0o755)
    done = box.run("restore")
    assert done.returncode == 4, done.stderr
    assert f"/{volume}" in done.stderr and f"uid {UID}" in done.stderr


def test_nightly_backs_up_again_and_again_and_stops_when_told(box: Box, volumes: dict[str, Path]) -> None:
    make_sample(volumes["cache"])
    own(volumes["cache"])
    running = box.start("backup", environment={"ZITCACHE_INTERVAL_SECONDS": "1"})
    try:
        deadline = time.monotonic() + 60
        while len(list(volumes["repository"].glob("snapshots/*"))) < 2:
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline, "there was no second backup"
            time.sleep(0.1)
    finally:
        running.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, err = running.communicate(timeout=60)
    assert running.returncode == 143 and time.monotonic() - started < 10
    assert "ended with exit code" not in err.replace("exit code 143", "")


def test_a_night_that_fails_is_said_and_the_next_one_comes(box: Box, volumes: dict[str, Path]) -> None:
    running = box.start("backup", environment={"ZITCACHE_INTERVAL_SECONDS": "1"})  # the cache is empty
    try:
        assert running.stderr is not None
        said = iter(running.stderr.readline, "")
        assert any("zitcache backup ended with exit code 6" in line for line in said)
        make_sample(volumes["cache"])
        own(volumes["cache"])
        deadline = time.monotonic() + 60
        while not list(volumes["repository"].glob("snapshots/*")):
            assert time.monotonic() < deadline, "it gave up"
            time.sleep(0.1)
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
