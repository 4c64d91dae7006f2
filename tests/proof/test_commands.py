"""``verify --generate``, ``backup --generate`` and ``drill``, with stand-ins for the libraries that draw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.harness import Result, run_program
from tests.proof.conftest import World
from tests.proof.fake_gpu import FAKES, FakeMachine, gpu
from zitcache.events import Cancel, Session
from zitcache.machine.files import is_resident
from zitcache.tasks.drill import DrillRequest, drill
from zitcache.tasks.prove import ProofOptions
from zitcache.tasks.sample import SampleLayout, sample


class Box:
    """A machine with a cache and a repository, and the commands typed on it."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capsys = capsys
        self._places = ["--cache", str(world.cache), "-r", str(world.root / "repository")]

    def run(self, *arguments: str) -> Result:
        """Run ``zitcache ARGUMENTS`` on the cache and the repository; --json is added."""
        return run_program(self._capsys, *arguments, *self._places, "--json")

    @property
    def vae(self) -> Path:
        """The file with the weights of the VAE."""
        return next((self.world.model_path / "vae").glob("*.safetensors"))

    def goldens(self) -> list[Path]:
        """What the repository holds."""
        return list((self.world.root / "repository").glob("goldens/*"))


@pytest.fixture
def box(world: World, fake_machine: FakeMachine, capsys: pytest.CaptureFixture[str]) -> Box:
    return Box(world, capsys)


def flip_bit(path: Path, offset: int = 50_000) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


CONTRACT = {
    "verdict", "tier", "reasons", "device", "dtype", "size", "seconds_load", "seconds_draw", "image",
    "golden", "psnr", "ssim", "phash_distance",
}  # fmt: skip


def test_backup_draws_the_golden_that_verify_finds(box: Box) -> None:
    backup = box.run("backup", "--generate", "--size", "256")
    assert backup.code == 0, backup.out
    first = backup.envelope["data"]["proof"]
    assert (first["verdict"], first["tier"]) == ("passed", "A")
    assert first["golden_saved"] is not None
    verify = box.run("verify", "--generate", "--size", "256")
    assert verify.code == 0, verify.out
    data = verify.envelope["data"]
    assert set(data["proof"]) >= CONTRACT
    assert (data["proof"]["verdict"], data["proof"]["tier"]) == ("passed", "B")
    assert data["proof"]["golden"] == first["golden_saved"]
    assert data["proofs"] == [data["proof"]]
    assert Path(data["proof"]["image"]).is_file()


def test_without_generate_nothing_is_drawn(box: Box) -> None:
    assert box.run("backup").envelope["data"]["proof"] is None
    verify = box.run("verify")
    assert (verify.envelope["data"]["proof"], verify.envelope["data"]["proofs"]) == (None, [])
    assert not (box.world.root / "repository-proofs").exists()


def test_a_picture_that_is_not_right_makes_exit_code_9(box: Box, fake_machine: FakeMachine) -> None:
    box.run("backup")
    fake_machine.set(gpus=[gpu()], picture="black")
    result = box.run("verify", "--generate", "--size", "256")
    assert result.code == 9
    assert result.envelope["ok"] is False
    assert result.envelope["data"]["damaged"] == []
    assert result.envelope["data"]["proof"]["verdict"] == "failed"


def test_no_gpu_is_exit_code_0_with_a_warning(box: Box, fake_machine: FakeMachine) -> None:
    box.run("backup")
    fake_machine.set(gpus=[])
    result = box.run("verify", "--generate")
    assert result.code == 0
    assert result.envelope["data"]["proof"]["verdict"] == "skipped"
    assert "proof-skipped" in [warning["code"] for warning in result.envelope["warnings"]]


def test_damaged_files_are_named_and_not_drawn(box: Box) -> None:
    box.run("backup")
    flip_bit(box.vae)
    result = box.run("verify", "--generate")
    assert result.code == 1
    assert [file["kind"] for file in result.envelope["data"]["damaged"]] == ["bit-flips"]
    proof = result.envelope["data"]["proof"]
    assert (proof["verdict"], proof["tier"], proof["image"]) == ("failed", None, None)
    assert box.vae.name in proof["reasons"][0]


