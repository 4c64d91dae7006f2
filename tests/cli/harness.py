"""What the tests of the command line share: a fake task for every command, the program in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tests.cli.night_reports import NIGHT_COMMANDS
from zitcache.cli.main import main
from zitcache.events import Outcome
from zitcache.tasks.backup import BackupReport
from zitcache.tasks.check import CheckReport, DamagedBlob
from zitcache.tasks.checksum import ChecksumReport
from zitcache.tasks.clean import CleanItem, CleanReport
from zitcache.tasks.copy import CopyReport, FailedSnapshot
from zitcache.tasks.doctor import Check, DiskState, DoctorReport
from zitcache.tasks.drill import DrillReport, DrillStep
from zitcache.tasks.environment import EnvReport, VariableState
from zitcache.tasks.forget import ForgetDecision, ForgetReport
from zitcache.tasks.generate import GeneratedImage, GenerateReport
from zitcache.tasks.kit import KitReport, KitStep
from zitcache.tasks.migrate import MigrateReport, Step
from zitcache.tasks.models import ModelsReport, ModelSummary
from zitcache.tasks.prune import PruneReport
from zitcache.tasks.repair import RepairReport, SetAside
from zitcache.tasks.restore import RestoreReport
from zitcache.tasks.sample import SampleReport
from zitcache.tasks.snapshots import Change, DiffReport, InitReport, SnapshotsReport, SnapshotSummary
from zitcache.tasks.tag import TaggedSnapshot, TagReport
from zitcache.tasks.undelete import ForgottenSnapshot, UndeleteReport
from zitcache.tasks.verify import DamagedFile, VerifyReport

REPO, CACHE = "/data/zitcache", "/root/workspace/model_cache"
ID_A, ID_B = "3fa4b2c1" + "0" * 56, "9b01d7e2" + "0" * 56


@dataclass(frozen=True)
class Result:
    """What a run of the program left behind."""

    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        """The JSON object on stdout, which must be the only thing there."""
        assert self.out.count("\n") == 1 and self.out.endswith("\n"), self.out
        parsed = json.loads(self.out)
        assert isinstance(parsed, dict)
        return parsed


def run_program(capsys: pytest.CaptureFixture[str], *arguments: str) -> Result:
    """Run ``zitcache ARGUMENTS`` in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return Result(stop.value.code, captured.out, captured.err)


def fake(
    monkeypatch: pytest.MonkeyPatch, target: str, behaviour: Callable[..., Any]
) -> list[tuple[Any, ...]]:
    """Put ``behaviour`` in the place of a task; gives the list of the arguments it was called with."""
    calls: list[tuple[Any, ...]] = []

    def task(*arguments: Any) -> Any:
        calls.append(arguments)
        return behaviour(*arguments)

    monkeypatch.setattr(f"zitcache.tasks.{target}", task)
    return calls


def returning(report: msgspec.Struct, **outcome: Any) -> Callable[..., Outcome[Any]]:
    """A task that succeeds with ``report``."""
    return lambda *arguments: Outcome(data=report, **outcome)


def raising(error: BaseException) -> Callable[..., Any]:
    """A task that fails with ``error``."""

    def fail(*arguments: Any) -> Any:
        raise error

    return fail


def backup_report(**changes: Any) -> BackupReport:
    """A first backup of the case."""
    report = BackupReport(
        snapshot_id=ID_A,
        repository=REPO,
        cache=CACHE,
        files=16,
        files_unchanged=2,
        size_bytes=32_848_304_654,
        bytes_read=32_848_304_000,
        bytes_new_stored=14_100_000_000,
        seconds=21.2,
        suspect=False,
        models=["Tongyi-MAI/Z-Image-Turbo@master"],
        damaged=[],
        left_out=[],
    )
    return msgspec.structs.replace(report, **changes)


def restore_report(**changes: Any) -> RestoreReport:
    """A restore of the case."""
    report = RestoreReport(
        action="restored",
        snapshot_id=ID_A,
        repository=REPO,
        target=CACHE,
        files=16,
        files_kept=0,
        bytes_written=32_848_304_654,
        seconds=25.0,
        failed=[],
    )
    return msgspec.structs.replace(report, **changes)


def snapshot_summary(**changes: Any) -> SnapshotSummary:
    """One snapshot in a list."""
    summary = SnapshotSummary(
        id=ID_A,
        time="2026-01-31T02:00:00.123456Z",
        host="box",
        cache=CACHE,
        models=["Tongyi-MAI/Z-Image-Turbo@master"],
        files=16,
        size_bytes=32_848_304_654,
        suspect=False,
        tags=["nightly"],
        bytes_new_stored=14_100_000_000,
    )
    return msgspec.structs.replace(summary, **changes)


