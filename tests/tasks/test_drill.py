"""``drill`` rehearses the loss: it passes when everything comes back, and touches nothing of the user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.storage.disks import names_under, python_environment, tmpfs
from tests.tasks.repositories import MODEL, back_up, flip_bit, new_repository, packs_of, write_cache
from zitcache.errors import CacheNotFound, Exit, Interrupted, NoSpace, UsageError
from zitcache.events import Outcome, Progress, Session
from zitcache.tasks.drill import DrillReport, DrillRequest, drill
from zitcache.tasks.drill.comparing import differences, facts_on_disk
from zitcache.tasks.snapshots import snapshots

SAMPLE_STEPS = ["sample", "backup", "wipe", "restore", "compare"]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def run_sample(scratch: Path, *, keep: bool = False, session: Session | None = None) -> Outcome[DrillReport]:
    return drill(DrillRequest(use_sample=True, scratch=str(scratch), keep=keep), session or Session())


def run_real(scratch: Path, cache: Path, *, repository: Path | None = None) -> Outcome[DrillReport]:
    request = DrillRequest(
        cache=str(cache), scratch=str(scratch), repository=str(repository) if repository else None
    )
    return drill(request, Session())


def steps(outcome: Outcome[DrillReport]) -> dict[str, bool]:
    return {step.name: step.ok for step in outcome.data.steps}


class StopAt(Progress):
    """Asks to stop, or spoils something, when a stage begins."""

    def __init__(self, stage_name: str, action: object) -> None:
        self.stage_name = stage_name
        self.action = action

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        if name == self.stage_name and callable(self.action):
            self.action()


def the_folder(scratch: Path) -> Path:
    (folder,) = scratch.iterdir()
    return folder


# -- the sample -------------------------------------------------------------------------------------


def test_the_sample_comes_back_and_nothing_is_left(scratch: Path) -> None:
    outcome = run_sample(scratch)
    assert (outcome.exit_code, outcome.data.ok, outcome.warnings) == (Exit.OK, True, [])
    assert list(steps(outcome)) == SAMPLE_STEPS
    assert all(step.ok and step.detail and step.seconds >= 0 for step in outcome.data.steps)
    assert 0 < outcome.data.stored_bytes < outcome.data.size_bytes
    assert outcome.data.scratch == ""
    assert list(scratch.iterdir()) == []


def test_the_scratch_folder_is_kept_when_asked_for(scratch: Path) -> None:
    outcome = run_sample(scratch, keep=True)
    folder = the_folder(scratch)
    assert outcome.data.scratch == str(folder)
    assert snapshots(str(folder / "repository"), Session()).data.snapshots[0].models
    assert list((folder / "cache").rglob("*.safetensors"))


def test_scratch_folders_that_the_drill_made_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    before = names_under(tmp_path)
    assert run_sample(tmp_path / "mine" / "made" / "deeper").data.ok
    assert names_under(tmp_path) == before
    assert not (tmp_path / "mine" / "made").exists()


def test_without_a_named_place_a_temporary_folder_is_used_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert drill(DrillRequest(use_sample=True), Session()).data.ok
    assert list(tmp_path.iterdir()) == []


def test_the_drill_runs_without_torch_and_without_a_network(tmp_path: Path) -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('the network was used')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from zitcache.events import Session\n"
        "from zitcache.tasks.drill import DrillRequest, drill\n"
        "assert drill(DrillRequest(use_sample=True, scratch=sys.argv[1]), Session()).data.ok\n"
        "assert not {'torch', 'diffusers', 'transformers', 'modelscope'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=python_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- failing steps ----------------------------------------------------------------------------------


def test_a_damaged_repository_fails_the_restore_and_everything_is_kept(scratch: Path) -> None:
    def spoil() -> None:
        # The sample is small: all of its content lies in one or two packs.
        for pack in packs_of(the_folder(scratch) / "repository"):
            flip_bit(pack, 200)

    # The first stage of the restore.
    outcome = run_sample(scratch, session=Session(StopAt("Restoring", spoil)))
    assert outcome.exit_code == Exit.DAMAGE
    assert not outcome.data.ok
    assert steps(outcome) == {"sample": True, "backup": True, "wipe": True, "restore": False}
    assert outcome.data.scratch == str(the_folder(scratch))
    codes = {notice.code for notice in outcome.warnings}
    assert {"not-restored", "scratch-kept"} <= codes
    assert "same-disk" not in codes


def test_a_byte_that_comes_back_wrong_fails_the_comparison(scratch: Path) -> None:
    def spoil() -> None:
        flip_bit(next((the_folder(scratch) / "cache").rglob("*.safetensors")), 1000)

    outcome = run_sample(scratch, session=Session(StopAt("Comparing", spoil)))
    assert (outcome.exit_code, outcome.data.ok) == (Exit.DAMAGE, False)
    failed = outcome.data.steps[-1]
    assert (failed.name, failed.ok) == ("compare", False)
    assert ".safetensors" in failed.detail
    assert the_folder(scratch).is_dir()


@pytest.mark.root
def test_a_full_disk_ends_the_drill_with_its_own_exit_code_and_the_table(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size=80 << 20) as place:

        def fill() -> None:
            free = shutil.disk_usage(place).free
            (place / "ballast").write_bytes(bytes(free - (1 << 20)))

        outcome = run_sample(place, session=Session(StopAt("Backing up", fill)))
        assert (outcome.exit_code, outcome.data.ok) == (Exit.NO_SPACE, False)
        assert steps(outcome) == {"sample": True, "backup": False}
        assert any(notice.code == "no-space" for notice in outcome.warnings)


@pytest.mark.root
def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size=8 << 20) as place:
        with pytest.raises(NoSpace, match="scratch space") as refused:
            run_sample(place)
        assert list(place.iterdir()) == []
    assert "--scratch" in (refused.value.hint or "")


@pytest.mark.parametrize("stage", ["Writing the sample", "Backing up", "Restoring", "Comparing"])
def test_stopping_leaves_nothing_behind(scratch: Path, stage: str) -> None:
    session = Session()
    session.progress = StopAt(stage, session.cancel.set)
    with pytest.raises(Interrupted):
        run_sample(scratch, session=session)
    assert list(scratch.iterdir()) == []


# -- the real cache ---------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    cache = write_cache(tmp_path / "cache")
    (cache / MODEL / "link").symlink_to("config.json")
    os.link(cache / MODEL / "config.json", cache / MODEL / "second name")
    return cache


def test_the_real_cache_is_only_read(scratch: Path, cache: Path) -> None:
    before = facts_on_disk(cache, Session(), "")
    outcome = run_real(scratch, cache)
    assert (outcome.exit_code, outcome.data.ok) == (Exit.OK, True)
    assert list(steps(outcome)) == ["scan", "backup", "wipe", "restore", "compare"]
    assert differences(before, facts_on_disk(cache, Session(), "")) == []
    assert list(scratch.iterdir()) == []
    assert outcome.data.size_bytes == sum(facts.size for facts in before.values())


def test_a_named_repository_gets_the_snapshot_and_stays(scratch: Path, cache: Path, tmp_path: Path) -> None:
    new_repository(tmp_path / "repo")
    back_up(tmp_path / "repo", cache)
    outcome = run_real(scratch, cache, repository=tmp_path / "repo")
    assert outcome.data.ok
    kept = snapshots(str(tmp_path / "repo"), Session()).data.snapshots
    assert [snapshot.tags for snapshot in kept] == [[], ["drill"]]
    assert list(scratch.iterdir()) == []


def test_files_that_cannot_be_backed_up_make_the_drill_partial(scratch: Path, cache: Path) -> None:
    (cache / MODEL / "escapes").symlink_to("/etc/hostname")
    outcome = run_real(scratch, cache)
    assert (outcome.exit_code, outcome.data.ok) == (Exit.PARTIAL, True)
    assert "1 left out" in {step.name: step.detail for step in outcome.data.steps}["backup"]


def test_damage_in_the_cache_fails_the_backup_step(scratch: Path, cache: Path, tmp_path: Path) -> None:
    new_repository(tmp_path / "repo")
    back_up(tmp_path / "repo", cache)
    shard = cache / MODEL / "model-2.safetensors"
    status = shard.stat()
    flip_bit(shard, 70_000)
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    outcome = run_real(scratch, cache, repository=tmp_path / "repo")
    assert (outcome.exit_code, outcome.data.ok) == (Exit.DAMAGE, False)
    assert steps(outcome) == {"scan": True, "backup": False}
    assert "model-2.safetensors" in outcome.data.steps[-1].detail


def test_a_scratch_folder_inside_the_cache_is_refused(cache: Path) -> None:
    before = names_under(cache)
    with pytest.raises(UsageError, match="inside the cache"):
        run_real(cache / "scratch", cache)
    assert names_under(cache) == before


def test_a_scratch_folder_inside_the_repository_is_refused(cache: Path, tmp_path: Path) -> None:
    new_repository(tmp_path / "repo")
    with pytest.raises(UsageError, match="inside the repository"):
        run_real(tmp_path / "repo" / "scratch", cache, repository=tmp_path / "repo")
    assert names_under(tmp_path / "repo") == ["config"]


def test_a_file_is_no_scratch_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        run_sample(tmp_path / "file" / "below")


def test_the_sample_never_gets_into_a_repository_of_yours(scratch: Path, tmp_path: Path) -> None:
    new_repository(tmp_path / "repo")
    with pytest.raises(UsageError, match="newest one"):
        drill(
            DrillRequest(use_sample=True, scratch=str(scratch), repository=str(tmp_path / "repo")), Session()
        )
    assert names_under(tmp_path) == ["repo/config"]


def test_without_a_cache_there_is_nothing_to_drill(scratch: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheNotFound):
        run_real(scratch, tmp_path / "nowhere")
    assert list(scratch.iterdir()) == []


# -- the comparison ---------------------------------------------------------------------------------


def test_the_comparison_sees_every_kind_of_difference(cache: Path) -> None:
    before = facts_on_disk(cache, Session(), "")
    model = cache / MODEL
    (model / "README.md").unlink()
    (model / "extra").write_text("x")
    flip_bit(model / "model-1.safetensors", 500)
    (model / "link").unlink()
    (model / "link").symlink_to("empty")
    (model / "empty").chmod(0o600)
    os.utime(model / "model-3.safetensors", ns=(1, 1))
    wrong = differences(before, facts_on_disk(cache, Session(), ""))
    said = {line.removeprefix(f"{MODEL}/") for line in wrong}
    assert {
        "README.md did not come back.",
        "extra was not there before.",
        "model-1.safetensors has another content.",
        "link points to another place.",
        "empty has another mode or time.",
        "model-3.safetensors has another mode or time.",
    } <= said