def test_a_missing_shard_is_named_and_nothing_is_drawn(box: Box) -> None:
    box.run("backup")
    lost = sorted((box.world.model_path / "transformer").glob("*.safetensors"))[0]
    lost.unlink()
    result = box.run("verify", "--generate")
    assert result.code == 1
    assert any(lost.name in path for path in result.envelope["data"]["missing"])
    assert lost.name in result.envelope["data"]["proof"]["reasons"][0]


@pytest.mark.parametrize("missing", [False, True])
def test_what_is_repaired_is_drawn_in_the_same_run(box: Box, missing: bool) -> None:
    box.run("backup", "--generate", "--size", "256")
    if missing:
        box.vae.unlink()
    else:
        flip_bit(box.vae)
    result = box.run("verify", "--generate", "--repair", "--size", "256")
    assert result.code == 0, result.out
    proof = result.envelope["data"]["proof"]
    assert (proof["verdict"], proof["tier"]) == ("passed", "B"), (
        "the golden of the repaired weights was found"
    )


def test_damage_in_another_model_does_not_keep_this_one_from_drawing(box: Box, tmp_path: Path) -> None:
    other = box.world.cache / "models" / "someone--other" / "snapshots" / "master"
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    shutil.copy(box.vae, other / "model.safetensors")
    box.run("backup")
    flip_bit(other / "model.safetensors")
    result = box.run("verify", "--generate", "--size", "256")
    assert result.code == 1
    assert result.envelope["data"]["proof"]["verdict"] == "passed"


def test_verify_keeps_what_it_hashed_for_the_load(box: Box) -> None:
    """Unless the file system has no page cache of its own, as tmpfs."""
    from zitcache.machine.files import drop_cached

    box.run("backup")
    with box.vae.open("rb") as file:
        size = box.vae.stat().st_size
        import os

        os.sync()
        drop_cached(file.fileno(), 0, 0)
        if is_resident(file.fileno(), size):
            pytest.skip("this file system keeps everything in memory")
        assert box.run("verify", "--generate", "--size", "256").code == 0
        assert is_resident(file.fileno(), size)


def test_every_gpu_gets_its_picture_and_the_worst_decides(box: Box, fake_machine: FakeMachine) -> None:
    box.run("backup")
    fake_machine.set(gpus=[gpu("Good"), gpu("Bad")], black_on=["Bad"])
    result = box.run("verify", "--generate", "--gpus", "all", "--size", "256")
    assert result.code == 9
    assert [proof["verdict"] for proof in result.envelope["data"]["proofs"]] == ["passed", "failed"]
    assert result.envelope["data"]["proof"]["device_name"] == "Bad"