def model_summary(**changes: Any) -> ModelSummary:
    """A sound model."""
    summary = ModelSummary(
        id="Tongyi-MAI/Z-Image-Turbo",
        revision="master",
        layout="modelscope",
        path=f"{CACHE}/models/Tongyi-MAI--Z-Image-Turbo/snapshots/master",
        files=16,
        size_bytes=32_848_304_654,
        dtypes={"BF16": 8_000_000_000, "F32": 24_000_000_000},
        complete=True,
        problems=[],
    )
    return msgspec.structs.replace(summary, **changes)


def verify_report(**changes: Any) -> VerifyReport:
    """A sound cache."""
    report = VerifyReport(
        path=CACHE,
        sources=["snapshot 3fa4b2c1"],
        files_checked=16,
        bytes_read=32_848_304_654,
        seconds=20.0,
        damaged=[],
        missing=[],
        extra=[],
        unverified=[],
        repaired=0,
        quick=False,
        cache=CACHE,
        snapshot_id=ID_A,
    )
    return msgspec.structs.replace(report, **changes)


def damaged_file(**changes: Any) -> DamagedFile:
    """A shard with two flipped regions."""
    file = DamagedFile(
        path="transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
        kind="bit-flips",
        ranges=[(4096, 4100), (1_000_000, 1_000_001)],
        message="5 bytes differ in 2 places.",
        repairable=True,
    )
    return msgspec.structs.replace(file, **changes)


def check_report(**changes: Any) -> CheckReport:
    """A sound repository, all of it read."""
    report = CheckReport(
        repository=REPO,
        snapshots=3,
        packs=120,
        packs_checked=120,
        blobs=2100,
        blobs_checked=2100,
        bytes_read=14_100_000_000,
        seconds=9.0,
        damaged=[],
        unindexed_packs=0,
        leftovers=0,
        sha256_filled_in=0,
        oldest_check="2026-01-31T02:00:00Z",
    )
    return msgspec.structs.replace(report, **changes)


def damaged_blob() -> DamagedBlob:
    """A blob with a flipped bit."""
    return DamagedBlob(id="ab" * 32, pack="cd" * 32, problem="wrong bytes", files=["vae/model.safetensors"])


def checksum_report(**changes: Any) -> ChecksumReport:
    """The fingerprint of one model with one file."""
    fingerprint = {
        "schema": "zitcache-fingerprint/1",
        "model": "Tongyi-MAI/Z-Image-Turbo",
        "revision": "master",
        "layout": "modelscope",
        "files": [{"path": "model_index.json", "size": 467, "blake3": "b" * 64, "sha256": "a" * 64}],
        "size_bytes": 467,
        "digest": "d" * 64,
    }
    report = ChecksumReport(
        cache=CACHE,
        files=1,
        bytes_read=467,
        seconds=0.1,
        output=None,
        sha256sums=None,
        recorded=0,
        fingerprints=[msgspec.Raw(json.dumps(fingerprint).encode())],
    )
    return msgspec.structs.replace(report, **changes)


def clean_report(**changes: Any) -> CleanReport:
    """A dry run that found two leftovers, one of which is too young."""
    items = [
        CleanItem(
            path=f"{CACHE}/models/a--b/snapshots/master/{name}.incomplete",
            kind="unfinished-download",
            size_bytes=4_000_000_000,
            reason="A download that broke off.",
            age_seconds=age,
            removed=False,
            kept_because=kept,
            files=1,
        )
        for name, age, kept in (("x", 90_000.0, None), ("y", 60.0, "It changed 1 min ago."))
    ]
    report = CleanReport(
        items=items,
        bytes_found=8_000_000_000,
        bytes_removable=4_000_000_000,
        bytes_freed=0,
        dry_run=True,
        caches=[CACHE],
    )
    return msgspec.structs.replace(report, **changes)


def drill_report(**changes: Any) -> DrillReport:
    """A drill that passed."""
    names = ("sample", "backup", "wipe", "restore", "verify")
    report = DrillReport(
        steps=[DrillStep(name=name, seconds=0.5, ok=True, detail="4.1 MB") for name in names],
        ok=True,
        scratch="/tmp/drill",
        size_bytes=4_100_000,
        stored_bytes=2_000_000,
        seconds=2.5,
    )
    return msgspec.structs.replace(report, **changes)


def copy_report(**changes: Any) -> CopyReport:
    """A nightly copy to a bucket."""
    report = CopyReport(
        source=REPO,
        to="s3://bucket/zitcache",
        snapshots_copied=[ID_A],
        snapshots_skipped=3,
        blobs_copied=2100,
        bytes_copied=14_100_000_000,
        bytes_stored=14_100_400_000,
        seconds=60.0,
    )
    return msgspec.structs.replace(report, **changes)


def failed_copy() -> FailedSnapshot:
    """A snapshot of which the source has lost a blob."""
    return FailedSnapshot(id=ID_B, reason="No pack holds blob abababab.")


