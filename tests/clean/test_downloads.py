"""What broken downloads leave is found and removed; what only looks like it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.backup.world import describe
from tests.cache.builders import HF_FOLDER, pipeline_files, write, write_huggingface
from tests.clean.world import LEGACY, SNAPSHOT, items_of, names_below, only, put, require_complete, run
from zitcache.errors import CacheNotFound, Exit, UsageError

SHARD = "transformer/diffusion_pytorch_model-00001-of-00003.safetensors"


def test_a_clean_cache_has_nothing_to_clean(cache: Path) -> None:
    outcome = run(cache, delete=True)
    assert (outcome.data.items, outcome.exit_code, outcome.warnings) == ([], Exit.OK, [])
    require_complete(cache)


@pytest.mark.parametrize(
    "name",
    [
        "vae/diffusion_pytorch_model.safetensors.incomplete",
        "vae/other.safetensors_0_9999",
        "vae/big.safetensors.parallel_tmp",
        "._____temp/vae/x.safetensors",
        "extra/name with\nnewline.bin.incomplete",
        os.fsdecode(b"extra/caf\xe9.bin.incomplete"),
    ],
)
def test_nothing_is_removed_unless_asked_and_then_only_the_leftover(cache: Path, name: str) -> None:
    before = describe(cache)
    leftover = put(cache / SNAPSHOT / name)
    shown = only(run(cache))
    assert (shown.kind, shown.removed, shown.kept_because) == ("unfinished-download", False, None)
    assert leftover.exists() and shown.size_bytes >= 5000 and shown.reason
    outcome = run(cache, delete=True)
    assert only(outcome).removed and not leftover.exists()
    assert outcome.data.bytes_freed == outcome.data.bytes_found == shown.size_bytes
    for folder in {"extra"} & set(os.listdir(cache / SNAPSHOT)):
        (cache / SNAPSHOT / folder).rmdir()
    assert {k: v for k, v in describe(cache).items() if v[0] != "directory"} == {
        k: v for k, v in before.items() if v[0] != "directory"
    }


def test_a_dry_run_is_the_default_and_says_so(cache: Path) -> None:
    put(cache / SNAPSHOT / "x.bin.incomplete")
    before = describe(cache)
    report = run(cache).data
    assert report.dry_run and report.bytes_freed == 0 and report.bytes_removable == report.bytes_found > 0
    assert describe(cache) == before


def test_whether_a_download_can_go_on_is_part_of_the_reason(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    write_huggingface(hub, pipeline_files())
    blobs = hub / HF_FOLDER / "blobs"
    whole = next(blobs.iterdir()).name
    paths = {
        "go on": put(blobs / f"{'a' * 40}.incomplete"),
        "nothing": put(blobs / f"{'b' * 40}.0123abcd.incomplete"),
        "whole": put(blobs / f"{whole}.0123abcd.incomplete"),
    }
    found = items_of(run(hub))
    assert set(found) == {str(path) for path in paths.values()}
    assert "goes on from here" in found[str(paths["go on"])].reason
    assert "nothing can go on" in found[str(paths["nothing"])].reason
    assert "the whole file is there" in found[str(paths["whole"])].reason
    run(hub, delete=True)
    require_complete(hub)


def test_what_a_download_to_a_folder_leaves(tmp_path: Path) -> None:
    folder = write(tmp_path / "Z-Image", pipeline_files())
    notes = folder / ".cache/huggingface/download"
    put(notes / "vae/a1b2.incomplete")
    put(notes / "vae/x.safetensors.lock", b"")
    metadata = put(notes / "vae/x.safetensors.metadata", b"commit\netag\n1.0\n")
    run(folder, delete=True)
    assert names_below(notes) == {"vae", "vae/x.safetensors.metadata"} and metadata.exists()


def test_the_shared_store_of_hugging_face(tmp_path: Path) -> None:
    write_huggingface(tmp_path / "hub", pipeline_files(), shared=True)
    leftover = put(tmp_path / "hub/blobs/ab/abcd.0123abcd.incomplete")
    assert only(run(tmp_path, delete=True)).path == str(leftover)
    require_complete(tmp_path / "hub")


def test_a_folder_of_the_older_sdk_with_its_temporaries(tmp_path: Path) -> None:
    write(tmp_path / LEGACY, pipeline_files())
    put(tmp_path / LEGACY / "._____temp/transformer/x")
    put(tmp_path / "models/._____temp/Tongyi-MAI/Other/y")
    outcome = run(tmp_path, delete=True)
    assert {Path(item.path).name for item in outcome.data.items} == {"._____temp"}
    assert all(item.removed for item in outcome.data.items)
    require_complete(tmp_path)


def test_names_that_only_resemble_a_leftover_stay(cache: Path) -> None:
    mine = [
        put(cache / "my-notes/thesis.incomplete"),  # no download tool writes there
        put(cache / SNAPSHOT / "results_2024_2025", b"a table"),
        put(cache / SNAPSHOT / "incomplete"),
        put(cache / SNAPSHOT / "uv.lock"),
        put(cache / SNAPSHOT / ".zitcache-kit/zitcache.pyz"),
        put(cache / ".zitcache-kit/zitcache.pyz"),
        put(cache / ".zitcache-of-tomorrow/x"),
    ]
    assert run(cache, delete=True, everything=True).data.items == []
    assert all(path.exists() for path in mine)


def test_locks_that_nobody_holds(cache: Path) -> None:
    lock = put(cache / ".lock/repo_abc.lock", b"")
    put(cache / "hub/.locks/models--a--b/etag.lock", b"")
    outcome = run(cache, delete=True)
    assert {item.kind for item in outcome.data.items} == {"stale-lock"}
    assert all(item.removed for item in outcome.data.items) and not lock.exists()


def test_a_large_file_in_a_lock_folder_is_no_lock(cache: Path) -> None:
    kept = put(cache / ".lock/weights.safetensors", b"w" * 4096)
    assert run(cache, delete=True).data.items == [] and kept.exists()


def test_only_the_kinds_that_were_named(cache: Path) -> None:
    download = put(cache / SNAPSHOT / "x.bin.incomplete")
    lock = put(cache / ".lock/a", b"")
    from zitcache.tasks.clean import Kind

    outcome = run(cache, delete=True, kinds=(Kind.STALE_LOCK,))
    assert [item.kind for item in outcome.data.items] == ["stale-lock"]
    assert download.exists() and not lock.exists()


def test_all_caches_that_the_sdks_would_use_are_looked_at(
    cache: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(cache))
    write_huggingface(home / ".cache/huggingface/hub", pipeline_files())
    first = put(cache / SNAPSHOT / "x.bin.incomplete")
    second = put(home / ".cache/huggingface/hub" / HF_FOLDER / "blobs/e.0123abcd.incomplete")
    outcome = run(delete=True)
    assert set(items_of(outcome)) == {str(first), str(second)}
    assert outcome.data.caches == [str(cache), str(home / ".cache/huggingface/hub")]


def test_a_named_cache_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CacheNotFound):
        run(tmp_path / "nothing")
    with pytest.raises(UsageError):
        run(put(tmp_path / "file"))


def test_the_size_is_what_the_disk_gives_back(cache: Path) -> None:
    sparse = cache / SNAPSHOT / "sparse.bin.incomplete"
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    put(cache / SNAPSHOT / "._____temp/one", b"x" * 100_000)
    os.link(cache / SNAPSHOT / "._____temp/one", cache / SNAPSHOT / "._____temp/two")
    found = items_of(run(cache))
    assert found[str(sparse)].size_bytes < 100_000
    assert 100_000 <= found[str(cache / SNAPSHOT / "._____temp")].size_bytes < 150_000
