"""Each check, well and unwell, on real files; and the fix it tells, where that can be run here."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from tests.backup.world import make_sample
from tests.doctor.world import Box, check, examine, state
from tests.storage.disks import MIB, xfs
from zitcache.cache.marker import MigrationMarker, marker_paths, write_marker
from zitcache.events import Session
from zitcache.machine.gpus import Gpu, Gpus
from zitcache.machine.memory import Memory
from zitcache.repository.repository import Repository
from zitcache.schedule.history import RunRecord, StepRecord, remember, state_directory
from zitcache.storage.local import LocalStorage
from zitcache.tasks.check import CheckRequest
from zitcache.tasks.check import check as check_repository
from zitcache.tasks.doctor import facts, gpu
from zitcache.tasks.sample import SampleLayout

GB = 1_000_000_000

# -- the cache and its disk ---------------------------------------------------------------------------


def test_models_in_other_places_are_told(box: Box) -> None:
    box.cache()
    other = make_sample(box.home / ".cache" / "huggingface" / "hub", SampleLayout.HUGGINGFACE)
    found = check(examine(), "cache-found")
    assert found.status == "warn" and str(other) in found.evidence
    assert found.fix == f"zitcache doctor --cache {other}"


def test_an_empty_cache_is_no_cache(box: Box) -> None:
    (box.place / "cache").mkdir()
    outcome = examine(cache=str(box.place / "cache"))
    assert state(outcome, "cache-found") == "fail"
    assert outcome.data.headline.startswith("The model cache is empty")


@pytest.mark.root
def test_space_on_the_disk_of_the_cache(box: Box) -> None:
    box.cache()
    assert state(examine(), "cache-space") == "ok"
    box.patch.setenv("MODELSCOPE_CACHE", str(make_sample(box.disk() / "cache")))
    assert state(examine(), "cache-space") == "warn"


def test_a_place_that_is_named_like_a_data_disk(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from zitcache.tasks.doctor import disks

    fake = box.place / "autodl-tmp"
    monkeypatch.setattr(disks, "known_places", lambda provider: [str(fake)])
    assert state(examine(), "fake-data-disk") == "ok"
    fake.mkdir()
    found = check(examine(), "fake-data-disk")
    assert found.status == "warn" and str(fake) in found.evidence


# -- variables ----------------------------------------------------------------------------------------


def test_the_variable_that_wins_and_the_line_that_sets_it(box: Box) -> None:
    cache = box.cache()
    box.write(".bashrc", f"# mine\nexport MODELSCOPE_CACHE={cache}\n")
    box.patch.setenv("HF_HOME", "/somewhere")
    box.patch.setenv("HF_HUB_CACHE", "/elsewhere")
    outcome = examine()
    modelscope = check(outcome, "modelscope-cache")
    assert modelscope.status == "ok"
    assert modelscope.evidence == (
        f"ModelScope looks in {cache} (MODELSCOPE_CACHE, set by {box.home}/.bashrc:2)."
    )
    assert "Hugging Face looks in /elsewhere (HF_HUB_CACHE, set by this shell" in (
        check(outcome, "huggingface-cache").evidence
    )


@pytest.mark.parametrize(
    ("layout", "check_id"),
    [
        (SampleLayout.HUGGINGFACE, "huggingface-cache"),
        (SampleLayout.HUGGINGFACE_SHARED, "huggingface-cache"),
        (SampleLayout.MODELSCOPE, "modelscope-cache"),
        (SampleLayout.MODELSCOPE_LEGACY, "modelscope-cache"),
    ],
)
def test_a_model_where_its_sdk_does_not_look(box: Box, layout: SampleLayout, check_id: str) -> None:
    cache = make_sample(box.place / "cache", layout)
    box.patch.setenv("ZITCACHE_CACHE", str(cache))
    found = check(examine(), check_id)
    assert found.status == "warn"
    assert "would download anew" in found.evidence and found.fix == "zitcache env --write"
    box.patch.setenv("HF_HUB_CACHE" if "hugging" in check_id else "MODELSCOPE_CACHE", str(cache))
    assert state(examine(), check_id) == "ok"


def test_hugging_face_in_the_common_cache_of_the_case(box: Box) -> None:
    cache = box.cache()
    make_sample(cache / "hub", SampleLayout.HUGGINGFACE)
    box.patch.setenv("HF_HOME", str(cache))
    outcome = examine()
    assert state(outcome, "huggingface-cache") == state(outcome, "modelscope-cache") == "ok"


@pytest.mark.parametrize(
    ("name", "value", "check_id", "said"),
    [
        ("MS_CACHE_HOME", "/x", "variables-ignored", "MS_CACHE_HOME=/x"),
        ("TRANSFORMERS_CACHE", "/x", "variables-ignored", "ignored"),
        ("HF_HOME", "", "variables-empty", "working directory"),
        ("MODELSCOPE_CACHE", "", "variables-empty", "counts as not set"),
        ("HF_HOME", "cache", "variables-relative", "relative"),
        ("MODELSCOPE_CACHE", "./cache", "variables-relative", "relative"),
        ("HF_HOME", "'/data/cache'", "variables-quoted", "quotes"),
        ("MODELSCOPE_CACHE", '"/data/cache"', "variables-quoted", "quotes"),
        ("MODELSCOPE_CACHE", "$HOME/cache", "variables-unexpanded", "literally"),
        ("HF_HOME", "$NO_SUCH_VARIABLE/cache", "variables-unexpanded", "not set"),
    ],
)
def test_variables_that_do_not_do_what_was_meant(
    box: Box, name: str, value: str, check_id: str, said: str
) -> None:
    assert state(examine(), check_id) == "ok"
    box.patch.setenv(name, value)
    found = check(examine(), check_id)
    assert found.status == "warn"
    assert said in found.evidence
    assert found.fix == f"unset {name}"


@pytest.mark.parametrize("value", ["/data/cache", "~/cache", "$HOME/cache"])
def test_variables_that_are_right(box: Box, value: str) -> None:
    box.patch.setenv("HF_HOME", value)
    outcome = examine()
    for check_id in ("relative", "quoted", "unexpanded", "empty", "ignored"):
        assert state(outcome, f"variables-{check_id}") == "ok"


def test_a_bad_line_in_a_file_is_told_with_the_command_that_removes_it(box: Box) -> None:
    file = box.write(".bashrc", "alias ll='ls -l'\nexport HF_CACHE=/x\nalias la='ls -a'\n")
    found = check(examine(), "variables-ignored")
    assert (found.status, found.fix) == ("warn", f"sed -i 2d {file}")
    assert found.fix is not None
    subprocess.run(found.fix, shell=True, check=True)
    assert file.read_text() == "alias ll='ls -l'\nalias la='ls -a'\n"
    assert state(examine(), "variables-ignored") == "ok"


def test_a_file_that_says_something_else(box: Box) -> None:
    box.cache()
    box.write(".bashrc", "export MODELSCOPE_CACHE=/another/place\n")
    found = check(examine(), "variables-differ")
    assert found.status == "warn" and "/another/place" in found.evidence and ".bashrc:1" in found.evidence
    assert found.fix == "zitcache env --write"


def test_what_only_this_shell_knows(box: Box) -> None:
    box.cache()
    alone = check(examine(), "variables-reach")
    assert alone.status == "warn" and "by no file" in alone.evidence
    box.write(".bashrc", f"export MODELSCOPE_CACHE={os.environ['MODELSCOPE_CACHE']}\n")
    shells = check(examine(), "variables-reach")
    assert shells.status == "warn" and "shells alone" in shells.evidence
    box.write("/etc/environment", f"MODELSCOPE_CACHE={os.environ['MODELSCOPE_CACHE']}\n")
    (box.home / ".bashrc").unlink()
    assert state(examine(), "variables-reach") == "ok"


def test_a_variable_that_names_an_empty_place(box: Box) -> None:
    (box.place / "empty").mkdir()
    make_sample(box.home / ".cache" / "modelscope")
    box.patch.setenv("MODELSCOPE_CACHE", str(box.place / "empty"))
    found = check(examine(), "cache-choice")
    assert found.status == "warn" and "where no model is" in found.evidence
    assert found.fix == f"zitcache env --write --cache {box.home}/.cache/modelscope"


# -- models -------------------------------------------------------------------------------------------


def test_a_model_that_is_not_complete(box: Box) -> None:
    cache = box.cache()
    assert state(examine(), "models-complete") == "ok"
    (shard, *_) = sorted(cache.rglob("transformer/*.safetensors"))
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size - 100)
    outcome = examine()
    found = check(outcome, "models-complete")
    assert found.status == "fail"
    assert "Z-Image-Turbo@master" in found.evidence and "100 bytes early" in found.evidence
    assert found.fix == "zitcache verify"


def test_a_broken_model_is_repaired_from_a_snapshot(box: Box) -> None:
    cache = box.cache()
    box.backup(cache, box.place / "zitcache")
    next(cache.rglob("vae/*.safetensors")).unlink()
    assert check(examine(), "models-complete").fix == "zitcache verify --repair"


def test_a_stub_that_hides_a_complete_model(box: Box) -> None:
    cache = box.cache()
    assert state(examine(), "layouts-shadowing") == "ok"
    stub = cache / "models" / "Tongyi-MAI" / "Z-Image-Turbo"
    stub.mkdir(parents=True)
    (stub / "configuration.json").write_text("{}")
    found = check(examine(), "layouts-shadowing")
    assert found.status in {"warn", "fail"}
    assert found.fix == "zitcache clean --kind shadowing-stub --delete"


def test_leftovers_of_downloads(box: Box) -> None:
    cache = box.cache()
    assert state(examine(), "leftovers") == "ok"
    folder = next(cache.rglob("vae"))
    (folder / "diffusion.safetensors.incomplete").write_bytes(bytes(5_000_000))
    found = check(examine(), "leftovers")
    assert found.status == "warn"
    assert "1 unfinished download (5.0 MB)" in found.evidence
    assert found.fix == "zitcache clean --kind unfinished-download --delete"


# -- the repository -----------------------------------------------------------------------------------


@pytest.mark.root
def test_no_repository(box: Box) -> None:
    box.cache()
    found = check(examine(), "repository")
    assert (found.status, found.fix) == ("warn", None)
    disk = box.disk()
    assert check(examine(), "repository").fix == f"zitcache backup --init --repo {disk}/zitcache"


@pytest.mark.root
def test_a_repository_on_a_data_disk(box: Box) -> None:
    cache = box.cache()
    disk = box.disk()
    box.backup(cache, disk / "zitcache")
    outcome = examine()
    assert state(outcome, "repository") == state(outcome, "repository-disk") == "ok"
    assert state(outcome, "repository-space") == "warn"
    box.patch.setattr("zitcache.tasks.doctor.backups._LITTLE_ROOM_BYTES", MIB)
    assert state(examine(), "repository-space") == "ok"


@pytest.mark.root
def test_a_repository_on_the_disk_of_the_cache(box: Box) -> None:
    disk = box.disk()
    cache = make_sample(disk / "cache")
    box.patch.setenv("MODELSCOPE_CACHE", str(cache))
    box.backup(cache, disk / "zitcache")
    found = check(examine(), "repository-disk")
    assert found.status == "warn" and "both are gone" in found.evidence


@pytest.mark.root
def test_several_repositories_and_none_named(box: Box) -> None:
    cache = box.cache()
    disk = box.disk()
    box.backup(cache, disk / "zitcache")
    box.backup(cache, disk / "backup" / "zitcache")
    box.patch.delenv("ZITCACHE_REPO")
    found = check(examine(), "repository")
    assert found.status == "warn" and "Several lie around" in found.evidence
    assert found.fix == f"export ZITCACHE_REPO={disk}/zitcache"


def test_a_repository_that_cannot_be_used(box: Box) -> None:
    cache = box.cache()
    repository = box.backup(cache, box.place / "zitcache")
    (repository / "config").write_text("nonsense")
    outcome = examine()
    assert state(outcome, "repository") == "fail"
    assert state(outcome, "last-backup") == "skip"
    box.patch.setenv("ZITCACHE_REPO", str(box.place / "nowhere"))
    found = check(examine(), "repository")
    assert found.status == "fail" and "There is no repository" in found.evidence


def test_a_snapshot_that_cannot_be_read(box: Box) -> None:
    repository = box.backup(box.cache(), box.place / "zitcache")
    box.backup(box.place / "cache", repository)
    first = sorted((repository / "snapshots").iterdir())[0]
    first.chmod(0o600)
    first.write_bytes(b"rotten")
    found = check(examine(), "repository")
    assert found.status == "fail" and found.fix == "zitcache check"


def test_a_repository_in_the_cloud_is_not_asked(box: Box) -> None:
    box.cache()
    box.patch.setenv("ZITCACHE_REPO", "s3://bucket/prefix")
    outcome = examine()
    assert state(outcome, "repository") == state(outcome, "repository-disk") == "ok"
    for check_id in ("last-backup", "last-check", "last-proof", "kit"):
        assert state(outcome, check_id) == "skip"
    assert state(outcome, "cache-disk") == "warn", "nobody knows whether a snapshot is there"
    assert "Whether s3://bucket/prefix holds them was not asked" in outcome.data.headline


def test_an_empty_repository(box: Box) -> None:
    cache = box.cache()
    repository = box.backup(cache, box.place / "zitcache")
    for snapshot in (repository / "snapshots").iterdir():
        snapshot.unlink()
    found = check(examine(), "last-backup")
    assert found.status == "fail" and "no snapshot yet" in found.evidence
    assert found.fix == "zitcache backup"


def run_record(name: str, *, days_ago: float, exit_code: int = 0, data: object = None) -> RunRecord:
    then = time.time() - days_ago * 86400
    step = StepRecord(
        name=name, exit_code=exit_code, seconds=1.0, data=msgspec.Raw(json.dumps(data).encode())
    )
    return RunRecord(
        command="night", host="box", program="zitcache", started=then - 1, ended=then, exit_code=exit_code,
        steps=[step],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("step", "check_id", "data"),
    [("drill", "last-drill", None), ("proof", "last-proof", {"proof": {"verdict": "passed"}})],
)
def test_drill_and_proof_and_their_age(box: Box, step: str, check_id: str, data: object) -> None:
    cache = box.cache()
    repository = box.backup(cache, box.place / "zitcache")
    assert state(examine(), check_id) == "skip", "a new repository is late with nothing"
    opened = Repository.open(LocalStorage(repository))
    remember(run_record(step, days_ago=60, data=data), opened, state_directory())
    old = check(examine(), check_id)
    assert old.status == "warn" and "60 days ago" in old.evidence
    remember(run_record(step, days_ago=1, data=data), opened, state_directory())
    assert state(examine(), check_id) == "ok"
    remember(run_record(step, days_ago=0.1, exit_code=1, data=data), opened, state_directory())
    failed = check(examine(), check_id)
    assert failed.status == "fail" and "exit code 1" in failed.evidence


def test_when_the_repository_was_read_back(box: Box) -> None:
    cache = box.cache()
    repository = box.backup(cache, box.place / "zitcache", days_ago=50)
    box.backup(cache, repository)
    never = check(examine(), "last-check")
    assert never.status == "warn" and "never" in never.evidence
    assert never.fix == "zitcache check --read-data"
    check_repository(CheckRequest(repository=str(repository), read_data=True), Session())
    assert state(examine(), "last-check") == "ok"


def test_the_kit(box: Box) -> None:
    cache = box.cache()
    repository = box.backup(cache, box.place / "zitcache")
    found = check(examine(), "kit")
    assert found.status == "warn" and found.fix == f"zitcache kit {repository}/kit"
    (repository / "kit").mkdir()
    (repository / "kit" / "recover.sh").write_text("#!/bin/sh\n")
    found = check(examine(), "kit")
    assert (found.status, found.evidence) == ("ok", f"After a reset: sh {repository}/kit/recover.sh")


def test_the_kit_of_a_migrated_cache(box: Box) -> None:
    cache = box.cache()
    assert state(examine(), "kit") == "skip"
    marker = MigrationMarker(
        id="0" * 32, host="box", time="2026-01-01T00:00:00Z", program="zitcache", method="copy", files=1,
        bytes=1, linked=True, **marker_paths("/root/cache", str(cache)),
    )  # fmt: skip
    write_marker(cache, marker)
    found = check(examine(), "kit")
    assert found.status == "warn" and found.fix == f"zitcache kit {cache}/.zitcache-kit"
    (cache / ".zitcache-kit").mkdir()
    (cache / ".zitcache-kit" / "recover.sh").write_text("#!/bin/sh\n")
    assert state(examine(), "kit") == "ok"


def test_the_options_are_in_the_lines_to_type(box: Box) -> None:
    cache = make_sample(box.place / "cache")
    repository = box.backup(cache, box.place / "zitcache")
    for snapshot in (repository / "snapshots").iterdir():
        snapshot.unlink()
    outcome = examine(cache=str(cache), repository=str(repository))
    assert check(outcome, "last-backup").fix == f"zitcache backup --cache {cache} -r {repository}"


# -- the schedule -------------------------------------------------------------------------------------

LINE = "0 2 * * * root {program} backup\n"
TIMER = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"


def test_nothing_is_scheduled(box: Box) -> None:
    found = check(examine(), "schedule")
    assert (found.status, found.fix) == ("warn", "zitcache schedule install")
    box.runs_jobs(cron="crond")
    assert "crond could run it" in check(examine(), "schedule").evidence


def test_cron_entries_need_a_daemon(box: Box) -> None:
    program = box.write("/usr/local/bin/zitcache", "#!/bin/sh\n")
    box.write("/etc/cron.d/zitcache", LINE.format(program=program))
    asleep = check(examine(), "schedule")
    assert asleep.status == "fail" and "no cron daemon is alive" in asleep.evidence
    box.runs_jobs(cron="cron")
    armed = check(examine(), "schedule")
    assert armed.status == "ok" and "/etc/cron.d/zitcache" in armed.evidence


def test_an_entry_whose_program_is_gone(box: Box) -> None:
    box.write("/etc/cron.d/zitcache", LINE.format(program="/opt/gone/zitcache"))
    box.runs_jobs(cron="cron")
    found = check(examine(), "schedule")
    assert found.status == "fail" and "/opt/gone/zitcache, which is not there" in found.evidence


def test_timers_need_systemd_and_must_be_enabled(box: Box) -> None:
    timer = box.write("/etc/systemd/system/zitcache-backup.timer", TIMER)
    asleep = check(examine(), "schedule")
    assert asleep.status == "fail" and "systemd is not running here" in asleep.evidence
    box.runs_jobs(systemd=True)
    found = check(examine(), "schedule")
    assert found.status == "fail" and "not enabled" in found.evidence
    assert found.fix == "systemctl enable --now zitcache-backup.timer"
    wants = timer.parent / "timers.target.wants"
    wants.mkdir()
    (wants / timer.name).symlink_to(timer)
    assert state(examine(), "schedule") == "ok"


def test_our_own_daemon_will_do(box: Box) -> None:
    box.runs_jobs(own_daemon=77)
    found = check(examine(), "schedule")
    assert found.status == "ok" and "process 77" in found.evidence


# -- GPU and memory -----------------------------------------------------------------------------------


@pytest.fixture
def turbo(box: Box) -> Path:
    """Z-Image-Turbo's headers and sizes, with nothing in its tensors: 32.8 GB of holes."""
    root = box.place / "cache" / "models" / "Tongyi-MAI--Z-Image-Turbo" / "snapshots" / "master"
    parts = {
        "transformer": ("F32", 4, 6_154_908_736, "ZImageTransformer2DModel"),
        "text_encoder": ("BF16", 2, 4_022_468_096, "Qwen3Model"),
        "vae": ("BF16", 2, 83_819_683, "AutoencoderKL"),
    }
    index: dict[str, object] = {"_class_name": "ZImagePipeline"}
    for name, (dtype, width, elements, class_name) in parts.items():
        header = {"w": {"dtype": dtype, "shape": [elements], "data_offsets": [0, elements * width]}}
        raw = json.dumps(header).encode()
        (root / name).mkdir(parents=True)
        with (root / name / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(raw)) + raw)
            file.truncate(8 + len(raw) + elements * width)
        (root / name / "config.json").write_text("{}")
        index[name] = ["diffusers", class_name]
    (root / "model_index.json").write_text(json.dumps(index))
    box.patch.setenv("MODELSCOPE_CACHE", str(box.place / "cache"))
    return root


