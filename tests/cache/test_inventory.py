"""The inventory says what is there and whether it is all there; damage is named with its file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cache.builders import (
    HF_FOLDER,
    MODEL,
    pipeline_files,
    safetensors,
    shard,
    write,
    write_huggingface,
    write_legacy,
)
from zitcache.cache import completeness
from zitcache.cache.inventory import Model, inventory

SHARD_2 = "transformer/diffusion_pytorch_model-00002-of-00003.safetensors"
INDEX = "transformer/diffusion_pytorch_model.safetensors.index.json"
VAE = "vae/diffusion_pytorch_model.safetensors"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9973714824\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head></html>"


def only(root: Path) -> Model:
    (model,) = inventory(root).models
    return model


def codes(model: Model) -> list[tuple[str, str | None]]:
    return [(problem.code, problem.path) for problem in model.problems]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / "m", pipeline_files())


def modelscope(root: Path) -> None:
    write(root / f"models/{MODEL.replace('/', '--')}/snapshots/master", pipeline_files())


def legacy(root: Path) -> None:
    write_legacy(root / "models/Tongyi-MAI/Z-Image-Turbo", pipeline_files())


def huggingface(root: Path) -> None:
    write_huggingface(root, pipeline_files())


def huggingface_shared(root: Path) -> None:
    write_huggingface(root / "hub", pipeline_files(), shared=True)


def seed(root: Path) -> None:
    write(root / HF_FOLDER, pipeline_files())


@pytest.mark.parametrize("lay_down", [modelscope, legacy, huggingface, huggingface_shared, seed])
def test_a_complete_pipeline_is_complete_in_every_layout(
    tmp_path: Path, lay_down: Callable[[Path], None]
) -> None:
    lay_down(tmp_path)
    model = only(tmp_path)
    files = pipeline_files()
    assert (model.id, model.complete, model.problems) == (MODEL, True, ())
    in_model = {
        os.path.relpath(tmp_path / file.path, model.path): file
        for file in model.files
        if file.path[-4:-1] != "/.m"
    }
    assert {path: file.size for path, file in in_model.items() if path not in {".mv", ".msc", ".mdl"}} == {
        path: len(content) for path, content in files.items()
    }
    assert model.dtypes == {"BF16": 4 * 64, "F32": 3 * 64}
    assert model.size_bytes == sum(file.size for file in model.files)


def test_content_paths_lead_to_regular_files_in_the_cache(tmp_path: Path) -> None:
    huggingface_shared(tmp_path)
    for file in only(tmp_path).files:
        content = tmp_path / file.content_path
        assert content.is_file()
        assert not content.is_symlink()
        assert content.samefile(tmp_path / file.path)
        assert file.content_path.startswith(
            "hub/blobs/" if file.path.endswith(".safetensors") else f"hub/{HF_FOLDER}"
        )


def test_a_missing_shard_is_named(plain: Path) -> None:
    (plain / SHARD_2).unlink()
    assert codes(only(plain)) == [("missing-shard", SHARD_2)]
    assert not only(plain).complete


def test_a_missing_shard_without_an_index_is_named_by_its_number(plain: Path) -> None:
    (plain / INDEX).unlink()
    (plain / SHARD_2).unlink()
    assert codes(only(plain)) == [("missing-shard", SHARD_2)]


def test_a_truncated_shard_is_named(plain: Path) -> None:
    path = plain / SHARD_2
    size = path.stat().st_size
    os.truncate(path, size - 10)
    model = only(plain)
    assert codes(model) == [("truncated", SHARD_2)]
    assert f"{size - 10} of {size}" in model.problems[0].message
    assert not model.complete


def test_a_shard_in_place_of_another_is_named(plain: Path) -> None:
    (plain / SHARD_2).write_bytes((plain / SHARD_2.replace("00002-of", "00001-of")).read_bytes())
    model = only(plain)
    assert codes(model) == [("wrong-shard", SHARD_2)]
    assert "t2" in model.problems[0].message


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (LFS_POINTER, "lfs-pointer"),
        (PAGE, "html-page"),
        (b"\0" * 4096, "bad-header"),
        (b"garbage that is no header at all", "bad-header"),
        (shard("t2", dtype="F32")[:30], "bad-header"),
    ],
)
def test_what_lies_in_place_of_a_shard_is_told(plain: Path, content: bytes, code: str) -> None:
    (plain / SHARD_2).write_bytes(content)
    assert codes(only(plain)) == [(code, SHARD_2)]
    assert not only(plain).complete


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf", "unet/model.onnx"])
@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty-file"), (LFS_POINTER, "lfs-pointer"), (PAGE, "html-page")]
)
def test_other_weight_formats_are_looked_at_too(plain: Path, name: str, content: bytes, code: str) -> None:
    write(plain, {name: content})
    assert codes(only(plain)) == [(code, name)]


def test_trailing_bytes_are_no_problem(plain: Path) -> None:
    with (plain / VAE).open("ab") as file:
        file.write(b"\0" * 100)
    assert only(plain).complete


def test_a_missing_component_is_named(plain: Path) -> None:
    for path in (plain / "vae").iterdir():
        path.unlink()
    assert codes(only(plain)) == [("missing-component", "vae")]


def test_a_component_without_weights_or_config_is_named(plain: Path) -> None:
    (plain / VAE).unlink()
    (plain / "text_encoder/config.json").unlink()
    assert codes(only(plain)) == [("missing-file", "text_encoder/config.json"), ("no-weights", "vae")]


def test_all_shards_missing_is_incomplete(plain: Path) -> None:
    for path in (plain / "transformer").glob("*.safetensors"):
        path.unlink()
    assert {code for code, _ in codes(only(plain))} == {"missing-shard", "no-weights"}


def test_the_index_of_a_format_that_was_not_downloaded_is_no_problem(plain: Path) -> None:
    index = {"metadata": {}, "weight_map": {"v1": "pytorch_model-00001-of-00002.bin"}}
    write(plain, {"vae/pytorch_model.bin.index.json": json.dumps(index).encode()})
    assert only(plain).complete


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"weight_map": 1}', b'{"weight_map": {"a": null}}', b"\xff"]
)
def test_a_broken_index_is_named(plain: Path, content: bytes) -> None:
    (plain / INDEX).write_bytes(content)
    assert ("bad-index", INDEX) in codes(only(plain))


@pytest.mark.parametrize("shard_name", ["../../../etc/passwd", "/etc/passwd", "a/../../x"])
def test_an_index_that_points_out_of_the_model_is_refused(plain: Path, shard_name: str) -> None:
    (plain / INDEX).write_bytes(json.dumps({"weight_map": {"t1": shard_name}}).encode())
    model = only(plain)
    assert codes(model) == [("bad-index", INDEX)]
    assert shard_name in model.problems[0].message


def test_json_of_absurd_size_is_not_read(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "JSON_MAX_BYTES", 1000)
    (plain / INDEX).write_bytes(b'{"weight_map": {' + b" " * 1000 + b"}}")
    model = only(plain)
    assert codes(model) == [("bad-index", INDEX)]
    assert "larger than 1000" in model.problems[0].message


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[" * 100_000])
def test_a_broken_model_index_is_named(plain: Path, content: bytes) -> None:
    (plain / "model_index.json").write_bytes(content)
    assert ("bad-config", "model_index.json") in codes(only(plain))


def test_a_configuration_without_weights_is_incomplete(tmp_path: Path) -> None:
    write(tmp_path / "m", {"config.json": b"{}", "tokenizer.json": b"{}"})
    assert codes(only(tmp_path / "m")) == [("no-weights", None)]


def test_a_single_file_model_is_complete(tmp_path: Path) -> None:
    write(tmp_path / "m", {"config.json": b"{}", "model.safetensors": shard("a", "b", dtype="F8_E4M3")})
    model = only(tmp_path / "m")
    assert (model.complete, model.dtypes) == (True, {"F8_E4M3": 128})


def test_a_dtype_of_the_future_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "m", {"model.safetensors": safetensors({"a": ("F3_X", [3], b"abc")})})
    assert only(tmp_path / "m").dtypes == {"F3_X": 3}


def test_leftovers_of_a_broken_download_are_named_but_complete_files_stay_complete(plain: Path) -> None:
    write(plain, {f"{VAE}.incomplete": b"x", f"{VAE}_0_99": b"x", "._____temp/y": b"x"})
    model = only(plain)
    assert codes(model) == [
        ("unfinished-download", "._____temp"),
        ("unfinished-download", f"{VAE}.incomplete"),
        ("unfinished-download", f"{VAE}_0_99"),
    ]
    assert model.complete
    assert not any("incomplete" in file.path or "temp" in file.path for file in model.files)


def test_a_download_that_stopped_in_a_shard_is_incomplete(plain: Path) -> None:
    (plain / SHARD_2).rename(plain / f"{SHARD_2}.incomplete")
    model = only(plain)
    assert ("missing-shard", SHARD_2) in codes(model)
    assert not model.complete


def test_a_dangling_link_is_named_with_its_target(tmp_path: Path) -> None:
    snapshot = write_huggingface(tmp_path, pipeline_files(), tree=False)
    (snapshot / VAE).resolve().unlink()
    model = only(tmp_path)
    assert ("dangling-link", VAE) in codes(model)
    assert "blobs/" in next(problem.message for problem in model.problems if problem.path == VAE)
    assert not model.complete


def test_a_hugging_face_model_copied_without_the_shared_blobs_is_incomplete(tmp_path: Path) -> None:
    write_huggingface(tmp_path / "hub", pipeline_files(), shared=True)
    (tmp_path / "hub/blobs").rename(tmp_path / "elsewhere")
    model = only(tmp_path)
    assert {code for code, path in codes(model) if path and path.endswith(".safetensors")} >= {
        "dangling-link"
    }
    assert not model.complete


def test_files_of_the_listing_that_are_missing_are_counted_and_named(tmp_path: Path) -> None:
    snapshot = write_huggingface(tmp_path, pipeline_files())
    (snapshot / "README.md").unlink()
    model = only(tmp_path)
    assert codes(model) == [("missing-file", "README.md")]
    (snapshot / "scheduler/scheduler_config.json").unlink()
    assert "2 of 15 files" in next(p.message for p in only(tmp_path).problems if p.code == "missing-file")


def test_a_wrong_size_by_the_listing_is_named(tmp_path: Path) -> None:
    snapshot = write_huggingface(tmp_path, pipeline_files())
    with (snapshot / "tokenizer/tokenizer.json").open("ab") as file:
        file.write(b" ")
    with (snapshot / VAE).open("ab") as file:
        file.write(b" ")
    assert codes(only(tmp_path)) == [("extended", "tokenizer/tokenizer.json"), ("extended", VAE)]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"format_version": 9, "files": {"a": {"size": 1, "blob_id": ""}}}']
)
def test_a_broken_or_newer_listing_is_ignored(tmp_path: Path, content: bytes) -> None:
    write_huggingface(tmp_path, pipeline_files())
    next((tmp_path / HF_FOLDER / "trees").iterdir()).write_bytes(content)
    assert only(tmp_path).complete


@pytest.mark.parametrize("folder", ["models/Tongyi-MAI/Z-Image-Turbo", "hub/models/Tongyi-MAI/Z-Image-Turbo"])
def test_a_legacy_folder_with_one_stray_file_that_shadows_a_snapshot_is_said(
    tmp_path: Path, folder: str
) -> None:
    modelscope(tmp_path)
    write(tmp_path / folder, {"stray.txt": b""})
    by_layout = {model.layout.value: model for model in inventory(tmp_path).models}
    snapshot = by_layout.pop("modelscope")
    assert codes(snapshot) == [("shadowed", None)]
    assert folder in snapshot.problems[0].message
    assert snapshot.complete
    (old,) = by_layout.values()
    assert codes(old) == [("shadows", None)]


def test_the_oldest_layouts_do_not_shadow(tmp_path: Path) -> None:
    modelscope(tmp_path)
    write_legacy(tmp_path / "Tongyi-MAI/Z-Image-Turbo", pipeline_files())
    assert all(model.problems == () for model in inventory(tmp_path).models)


def test_an_unreadable_shard_is_named(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.open

    def refusing(path: object, *arguments: int, **options: int) -> int:
        if os.fspath(path).endswith(SHARD_2):  # type: ignore[call-overload]
            raise PermissionError(13, "Permission denied")
        return original(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    assert codes(only(plain)) == [("unreadable", SHARD_2)]


def test_odd_names_in_a_model(plain: Path) -> None:
    write(plain, {"new\nline.txt": b"1", "\udcff.txt": b"2", "x" * 255: b"3"})
    model = only(plain)
    assert {"new\nline.txt", "\udcff.txt", "x" * 255} <= {file.path for file in model.files}
    assert model.complete


def test_notes_of_download_tools_are_not_files_of_the_model(plain: Path) -> None:
    write(plain, {".cache/huggingface/download/a.metadata": b"x", ".git/config": b"x"})
    assert len(only(plain).files) == len(pipeline_files())


def test_an_empty_cache_has_no_models(tmp_path: Path) -> None:
    assert inventory(tmp_path).models == ()


def test_problems_read_as_sentences(plain: Path) -> None:
    (plain / SHARD_2).unlink()
    assert str(only(plain).problems[0]).startswith(f"{SHARD_2}: {INDEX} names this shard")
