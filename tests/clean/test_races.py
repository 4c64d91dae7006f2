"""Between the look and the removal, things happen."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backup.world import Watching
from tests.cache.builders import pipeline_files
from tests.clean.world import LEGACY, SNAPSHOT, only, put, run
from zitcache.errors import Exit, Interrupted
from zitcache.events import Cancel, Outcome, Session
from zitcache.tasks.clean import CleanItem, CleanReport, CleanRequest, Kind, clean, removing


def removing_while(cache: Path, path: Path, happens: Callable[[], object], **request: object) -> CleanItem:
    """Clean; at the moment before ``path`` is removed, ``happens``."""
    outcome = run(
        cache,
        delete=True,
        progress=Watching(on_file=lambda name: happens() if name == str(path) else None),
        **request,
    )
    assert outcome.exit_code == Exit.OK
    return only(outcome)


def test_the_download_goes_on(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    item = removing_while(cache, path, append, min_age_seconds=0.0)
    assert not item.removed and "changed while" in (item.kept_because or "") and path.exists()


def test_the_download_finishes(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    whole = cache / SNAPSHOT / "x.bin"
    item = removing_while(cache, path, lambda: path.rename(whole))
    assert not item.removed and whole.read_bytes() == b"x" * 5000


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_model_begins_to_need_it(cache: Path, link: Callable[[Path, Path], None]) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    item = removing_while(cache, path, lambda: link(path, cache / SNAPSHOT / "model.bin"))
    assert not item.removed and (cache / SNAPSHOT / "model.bin").read_bytes() == b"x" * 5000
    assert "The model" in (item.kept_because or "")


def test_another_file_takes_its_name(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    item = removing_while(cache, path, lambda: put(path.with_name("new"), b"y" * 5000).rename(path))
    assert not item.removed and path.read_bytes() == b"y" * 5000


def test_it_is_gone_already(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    item = removing_while(cache, path, path.unlink)
    assert (item.removed, item.kept_because) == (False, "It was gone already.")


def test_a_file_is_saved_into_the_stub(cache: Path) -> None:
    put(cache / LEGACY / "model_index.json", pipeline_files()["model_index.json"])
    saved = cache / LEGACY / "lora.safetensors"
    item = removing_while(cache, cache / LEGACY, lambda: put(saved, b"tuned"))
    assert not item.removed and saved.read_bytes() == b"tuned"


def test_the_complete_copy_changes_while_the_stub_is_removed(cache: Path) -> None:
    put(cache / LEGACY / "model_index.json", pipeline_files()["model_index.json"])
    complete = cache / SNAPSHOT / "model_index.json"
    item = removing_while(cache, cache / LEGACY, complete.unlink, kinds=(Kind.SHADOWING_STUB,))
    assert not item.removed and (cache / LEGACY / "model_index.json").exists()


def test_a_file_is_saved_in_the_very_last_moment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the rename that puts the folder aside: it comes back."""
    put(cache / LEGACY / "model_index.json", pipeline_files()["model_index.json"])
    real, place = os.rename, cache / LEGACY

    def rename(source: str, target: str, **folders: int) -> None:
        if source == place.name:
            put(place / "lora.safetensors", b"tuned")
        real(source, target, **folders)

    monkeypatch.setattr(removing.os, "rename", rename)
    item = only(run(cache, delete=True))
    assert not item.removed and (place / "lora.safetensors").read_bytes() == b"tuned"


def test_a_folder_whose_name_was_taken_meanwhile_is_not_lost(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache / LEGACY / "model_index.json", pipeline_files()["model_index.json"])
    real, place = os.rename, cache / LEGACY

    def rename(source: str, target: str, **folders: int) -> None:
        put(place / "lora.safetensors", b"tuned")
        real(source, target, **folders)
        put(place / "new.txt", b"new")

    monkeypatch.setattr(removing.os, "rename", rename)
    outcome = run(cache, delete=True)
    item = only(outcome)
    assert outcome.exit_code == Exit.PARTIAL and not item.removed
    (aside,) = [name for name in os.listdir(place.parent) if name.startswith(".zitcache-tmp-")]
    assert str(place.parent / aside) in (item.kept_because or "")
    assert (place.parent / aside / "lora.safetensors").read_bytes() == b"tuned"
    assert (place / "new.txt").read_bytes() == b"new"


def test_a_lock_is_taken_in_the_last_moment(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    lock = put(cache / ".lock/repo_1.lock", b"")
    held = lock.open()
    try:
        item = removing_while(
            cache,
            path,
            lambda: fcntl.flock(held, fcntl.LOCK_EX),
            kinds=(Kind.UNFINISHED_DOWNLOAD,),
        )
    finally:
        held.close()
    assert not item.removed and "lock" in (item.kept_because or "") and path.exists()


def test_ctrl_c_between_two_leaves_the_rest(cache: Path) -> None:
    paths = [put(cache / SNAPSHOT / f"{name}.bin.incomplete") for name in "abc"]
    cancel = Cancel()

    def on_file(name: str) -> None:
        if name == str(paths[1]):
            cancel.set()

    request = CleanRequest(cache=str(cache), delete=True, min_age_seconds=0.0)
    with pytest.raises(Interrupted):
        clean(request, Session(Watching(on_file=on_file), cancel))
    assert sum(path.exists() for path in paths) == 1


def test_a_kill_while_a_folder_is_removed_leaves_what_the_next_run_finds(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home / ".cache/pip/http-v2/a/b/c")

    def die(path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removing, "remove_tree", die)
        with pytest.raises(KeyboardInterrupt):
            run(delete=True)
    assert not (home / ".cache/pip/http-v2").exists(), "half a cache is seen by nobody"
    outcome: Outcome[CleanReport] = run(delete=True)
    assert (only(outcome).kind, only(outcome).removed) == ("own-staging", True)
    assert os.listdir(home / ".cache/pip") == []