DOCTOR_REPORT = DoctorReport(
    headline="Your 32.8 GB are on the system disk: a reset wipes them.",
    command="zitcache migrate /data/modelscope_cache",
    checks=[
        Check(
            id="cache-disk",
            status="fail",
            evidence="It is on the system disk (/dev/vda1).",
            fix="zitcache migrate /data/modelscope_cache",
        ),
        Check(id="schedule", status="warn", evidence="Nothing backs up by itself.", advice="Make it so."),
        Check(id="models-complete", status="ok", evidence="Complete: Tongyi-MAI/Z-Image-Turbo@master."),
        Check(id="gpu", status="skip", evidence="There is no GPU here."),
    ],
    disks=[
        DiskState(
            mount_point="/data",
            fstype="xfs",
            source="/dev/vdb",
            verdict="survives",
            reason="It is another disk than the system's.",
            confidence="high",
            is_network=False,
            bytes_free=400_000_000_000,
        )
    ],
    cache=CACHE,
    cache_bytes=32_848_304_654,
    repository=None,
    provider="AutoDL",
    container="docker",
    seconds=0.4,
)
INIT_REPORT = InitReport(repository=REPO, id="f" * 32, version=1)
SNAPSHOTS_REPORT = SnapshotsReport(
    repository=REPO,
    snapshots=[snapshot_summary(), snapshot_summary(id=ID_B, tags=[], bytes_new_stored=0)],
)
DIFF_REPORT = DiffReport(
    a=ID_A,
    b=ID_B,
    changes=[
        Change(path="vae/config.json", change="modified", size_before=800, size_after=900),
        Change(path="new.json", change="added", size_before=None, size_after=10),
        Change(path="README.md", change="metadata", size_before=5, size_after=5),
    ],
    bytes_added=910,
    bytes_removed=800,
    bytes_shared=32_848_000_000,
)
MODELS_REPORT = ModelsReport(cache=CACHE, models=[model_summary()])
ENV_REPORT = EnvReport(
    variables=[
        VariableState(
            name="MODELSCOPE_CACHE",
            value=CACHE,
            origin="/root/.bashrc:12",
            effective=True,
            warning="Set for shells alone: cron, services and notebooks may not see it.",
            path=CACHE,
            origins=["/root/.bashrc:12"],
        ),
        VariableState(
            name="HF_CACHE", value="/x", origin="process", effective=False, warning="It is ignored."
        ),
    ],
    cache=CACHE,
    selected={"MODELSCOPE_CACHE": CACHE, "HF_HOME": CACHE},
    installed={},
)
GENERATE_REPORT = GenerateReport(
    images=[GeneratedImage(path="/tmp/picture.png", prompt="a fox", seed=42, seconds=1.5, size=1024)],
    seconds_load=6.0,
    model="Tongyi-MAI/Z-Image-Turbo",
    revision="master",
    device="cuda:0",
    device_name="NVIDIA H200",
    dtype="bf16",
    placement="gpu",
    steps=9,
    guidance=0.0,
    pipeline="diffusers.ZImagePipeline",
    seconds=12.0,
)
KIT_REPORT = KitReport(
    action="checked",
    path="/data/zitcache/kit",
    tag="cp311-x86_64",
    program="0.1.0",
    parts=["cp311-x86_64"],
    files=1600,
    bytes=104_000_000,
    seconds=3.0,
    pointer="/data/zitcache-recover.sh",
    steps=[KitStep(name="start", ok=True, seconds=0.3, detail="zitcache 0.1.0, no network")],
)
SAMPLE_REPORT = SampleReport(
    cache="/tmp/cache",
    layout="modelscope",
    model="Tongyi-MAI/Z-Image-Turbo",
    model_path="/tmp/cache/models/Tongyi-MAI--Z-Image-Turbo/snapshots/master",
    files=16,
    size_bytes=4_100_000,
)

MIGRATE_REPORT = MigrateReport(
    action="migrated",
    source=CACHE,
    target="/data/modelscope_cache",
    method="copy",
    files=16,
    bytes=32_848_304_654,
    seconds=44.0,
    linked=True,
    source_deleted=False,
    old_copy="/root/workspace/.zitcache-old-model_cache",
    files_verified=16,
    variables={"MODELSCOPE_CACHE": "/data/modelscope_cache"},
    environment_files=["/etc/environment"],
    steps=[Step(name="link", does="swap the old path for a symlink")],
)

