"""``zitcache sample``: a small real model cache, the same bytes every time, in every layout."""

from __future__ import annotations

import json
import os
import pickle
import resource
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

from zitcache.cache.sample.pipeline import pipeline_files
from zitcache.cache.sample.shapes import DATA
from zitcache.cache.sample.weights import random_weights, trained_weights
from zitcache.errors import Exit, Interrupted, NoSpace, UsageError
from zitcache.events import Cancel, Progress, Session
from zitcache.tasks.sample import SampleLayout, SampleReport, sample

HUB = "models--Tongyi-MAI--Z-Image-Turbo"
LEGACY = {
    SampleLayout.MODELSCOPE_LEGACY: "models/Tongyi-MAI/Z-Image-Turbo",
    SampleLayout.MODELSCOPE_LEGACY_HUB: "hub/models/Tongyi-MAI/Z-Image-Turbo",
    SampleLayout.MODELSCOPE_LEGACY_PLAIN: "Tongyi-MAI/Z-Image-Turbo",
}
HUGGINGFACE = [SampleLayout.HUGGINGFACE, SampleLayout.HUGGINGFACE_SHARED, SampleLayout.SEED]
MODEL_FILES = {
    "README.md",
    "configuration.json",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/generation_config.json",
    "text_encoder/model-00001-of-00003.safetensors",
    "text_encoder/model-00002-of-00003.safetensors",
    "text_encoder/model-00003-of-00003.safetensors",
    "text_encoder/model.safetensors.index.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
    "transformer/diffusion_pytorch_model-00002-of-00003.safetensors",
    "transformer/diffusion_pytorch_model-00003-of-00003.safetensors",
    "transformer/diffusion_pytorch_model.safetensors.index.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}
WEIGHTS = sorted(name for name in MODEL_FILES if name.endswith(".safetensors"))
# Over every path and content. It changes when a config, the tokenizer or the weights are changed on purpose.
FINGERPRINT = "9de1231e0cc47054a2fae0060a00352329d10215622cfeee2d57f8c89d8ffb12"


def make(root: Path, layout: SampleLayout) -> SampleReport:
    return sample(root, layout, Session()).data


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def split_safetensors(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.fixture(scope="module")
def model() -> dict[str, bytes]:
    return pipeline_files()


def test_sample_has_the_files_of_the_real_model(model: dict[str, bytes]) -> None:
    assert set(model) == MODEL_FILES


def test_sample_is_some_twenty_megabytes(model: dict[str, bytes]) -> None:
    assert 18_000_000 <= sum(map(len, model.values())) <= 24_000_000


def test_package_carries_at_most_twelve_megabytes_of_it() -> None:
    root = Path(str(DATA))
    assert sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) <= 12_000_000


def test_sample_is_the_same_on_every_machine_python_and_numpy(model: dict[str, bytes]) -> None:
    digest = sha256()
    for name, content in sorted(model.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    assert digest.hexdigest() == FINGERPRINT


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_shard_is_valid_safetensors_of_the_real_dtype(model: dict[str, bytes], name: str) -> None:
    expected = "F32" if name.startswith("transformer/") else "BF16"
    tensors = safetensors.deserialize(model[name])
    assert tensors
    assert {info["dtype"] for _, info in tensors} == {expected}
    header, payload = split_safetensors(model[name])
    assert header.pop("__metadata__") == {"format": "pt"}
    assert max(info["data_offsets"][1] for info in header.values()) == len(payload)
    assert (len(model[name]) - len(payload)) % 8 == 0


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name.startswith("transformer/")])
def test_transformer_is_float32_upcast_from_bfloat16(model: dict[str, bytes], name: str) -> None:
    _, payload = split_safetensors(model[name])
    bits = np.frombuffer(payload, "<u4")
    assert not (bits & 0xFFFF).any()
    assert (bits >> 16).any()


def bf16_values(content: bytes, name: str) -> Any:
    header, payload = split_safetensors(content)
    start, end = header[name]["data_offsets"]
    return (np.frombuffer(payload[start:end], "<u2").astype("<u4") << 16).view("<f4")


SHARD = "text_encoder/model-00001-of-00003.safetensors"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight"


@pytest.mark.parametrize("name", WEIGHTS)
def test_trained_weights_are_small_finite_numbers(model: dict[str, bytes], name: str) -> None:
    _, payload = split_safetensors(model[name])
    if name.startswith("transformer/"):
        values = np.frombuffer(payload, "<f4")
    else:
        values = (np.frombuffer(payload, "<u2").astype("<u4") << 16).view("<f4")
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 100
    assert 0.001 < values.std() < 1


def test_sample_is_trained_and_not_random(model: dict[str, bytes]) -> None:
    trained = bf16_values(model[SHARD], EMBEDDING)
    random = bf16_values(pipeline_files(random_weights)[SHARD], EMBEDDING)
    assert not np.array_equal(trained, random)


