"""What a person reads: the first line says it, damage comes with the next command."""

from __future__ import annotations

import os

import pytest

from tests.cli import harness
from tests.cli.harness import COMMANDS, Result, fake, returning
from zitcache.errors import Exit
from zitcache.tasks.models import ModelsReport
from zitcache.tasks.snapshots import SnapshotsReport


@pytest.mark.parametrize(
    ("command", "first_line"),
    [
        ("init", "Created repository ffffffff (format 1) in /data/zitcache."),
        ("backup", "Backed up 32.8 GB in 21 s: snapshot 3fa4b2c1 (14.1 GB new) in /data/zitcache."),
        ("restore", "Restored 32.8 GB in 25 s (1.3 GB/s): snapshot 3fa4b2c1 to /root/workspace/model_cache."),
        ("diff", "3 changes from 3fa4b2c1 to 9b01d7e2: 910 B added, 800 B removed, 32.8 GB shared."),
        ("models", "1 model, 32.8 GB, in /root/workspace/model_cache: all complete."),
        ("checksum", "Fingerprinted 1 file, 467 B, in 0.1 s (4.7 kB/s): /root/workspace/model_cache."),
        (
            "verify",
            "All good; 16 files checked in 20 s (1.6 GB/s): /root/workspace/model_cache, 32.8 GB read.",
        ),
        ("copy", "Copied 1 snapshot in 1 min 0 s to s3://bucket/zitcache."),
        ("check", "All good: /data/zitcache; checked in 9.0 s (1.6 GB/s)."),
        ("kit", "The kit works, tried in 3.0 s: /data/zitcache/kit."),
        (
            "migrate",
            "Moved 32.8 GB (16 files, copied) in 44 s (746.6 MB/s): /root/workspace/model_cache to "
            "/data/modelscope_cache.",
        ),
        ("sample", "Made Tongyi-MAI/Z-Image-Turbo, 16 files, 4.1 MB, in layout modelscope: /tmp/cache."),
        ("doctor", "Your 32.8 GB are on the system disk: a reset wipes them."),
        ("drill", "The drill passed in 2.5 s: 4.1 MB, stored as 2.0 MB (49 %)."),
    ],
)
def test_the_first_line_says_what_the_user_needs(
    zitcache, monkeypatch, command: str, first_line: str
) -> None:
    arguments, task, report = COMMANDS[command]
    fake(monkeypatch, task, returning(report))
    result: Result = zitcache(*arguments)
    assert result.out.splitlines()[0] == first_line
    assert result.code == 0 and result.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_names_cannot_harm_the_terminal(zitcache, monkeypatch, command: str) -> None:
    arguments, task, report = COMMANDS[command]
    fake(monkeypatch, task, returning(poisoned(report)))
    out = zitcache(*arguments, "-v").out
    out.encode("utf-8", "strict")
    assert "\x1b" not in out and "\r" not in out
    assert "\\x1b[2J" in out and "\\xff" in out, "the bad name is shown, escaped"


def poisoned(value):
    """The same report with something nasty in every text."""
    import msgspec

    if isinstance(value, msgspec.Struct):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        plain = {"action", "kind", "change", "time", "oldest_check"}
        return type(value)(**{key: item if key in plain else poisoned(item) for key, item in fields.items()})
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    if isinstance(value, dict):
        return {poisoned(key): item for key, item in value.items()}
    return os.fsdecode(b"\x1b[2J\n\xff") + value if isinstance(value, str) else value


def test_snapshots_are_a_table_with_short_ids(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "snapshots.snapshots", returning(harness.SNAPSHOTS_REPORT))
    head, titles, first, second = zitcache("snapshots").out.splitlines()
    assert head.startswith("2 snapshots in /data/zitcache, the newest 2026-")
    assert titles.split() == ["ID", "Time", "Host", "Files", "Size", "New", "Tags", "Models"]
    assert first.startswith("3fa4b2c1  2026-") and "nightly" in first and "32.8 GB" in first
    assert second.startswith("9b01d7e2  ")
    assert first.index("Tongyi") == second.index("Tongyi") == titles.index("Models")