PRUNE_REPORT = PruneReport(
    repository=REPO,
    snapshots=12,
    snapshots_held=2,
    snapshots_gone=[ID_B],
    packs=240,
    bytes_total=15_000_000_000,
    bytes_used=14_100_000_000,
    bytes_unused=200_000_000,
    packs_marked=3,
    bytes_marked=190_000_000,
    packs_waiting=3,
    bytes_waiting=190_000_000,
    packs_revived=1,
    packs_deleted=7,
    bytes_freed=450_000_000,
    packs_repacked=2,
    bytes_repacked=20_000_000,
    packs_unreadable=0,
    objects_merged=12,
    temporaries_removed=0,
    next_sweep="2026-02-01T02:00:00Z",
    reserve_used=False,
    grace_seconds=86400.0,
    seconds=2.0,
)
FORGET_REPORT = ForgetReport(
    repository=REPO,
    snapshots=[
        ForgetDecision(
            id=ID_A,
            time="2026-01-31T02:00:00.123456Z",
            host="box",
            cache=CACHE,
            models=["Tongyi-MAI/Z-Image-Turbo@master"],
            tags=["nightly"],
            suspect=False,
            action="keep",
            reasons=["daily snapshot", "last good snapshot of Tongyi-MAI/Z-Image-Turbo"],
        ),
        ForgetDecision(
            id=ID_B,
            time="2025-01-31T02:00:00.123456Z",
            host="box",
            cache=CACHE,
            models=["Tongyi-MAI/Z-Image-Turbo@master"],
            tags=[],
            suspect=False,
            action="forget",
            reasons=[],
        ),
    ],
    kept=1,
    forgotten=1,
    until="2026-02-01T02:00:00Z",
)
UNDELETE_REPORT = UndeleteReport(
    repository=REPO,
    snapshots=[
        ForgottenSnapshot(
            id=ID_B,
            time="2025-01-31T02:00:00.123456Z",
            host="box",
            cache=CACHE,
            models=["Tongyi-MAI/Z-Image-Turbo@master"],
            size_bytes=32_848_304_654,
            forgotten_at="2026-01-31T02:00:00Z",
            until="2026-02-01T02:00:00Z",
            state="forgotten",
        )
    ],
    restored=0,
    gone=0,
)
TAG_REPORT = TagReport(
    repository=REPO,
    snapshots=[TaggedSnapshot(id=ID_A, time="2026-01-31T02:00:00.123456Z", tags=["nightly"], pinned=True)],
    changed=1,
)
REPAIR_REPORT = RepairReport(
    repository=REPO,
    cache=CACHE,
    config_rebuilt=False,
    set_aside=[SetAside(name=f"index/{ID_A}", problem="wrong bytes", place=f"quarantine/index/{ID_B}")],
    packs_indexed=1,
    packs_broken=1,
    packs_read=0,
    bytes_salvaged=60_000_000,
    copies_damaged=1,
    blobs_lost=2,
    blobs_healed=2,
    bytes_healed=8_000_000,
    snapshots=12,
    snapshots_damaged=[],
    snapshots_healed=[ID_A],
    seconds=3.0,
)

# Per command: the arguments of a plain call, the task behind it, and what that task gives.
COMMANDS: dict[str, tuple[tuple[str, ...], str, msgspec.Struct]] = {
    "init": (("init", REPO), "snapshots.init", INIT_REPORT),
    "backup": (("backup",), "backup.backup", backup_report()),
    "restore": (("restore",), "restore.restore", restore_report()),
    "snapshots": (("snapshots",), "snapshots.snapshots", SNAPSHOTS_REPORT),
    "diff": (("diff", "3fa4", "9b01"), "snapshots.diff", DIFF_REPORT),
    "migrate": (("migrate", "/data/modelscope_cache"), "migrate.migrate", MIGRATE_REPORT),
    "models": (("models",), "models.models", MODELS_REPORT),
    "checksum": (("checksum",), "checksum.checksum", checksum_report()),
    "verify": (("verify",), "verify.verify", verify_report()),
    "copy": (("copy", REPO, "s3://bucket/zitcache"), "copy.copy", copy_report()),
    "check": (("check",), "check.check", check_report()),
    "forget": (("forget",), "forget.forget", FORGET_REPORT),
    "prune": (("prune",), "prune.prune", PRUNE_REPORT),
    "undelete": (("undelete",), "undelete.undelete", UNDELETE_REPORT),
    "tag": (("tag", "3fa4", "--pin"), "tag.tag", TAG_REPORT),
    "repair": (("repair",), "repair.repair", REPAIR_REPORT),
    "kit": (("kit", "--check"), "kit.command.kit", KIT_REPORT),
    "env": (("env",), "environment.env", ENV_REPORT),
    "generate": (("generate",), "generate.generate", GENERATE_REPORT),
    "clean": (("clean",), "clean.clean", clean_report()),
    "sample": (("sample", "/tmp/cache"), "sample.sample", SAMPLE_REPORT),
    "doctor": (("doctor",), "doctor.doctor", DOCTOR_REPORT),
    "drill": (("drill", "--sample"), "drill.drill", drill_report()),
    **NIGHT_COMMANDS,
}
