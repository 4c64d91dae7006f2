"""The chosen variables make the SDKs use the cache: by the layouts on disk, and by what the SDKs say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.cache.builders import MODEL, pipeline_files, write, write_huggingface, write_legacy
from tests.cache.test_sdk_caches import sdk
from zitcache.cache.variables import login_left_behind, variables_for

NEW = f"models/{MODEL.replace('/', '--')}/snapshots/master"
LEGACY = "models/Tongyi-MAI/Z-Image-Turbo"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "cache"


def chosen(root: Path, **environ: str) -> dict[str, str]:
    environ.setdefault("HOME", str(root.parent / "home"))
    return {name: value.replace(str(root), "ROOT") for name, value in variables_for(root, environ).items()}


def modelscope_models(place: Path) -> None:
    write(place / NEW, pipeline_files())


def test_the_rented_box_has_both_in_one_directory(root: Path) -> None:
    modelscope_models(root)
    write_huggingface(root / "hub", pipeline_files())
    old = "/root/workspace/model_cache"
    both = {"MODELSCOPE_CACHE": "ROOT", "HF_HOME": "ROOT"}
    assert chosen(root, MODELSCOPE_CACHE=old, HF_HOME=old) == both
    assert chosen(root) == both, "the bare machine after the reset"


def test_one_directory_for_both_stays_one_even_with_models_of_one_sdk(root: Path) -> None:
    modelscope_models(root)
    old = "/root/workspace/model_cache"
    assert chosen(root, MODELSCOPE_CACHE=old, HF_HOME=old) == {"MODELSCOPE_CACHE": "ROOT", "HF_HOME": "ROOT"}


def test_huggingface_models_right_in_the_root_need_the_hub_variable(root: Path) -> None:
    write_huggingface(root, pipeline_files())
    assert chosen(root)["HF_HUB_CACHE"] == "ROOT"
    assert chosen(root, HF_HOME="/old") == {"MODELSCOPE_CACHE": "ROOT", "HF_HUB_CACHE": "ROOT"}


def test_a_directory_called_hub_is_reached_through_hf_home_if_that_is_used(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write_huggingface(tmp_path / "data/hub", pipeline_files())
    environ = {"HOME": str(tmp_path / "home"), "HF_HOME": "/old"}
    assert variables_for(tmp_path / "data/hub", environ)["HF_HOME"] == str(tmp_path / "data")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HOME": "/old"}, {"HF_HOME": "ROOT"}),
        ({"HF_HUB_CACHE": "/old"}, {"HF_HUB_CACHE": "ROOT/hub"}),
        ({"HF_HUB_CACHE": ""}, {"HF_HUB_CACHE": "ROOT/hub"}),
        ({"HUGGINGFACE_HUB_CACHE": "/old"}, {"HUGGINGFACE_HUB_CACHE": "ROOT/hub"}),
        ({"HF_HUB_CACHE": "/old/hub", "HF_HOME": "/old"}, {"HF_HUB_CACHE": "ROOT/hub", "HF_HOME": "ROOT"}),
        ({"XDG_CACHE_HOME": "/old"}, {"HF_HOME": "ROOT"}),
        ({}, {"HF_HOME": "ROOT"}),
    ],
)
def test_the_names_that_are_used_are_changed(
    root: Path, environ: dict[str, str], expected: dict[str, str]
) -> None:
    write_huggingface(root / "hub", pipeline_files())
    assert chosen(root, **environ) == {"MODELSCOPE_CACHE": "ROOT", **expected}


def test_a_login_is_not_left_behind_without_need(root: Path) -> None:
    write_huggingface(root / "hub", pipeline_files())
    write(root.parent / "home/.cache/huggingface", {"token": b"hf_x"})
    assert chosen(root)["HF_HUB_CACHE"] == "ROOT/hub"
    write(root, {"token": b"hf_x"})
    assert chosen(root)["HF_HOME"] == "ROOT"


def test_a_login_that_hf_home_leaves_behind_is_found(root: Path) -> None:
    old = write(root.parent / "old", {"token": b"hf_x"})
    environ = {"HOME": str(root.parent / "home"), "HF_HOME": str(old)}
    assert login_left_behind({"HF_HOME": str(root)}, environ) == (old / "token", root / "token")
    assert login_left_behind({"HF_HUB_CACHE": str(root)}, environ) is None
    assert login_left_behind({"HF_HOME": str(root)}, {**environ, "HF_TOKEN_PATH": "/t"}) is None


def test_models_in_another_place_are_not_hidden(root: Path) -> None:
    modelscope_models(root)
    hub = root.parent / "home/.cache/huggingface/hub"
    write_huggingface(hub, pipeline_files())
    assert chosen(root) == {"MODELSCOPE_CACHE": "ROOT"}
    modelscope_models(root.parent / "home/.cache/modelscope")
    assert chosen(root) == {"MODELSCOPE_CACHE": "ROOT"}, "this one was chosen, whatever else there is"


def test_other_modelscope_models_are_not_hidden_either(root: Path) -> None:
    write_huggingface(root / "hub", pipeline_files())
    modelscope_models(root.parent / "home/.cache/modelscope")
    assert chosen(root) == {"HF_HOME": "ROOT"}


def test_the_old_place_that_links_to_the_new_one_is_no_other_place(root: Path) -> None:
    write_huggingface(root / "hub", pipeline_files())
    modelscope_models(root)
    (root.parent / "home/.cache").mkdir()
    (root.parent / "home/.cache/modelscope").symlink_to(root)
    assert set(chosen(root)) == {"MODELSCOPE_CACHE", "HF_HOME"}


def test_an_empty_directory_is_for_both(root: Path) -> None:
    assert chosen(root) == {"MODELSCOPE_CACHE": "ROOT", "HF_HOME": "ROOT"}


def test_legacy_models_below_hub_alone_need_hub(root: Path) -> None:
    write_legacy(root / "hub" / LEGACY, pipeline_files())
    assert chosen(root)["MODELSCOPE_CACHE"] == "ROOT/hub"
    modelscope_models(root / "hub")
    assert chosen(root)["MODELSCOPE_CACHE"] == "ROOT/hub"
    modelscope_models(root)
    assert chosen(root)["MODELSCOPE_CACHE"] == "ROOT"


def test_a_directory_with_a_cache_for_each_sdk_in_it(root: Path) -> None:
    modelscope_models(root / "modelscope")
    write_huggingface(root / "huggingface/hub", pipeline_files())
    assert chosen(root) == {"MODELSCOPE_CACHE": "ROOT/modelscope", "HF_HOME": "ROOT/huggingface"}


def test_of_two_hugging_face_trees_the_one_in_use_stays_in_use(root: Path) -> None:
    write_huggingface(root, pipeline_files())
    write_huggingface(root / "hub", pipeline_files())
    assert chosen(root, HF_HUB_CACHE=str(root))["HF_HUB_CACHE"] == "ROOT"
    assert chosen(root)["HF_HOME"] == "ROOT"


def test_our_own_variable_is_changed_when_it_is_used(root: Path) -> None:
    modelscope_models(root)
    assert chosen(root, ZITCACHE_CACHE="/old")["ZITCACHE_CACHE"] == "ROOT"
    assert "ZITCACHE_CACHE" not in chosen(root, ZITCACHE_CACHE="")


def test_values_are_absolute(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modelscope_models(root)
    monkeypatch.chdir(root.parent)
    assert variables_for(Path("cache"), {"HOME": "/h"})["MODELSCOPE_CACHE"] == str(root)


# What is set before: names that outrank others, empty, relative and legacy ones among them.
BEFORE: list[dict[str, str]] = [
    {},
    {"HF_HOME": "/old", "MODELSCOPE_CACHE": "/old"},
    {"HF_HUB_CACHE": "/old", "HF_HOME": "/older"},
    {"HF_HUB_CACHE": "", "MODELSCOPE_CACHE": ""},
    {"HUGGINGFACE_HUB_CACHE": "/old"},
    {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/older", "HF_HOME": ""},
    {"XDG_CACHE_HOME": "/old", "MODELSCOPE_CACHE": "relative"},
    {"HF_HOME": "$HOME/old", "MS_CACHE_HOME": "/old", "TRANSFORMERS_CACHE": "/old"},
]
LAYOUTS = {
    "new and hub": [NEW, "hub"],
    "new and direct": [NEW, ""],
    "legacy and hub": [LEGACY, "hub"],
    "legacy below hub": [f"hub/{LEGACY}", "hub"],
    "apart": [f"modelscope/{NEW}", "huggingface/hub"],
}


@pytest.mark.models
@pytest.mark.parametrize("before", BEFORE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_real_sdks_load_the_model_from_there(tmp_path: Path, layout: str, before: dict[str, str]) -> None:
    for module in ("modelscope_hub", "huggingface_hub"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}: pip install 'zitcache[test-models]'")
    cache = tmp_path / "cache"
    modelscope, hub = LAYOUTS[layout]
    write(cache / modelscope, pipeline_files())
    snapshot = write_huggingface(cache / hub, pipeline_files())
    environ = {"HOME": str(tmp_path / "home"), **before}
    environ |= variables_for(cache, environ)
    code = f"""