def test_snapshots_of_several_caches_name_them_and_suspects_are_marked(zitcache, monkeypatch) -> None:
    listed = [
        harness.snapshot_summary(),
        harness.snapshot_summary(id=harness.ID_B, cache="/other", suspect=True),
    ]
    fake(monkeypatch, "snapshots.snapshots", returning(SnapshotsReport(repository="/r", snapshots=listed)))
    out = zitcache("snapshots").out
    assert "/other" in out and out.count("suspect") == 2


def test_an_empty_repository_says_what_to_do(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "snapshots.snapshots", returning(SnapshotsReport(repository="/r", snapshots=[])))
    assert zitcache("snapshots", "-r", "/r").out.splitlines() == [
        "No snapshots yet in /r.",
        "Next: zitcache backup -r /r",
    ]


def test_damage_comes_with_kind_ranges_and_the_next_command(zitcache, monkeypatch) -> None:
    report = harness.verify_report(damaged=[harness.damaged_file()], missing=["tokenizer/tokenizer.json"])
    fake(monkeypatch, "verify.verify", returning(report, exit_code=Exit.DAMAGE))
    lines = zitcache("verify", "/my cache", "-r", "/data/zitcache").out.splitlines()
    assert lines[0].startswith("1 file damaged, 1 file missing; 16 files checked")
    assert "bit-flips  transformer/diffusion_pytorch_model-00001-of-00003.safetensors" in lines
    assert "    bytes 4,096 to 4,100, 1,000,000 to 1,000,001" in lines
    assert "  tokenizer/tokenizer.json" in lines
    assert lines[-1] == "Next: zitcache verify --repair '/my cache' -r /data/zitcache"


def test_damage_that_no_snapshot_can_repair_is_not_sent_to_repair(zitcache, monkeypatch) -> None:
    report = harness.verify_report(damaged=[harness.damaged_file(repairable=False)], snapshot_id=None)
    fake(monkeypatch, "verify.verify", returning(report, exit_code=Exit.DAMAGE))
    out = zitcache("verify").out
    assert "download these files again, and only these" in out and "Next:" not in out


def test_a_damaged_blob_is_named_as_people_know_it(zitcache, monkeypatch) -> None:
    file = harness.damaged_file(
        path="models--a--b/blobs/95fa", names=["models--a--b/snapshots/1/vae/x.safetensors"]
    )
    fake(
        monkeypatch, "verify.verify", returning(harness.verify_report(damaged=[file]), exit_code=Exit.DAMAGE)
    )
    assert "    seen as models--a--b/snapshots/1/vae/x.safetensors" in zitcache("verify").out.splitlines()


def test_a_repair_that_worked_needs_no_next_step(zitcache, monkeypatch) -> None:
    report = harness.verify_report(damaged=[harness.damaged_file(repaired=True)], repaired=1)
    fake(monkeypatch, "verify.verify", returning(report))
    out = zitcache("verify", "--repair").out
    assert out.startswith("1 file repaired; ") and "Next:" not in out


def test_what_was_not_compared_is_not_called_good(zitcache, monkeypatch) -> None:
    report = harness.verify_report(unverified=["a.bin", "b.bin"])
    fake(monkeypatch, "verify.verify", returning(report))
    out = zitcache("verify").out
    assert out.startswith("No damage found in 14, 2 unknown") and "All good" not in out
    fake(monkeypatch, "verify.verify", returning(harness.verify_report(quick=True)))
    out = zitcache("verify", "--quick").out
    assert out.startswith("Looks sound (sizes and headers only)") and "All good" not in out


def test_a_suspect_backup_is_not_a_plain_success(zitcache, monkeypatch) -> None:
    report = harness.backup_report(suspect=True, damaged=["vae/model.safetensors"], left_out=["half.part"])
    fake(monkeypatch, "backup.backup", returning(report, exit_code=Exit.DAMAGE))
    out = zitcache("backup").out
    assert "  vae/model.safetensors" in out and "marked suspect" in out and "  half.part" in out
    assert "Next: zitcache verify --repair" in out


def test_a_dry_run_says_that_nothing_was_done(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "backup.backup", returning(harness.backup_report(snapshot_id=None, dry_run=True)))
    assert zitcache("backup", "--dry-run").out.startswith(
        "Would back up 32.8 GB into /data/zitcache. Nothing"
    )
    fake(monkeypatch, "restore.restore", returning(harness.restore_report(dry_run=True)))
    out = zitcache("restore", "--dry-run").out
    assert out.startswith("Would restore 32.8 GB from snapshot 3fa4b2c1") and "16 files to bring back" in out