def with_gpu(box: Box, total: int, free: int | None = None, *, bf16: bool = True, **more: object) -> None:
    card = Gpu(0, "NVIDIA Test", total, total if free is None else free, "570.1", bf16)
    box.patch.setattr(facts, "find_gpus", lambda environ: Gpus((card,), "nvidia-smi", **more))  # type: ignore[arg-type]


def test_the_size_that_everybody_fears_for(box: Box, turbo: Path) -> None:
    assert examine().data.headline.startswith("Your 32.8 GB are on the system disk: a reset wipes them.")


@pytest.mark.parametrize(
    ("total", "free", "bf16", "status", "said"),
    [
        (141 * GB, None, True, "ok", "needs 24.0 GB for 1024 px"),
        (24 * GB + GB // 2, None, True, "ok", "24.5 GB"),
        (24 * GB + GB // 2, 3 * GB, True, "warn", "other programs leave 3.0 GB"),
        (23 * GB, None, True, "warn", "768 px, all weights on the GPU"),
        (16 * GB, None, True, "warn", "one component at a time"),
        (8 * GB, None, True, "warn", "one layer at a time"),
        (1 * GB, None, True, "fail", "not enough"),
        (16 * GB, None, False, "warn", "in fp32 needs"),
    ],
)
def test_gpu_memory(
    box: Box, turbo: Path, total: int, free: int | None, bf16: bool, status: str, said: str
) -> None:
    with_gpu(box, total, free, bf16=bf16)
    found = check(examine(), "gpu-memory")
    assert found.status == status, found.evidence
    assert said in found.evidence


def test_gpus_that_are_not_to_be_had(box: Box) -> None:
    assert state(examine(), "gpu") == "skip"
    with_gpu(box, 24 * GB)
    assert state(examine(), "gpu") == "ok"
    with_gpu(box, 24 * GB, hidden_by="CUDA_VISIBLE_DEVICES")
    hidden = check(examine(), "gpu")
    assert (hidden.status, hidden.fix) == ("warn", "unset CUDA_VISIBLE_DEVICES")
    with_gpu(box, 24 * GB, problem="nvidia-smi gave no answer within 1.2 s.")
    assert state(examine(), "gpu") == "warn"
    box.patch.setattr(facts, "find_gpus", lambda environ: Gpus((), "nvidia-smi", "It has failed."))
    assert state(examine(), "gpu") == "fail"
    assert state(examine(), "gpu-memory") == "skip"


@pytest.mark.parametrize(
    ("total", "available", "status"),
    [(128 * GB, 100 * GB, "ok"), (64 * GB, 10 * GB, "warn"), (16 * GB, 16 * GB, "warn")],
)
def test_main_memory(box: Box, turbo: Path, total: int, available: int, status: str) -> None:
    box.patch.setattr(gpu, "main_memory", lambda: Memory(total, available, "a control group"))
    found = check(examine(), "memory")
    assert found.status == status
    assert "24.6 GB of main memory" in found.evidence


def test_a_model_that_cannot_draw_needs_no_gpu(box: Box) -> None:
    with_gpu(box, 24 * GB)
    outcome = examine()
    assert state(outcome, "gpu-memory") == state(outcome, "memory") == "skip"


# -- versions -----------------------------------------------------------------------------------------


def test_versions(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def version(package: str) -> str:
        if package == "modelscope":
            raise metadata.PackageNotFoundError(package)
        return {"diffusers": "0.30.1", "torch": "2.11.0+cu128"}.get(package, "99.0")

    monkeypatch.setattr(metadata, "version", version)
    found = check(examine(), "versions")
    assert found.status == "warn"
    assert (
        "torch 2.11.0+cu128" in found.evidence
        and "not installed for this Python: modelscope" in found.evidence
    )
    assert found.fix == "pip install --upgrade diffusers"
    monkeypatch.setattr(metadata, "version", lambda package: "99.0.dev1")
    assert state(examine(), "versions") == "ok"


@pytest.mark.root
def test_a_cache_on_the_network_is_slow(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real disk under the name of a network: only the mount table can lie about it here."""
    import dataclasses

    from zitcache.machine import mounts

    disk = box.stack.enter_context(xfs(box.place / "nfs"))
    box.patch.setenv("MODELSCOPE_CACHE", str(make_sample(disk / "cache")))
    real = mounts.mount_of

    def as_nfs(path: str) -> mounts.Mount:
        found = real(path)
        if found.mount_point != str(disk):
            return found
        return dataclasses.replace(found, fstype="nfs4", is_network=True)

    monkeypatch.setattr(mounts, "mount_of", as_nfs)
    outcome = examine()
    assert state(outcome, "cache-disk") == "ok"
    assert state(outcome, "cache-speed") == "warn"
