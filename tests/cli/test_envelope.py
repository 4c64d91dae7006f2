"""The JSON contract: one object, on success and on failure, with the fields that scripts rely on."""

from __future__ import annotations

import json

import pytest

from tests.cli import harness
from tests.cli.harness import COMMANDS, Result, fake, raising, returning
from tests.cli.night_reports import NIGHT_CONTRACT
from zitcache.errors import Exit, NoSpace
from zitcache.events import Notice

FIELDS = {"schema", "command", "ok", "exit_code", "data", "warnings", "error"}
# The contract of the data fields, per command. A list means that data is a list of such objects.
CONTRACT: dict[str, set[str] | list[set[str]]] = {
    "init": {"repository", "id", "version"},
    "backup": {
        "snapshot_id", "files", "files_unchanged", "bytes_read", "bytes_new_stored", "seconds", "suspect"
    },
    "restore": {"action", "target", "files", "bytes_written", "seconds"},
    "snapshots": [{"id", "time", "host", "cache", "models", "files", "size_bytes", "suspect"}],
    "diff": {"a", "b", "changes", "bytes_added", "bytes_removed", "bytes_shared"},
    "models": [{"id", "revision", "layout", "path", "files", "size_bytes", "complete", "problems"}],
    "checksum": {"cache", "files", "bytes_read", "seconds", "output", "sha256sums", "fingerprints"},
    "verify": {"files_checked", "damaged", "missing", "extra", "proof", "proofs"},
    "env": {"variables", "cache", "selected", "installed", "written", "changes"},
    "generate": {"images", "seconds_load"},
    "clean": {"items", "bytes_found", "bytes_freed", "dry_run"},
    "copy": {
        "from", "to", "snapshots_copied", "snapshots_skipped", "blobs_copied", "bytes_copied", "seconds"
    },
    "migrate": {"source", "target", "method", "files", "bytes", "seconds", "linked", "source_deleted"},
    "check": {"blobs_checked", "bytes_read", "damaged"},
    "forget": {"snapshots", "kept", "forgotten", "until", "dry_run", "prune"},
    "prune": {
        "snapshots", "packs_marked", "packs_deleted", "bytes_freed", "packs_repacked", "next_sweep", "seconds"
    },
    "undelete": {"snapshots", "restored", "gone"},
    "tag": {"snapshots", "changed"},
    "repair": {
        "set_aside", "packs_indexed", "packs_broken", "blobs_lost", "blobs_healed", "snapshots_damaged"
    },
    "kit": {"action", "path", "tag", "program", "parts", "files", "bytes", "seconds", "pointer", "steps"},
    "sample": {"cache", "layout", "model", "model_path", "files", "size_bytes"},
    "doctor": {"headline", "command", "checks", "disks", "cache", "repository", "fixed"},
    "drill": {"steps"},
    **NIGHT_CONTRACT,
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_success_is_one_object_with_the_promised_fields(zitcache, monkeypatch, command: str) -> None:
    arguments, task, report = COMMANDS[command]
    fake(monkeypatch, task, returning(report))
    result: Result = zitcache(*arguments, "--json")
    envelope = result.envelope
    assert set(envelope) == FIELDS
    assert envelope["schema"] == "zitcache/1" and envelope["command"] == command
    assert (result.code, envelope["exit_code"], envelope["ok"]) == (0, 0, True)
    assert envelope["error"] is None and envelope["warnings"] == []
    promised, data = CONTRACT[command], envelope["data"]
    if isinstance(promised, list):
        assert isinstance(data, list) and data
        assert all(promised[0] <= set(item) for item in data)
    else:
        assert promised <= set(data)
    assert result.err == "", "--json is silent on stderr"


@pytest.mark.parametrize("command", COMMANDS)
def test_failure_is_one_object_too(zitcache, monkeypatch, command: str) -> None:
    arguments, task, _ = COMMANDS[command]
    fake(monkeypatch, task, raising(NoSpace("No space left: /data is full.")))
    result: Result = zitcache(*arguments, "--json")
    envelope = result.envelope
    assert set(envelope) == FIELDS
    assert (result.code, envelope["exit_code"], envelope["ok"]) == (5, 5, False)
    assert envelope["command"] == command and envelope["data"] is None
    assert envelope["error"] == {
        "code": "no-space",
        "message": "No space left: /data is full.",
        "hint": NoSpace.default_hint,
        "exit_code": 5,
    }


def test_damage_is_not_ok_but_has_data_and_no_error(zitcache, monkeypatch) -> None:
    report = harness.verify_report(damaged=[harness.damaged_file()])
    fake(monkeypatch, "verify.verify", returning(report, exit_code=Exit.DAMAGE))
    result: Result = zitcache("verify", "--json")
    assert (result.code, result.envelope["ok"], result.envelope["error"]) == (1, False, None)
    assert result.envelope["data"]["damaged"] == [
        {
            "path": "transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
            "kind": "bit-flips",
            "ranges": [[4096, 4100], [1_000_000, 1_000_001]],
            "message": "5 bytes differ in 2 places.",
            "repaired": False,
            "names": [],
            "repairable": True,
        }
    ]


def test_warnings_are_reported_once_each_whichever_way_they_come(zitcache, monkeypatch) -> None:
    def task(request, session):
        session.warn("same-disk", "The repository is on the same disk.", "zitcache init /data/zitcache")
        extra = Notice(code="other", message="Another one.")
        return harness.Outcome(data=harness.backup_report(), warnings=[*session.warnings, extra])

    fake(monkeypatch, "backup.backup", task)
    assert zitcache("backup", "--json").envelope["warnings"] == [
        {
            "code": "same-disk",
            "message": "The repository is on the same disk.",
            "hint": "zitcache init /data/zitcache",
        },
        {"code": "other", "message": "Another one.", "hint": None},
    ]
    err = zitcache("backup").err
    assert err.count("The repository is on the same disk.") == 1 and err.count("Another one.") == 1


def test_warnings_before_a_failure_are_kept(zitcache, monkeypatch) -> None:
    def task(request, session):
        session.warn("same-disk", "Same disk.")
        raise NoSpace("Full.")

    fake(monkeypatch, "backup.backup", task)
    assert [item["code"] for item in zitcache("backup", "--json").envelope["warnings"]] == ["same-disk"]


def test_the_fingerprints_are_json_objects_not_text(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "checksum.checksum", returning(harness.checksum_report()))
    [fingerprint] = zitcache("checksum", "--json").envelope["data"]["fingerprints"]
    assert fingerprint["files"][0]["sha256"] == "a" * 64


def test_names_that_are_no_text_give_valid_utf8_and_can_be_told_apart(zitcache, monkeypatch) -> None:
    names = ["a\udcff\n\\b", "a\\xff", "plain \\ é\n", "\u202eevil"]
    fake(monkeypatch, "backup.backup", returning(harness.backup_report(left_out=names)))
    result: Result = zitcache("backup", "--json")
    result.out.encode("utf-8", "strict")
    assert json.loads(result.out)["data"]["left_out"] == [
        "a\\xff\n\\\\b",
        "a\\\\xff",
        "plain \\ é\n",
        "\u202eevil",
    ]


def test_a_task_gets_what_was_typed(zitcache, monkeypatch) -> None:
    calls = fake(monkeypatch, "restore.restore", returning(harness.restore_report()))
    zitcache("restore", "3fa4", "-r", "/r", "--to", "/t", "--only", "*.json", "--only", "vae/*", "--dry-run")
    request = calls[0][0]
    assert (request.snapshot, request.repository, request.to) == ("3fa4", "/r", "/t")
    assert request.only == ("*.json", "vae/*") and request.dry_run

    calls = fake(monkeypatch, "backup.backup", returning(harness.backup_report()))
    zitcache("backup", "--reread", "1/4", "--tag", "a", "--tag", "b", "--init", "--cache", "/c", "--repo=/r")
    request = calls[0][0]
    assert (request.reread, request.tags, request.init) == (0.25, ("a", "b"), True)
    assert (request.cache, request.repository, request.dry_run) == ("/c", "/r", False)

    calls = fake(monkeypatch, "backup.backup", returning(harness.backup_report()))
    zitcache("backup")
    request = calls[0][0]
    assert (request.reread, request.tags, request.cache, request.repository) == (0.0, (), None, None)

    calls = fake(monkeypatch, "verify.verify", returning(harness.verify_report()))
    zitcache("verify", "/c", "--against", "f.json", "--quick", "--repair", "--snapshot", "9b", "--dry-run")
    request = calls[0][0]
    assert (request.path, str(request.against), request.snapshot) == ("/c", "f.json", "9b")
    assert request.quick and request.repair and request.dry_run

    calls = fake(monkeypatch, "check.check", returning(harness.check_report()))
    zitcache("check", "--read-data-subset", "1/7")
    assert (calls[0][0].read_data, calls[0][0].subset) == (False, "1/7")

    calls = fake(monkeypatch, "checksum.checksum", returning(harness.checksum_report()))
    zitcache("checksum", "-o", "f.json", "--sha256sums", "SUMS")
    assert (str(calls[0][0].output), str(calls[0][0].sha256sums)) == ("f.json", "SUMS")

    calls = fake(monkeypatch, "sample.sample", returning(harness.SAMPLE_REPORT))
    zitcache("sample", "/tmp/x", "--layout", "huggingface-shared")
    assert (str(calls[0][0]), calls[0][1].value) == ("/tmp/x", "huggingface-shared")

    calls = fake(monkeypatch, "drill.drill", returning(harness.drill_report()))
    zitcache("drill", "--sample", "--scratch", "/s", "--keep")
    assert (calls[0][0].use_sample, calls[0][0].scratch, calls[0][0].keep) == (True, "/s", True)

    calls = fake(monkeypatch, "snapshots.diff", returning(harness.DIFF_REPORT))
    zitcache("diff", "3fa4", "latest", "-r", "/r")
    assert calls[0][:3] == ("/r", "3fa4", "latest")


def test_init_uses_the_place_that_the_settings_name(zitcache, monkeypatch) -> None:
    calls = fake(monkeypatch, "snapshots.init", returning(harness.INIT_REPORT))
    monkeypatch.setenv("ZITCACHE_REPO", "/from/environment")
    assert zitcache("init").code == 0
    assert calls[0][0] == "/from/environment"
    assert zitcache("init", "/typed").code == 0
    assert calls[1][0] == "/typed"
