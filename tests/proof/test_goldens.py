"""Goldens are kept in the repository and found by the weights, the settings and the environment."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.proof.conftest import World
from zitcache.cache.fingerprint import FileFingerprint
from zitcache.proof.environment import Environment, driver_version
from zitcache.proof.goldens import (
    Golden,
    GoldenRecord,
    choose_golden,
    load_goldens,
    save_golden,
    weights_digest,
)
from zitcache.proof.settings import Settings

SETTINGS = Settings(prompt="a fox", seed=42, steps=9, size=1024, guidance=0.0, scheduler="FlowMatchEuler")
HERE = Environment(
    device="cuda:0",
    device_name="NVIDIA H200",
    capability="9.0",
    driver="570.86.15",
    cuda="12.8",
    cudnn="91002",
    torch="2.11.0",
    diffusers="0.42.1",
    transformers="5.23.0",
    modelscope="1.40.2",
    python="3.12.3",
    dtype="bf16",
    attention="native, sdpa",
    threads=None,
    pipeline="diffusers.ZImagePipeline",
)
RECORD = GoldenRecord(
    time="2026-01-31T02:00:00Z",
    host="box",
    program="zitcache 1.0",
    model="Tongyi-MAI/Z-Image-Turbo",
    revision="master",
    weights="aa" * 32,
    settings=SETTINGS,
    environment=HERE,
    pixels="11" * 32,
    alive=True,
    picture=b"\x89PNG not really \x00\xff",
)
replace = msgspec.structs.replace


def golden(name: str, **changes: object) -> Golden:
    return Golden(name, replace(RECORD, **changes))


def test_a_golden_comes_back_from_the_repository_as_it_was(world: World) -> None:
    name = save_golden(world.repository, RECORD)
    assert load_goldens(world.repository) == [Golden(name, RECORD)]
    assert (world.root / "repository" / "goldens" / name).is_file()


def test_the_same_golden_twice_is_one(world: World) -> None:
    assert save_golden(world.repository, RECORD) == save_golden(world.repository, RECORD)
    assert len(load_goldens(world.repository)) == 1


def test_a_damaged_golden_is_passed_over(world: World) -> None:
    name = save_golden(world.repository, RECORD)
    other = replace(RECORD, pixels="22" * 32)
    save_golden(world.repository, other)
    path = world.root / "repository" / "goldens" / name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [found.record for found in load_goldens(world.repository)] == [other]


def test_only_goldens_of_the_same_settings_are_compared_with() -> None:
    for changed in ({"seed": 1}, {"prompt": "b"}, {"steps": 8}, {"size": 768}, {"guidance": 1.0}):
        assert choose_golden([golden("a")], replace(SETTINGS, **changed), HERE, "11" * 32) is None


def test_a_golden_of_the_same_environment_is_preferred_to_newer_ones() -> None:
    elsewhere = replace(HERE, device_name="NVIDIA A100", driver="550")
    goldens = [golden("a"), golden("b", environment=elsewhere, time="2027-01-01T00:00:00Z")]
    chosen = choose_golden(goldens, SETTINGS, HERE, "99" * 32)
    assert chosen is not None
    assert chosen.id == "a"


def test_of_other_environments_the_most_alike_then_the_newest_is_taken() -> None:
    near, far = replace(HERE, torch="2.10.0"), replace(HERE, torch="2.10.0", device_name="NVIDIA A100")
    goldens = [
        golden("far", environment=far, time="2028-01-01T00:00:00Z"),
        golden("old", environment=near),
        golden("new", environment=near, time="2027-01-01T00:00:00Z"),
    ]
    chosen = choose_golden(goldens, SETTINGS, HERE, "99" * 32)
    assert chosen is not None
    assert chosen.id == "new"


def test_another_gpu_of_the_same_kind_is_the_same_environment() -> None:
    assert replace(HERE, device="cuda:7", python="3.13.0").differences(HERE) == []


def test_what_is_different_is_said_in_words() -> None:
    assert replace(HERE, torch="2.12.0", device_name="NVIDIA A100").differences(HERE) == [
        "device name NVIDIA A100, was NVIDIA H200",
        "torch 2.12.0, was 2.11.0",
    ]


def file(path: str, digit: str = "a") -> FileFingerprint:
    return FileFingerprint(path, 10, digit * 64)


def test_the_same_weights_from_another_hub_have_the_same_goldens() -> None:
    weights = [file("model_index.json"), file("vae/config.json"), file("vae/model.safetensors")]
    modelscope = [*weights, file("README.md", "b"), file("configuration.json", "c"), file(".mv", "d")]
    hugging_face = [*weights, file("README.md", "e"), file(".gitattributes", "f"), file("assets/demo.png")]
    assert weights_digest(modelscope) == weights_digest(hugging_face)


def test_other_weights_or_configs_are_other_weights() -> None:
    weights = [file("model_index.json"), file("vae/config.json"), file("vae/model.safetensors")]
    for changed in range(3):
        other = [replace(one, blake3="f" * 64) if n == changed else one for n, one in enumerate(weights)]
        assert weights_digest(other) != weights_digest(weights)


def test_the_driver_is_read_from_the_kernel_module(tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12\n"
    )
    assert driver_version(version) == "570.86.15"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 2023\n")
    assert driver_version(version) == "535.104.05"
    assert driver_version(tmp_path / "none") is None
