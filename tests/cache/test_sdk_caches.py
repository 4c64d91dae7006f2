"""Caches that the real SDKs filled, from a Hub on the loopback: the ground truth for our own builders."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cache.builders import HF_FOLDER, MODEL, pipeline_files, write
from tests.cache.hub_server import COMMIT, huggingface_hub
from zitcache.cache.environment import candidate_roots, locate_cache
from zitcache.cache.fingerprint import huggingface_digests
from zitcache.cache.inventory import inventory
from zitcache.cache.layouts import Layout, find_models
from zitcache.cache.walk import scan_tree

pytestmark = pytest.mark.models


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}: pip install 'zitcache[test-models]'")


def sdk(code: str, **environ: str) -> str:
    """Run ``code`` in a process of its own (SDKs read the environment at import); returns its last line."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "MODELSCOPE", "XDG_"))
    }
    clean |= {"NO_PROXY": "*", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", **environ}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_a_cache_of_huggingface_hub(tmp_path: Path) -> None:
    needs("huggingface_hub")
    with huggingface_hub(MODEL, pipeline_files()) as url:
        code = f"from huggingface_hub import snapshot_download as d; print(d({MODEL!r}))"
        where = sdk(code, HF_ENDPOINT=url, HF_HOME=str(tmp_path), HOME=str(tmp_path))
    (model,) = inventory(tmp_path).models
    assert (model.id, model.revision, model.layout) == (MODEL, COMMIT, Layout.HUGGINGFACE)
    assert (str(model.path), model.complete, model.problems) == (where, True, ())
    assert len(huggingface_digests(model.location)) == len(set(pipeline_files().values()))
    assert {entry.code for entry in scan_tree(tmp_path).left_out} <= {"lock"}
    listed = {item.path for item in scan_tree(tmp_path).items}
    assert {
        f"hub/{HF_FOLDER}/refs/main",
        f"hub/{HF_FOLDER}/trees/{COMMIT}.json",
        "hub/CACHEDIR.TAG",
    } <= listed


def test_shared_blobs_of_huggingface_hub(tmp_path: Path) -> None:
    needs("huggingface_hub")
    content = pipeline_files()["vae/diffusion_pytorch_model.safetensors"]
    with huggingface_hub(MODEL, {"a.safetensors": content}) as url:
        code = f"""
from huggingface_hub import snapshot_download
from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store as publish
from pathlib import Path
snapshot = Path(snapshot_download({MODEL!r}))
blob = (snapshot / "a.safetensors").resolve()
hub = snapshot.parents[2]
publish(blob_path=blob, xet_hash="ab" * 32, cache_dir=hub, expected_size={len(content)})
print(blob.is_symlink())
"""
        assert sdk(code, HF_ENDPOINT=url, HF_HOME=str(tmp_path), HOME=str(tmp_path)) == "True"
    (model,) = inventory(tmp_path).models
    assert (model.layout, model.complete) == (Layout.HUGGINGFACE_SHARED, True)
    assert model.location.companions == (tmp_path / "hub/blobs",)
    assert model.files[0].content_path == f"hub/blobs/ab/{'ab' * 32}"
    assert list(huggingface_digests(model.location)) == [f"hub/blobs/ab/{'ab' * 32}"]


def test_a_cache_of_modelscope(tmp_path: Path) -> None:
    needs("modelscope")
    with huggingface_hub(MODEL, pipeline_files()) as url:
        code = f"from modelscope import snapshot_download as d; print(d({MODEL!r}))"
        where = sdk(code, MODELSCOPE_ENDPOINT=url, MODELSCOPE_CACHE=str(tmp_path), HOME=str(tmp_path))
    (model,) = inventory(tmp_path).models
    assert (model.id, model.revision, model.layout) == (MODEL, "master", Layout.MODELSCOPE)
    assert (str(model.path), model.complete, model.problems) == (where, True, ())
    assert {entry.code for entry in scan_tree(tmp_path).left_out} == {"lock", "token"}


def test_modelscope_really_takes_a_legacy_folder_with_one_stray_file(tmp_path: Path) -> None:
    needs("modelscope")
    write(tmp_path / "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master", pipeline_files())
    write(tmp_path / "models/Tongyi-MAI/Z-Image-Turbo", {"stray.txt": b""})
    code = f"from modelscope import snapshot_download as d; print(d({MODEL!r}, local_files_only=True))"
    where = sdk(code, MODELSCOPE_CACHE=str(tmp_path), HOME=str(tmp_path))
    shadowing = [
        model
        for model in inventory(tmp_path).models
        if model.problems and model.problems[0].code == "shadows"
    ]
    assert [str(model.path) for model in shadowing] == [where]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HF_HOME": ""},
        {"HF_HOME": "~/x"},
        {"HF_HOME": "$HOME/y"},
        {"HF_HOME": "relative"},
        {"HF_HUB_CACHE": "", "HF_HOME": "/h"},
        {"HUGGINGFACE_HUB_CACHE": "~/$NOPE/z"},
        {"XDG_CACHE_HOME": ""},
        {"XDG_CACHE_HOME": "~/xdg"},
        {"HF_HUB_CACHE": "'/quoted'"},
    ],
)
def test_huggingface_hub_agrees_where_its_cache_is(tmp_path: Path, environ: dict[str, str]) -> None:
    needs("huggingface_hub")
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from huggingface_hub.constants import HF_HUB_CACHE
print(os.path.normpath(os.path.join(os.getcwd(), HF_HUB_CACHE)))
"""
    theirs = sdk(code, HOME=str(tmp_path / "home"), **environ)
    full = {"HOME": str(tmp_path / "home"), **environ}
    ours = [root for root in candidate_roots(full, tmp_path / "home", tmp_path) if root.sdk == "huggingface"]
    assert str(ours[0].path) == theirs


@pytest.mark.parametrize("value", [None, "", "~/x", "$HOME/y", "relative", "'/quoted'", "/a/../b"])
def test_modelscope_agrees_where_its_cache_is(tmp_path: Path, value: str | None) -> None:
    needs("modelscope_hub")
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from modelscope_hub.config import HubConfig
print(HubConfig().cache_dir)
"""
    environ = {} if value is None else {"MODELSCOPE_CACHE": value}
    theirs = sdk(code, HOME=str(tmp_path / "home"), **environ)
    assert str(candidate_roots(environ, tmp_path / "home", tmp_path)[0].path) == theirs


def test_both_sdks_in_one_directory_as_on_the_rented_box(tmp_path: Path) -> None:
    needs("huggingface_hub")
    needs("modelscope")
    cache = tmp_path / "model_cache"
    environ = {"MODELSCOPE_CACHE": str(cache), "HF_HOME": str(cache), "HOME": str(tmp_path)}
    with huggingface_hub(MODEL, pipeline_files()) as url:
        code = f"from huggingface_hub import snapshot_download as d; d({MODEL!r})\n"
        code += f"from modelscope import snapshot_download as d; print(d({MODEL!r}))"
        sdk(code, HF_ENDPOINT=url, MODELSCOPE_ENDPOINT=url, **environ)
    located = locate_cache(None, environ, tmp_path, tmp_path)
    assert (located.path, located.others) == (cache, ())
    assert {model.layout for model in find_models(cache)} == {Layout.MODELSCOPE, Layout.HUGGINGFACE}