def test_each_way_a_restore_can_end(zitcache, monkeypatch) -> None:
    def first_line(**changes) -> str:
        fake(monkeypatch, "restore.restore", returning(harness.restore_report(**changes)))
        return zitcache("restore").out.splitlines()[0]

    same = "/root/workspace/model_cache is already as in snapshot 3fa4b2c1."
    assert first_line(action="nothing to do", files=0, files_kept=16) == f"Nothing to do: {same}"
    assert first_line(action="relinked").startswith("Relinked /root/workspace/model_cache in 25 s")
    assert first_line(failed=["vae/model.safetensors"]).startswith("Restored in part: 32.8 GB")


def test_files_that_could_not_be_restored_are_named(zitcache, monkeypatch) -> None:
    report = harness.restore_report(failed=["vae/model.safetensors"])
    fake(monkeypatch, "restore.restore", returning(report, exit_code=Exit.DAMAGE))
    lines = zitcache("restore", "-r", "/data/zitcache").out.splitlines()
    assert "1 file could not be restored:" in lines and "  vae/model.safetensors" in lines
    assert lines[-1] == "Next: zitcache check --read-data -r /data/zitcache"


def test_long_lists_are_cut_unless_verbose(zitcache, monkeypatch) -> None:
    names = [f"file-{number:03}" for number in range(50)]
    fake(
        monkeypatch, "backup.backup", returning(harness.backup_report(left_out=names), exit_code=Exit.PARTIAL)
    )
    out = zitcache("backup").out
    assert "file-019" in out and "file-020" not in out and "… and 30 more (-v shows all)" in out
    assert "file-049" in zitcache("backup", "-v").out


def test_problems_of_models_are_listed_below_the_table(zitcache, monkeypatch) -> None:
    broken = harness.model_summary(id="a/b", complete=False, problems=["shard 2 of 3 is missing"])
    fake(
        monkeypatch,
        "models.models",
        returning(ModelsReport(cache="/c", models=[harness.model_summary(), broken])),
    )
    lines = zitcache("models", "--cache", "/c").out.splitlines()
    assert lines[0] == "2 models, 65.7 GB, in /c: 1 with problems."
    assert "F32 75 %, BF16 25 %" in lines[2] and lines[2].endswith("complete")
    assert lines[-3:] == ["a/b@master:", "  shard 2 of 3 is missing", "Next: zitcache verify --cache /c"]


def test_an_unsound_repository_names_the_files_at_stake(zitcache, monkeypatch) -> None:
    report = harness.check_report(damaged=[harness.damaged_blob()])
    fake(monkeypatch, "check.check", returning(report, exit_code=Exit.DAMAGE))
    out = zitcache("check").out
    assert out.startswith("1 damaged object in /data/zitcache")
    assert "needed by vae/model.safetensors" in out and "wrong bytes" in out


def test_a_structure_check_does_not_claim_more(zitcache, monkeypatch) -> None:
    report = harness.check_report(blobs_checked=0, bytes_read=0, oldest_check=None)
    fake(monkeypatch, "check.check", returning(report))
    out = zitcache("check").out
    assert out.startswith("The structure is sound") and "All good" not in out
    assert "Next: zitcache check --read-data" in out


def test_a_failed_drill_names_the_step(zitcache, monkeypatch) -> None:
    report = harness.drill_report(ok=False)
    report.steps[3].ok = False
    report.steps[3].detail = "2 files differ"
    fake(monkeypatch, "drill.drill", returning(report, exit_code=Exit.DAMAGE))
    lines = zitcache("drill", "--sample").out.splitlines()
    assert lines[0] == "The drill failed after 2.5 s: restore."
    assert [line.split()[0] for line in lines[2:7]] == ["sample", "backup", "wipe", "restore", "verify"]
    assert "FAILED" in lines[5] and "2 files differ" in lines[5]


def test_checksum_tells_how_to_use_what_it_wrote(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "checksum.checksum", returning(harness.checksum_report(output="/f.json", recorded=3)))
    out = zitcache("checksum", "-o", "/f.json", "--cache", "/c").out
    assert "zitcache verify --against /f.json --cache /c" in out
    assert "Recorded the SHA-256 of 3 files" in out
    verbose = zitcache("checksum", "-v").out
    assert "a" * 64 + "  model_index.json" in verbose
