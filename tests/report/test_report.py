"""``report`` on real repositories: the page and its figures, also where something is lost, broken or gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.backup.world import flip, zitcache
from tests.night.conftest import world
from tests.night.world import World
from tests.proof.test_goldens import RECORD
from tests.report.pages import browser, look, png
from tests.storage.disks import tmpfs
from zitcache.errors import CredentialsError, NoSpace, RepositoryNotFound, UsageError
from zitcache.events import Session
from zitcache.proof.goldens import save_golden
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.report import DEFAULT_NAME, ReportReport, ReportRequest, report
from zitcache.ui.page import render_page

__all__ = ["world"]


def write(world: World, output: Path, **request: Any) -> tuple[ReportReport, Session]:
    session = Session()
    wanted = {"repository": str(world.place), "cache": str(world.cache), "render": render_page, **request}
    return report(ReportRequest(output=output, **wanted), session).data, session


def draw(world: World, stamp: str, seed: int, *, model: str = "a/b", verdict: str = "passed") -> Path:
    """What a proof leaves beside the repository."""
    folder = Path(f"{world.place}-proofs/{stamp}")
    folder.mkdir(parents=True)
    (folder / "picture.png").write_bytes(png(seed))
    (folder / "attestation.json").write_text(
        json.dumps(
            {
                "model": model,
                "time": f"{stamp[:10]}T02:00:00Z",
                "host": "box",
                "judgement": {"verdict": verdict, "tier": "B", "reasons": ["The raw pixels are equal."]},
            }
        )
    )
    return folder / "picture.png"


def test_a_page_of_a_real_repository(world: World, tmp_path: Path) -> None:
    world.night(only=("backup", "check"))
    (world.model / "config.json").write_text('{"dim": 65}')
    world.night(only=("backup",))
    found, session = write(world, tmp_path / "page.html")
    assert session.warnings == []
    figures = found.figures
    (model,) = figures.overview.models
    assert (model.id, model.in_cache, model.snapshot_id is not None) == ("a/b", "complete", True)
    size = sum(path.stat().st_size for path in world.model.iterdir())
    assert sum(each.size_bytes for each in figures.by_dtype) == size == figures.by_model[0].size_bytes
    assert [point.state for point in figures.snapshots] == ["good", "good"]
    assert [run.exit_code for run in figures.runs] == [0, 0] and figures.runs[0].bytes_read
    assert figures.problems == [] and figures.schedule_problem is not None
    page = (tmp_path / "page.html").read_text()
    assert found.size_bytes == len(page.encode()) and found.output == str(tmp_path / "page.html")
    if browser() is not None:
        seen = look(page)
        assert seen.text("state") == "Protected." and "a/b" in seen.text("models")


def test_the_newest_proof_and_the_golden_of_its_model(world: World, tmp_path: Path) -> None:
    world.night(only=("backup",))
    repository = Repository.open(LocalStorage(world.place))
    for model, day, seed in (("a/b", "01", 1), ("c/d", "05", 2)):
        record = msgspec.structs.replace(
            RECORD, model=model, picture=png(seed), time=f"2026-01-{day}T00:00:00Z", pixels=f"{seed}" * 64
        )
        save_golden(repository, record)
    old, new = draw(world, "2026-01-02T02-00-00Z", 3), draw(world, "2026-02-02T02-00-00Z", 4)
    os.utime(old, (1, 1))
    from zitcache.tasks.report.collect import collect

    data = collect(str(world.place), str(world.cache), Session())
    assert data.proof is not None and data.golden is not None
    assert (data.proof.png, data.proof.verdict) == (new.read_bytes(), "passed")
    assert data.proof.detail == "The raw pixels are equal."
    assert (data.golden.model, data.golden.png) == ("a/b", png(1)), "not the newer one of another model"
    page = render_page(data)
    assert page.count("data:image/png;base64,") == 2


@pytest.mark.parametrize("damage", ["no picture", "text", "huge", "attestation", "link"])
def test_a_proof_that_is_not_what_it_should_be(world: World, tmp_path: Path, damage: str) -> None:
    world.night(only=("backup",))
    picture = draw(world, "2026-02-02T02-00-00Z", 4)
    if damage == "no picture":
        picture.unlink()
    elif damage == "text":
        picture.write_text("<script>alert(1)</script>")
    elif damage == "huge":
        with picture.open("r+b") as file:
            file.truncate(1 << 30)
    elif damage == "attestation":
        (picture.parent / "attestation.json").write_bytes(b"\xff{")
    else:
        picture.unlink()
        picture.symlink_to("/dev/zero")
    write(world, tmp_path / "page.html")
    shown = "data:image/png" in (tmp_path / "page.html").read_text()
    assert shown is (damage == "attestation")


def test_lost_packs_and_unreadable_snapshots_leave_a_page(world: World, tmp_path: Path) -> None:
    world.night(only=("backup",))
    (world.model / "config.json").write_text('{"dim": 66}')
    world.night(only=("backup",))
    for pack in (world.place / "packs").iterdir():
        pack.unlink()
    flip(next((world.place / "snapshots").iterdir()))
    found, session = write(world, tmp_path / "page.html")
    assert [notice.code for notice in session.warnings] == ["snapshot-unreadable"]
    assert any("cannot be read" in problem for problem in found.figures.problems)
    world.night(only=("check",))
    found, _ = write(world, tmp_path / "page.html")
    assert any(problem.startswith("The last check failed") for problem in found.figures.problems)
    assert "cannot be read" in (tmp_path / "page.html").read_text()


def test_without_a_cache_the_page_says_so(world: World, tmp_path: Path) -> None:
    world.night(only=("backup",))
    shutil.rmtree(world.cache)
    found, session = write(world, tmp_path / "page.html")
    assert [notice.code for notice in session.warnings] == ["no-cache"]
    assert found.figures.overview.models[0].in_cache == "absent"
    assert "not in the cache" in (tmp_path / "page.html").read_text()


def test_an_empty_repository_has_a_page(world: World, tmp_path: Path) -> None:
    found, _ = write(world, tmp_path / "page.html")
    assert found.figures.snapshots == []
    assert any("in no good snapshot" in problem for problem in found.figures.problems)


# -- where it goes -----------------------------------------------------------------------------------------


def test_a_folder_gets_a_page_of_the_usual_name(world: World, tmp_path: Path) -> None:
    assert write(world, tmp_path)[0].output == str(tmp_path / DEFAULT_NAME)


def test_a_folder_that_is_not_there_is_said(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no directory") as caught:
        write(world, tmp_path / "missing/page.html")
    assert f"mkdir -p {tmp_path}/missing" in str(caught.value.hint)
    with pytest.raises(RepositoryNotFound):
        write(world, tmp_path / "page.html", repository=str(tmp_path / "nothing"))


@pytest.mark.root
def test_a_full_disk_keeps_the_old_page(world: World, tmp_path: Path) -> None:
    world.night(only=("backup",))
    with tmpfs(tmp_path / "disk", size=64 << 10) as disk:
        (disk / "page.html").write_text("the old page")
        (disk / "filler").write_bytes(b"x" * (56 << 10))
        with pytest.raises(NoSpace):
            write(world, disk / "page.html")
        assert (disk / "page.html").read_text() == "the old page"
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "page.html"]


@pytest.mark.root
def test_a_disk_that_may_not_be_written_to_is_said(world: World, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(CredentialsError):
            write(world, disk / "page.html")


def test_the_program_writes_it(world: World, tmp_path: Path) -> None:
    world.night(only=("backup",))
    words = ["report", "-r", world.place, "--cache", world.cache, "-o", tmp_path / "page.html"]
    done = zitcache(*words)
    assert done.returncode == 0 and done.stdout.startswith(f"Written: {tmp_path}/page.html (")
    told = json.loads(zitcache(*words, "--json").stdout)["data"]
    assert told["figures"]["totals"]["stored_bytes"] > 0 and told["figures"]["golden"] is None