import json
from huggingface_hub import snapshot_download, try_to_load_from_cache
from modelscope_hub.compat.snapshot_download import snapshot_download as modelscope_download
print(json.dumps([
    snapshot_download({MODEL!r}, local_files_only=True),
    try_to_load_from_cache({MODEL!r}, "model_index.json"),
    str(modelscope_download({MODEL!r}, local_files_only=True)),
]))
"""
    found = json.loads(sdk(code, **environ))
    assert found == [str(snapshot), str(snapshot / "model_index.json"), str(cache / modelscope)]


@pytest.mark.models
@pytest.mark.parametrize("folder", ["Tongyi-MAI/Z-Image-Turbo", "hub/Tongyi-MAI/Z-Image-Turbo", f"hub/{NEW}"])
def test_modelscope_itself_loads_the_layouts_that_its_library_does_not_know(
    tmp_path: Path, folder: str
) -> None:
    if importlib.util.find_spec("modelscope") is None:
        pytest.skip("needs modelscope: pip install 'zitcache[test-models]'")
    write(tmp_path / "cache" / folder, pipeline_files())
    environ = {"HOME": str(tmp_path / "home")}
    environ |= variables_for(tmp_path / "cache", environ)
    code = f"from modelscope import snapshot_download as d; print(d({MODEL!r}, local_files_only=True))"
    assert sdk(code, **environ) == str(tmp_path / "cache" / folder)
