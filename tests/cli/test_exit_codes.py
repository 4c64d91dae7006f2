"""Every documented exit code, and the three lines that say what, why and what next."""

from __future__ import annotations

import errno
import os

import pytest

from tests.cli import harness
from tests.cli.harness import Result, fake, raising, returning
from zitcache import errors
from zitcache.errors import Exit

CODES = [
    (errors.UsageError("x"), 2),
    (errors.UnsupportedFormat(), 2),
    (errors.CredentialsError(), 4),
    (errors.NoSpace(), 5),
    (errors.NotFound(), 6),
    (errors.CacheNotFound(), 6),
    (errors.RepositoryNotFound(), 6),
    (errors.SnapshotNotFound(), 6),
    (errors.ObjectNotFound(), 6),
    (errors.Locked(), 7),
    (errors.IntegrityError(), 10),
    (errors.BlobDamaged(), 1),
    (errors.Unreachable(), 11),
    (errors.ZitcacheError(), 70),
    (errors.Interrupted(), 130),
    (KeyboardInterrupt(), 130),
    (MemoryError(), 5),
    (ValueError("wrong"), 70),
    (RecursionError(), 70),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x"), 5),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/data/x"), 5),
    (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/x"), 4),
    (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/data/x"), 6),
    (OSError(errno.EIO, os.strerror(errno.EIO), "/data/x"), 11),
    (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 2),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: repr(value)[:60])
def test_every_error_has_its_exit_code_in_words_and_in_json(zitcache, monkeypatch, error, code: int) -> None:
    fake(monkeypatch, "backup.backup", raising(error))
    result: Result = zitcache("backup")
    assert result.code == code
    assert result.out == "", "an error is no result"
    assert result.err.startswith("error: ") and "Traceback" not in result.err
    in_json: Result = zitcache("backup", "--json")
    assert in_json.code == in_json.envelope["error"]["exit_code"] == in_json.envelope["exit_code"] == code
    assert in_json.envelope["error"]["message"] and in_json.envelope["error"]["code"]


def all_error_classes() -> list[type[errors.ZitcacheError]]:
    found, pending = [], [errors.ZitcacheError]
    while pending:
        found.append(kind := pending.pop())
        pending += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == "zitcache.errors"]


@pytest.mark.parametrize("kind", all_error_classes())
def test_no_error_class_is_forgotten(zitcache, monkeypatch, kind: type[errors.ZitcacheError]) -> None:
    fake(monkeypatch, "models.models", raising(kind()))
    assert zitcache("models").code == kind.exit_code


@pytest.mark.parametrize("code", [Exit.OK, Exit.DAMAGE, Exit.PARTIAL, Exit.PROOF_FAILED])
def test_a_task_that_finished_decides_its_exit_code(zitcache, monkeypatch, code: Exit) -> None:
    fake(monkeypatch, "verify.verify", returning(harness.verify_report(), exit_code=code))
    assert zitcache("verify").code == code
    assert zitcache("verify", "--json").envelope["ok"] is (code == 0)


def test_an_error_says_what_why_and_the_next_command(zitcache, monkeypatch) -> None:
    def task(request, session):
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
        except OSError as error:
            raise errors.NoSpace("The pack was not written.", hint="df -h /data") from error

    fake(monkeypatch, "backup.backup", task)
    assert zitcache("backup").err.splitlines() == [
        "error: The pack was not written.",
        "  No space left on device",
        "hint: df -h /data",
    ]


def test_a_message_cannot_forge_a_hint_or_drive_the_terminal(zitcache, monkeypatch) -> None:
    fake(
        monkeypatch, "backup.backup", raising(errors.NotFound("evil\nhint: rm -rf /\x1b[2J\udcff", hint=None))
    )
    err = zitcache("backup").err
    assert err.splitlines() == ["error: evil", "  hint: rm -rf /\\x1b[2J\\xff"]


def test_a_bug_asks_for_debug_and_names_the_command(zitcache, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["zitcache", "backup", "-r", "/my data"])
    fake(monkeypatch, "backup.backup", raising(ZeroDivisionError("division by zero")))
    err = zitcache("backup").err
    assert "a bug in zitcache: ZeroDivisionError: division by zero" in err
    assert "zitcache backup -r '/my data' --debug" in err


def test_only_debug_shows_a_traceback(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "backup.backup", raising(errors.NoSpace()))
    assert "Traceback" not in zitcache("backup").err
    assert "Traceback" in zitcache("backup", "--debug").err
    result: Result = zitcache("backup", "--debug", "--json")
    assert "Traceback" in result.err and result.envelope["exit_code"] == 5


def test_a_bug_in_the_rendering_is_a_bug_too(zitcache, monkeypatch) -> None:
    fake(monkeypatch, "backup.backup", returning(harness.INIT_REPORT))
    result: Result = zitcache("backup")
    assert result.code == 70 and result.err.startswith("error: This is a bug in zitcache: AttributeError")