def test_a_sample_of_random_weights_can_be_made_as_well() -> None:
    files = pipeline_files(random_weights)
    assert set(files) == MODEL_FILES
    embedding, norm = (bf16_values(files[SHARD], name) for name in (EMBEDDING, NORM))
    assert abs(embedding.mean()) < 0.001
    assert 0.019 < embedding.std() < 0.021
    assert 0.055 < abs(embedding).max() < 0.2
    assert 0.98 < norm.mean() < 1.02
    assert 0 < norm.std() < 0.04


def test_a_tensor_that_was_not_trained_is_refused() -> None:
    with pytest.raises(KeyError):
        trained_weights("vae", "no.such.weight", (1,))
    with pytest.raises(KeyError, match="768"):
        trained_weights("text_encoder", EMBEDDING, (768,))


@pytest.mark.parametrize("component", ["transformer", "text_encoder"])
def test_index_names_the_shard_of_every_tensor(model: dict[str, bytes], component: str) -> None:
    (index_name,) = [name for name in model if name.startswith(component) and name.endswith(".index.json")]
    index = json.loads(model[index_name])
    found: dict[str, str] = {}
    size_bytes = 0
    for name in (name for name in WEIGHTS if name.startswith(component)):
        header, payload = split_safetensors(model[name])
        del header["__metadata__"]
        assert not found.keys() & header.keys()
        found |= dict.fromkeys(header, name.partition("/")[2])
        size_bytes += len(payload)
    assert index["weight_map"] == found
    assert index["metadata"]["total_size"] == size_bytes


def test_configs_name_the_real_classes(model: dict[str, bytes]) -> None:
    index = json.loads(model["model_index.json"])
    assert index["_class_name"] == "ZImagePipeline"
    assert {index[part][1] for part in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")} == {
        "ZImageTransformer2DModel",
        "AutoencoderKL",
        "Qwen3Model",
        "Qwen2Tokenizer",
        "FlowMatchEulerDiscreteScheduler",
    }
    transformer = json.loads(model["transformer/config.json"])
    assert sum(transformer["axes_dims"]) == transformer["dim"] // transformer["n_heads"]
    assert transformer["cap_feat_dim"] == json.loads(model["text_encoder/config.json"])["hidden_size"]


def test_every_token_has_an_embedding(model: dict[str, bytes]) -> None:
    tokenizer = json.loads(model["tokenizer/tokenizer.json"])
    ids = [*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]
    assert sorted(ids) == list(range(len(ids)))
    assert len(ids) <= json.loads(model["text_encoder/config.json"])["vocab_size"]
    assert len(model["tokenizer/tokenizer.json"]) < 100_000
    assert json.loads(model["tokenizer/vocab.json"]) == tokenizer["model"]["vocab"]


@pytest.mark.parametrize("layout", SampleLayout)
def test_every_layout_shows_the_whole_model_at_the_reported_path(
    tmp_path: Path, model: dict[str, bytes], layout: SampleLayout
) -> None:
    report = make(tmp_path / "cache", layout)
    shown = files_below(Path(report.model_path))
    for marker in (".msc", ".mdl", ".mv"):
        assert (shown.pop(marker, None) is not None) == (layout in LEGACY)
    assert shown == model
    assert report.files == len(model)
    assert report.size_bytes == sum(map(len, model.values()))
    assert report.cache == str(tmp_path / "cache")
    assert report.layout == layout.value


@pytest.mark.parametrize("layout", SampleLayout)
def test_two_samples_are_equal(tmp_path: Path, layout: SampleLayout) -> None:
    make(tmp_path / "a", layout)
    make(tmp_path / "b", layout)
    assert subprocess.run(["diff", "-r", "--no-dereference", tmp_path / "a", tmp_path / "b"]).returncode == 0


def test_modelscope_layout_holds_only_the_snapshot(tmp_path: Path) -> None:
    make(tmp_path, SampleLayout.MODELSCOPE)
    snapshot = f"models/{HUB.removeprefix('models--')}/snapshots/master"
    assert set(files_below(tmp_path)) == {f"{snapshot}/{name}" for name in MODEL_FILES}


@pytest.mark.parametrize(("layout", "folder"), LEGACY.items())
def test_legacy_layouts_carry_the_markers_of_the_old_sdk(
    tmp_path: Path, layout: SampleLayout, folder: str
) -> None:
    make(tmp_path, layout)
    root = tmp_path / folder
    assert (root / ".mv").read_text().startswith("Revision:master,CreatedAt:")
    assert pickle.loads((root / ".mdl").read_bytes()) == {"id": "Tongyi-MAI/Z-Image-Turbo"}
    keys = pickle.loads((root / ".msc").read_bytes())
    assert {key["Path"] for key in keys} == MODEL_FILES
    assert all(set(key) == {"Path", "Revision"} for key in keys)


