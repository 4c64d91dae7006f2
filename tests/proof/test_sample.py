"""The real libraries on the sample: load, draw, compare, and see damage that no header shows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import zitcache
from tests.proof.conftest import World
from zitcache.cache.safetensors_header import read_header
from zitcache.cache.sample.pipeline import encode_safetensors
from zitcache.events import Session
from zitcache.proof.verdict import Verdict
from zitcache.repository.repository import Repository
from zitcache.storage.opening import open_storage
from zitcache.tasks.prove import ProofReport
from zitcache.tasks.sample import SampleLayout, sample

NEEDED = ("torch", "diffusers", "transformers", "modelscope", "PIL")
pytestmark = pytest.mark.models
CPU = {"device": "cpu", "size": 128}


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, ProofReport]:
    """The sample with a golden, drawn by a process that is gone."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install -c constraints-dev.txt 'zitcache[test-models]'")
    root = tmp_path_factory.mktemp("proved")
    sample(root / "cache", SampleLayout.MODELSCOPE, Session())
    Repository.create(open_storage(str(root / "repository")))
    world = World(root, root / "cache", Session())
    (report,) = world.prove(save_golden=True, **CPU)
    return world, report


@pytest.fixture
def copied(proved: tuple[World, ProofReport], tmp_path: Path) -> World:
    """A copy of the cache that may be damaged, with the repository that has the golden."""
    world, _ = proved
    shutil.copytree(world.cache, tmp_path / "cache", symlinks=True)
    shutil.copytree(world.root / "repository", tmp_path / "repository")
    return World(tmp_path, tmp_path / "cache", Session())


def damage(folder: Path, tensor: Callable[[str], bool], change: Callable[[bytearray], None]) -> str:
    """Change the bytes of the first tensor in ``folder`` whose name fits; gives its name."""
    for shard in sorted(folder.glob("*.safetensors")):
        with shard.open("r+b") as file:
            header = read_header(file.fileno(), shard.stat().st_size)
            for found in header.tensors:
                if tensor(found.name):
                    file.seek(found.start)
                    data = bytearray(file.read(found.end - found.start))
                    change(data)
                    file.seek(found.start)
                    file.write(data)
                    return found.name
    raise AssertionError("no such tensor")


def flip_exponents(data: bytearray) -> None:
    """The highest exponent bit of every 16th value of float32."""
    values = np.frombuffer(data, "<u4").copy()
    values[::16] ^= 0x40000000
    data[:] = values.tobytes()


def test_the_weights_load_and_draw(proved: tuple[World, ProofReport]) -> None:
    _, report = proved
    assert report.verdict in (Verdict.PASSED, Verdict.WARNED), report.reasons
    assert (report.tier, report.device, report.dtype, report.size) == ("A", "cpu", "fp32", 128)
    assert report.golden_saved is not None
    assert report.image is not None
    attestation = json.loads(Path(str(report.attestation)).read_text())
    assert attestation["environment"]["pipeline"].endswith(".ZImagePipeline")
    assert attestation["environment"]["modelscope"] is not None
    assert attestation["settings"]["guidance"] == 0.0
    assert attestation["vitals"]["finite"] is True
    assert attestation["network_attempts"] == []


def test_pixels_are_identical_across_processes(proved: tuple[World, ProofReport]) -> None:
    world, first = proved
    (second,) = world.prove(**CPU)
    assert second.verdict is first.verdict
    assert (second.tier, second.identical, second.golden) == ("B", True, first.golden_saved), second.reasons


def test_flipped_exponent_bits_in_one_attention_matrix_fail_the_proof(copied: World) -> None:
    """The file is whole, its header is sound, it loads: only the picture can tell."""
    name = damage(
        copied.model_path / "transformer",
        lambda name: name == "layers.0.attention.to_v.weight",
        flip_exponents,
    )
    assert copied.model.complete, name
    (report,) = copied.prove(vouched=False, **CPU)
    assert report.verdict is Verdict.FAILED, (name, report)
    assert report.image is not None


def test_nan_in_the_weights_is_seen_before_it_becomes_a_black_picture(copied: World) -> None:
    def set_nan(data: bytearray) -> None:
        data[0:4] = b"\xff" * 4

    damage(copied.model_path / "vae", lambda name: name == "decoder.conv_in.bias", set_nan)
    (report,) = copied.prove(vouched=False, save_golden=True, **CPU)
    assert (report.verdict, report.tier) == (Verdict.FAILED, "A")
    assert "NaN" in report.reasons[0]
    assert report.golden_saved is None


def test_a_tensor_that_is_not_in_the_file_fails_the_proof(copied: World) -> None:
    """The libraries would put random numbers in its place, and go on."""
    shard = next((copied.model_path / "vae").glob("*.safetensors"))
    with shard.open("rb") as file:
        header = read_header(file.fileno(), shard.stat().st_size)
    kept = [tensor for tensor in header.tensors if tensor.name != "decoder.conv_in.weight"]
    bits = {tensor.name: np.zeros(int(np.prod(tensor.shape)), np.uint16) for tensor in kept}
    shapes = {tensor.name: tensor.shape for tensor in kept}
    shard.write_bytes(encode_safetensors(kept[0].dtype, shapes, bits))
    (report,) = copied.prove(vouched=False, **CPU)
    assert (report.verdict, report.tier) == (Verdict.FAILED, None)
    assert "not in the files" in report.reasons[0]


def test_generate_draws_a_file_of_prompts_with_the_model_loaded_once(
    proved: tuple[World, ProofReport], tmp_path: Path
) -> None:
    from PIL import Image

    world, _ = proved
    (tmp_path / "prompts.txt").write_text("a red circle on a blue background\n\n# not this\na green square\n")
    arguments = ["generate", "--cache", str(world.cache), "--prompts-file", str(tmp_path / "prompts.txt")]
    arguments += ["--count", "2", "--seed", "5", "--device", "cpu", "--size", "128", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "zitcache", *arguments, "-o", f"{tmp_path}/"],
        capture_output=True,
        text=True,
        cwd=Path(zitcache.__file__).parent.parent,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["seconds_load"] > 0
    assert [(image["prompt"], image["seed"]) for image in data["images"]] == [
        ("a red circle on a blue background", 5),
        ("a red circle on a blue background", 6),
        ("a green square", 5),
        ("a green square", 6),
    ]
    pictures = [Image.open(image["path"]) for image in data["images"]]
    assert {picture.size for picture in pictures} == {(128, 128)}
    assert len({picture.tobytes() for picture in pictures}) == 4
    assert pictures[3].text["prompt"] == "a green square"
    assert pictures[3].text["seed"] == "6"
