"""The drawing process: started clean, kept offline, ended at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import zitcache
from tests.proof.conftest import World
from tests.proof.fake_gpu import FakeMachine, gpu
from zitcache.errors import Interrupted
from zitcache.events import Cancel
from zitcache.proof.drawing.packages import MINIMUM
from zitcache.proof.errors import DrawingFailed, PackagesMissing
from zitcache.proof.messages import Component, Draw, Loaded, Open, decode_event, encode
from zitcache.proof.process import DrawingProcess, clean_environment

PROJECT = Path(zitcache.__file__).parent.parent


def is_running(process: DrawingProcess) -> bool:
    return process._process.poll() is None


def blocked(folder: Path, *packages: str) -> str:
    """A folder for PYTHONPATH in which these packages cannot be found."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        f"""
import sys
from importlib.machinery import PathFinder
class Blocker(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {packages!r} else super().find_spec(name, path, target)
sys.meta_path[:] = [Blocker if finder is PathFinder else finder for finder in sys.meta_path]
"""
    )
    return os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])


def test_missing_packages_are_named_with_what_to_install(
    tmp_path: Path, fake_machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", blocked(tmp_path / "site", "torch", "diffusers"))
    with pytest.raises(PackagesMissing) as error:
        DrawingProcess.start(Cancel())
    assert error.value.message == "Drawing needs torch and diffusers, which are not installed."
    assert "pip install 'zitcache[generate]'" in str(error.value.hint)
    assert int(error.value.exit_code) == 2


def test_modelscope_is_not_needed(
    world: World, fake_machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", blocked(tmp_path / "site", "modelscope"))
    (report,) = world.prove(size=256)
    assert report.verdict.value == "passed"


def test_packages_that_are_too_old_are_named(
    tmp_path: Path, fake_machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "diffusers-0.35.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diffusers\nVersion: 0.35.2\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    with pytest.raises(PackagesMissing, match=r"diffusers 0\.35\.2 \(needed: 0\.36 or later\)") as error:
        DrawingProcess.start(Cancel())
    assert "--upgrade" in str(error.value.hint)


def test_the_needed_versions_are_those_of_the_extra() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    for name, (major, minor) in MINIMUM.items():
        wanted = {f'"{name}>={major}.{minor}"', f'"{name}>={major}"'}
        assert any(line in project for line in wanted), name


def test_a_diffusers_without_the_pipeline_says_what_to_do(world: World, fake_machine: FakeMachine) -> None:
    index = world.model_path / "model_index.json"
    index.write_text(index.read_text().replace('"ZImagePipeline"', '"FutureImagePipeline"'))
    with pytest.raises(PackagesMissing, match="has no FutureImagePipeline"):
        world.prove()


def test_the_environment_leads_to_no_other_cache() -> None:
    inherited = {
        "PATH": "/bin",
        "HF_HOME": "/root/workspace/model_cache",
        "HF_TOKEN": "secret",
        "HUGGINGFACE_HUB_CACHE": "/x",
        "MODELSCOPE_CACHE": "/root/workspace/model_cache",
        "MODELSCOPE_API_TOKEN": "secret",
        "https_proxy": "http://proxy",
        "HTTP_PROXY": "http://proxy",
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_WAIT_POLICY": "ACTIVE",
    }
    clean = clean_environment(inherited, Path("/scratch"))
    assert clean["CUDA_VISIBLE_DEVICES"] == "1"
    assert clean["OMP_WAIT_POLICY"] == "ACTIVE"
    assert clean["HF_HUB_OFFLINE"] == "1"
    assert clean["HF_HOME"].startswith("/scratch/")
    assert clean["MODELSCOPE_CACHE"].startswith("/scratch/")
    assert "secret" not in clean.values()
    assert not any(name.lower().endswith("_proxy") for name in clean)


def test_files_in_the_working_directory_are_not_imported(
    world: World, fake_machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "torch.py").write_text("raise SystemExit('the wrong torch')")
    monkeypatch.chdir(tmp_path / "here")
    (report,) = world.prove(size=256)
    assert report.verdict.value == "passed"


def test_ctrl_c_in_the_middle_of_a_load_ends_the_process(world: World, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[gpu()], seconds_per_component=60)
    cancel = Cancel()
    process = DrawingProcess.start(cancel)
    process.send(Open(model=str(world.model_path)))
    process.devices()
    threading.Timer(0.3, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        process.wait_for(Loaded)
    assert time.monotonic() - started < 2
    assert not is_running(process)
    assert not process.scratch.exists()


def test_ctrl_c_in_the_middle_of_a_picture_ends_the_process(world: World, fake_machine: FakeMachine) -> None:
    fake_machine.set(gpus=[gpu()], seconds_per_step=60)
    cancel = Cancel()
    with DrawingProcess.start(cancel) as process:
        process.send(Open(model=str(world.model_path)))
        process.wait_for(Loaded)
        process.send(Draw(id="x", prompt="a fox", seed=1))
        threading.Timer(0.2, cancel.set).start()
        with pytest.raises(Interrupted):
            process.wait_for(Loaded)
    assert not is_running(process)


def test_it_ends_when_its_parent_is_killed(world: World, fake_machine: FakeMachine, tmp_path: Path) -> None:
    fake_machine.set(gpus=[gpu()], seconds_per_component=60)
    program = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from zitcache.events import Cancel
from zitcache.proof.messages import Open
from zitcache.proof.process import DrawingProcess
process = DrawingProcess.start(Cancel())
process.send(Open(model={str(world.model_path)!r}))
process.devices()
print(process._process.pid, process.scratch, flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, scratch = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    Path(scratch).rmdir()


def test_components_wait_for_their_files_and_come_in_the_order_of_their_names(
    world: World, fake_machine: FakeMachine
) -> None:
    from zitcache.proof.messages import Ready

    with DrawingProcess.start(Cancel()) as process:
        process.send(Open(model=str(world.model_path), gated=["text_encoder", "transformer", "vae"]))
        process.devices()
        assert process.wait_for(Component).name == "scheduler"
        time.sleep(0.2)
        assert process._events.empty()
        process.send(Ready(component="text_encoder"))
        assert [process.wait_for(Component).name for _ in range(2)] == ["text_encoder", "tokenizer"]
        process.send(Ready())
        assert [process.wait_for(Component).name for _ in range(2)] == ["transformer", "vae"]
        assert process.wait_for(Loaded).seconds < 0.2, "waiting for files is not loading"


def test_files_may_be_ready_before_the_imports_are_done(world: World, fake_machine: FakeMachine) -> None:
    from zitcache.proof.messages import Ready

    with DrawingProcess.start(Cancel()) as process:
        process.send(Ready())
        process.send(Open(model=str(world.model_path), gated=["transformer"]))
        process.wait_for(Loaded)


def test_a_process_that_dies_tells_its_last_words(fake_machine: FakeMachine, world: World) -> None:
    fake_machine.set(gpus=[gpu()], die=True)
    with DrawingProcess.start(Cancel()) as process:
        process.send(Open(model=str(world.model_path)))
        for _ in range(2):
            with pytest.raises(DrawingFailed, match=r"main memory ran out.*Killed in the middle"):
                process.wait_for(Loaded)


def test_closing_twice_is_fine(fake_machine: FakeMachine) -> None:
    process = DrawingProcess.start(Cancel())
    process.close()
    process.close()


def test_names_that_are_not_utf_8_travel_unharmed() -> None:
    event = Component(name="ca\udcffche \x00 é", size_bytes=1)
    assert decode_event(encode(event)) == event
    assert encode(event).count(b"\n") == 1


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"type":"loaded"}', b'{"type":"nothing"}', b"\xff"])
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode_event(line)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_in_the_middle_of_a_load_takes_its_process_with_it(
    world: World, fake_machine: FakeMachine, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    started_loading = tmp_path / "loading"
    fake_machine.set(gpus=[gpu()], seconds_per_component=60, pid_file=str(started_loading))
    with subprocess.Popen(
        [sys.executable, "-m", "zitcache", "generate", "--cache", str(world.cache), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
    ) as command:
        deadline = time.monotonic() + 60
        while not started_loading.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        stopped = time.monotonic()
        command.send_signal(number)
        assert command.wait(timeout=60) == code
        assert time.monotonic() - stopped < 2
    pid = started_loading.read_text()
    assert not Path(f"/proc/{pid}").exists()