@pytest.mark.parametrize("layout", HUGGINGFACE)
def test_huggingface_blobs_are_named_by_their_digest(tmp_path: Path, layout: SampleLayout) -> None:
    report = make(tmp_path, layout)
    repo = tmp_path / HUB
    for link in (p for p in Path(report.model_path).rglob("*") if not p.is_dir()):
        target = str(link.readlink())
        assert target.startswith("../")
        blob = Path(os.path.normpath(link.parent / target))
        assert blob.parent == repo / "blobs"
        content = blob.read_bytes()
        name = link.relative_to(report.model_path).as_posix()
        if name in WEIGHTS or name == "tokenizer/tokenizer.json":
            assert blob.name == sha256(content).hexdigest()
        else:
            assert blob.name == sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize("layout", HUGGINGFACE)
def test_huggingface_ref_names_the_snapshot_without_a_newline(tmp_path: Path, layout: SampleLayout) -> None:
    report = make(tmp_path, layout)
    assert (tmp_path / HUB / "refs/main").read_text() == Path(report.model_path).name
    assert len(Path(report.model_path).name) == 40


def test_huggingface_file_list_matches_the_snapshot(tmp_path: Path, model: dict[str, bytes]) -> None:
    report = make(tmp_path, SampleLayout.HUGGINGFACE)
    listing = json.loads((tmp_path / HUB / "trees" / f"{Path(report.model_path).name}.json").read_text())
    assert listing["format_version"] == 1
    assert {name: entry["size"] for name, entry in listing["files"].items()} == {
        name: len(content) for name, content in model.items()
    }
    for name in WEIGHTS:
        assert listing["files"][name]["lfs_sha256"] == sha256(model[name]).hexdigest()


@pytest.mark.parametrize(("root_mode", "blob_mode"), [(0o755, 0o444), (0o750, 0o440), (0o700, 0o400)])
def test_shared_blobs_are_linked_counted_and_read_only(
    tmp_path: Path, root_mode: int, blob_mode: int
) -> None:
    tmp_path.chmod(root_mode)
    make(tmp_path, SampleLayout.HUGGINGFACE_SHARED)
    store = tmp_path / "blobs"
    assert (store / ".huggingface-shared-blobs").read_text() == "1\n"
    links = [blob for blob in (tmp_path / HUB / "blobs").iterdir() if blob.is_symlink()]
    assert len(links) == len(WEIGHTS) + 1
    for link in links:
        shared = Path(os.path.normpath(link.parent / link.readlink()))
        assert shared.parent == store / shared.name[:2]
        assert shared.with_name(f"{shared.name}.refs").read_text() == f"{HUB}/blobs/{link.name}\n"
        assert stat.S_IMODE(shared.lstat().st_mode) == blob_mode


def test_an_existing_empty_directory_is_used(tmp_path: Path) -> None:
    make(tmp_path, SampleLayout.PLAIN)
    assert (tmp_path / "model_index.json").is_file()


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(UsageError, match="not empty") as caught:
        make(tmp_path, SampleLayout.PLAIN)
    assert caught.value.exit_code == Exit.USAGE
    assert "zitcache sample" in str(caught.value.hint)
    assert files_below(tmp_path) == {"precious": b"mine"}


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not a directory"):
        make(tmp_path / "file", SampleLayout.MODELSCOPE)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def files_of_at_most_one_megabyte() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("files_of_at_most_one_megabyte")
@pytest.mark.parametrize("existed", [True, False])
def test_running_out_of_space_leaves_nothing_behind(tmp_path: Path, existed: bool) -> None:
    root = tmp_path / "parent" / "cache"
    if existed:
        root.mkdir(parents=True)
    with pytest.raises(NoSpace, match="writing the sample"):
        make(root, SampleLayout.HUGGINGFACE)
    assert root.exists() == existed
    assert list(tmp_path.rglob("*")) == ([tmp_path / "parent", root] if existed else [])


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    cancel = Cancel()

    class StopAtTheVae(Progress):
        def file(self, path: str) -> None:
            if path.endswith("vae/config.json"):
                cancel.set()

    with pytest.raises(Interrupted):
        sample(tmp_path / "cache", SampleLayout.MODELSCOPE, Session(StopAtTheVae(), cancel))
    assert not (tmp_path / "cache").exists()


def test_progress_adds_up_to_what_was_announced(tmp_path: Path) -> None:
    class Meter(Progress):
        announced: int | None = None
        done = 0

        def stage(self, name: str, total_bytes: int | None = None) -> None:
            self.announced = total_bytes

        def advance(self, byte_count: int) -> None:
            self.done += byte_count

    meter = Meter()
    sample(tmp_path, SampleLayout.HUGGINGFACE_SHARED, Session(meter))
    assert meter.done == meter.announced


def test_numpy_is_not_imported_before_a_sample_is_made() -> None:
    program = (
        "import sys, zitcache.tasks.sample as s; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
