"""Proofs on GPUs that this machine does not have: the real drawing process with stand-ins for the
libraries."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.proof.conftest import World
from tests.proof.fake_gpu import GIB, FakeMachine, gpu
from zitcache.errors import UsageError
from zitcache.proof.verdict import Verdict
from zitcache.tasks.prove import worst


@pytest.fixture(autouse=True)
def made_for_1024_pixels(world: World) -> None:
    """The sample says of itself what the real model says; what a GPU is too small for starts from there."""
    config = world.model_path / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 1024}))


def test_a_proof_without_a_golden_draws_and_writes_down_what_it_saw(
    world: World, fake_machine: FakeMachine
) -> None:
    (report,) = world.prove()
    assert (report.verdict, report.tier) == (Verdict.PASSED, "A"), report.reasons
    assert (report.device, report.device_name) == ("cuda:0", "Fake H200")
    assert (report.dtype, report.placement, report.size) == ("bf16", "gpu", 1024)
    assert report.golden is None
    assert report.golden_saved is None
    assert report.image is not None
    assert report.attestation is not None
    folder = Path(report.image).parent
    assert folder.parent == world.root / "repository-proofs"
    assert sorted(path.name for path in folder.iterdir()) == ["attestation.json", "picture.png"]
    attestation = json.loads(Path(report.attestation).read_text())
    assert attestation["schema"] == "zitcache-attestation/1"
    assert attestation["judgement"]["verdict"] == "passed"
    assert attestation["weights"] == report.weights
    assert attestation["environment"]["cuda"] == "12.8"
    assert attestation["files_verified"] is True
    assert world.codes() == []


def test_the_golden_is_found_by_a_later_proof_and_the_contact_sheet_is_made(
    world: World, fake_machine: FakeMachine
) -> None:
    (first,) = world.prove(save_golden=True, size=512)
    assert first.golden_saved is not None
    (second,) = world.prove(size=512)
    assert (second.verdict, second.tier) == (Verdict.PASSED, "B"), second.reasons
    assert second.golden == first.golden_saved
    assert second.identical is True
    assert (second.psnr, second.ssim, second.phash_distance) == (None, 1.0, 0)
    assert second.contact_sheet is not None
    assert Path(second.contact_sheet).read_bytes().startswith(b"\x89PNG")


def test_a_golden_that_is_there_already_is_not_saved_again(world: World, fake_machine: FakeMachine) -> None:
    world.prove(save_golden=True, size=256)
    (again,) = world.prove(save_golden=True, size=256)
    assert again.golden_saved is None
    assert len(list((world.root / "repository" / "goldens").iterdir())) == 1
    assert world.codes() == []


def test_another_gpu_is_compared_by_likeness_and_gets_a_golden_of_its_own(
    world: World, fake_machine: FakeMachine
) -> None:
    world.prove(save_golden=True, size=256)
    fake_machine.set(gpus=[gpu("Fake A100")], grain_by_gpu={"Fake A100": 4})
    (other,) = world.prove(save_golden=True, size=256)
    assert (other.verdict, other.tier) == (Verdict.PASSED, "C"), other.reasons
    assert other.identical is False
    assert other.psnr is not None
    assert other.golden_saved is not None
    assert any("Fake A100, was Fake H200" in reason for reason in other.reasons)
    (third,) = world.prove(size=256)
    assert (third.verdict, third.tier) == (Verdict.PASSED, "B"), third.reasons


def test_the_same_gpu_with_other_pixels_fails(world: World, fake_machine: FakeMachine) -> None:
    world.prove(save_golden=True, size=256)
    fake_machine.set(gpus=[gpu()], grain_by_gpu={"Fake H200": 2})
    (report,) = world.prove(save_golden=True, size=256)
    assert (report.verdict, report.tier) == (Verdict.FAILED, "B")
    assert report.golden_saved is None
    assert "golden-not-saved" in world.codes()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"picture": "black"}, "hardly varies"),
        ({"picture": "nan"}, "NaN"),
        ({"deaf": True}, "Another prompt"),
        ({"moody": True}, "same seed"),
    ],
    ids=["black", "nan", "deaf", "moody"],
)
def test_what_is_no_picture_fails_and_never_becomes_a_golden(
    world: World, fake_machine: FakeMachine, trouble: dict[str, object], reason: str
) -> None:
    fake_machine.set(gpus=[gpu()], **trouble)
    (report,) = world.prove(vouched=False, save_golden=True)
    assert (report.verdict, report.tier) == (Verdict.FAILED, "A")
    assert any(reason in sentence for sentence in report.reasons), report.reasons
    assert report.golden_saved is None
    assert not (world.root / "repository" / "goldens").exists()


def test_no_gpu_is_skipped_and_never_passed(world: World, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[])
    (report,) = world.prove()
    assert (report.verdict, report.tier, report.image) == (Verdict.SKIPPED, None, None)
    assert world.codes() == ["proof-skipped"]
    assert not (world.root / "repository-proofs").exists()


def test_the_cpu_is_used_only_when_it_is_asked_for(world: World, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[])
    (report,) = world.prove(device="cpu", size=256)
    assert (report.verdict, report.device, report.dtype) == (Verdict.PASSED, "cpu", "fp32")


def test_a_gpu_without_bf16_draws_in_fp32(world: World, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[gpu("Fake V100", capability=(7, 0))])
    (report,) = world.prove()
    assert report.dtype == "fp32"


def test_the_gpu_with_most_free_memory_is_taken(world: World, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[gpu("Busy", free=8 * GIB), gpu("Idle")])
    (report,) = world.prove()
    assert (report.device, report.device_name) == ("cuda:1", "Idle")


def test_every_gpu_is_proved_with_a_picture_of_its_own(world: World, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[gpu("One"), gpu("Two"), gpu("Three")], grain_by_gpu={"Two": 3})
    reports = world.prove(all_gpus=True, size=256)
    assert [report.device_name for report in reports] == ["One", "Two", "Three"]
    assert len({report.image for report in reports}) == 3
    assert all(Path(str(report.image)).is_file() for report in reports)
    assert {report.verdict for report in reports} == {Verdict.PASSED}


def test_one_bad_gpu_among_several_fails_the_whole(world: World, fake_machine: FakeMachine) -> None:
    gpus = [gpu("Same"), gpu("Same"), gpu("Bad")]
    fake_machine.set(gpus=gpus[:1])
    world.prove(save_golden=True, size=256)
    fake_machine.set(gpus=gpus, black_on=["Bad"])
    reports = world.prove(all_gpus=True, size=256)
    assert [report.verdict for report in reports[:2]] == [Verdict.PASSED, Verdict.PASSED]
    assert worst(reports) is reports[2]
    assert reports[2].verdict is Verdict.FAILED


def test_a_gpu_that_is_not_there_is_a_usage_error(world: World, fake_machine: FakeMachine) -> None:
    with pytest.raises(UsageError, match="cuda:3"):
        world.prove(device="cuda:3")


def test_running_out_of_memory_falls_back_to_the_next_smaller_fit(
    world: World, fake_machine: FakeMachine
) -> None:
    fake_machine.set(gpus=[gpu()], largest=800)
    (report,) = world.prove()
    assert (report.verdict, report.size, report.placement) == (Verdict.PASSED, 768, "gpu")
    assert "less-memory" in world.codes()


@pytest.mark.models
def test_running_out_of_memory_at_loading_moves_the_weights_out(
    world: World, fake_machine: FakeMachine
) -> None:
    if find_spec("accelerate") is None:
        pytest.skip("offloading needs accelerate: pip install -c constraints-dev.txt 'zitcache[test-models]'")
    fake_machine.set(gpus=[gpu()], no_room_for=["gpu"])
    (report,) = world.prove(size=256)
    assert (report.verdict, report.size) == (Verdict.PASSED, 256)
    assert report.placement == "model-offload"


def test_running_out_of_memory_everywhere_is_a_failed_proof_that_says_so(
    world: World, fake_machine: FakeMachine
) -> None:
    fake_machine.set(gpus=[gpu()], largest=64)
    (report,) = world.prove()
    assert (report.verdict, report.tier) == (Verdict.FAILED, None)
    assert "not enough memory" in report.reasons[0]
    assert any("nvidia-smi" in reason for reason in report.reasons)


def test_a_golden_of_another_size_is_not_compared_and_that_is_said(
    world: World, fake_machine: FakeMachine
) -> None:
    world.prove(save_golden=True)
    fake_machine.set(gpus=[gpu()], largest=600)
    (report,) = world.prove()
    assert (report.verdict, report.tier, report.size) == (Verdict.PASSED, "A", 512)
    assert "golden-of-other-settings" in world.codes()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"load_error": "Error(s) in loading state_dict"}, "loading state_dict"),
        ({"random_tensors": True}, "not in the files"),
        ({"die": True}, "killed"),
        ({"reach": "huggingface.co"}, "tried to reach the network: huggingface.co"),
    ],
    ids=["does not load", "missing tensors", "killed", "network"],
)
def test_weights_that_do_not_load_fail_the_proof(
    world: World, fake_machine: FakeMachine, trouble: dict[str, object], reason: str
) -> None:
    fake_machine.set(gpus=[gpu()], **trouble)
    (report,) = world.prove()
    assert (report.verdict, report.tier) == (Verdict.FAILED, None)
    assert reason in report.reasons[0]
    assert not (world.root / "repository-proofs").exists()


def test_the_picture_tells_its_settings(world: World, fake_machine: FakeMachine) -> None:
    from PIL import Image

    (report,) = world.prove(prompt="Füchse im Schnee ❄", seed=7, size=256)
    text = Image.open(str(report.image)).text
    assert text["prompt"] == "Füchse im Schnee ❄"
    assert (text["seed"], text["steps"], text["size"]) == ("7", "9", "256x256")
    assert text["weights"] == report.weights
    assert text["model"] == "Tongyi-MAI/Z-Image-Turbo"


def test_a_named_folder_that_holds_a_proof_gets_another_one_inside(
    world: World, fake_machine: FakeMachine
) -> None:
    folder = world.root / "proofs"
    (first,) = world.prove(directory=folder, size=256)
    (second,) = world.prove(directory=folder, size=256)
    assert Path(str(first.image)) == folder / "picture.png"
    assert Path(str(second.image)).parent.parent == folder