def test_a_damaged_cache_gets_no_golden_from_backup(box: Box) -> None:
    box.run("backup")
    status = box.vae.stat()
    flip_bit(box.vae)
    import os

    os.utime(box.vae, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = box.run("backup", "--generate", "--reread", "100%", "--size", "256")
    assert result.code == 1
    assert result.envelope["data"]["suspect"] is True
    assert result.envelope["data"]["proof"]["verdict"] == "failed"
    assert box.goldens() == []


def test_backup_does_not_make_a_golden_of_what_is_no_picture(box: Box, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[gpu()], picture="black")
    result = box.run("backup", "--generate", "--size", "256")
    assert result.code == 9
    assert result.envelope["data"]["snapshot_id"] is not None, "the snapshot is written all the same"
    assert box.goldens() == []


def test_a_picture_alone_is_proof_enough_where_there_is_nothing_to_compare_with(
    world: World,
    fake_machine: FakeMachine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(world.root)
    shutil.rmtree(world.root / "repository")
    place = world.root / "my-model"
    shutil.copytree(world.model_path, place)
    result = run_program(capsys, "verify", str(place), "--generate", "--size", "256", "--json")
    data = result.envelope["data"]
    assert data["proof"]["verdict"] == "passed"
    assert data["proof"]["tier"] == "A"
    assert Path(data["proof"]["image"]).parent.parent == world.root


def test_a_golden_needs_a_repository(
    world: World,
    fake_machine: FakeMachine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ZITCACHE_REPO", raising=False)
    result = run_program(
        capsys,
        "verify",
        str(world.cache),
        "-r",
        str(world.root / "none"),
        "--generate",
        "--save-golden",
        "--json",
    )
    assert result.code == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "--save-golden"], "--save-golden says how to draw"),
        (["verify", "--device", "cpu"], "--device says how to draw"),
        (["verify", "--generate", "--quick"], "--quick does not read them"),
        (["verify", "--generate", "--gpus", "two"], "--gpus cannot be 'two'"),
        (["verify", "--generate", "--gpus", "all", "--device", "cpu"], "different devices"),
        (["verify", "--generate", "--dtype", "fp16"], "latents become NaN"),
        (["verify", "--generate", "--size", "1000"], "multiple of 16"),
        (["backup", "--model", "x/y"], "--model says how to draw"),
        (["drill", "--sample", "--no-picture", "--device", "cpu"], "--device says how to draw"),
        (["generate", "--prompt", "a", "--prompts-file", "b"], "both say what to draw"),
        (["generate", "--size", "large"], "--size cannot be 'large'"),
        (["generate", "--steps", "0"], "--steps cannot be '0'"),
        (["generate", "--guidance", "-1"], "--guidance cannot be"),
        (["generate", "--seed", "-1"], "--seed cannot be"),
        (["generate", "--count", "0"], "--count cannot be"),
        (["generate", "--device", "tpu"], "--device cannot be 'tpu'"),
        (["generate", "--dtype", "int8"], "--dtype cannot be 'int8'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_meant_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    result = run_program(capsys, *arguments, "--json")
    assert result.code == 2
    assert message in result.envelope["error"]["message"]
    assert result.envelope["error"]["hint"]


# -- generate -----------------------------------------------------------------------------------------


def test_generate_never_overwrites(box: Box, tmp_path: Path) -> None:
    output = str(tmp_path / "new" / "fox.png")
    paths = []
    for _ in range(2):
        result = run_program(
            box._capsys, "generate", "--cache", str(box.world.cache), "-o", output, "--size", "256", "--json"
        )
        assert result.code == 0, result.out
        paths.append(Path(result.envelope["data"]["images"][0]["path"]).name)
    assert paths == ["fox.png", "fox-2.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--output", "x.jpg"], 2, "PNG"),
        (["--prompts-file", "none.txt"], 6, "does not exist"),
        (["--prompts-file", "empty.txt"], 2, "has no prompt"),
        (["--prompts-file", "latin.txt"], 2, "not UTF-8"),
        (["--model", "nobody/nothing"], 6, "There is no model nobody/nothing"),
    ],
    ids=["jpg", "no file", "no prompt", "latin-1", "no model"],
)
def test_generate_says_what_is_wrong(
    box: Box,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("# nothing\n\n")
    Path("latin.txt").write_bytes("a cat\nFüchse\n".encode("latin-1"))
    result = run_program(box._capsys, "generate", "--cache", str(box.world.cache), *arguments, "--json")
    assert result.code == code
    assert message in result.envelope["error"]["message"]


def test_generate_without_a_gpu_says_how_to_use_the_cpu(box: Box, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[])
    result = run_program(box._capsys, "generate", "--cache", str(box.world.cache), "--json")
    assert result.code == 2
    assert "--device cpu" in result.envelope["error"]["hint"]


def test_generate_warns_of_latents_that_are_not_finite(
    box: Box, fake_machine: FakeMachine, tmp_path: Path
) -> None:
    fake_machine.set(gpus=[gpu()], picture="nan")
    result = run_program(
        box._capsys, "generate", "--cache", str(box.world.cache), "-o", f"{tmp_path}/x.png", "--json"
    )
    assert [warning["code"] for warning in result.envelope["warnings"]] == ["not-finite"]


def test_generate_takes_the_folder_of_a_model(box: Box, tmp_path: Path) -> None:
    folder = str(box.world.model_path)
    result = run_program(
        box._capsys, "generate", "--model", folder, "-o", f"{tmp_path}/x.png", "--size", "256", "--json"
    )
    assert result.code == 0, result.out


def test_pictures_have_their_own_names_and_seeds(box: Box, tmp_path: Path) -> None:
    result = run_program(
        box._capsys, "generate", "--cache", str(box.world.cache), "-o", f"{tmp_path}/fox.png",
        "--count", "10", "--size", "64", "--json",
    )  # fmt: skip
    images = result.envelope["data"]["images"]
    assert [image["seed"] for image in images] == list(range(42, 52))
    assert [Path(image["path"]).name for image in images[:2]] == ["fox-01.png", "fox-02.png"]


# -- drill --------------------------------------------------------------------------------------------


def test_the_drill_ends_with_a_picture_equal_to_the_one_before_the_wipe(
    fake_machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The drill asks in its own process whether anything can draw; what draws is in the child's path alone.
    monkeypatch.syspath_prepend(str(FAKES))
    (tmp_path / "scratch").mkdir()
    options = ProofOptions(directory=tmp_path / "proof")
    request = DrillRequest(use_sample=True, scratch=str(tmp_path / "scratch"), proof=options)
    outcome = drill(request, Session(cancel=Cancel()))
    report = outcome.data
    assert report.ok, report.steps
    assert [step.name for step in report.steps] == [
        "sample",
        "backup",
        "wipe",
        "restore",
        "compare",
        "proof",
    ]
    assert report.proof is not None
    assert (report.proof.verdict.value, report.proof.tier, report.proof.size) == ("passed", "B", 128)
    assert report.proof.image == str(tmp_path / "proof" / "picture.png")
    assert report.proof.image in report.steps[-1].detail
    assert Path(report.proof.image).is_file()
    assert report.seconds_to_picture is not None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_drill_whose_picture_is_not_right_fails_with_exit_code_9(
    fake_machine: FakeMachine, tmp_path: Path
) -> None:
    sample(tmp_path / "cache", SampleLayout.MODELSCOPE, Session())
    (tmp_path / "scratch").mkdir()
    fake_machine.set(gpus=[gpu()], picture="black")
    request = DrillRequest(
        cache=str(tmp_path / "cache"),
        scratch=str(tmp_path / "scratch"),
        proof=ProofOptions(size=256, directory=tmp_path / "proof"),
    )
    outcome = drill(request, Session())
    assert int(outcome.exit_code) == 9
    assert not outcome.data.ok
    assert [step.name for step in outcome.data.steps if not step.ok] == ["proof"]


def test_a_drill_on_a_bare_machine_says_that_nothing_was_drawn(
    fake_machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zitcache.proof.drawing import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "original = PathFinder.find_spec\n"
        "PathFinder.find_spec = classmethod(lambda cls, name, path=None, target=None:\n"
        "    None if name == 'torch' else original(name, path, target))\n"
    )
    (tmp_path / "scratch").mkdir()
    request = DrillRequest(use_sample=True, scratch=str(tmp_path / "scratch"), proof=ProofOptions())
    outcome = drill(request, Session())
    assert outcome.data.ok
    assert int(outcome.exit_code) == 0
    assert outcome.data.steps[-1].detail.startswith("skipped: Drawing needs torch")
    assert outcome.data.proof is not None
    assert outcome.data.proof.verdict.value == "skipped"
    assert "proof-skipped" in [warning.code for warning in outcome.warnings]


def test_the_attestation_is_valid_json_with_the_golden_it_names(box: Box) -> None:
    box.run("backup", "--generate", "--size", "256")
    proof = box.run("verify", "--generate", "--size", "256").envelope["data"]["proof"]
    attestation = json.loads(Path(proof["attestation"]).read_text())
    assert attestation["golden"] == proof["golden"] == box.goldens()[0].name
    assert attestation["judgement"]["tier"] == "B"


# -- layouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout", [SampleLayout.HUGGINGFACE_SHARED, SampleLayout.SEED, SampleLayout.MODELSCOPE_LEGACY]
)
def test_the_same_weights_in_another_layout_find_the_golden(
    box: Box, capsys: pytest.CaptureFixture[str], tmp_path: Path, layout: SampleLayout
) -> None:
    box.run("backup", "--generate", "--size", "256")
    other = tmp_path / "other"
    sample(other, layout, Session())
    repository = str(box.world.root / "repository")
    assert run_program(capsys, "backup", "--cache", str(other), "-r", repository, "--json").code == 0
    result = run_program(
        capsys, "verify", str(other), "-r", repository, "--generate", "--size", "256", "--json"
    )
    assert result.code == 0, result.out
    proof = result.envelope["data"]["proof"]
    assert (proof["verdict"], proof["tier"]) == ("passed", "B")
    assert proof["golden"] == box.goldens()[0].name
