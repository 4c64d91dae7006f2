"""Models are found in every layout, alone and mixed in one root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache.builders import HF_FOLDER, MODEL, pipeline_files, write, write_huggingface, write_legacy
from tests.cache.hub_server import COMMIT
from zitcache.cache.layouts import UNKNOWN_REVISION, Layout, ModelLocation, find_models, looks_like_model

CONFIG = {"config.json": b"{}", "model.safetensors": b"w"}


def only(root: Path) -> ModelLocation:
    (model,) = find_models(root)
    return model


def facts(model: ModelLocation) -> tuple[str, str, str]:
    return model.id, model.revision, model.layout.value


def summary(root: Path) -> set[tuple[str, str]]:
    return {(model.layout.value, str(model.path.relative_to(root))) for model in find_models(root)}


def test_modelscope_new_layout(tmp_path: Path) -> None:
    folder = tmp_path / "models/Tongyi-MAI--Z-Image-Turbo"
    write(folder / "snapshots/master", pipeline_files())
    write(folder / "snapshots/v1.0", CONFIG)
    models = find_models(tmp_path)
    assert [facts(model) for model in models] == [
        (MODEL, "master", "modelscope"),
        (MODEL, "v1.0", "modelscope"),
    ]
    assert models[0].path == folder / "snapshots/master"
    assert {model.root for model in models} == {folder}
    assert {model.base for model in models} == {model.cache for model in models} == {tmp_path}


@pytest.mark.parametrize(
    ("folder", "layout"),
    [
        ("models/Qwen/Qwen3___5-0___8B", "modelscope-legacy"),
        ("hub/models/Qwen/Qwen3___5-0___8B", "modelscope-legacy-hub"),
        ("Qwen/Qwen3___5-0___8B", "modelscope-legacy-plain"),
        ("hub/Qwen/Qwen3___5-0___8B", "modelscope-legacy-hub-plain"),
    ],
)
def test_modelscope_legacy_layouts(tmp_path: Path, folder: str, layout: str) -> None:
    write_legacy(tmp_path / folder, CONFIG)
    model = only(tmp_path)
    assert facts(model) == ("Qwen/Qwen3.5-0.8B", "master", layout)
    assert model.path == model.root == tmp_path / folder
    assert model.label == "Qwen/Qwen3.5-0.8B@master"


def test_modelscope_cache_set_to_hub_puts_new_models_there(tmp_path: Path) -> None:
    folder = tmp_path / "hub/models/Tongyi-MAI--Z-Image-Turbo/snapshots/master"
    write(folder, CONFIG)
    for root in (tmp_path, tmp_path / "hub"):
        model = only(root)
        assert facts(model) == (MODEL, "master", "modelscope")
        assert (model.path, model.base) == (folder, tmp_path / "hub")


def test_a_legacy_folder_with_one_stray_file_counts_because_the_sdk_takes_it(tmp_path: Path) -> None:
    write(tmp_path / "models/a/b", {"stray.txt": b""})
    assert facts(only(tmp_path)) == ("a/b", UNKNOWN_REVISION, "modelscope-legacy")


def test_an_empty_legacy_folder_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "models/a/b").mkdir(parents=True)
    assert find_models(tmp_path) == []


def test_a_folder_of_other_things_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, {"notes/today/list.txt": b"", "hub/x/y/z.txt": b"", "datasets/a/b/config.json": b"{}"})
    assert find_models(tmp_path) == []


@pytest.mark.parametrize("mark", ["", "garbage", "Revision:", "\xff\xfe", "CreatedAt:1"])
def test_an_unreadable_version_mark_gives_an_unknown_revision(tmp_path: Path, mark: str) -> None:
    write(tmp_path / "models/a/b", {**CONFIG, ".mv": mark.encode("latin-1")})
    assert only(tmp_path).revision == UNKNOWN_REVISION


def test_pickles_are_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_legacy(tmp_path / "models/a/b", CONFIG)
    opened: list[str] = []
    original = Path.open

    def recording(self: Path, *arguments: object, **options: object) -> object:
        opened.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", recording)
    find_models(tmp_path)
    assert opened == [".mv"]


@pytest.mark.parametrize("below", ["", "hub", "models"])
def test_hugging_face_layout(tmp_path: Path, below: str) -> None:
    snapshot = write_huggingface(tmp_path / below, pipeline_files())
    model = only(tmp_path)
    assert facts(model) == (MODEL, COMMIT, "huggingface")
    assert (model.path, model.root, model.base) == (snapshot, tmp_path / below / HF_FOLDER, tmp_path / below)
    assert (model.refs, model.label, model.companions) == (("main",), f"{MODEL}@main", ())


def test_hugging_face_with_shared_blobs_names_the_store(tmp_path: Path) -> None:
    write_huggingface(tmp_path / "hub", pipeline_files(), shared=True)
    model = only(tmp_path)
    assert model.layout is Layout.HUGGINGFACE_SHARED
    assert model.companions == (tmp_path / "hub/blobs",)


def test_hugging_face_revisions_refs_and_ids(tmp_path: Path) -> None:
    repo = tmp_path / "models--gpt2"
    for commit in ("a" * 40, "b" * 40):
        write(repo / "snapshots" / commit, CONFIG)
    write(repo / "refs", {"main": b"b" * 40, "refs/pr/1": b"b" * 40 + b"\n", "old": b"c" * 40})
    models = find_models(tmp_path)
    assert [(model.id, model.revision[0], model.refs) for model in models] == [
        ("gpt2", "a", ()),
        ("gpt2", "b", ("main", "refs/pr/1")),
    ]


def test_a_name_with_double_dashes(tmp_path: Path) -> None:
    write(tmp_path / "models--org--name--v2" / "snapshots" / COMMIT, CONFIG)
    write(tmp_path / "models/org--name--v2/snapshots/master", CONFIG)
    assert {model.id for model in find_models(tmp_path)} == {"org/name--v2"}


def test_datasets_and_spaces_are_no_models(tmp_path: Path) -> None:
    write(tmp_path / f"datasets--a--b/snapshots/{COMMIT}", CONFIG)
    write(tmp_path / f"spaces--a--b/snapshots/{COMMIT}", CONFIG)
    assert find_models(tmp_path) == []


def test_seed_folder_with_hugging_face_structure(tmp_path: Path) -> None:
    write_huggingface(tmp_path, pipeline_files(), tree=False)
    assert facts(only(tmp_path)) == (MODEL, COMMIT, "huggingface")


def test_seed_folder_with_plain_files(tmp_path: Path) -> None:
    folder = write(tmp_path / HF_FOLDER, pipeline_files())
    model = only(tmp_path)
    assert facts(model) == (MODEL, UNKNOWN_REVISION, "seed")
    assert model.path == model.root == folder


@pytest.mark.parametrize(
    "name", ["model_index.json", "config.json", "a.safetensors", "q4.gguf", "pytorch_model.bin"]
)
def test_a_plain_folder_is_a_model(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "My-Model", {name: b"x", "vae/config.json": b"{}"})
    model = only(folder)
    assert facts(model) == ("My-Model", UNKNOWN_REVISION, "plain")
    assert model.path == model.root == model.base == folder


def test_a_folder_of_plain_models(tmp_path: Path) -> None:
    write(tmp_path / "Z-Image-Turbo", pipeline_files())
    write(tmp_path / "models/Other", CONFIG)
    assert {(model.id, model.layout.value) for model in find_models(tmp_path)} == {
        ("Z-Image-Turbo", "plain"),
        ("Other", "plain"),
    }


def test_the_parts_of_a_plain_model_are_not_models(tmp_path: Path) -> None:
    write(tmp_path, {**pipeline_files(), "extra/lora/a.safetensors": b"x"})
    assert summary(tmp_path) == {("plain", ".")}


def test_the_root_may_be_one_hugging_face_model(tmp_path: Path) -> None:
    write_huggingface(tmp_path, pipeline_files())
    model = only(tmp_path / HF_FOLDER)
    assert facts(model) == (MODEL, COMMIT, "huggingface")
    assert model.root == tmp_path / HF_FOLDER


def test_the_root_may_be_one_seed_model(tmp_path: Path) -> None:
    write(tmp_path / HF_FOLDER, pipeline_files())
    assert facts(only(tmp_path / HF_FOLDER)) == (MODEL, UNKNOWN_REVISION, "seed")


def test_the_root_may_be_one_modelscope_model(tmp_path: Path) -> None:
    write(tmp_path / "models/a--b/snapshots/master", CONFIG)
    assert facts(only(tmp_path / "models/a--b")) == ("a/b", "master", "modelscope")


def test_everything_mixed_in_one_root(tmp_path: Path) -> None:
    write(tmp_path / "models/a--new/snapshots/master", CONFIG)
    write_legacy(tmp_path / "models/a/old", CONFIG)
    write_legacy(tmp_path / "hub/models/a/older", CONFIG)
    write_legacy(tmp_path / "a/oldest", CONFIG)
    write_legacy(tmp_path / "hub/a/ancient", CONFIG)
    write_huggingface(tmp_path / "hub", pipeline_files(), shared=True)
    write(tmp_path / "models--seed--plain", CONFIG)
    write(tmp_path, {"token": b"x", "xet/logs/a.log": b"", ".locks/x": b"", "version.txt": b"1"})
    assert summary(tmp_path) == {
        ("modelscope", "models/a--new/snapshots/master"),
        ("modelscope-legacy", "models/a/old"),
        ("modelscope-legacy-hub", "hub/models/a/older"),
        ("modelscope-legacy-plain", "a/oldest"),
        ("modelscope-legacy-hub-plain", "hub/a/ancient"),
        ("huggingface-shared", f"hub/{HF_FOLDER}/snapshots/{COMMIT}"),
        ("seed", "models--seed--plain"),
    }


def test_caches_of_both_sdks_side_by_side_in_one_directory(tmp_path: Path) -> None:
    write(tmp_path / "modelscope/models/a--b/snapshots/master", CONFIG)
    write_legacy(tmp_path / "modelscope/hub/models/a/c", CONFIG)
    write_huggingface(tmp_path / "huggingface/hub", pipeline_files())
    assert summary(tmp_path) == {
        ("modelscope", "modelscope/models/a--b/snapshots/master"),
        ("modelscope-legacy-hub", "modelscope/hub/models/a/c"),
        ("huggingface", f"huggingface/hub/{HF_FOLDER}/snapshots/{COMMIT}"),
    }


def test_a_model_folder_that_is_a_link_is_found(tmp_path: Path) -> None:
    write(tmp_path / "disk/b", CONFIG)
    (tmp_path / "cache/models/a").mkdir(parents=True)
    (tmp_path / "cache/models/a/b").symlink_to(tmp_path / "disk/b")
    assert facts(only(tmp_path / "cache")) == ("a/b", UNKNOWN_REVISION, "modelscope-legacy")


def test_links_in_a_circle_do_not_trap_the_search(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    write(tmp_path / "models/a--b/snapshots/master", CONFIG)
    assert ("modelscope", "models/a--b/snapshots/master") in summary(tmp_path)


def test_odd_names_are_searched(tmp_path: Path) -> None:
    write(tmp_path / "models/\udcff/new\nline", CONFIG)
    assert only(tmp_path).id == "\udcff/new\nline"


def test_a_missing_or_unreadable_root_has_no_models(tmp_path: Path) -> None:
    write(tmp_path, {"file": b""})
    assert find_models(tmp_path / "gone") == find_models(tmp_path / "file") == []


def test_looks_like_model_needs_a_config_or_weights(tmp_path: Path) -> None:
    assert looks_like_model(write(tmp_path / "a", {"config.json": b""}))
    assert not looks_like_model(write(tmp_path / "b", {"README.md": b"", "config.json.d/x": b""}))
