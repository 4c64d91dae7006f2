"""Every command on a repository in a bucket, on a line where something goes wrong.

``copy``, ``restore`` and pruning beside others have files of their own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import (
    KIB,
    MIB,
    back_up,
    bring_back,
    command,
    flip,
    make_model,
    noise,
    require_same,
    weights,
    zitcache,
)
from tests.s3.fixtures import S3Server, new_prefix
from tests.s3.hangs import within
from tests.s3.proxy import FaultProxy
from tests.s3.server import APPENDER, BUCKET, OWNER, SECRETS
from tests.storage.disks import python_environment
from zitcache.errors import CredentialsError, Unreachable, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.storage.s3 import retry
from zitcache.tasks.check import CheckRequest, check
from zitcache.tasks.drill import DrillRequest, drill
from zitcache.tasks.snapshots import diff, init, snapshots
from zitcache.tasks.verify import VerifyRequest, verify


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0.5)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return make_model(
        tmp_path / "cache",
        {
            "model-1.safetensors": weights({f"layer{number}": 3 * MIB for number in range(6)}),
            "model-2.safetensors": noise(20 * MIB, "second"),
            "tokenizer.json": noise(30 * KIB, "tokenizer"),
        },
    )


def run_backup(place: str, cache: Path) -> None:
    assert back_up(place, cache).exit_code == 0  # type: ignore[arg-type]


def run_snapshots(place: str, cache: Path) -> None:
    assert len(snapshots(place, Session()).data.snapshots) == 1


def run_diff(place: str, cache: Path) -> None:
    (cache / "added").write_bytes(b"added")
    run_backup(place, cache)
    found = snapshots(place, Session()).data.snapshots
    assert len(diff(place, found[0].id, found[1].id, Session()).data.changes) == 1


def run_check(place: str, cache: Path) -> None:
    outcome: Outcome[Any] = check(CheckRequest(repository=place), Session())
    assert outcome.exit_code == 0, outcome.data


def run_check_of_all_data(place: str, cache: Path) -> None:
    outcome: Outcome[Any] = check(CheckRequest(repository=place, read_data=True), Session())
    assert outcome.exit_code == 0, outcome.data


def run_repair(place: str, cache: Path) -> None:
    damaged = next(path for path in cache.rglob("model-2.safetensors"))
    before = damaged.read_bytes()
    flip(damaged, 5 * MIB)
    outcome = verify(VerifyRequest(repository=place, path=str(cache), repair=True), Session())
    assert outcome.exit_code == 0, outcome.data
    assert damaged.read_bytes() == before


def run_drill(place: str, cache: Path) -> None:
    outcome = drill(DrillRequest(repository=place, cache=str(cache)), Session())
    assert outcome.exit_code == 0, outcome.data


def run_init(place: str, cache: Path) -> None:
    head, _, query = place.partition("?")
    init(f"{head}-second?{query}", Session())


def run_restore(place: str, cache: Path) -> None:
    target = cache.with_name("restored")
    assert bring_back(place, target).exit_code == 0  # type: ignore[arg-type]
    require_same(cache, target)


COMMANDS: dict[str, Callable[[str, Path], None]] = {
    "init": run_init,
    "backup": run_backup,
    "snapshots": run_snapshots,
    "diff": run_diff,
    "check": run_check,
    "check --read-data": run_check_of_all_data,
    "verify --repair": run_repair,
    "drill": run_drill,
    "restore": run_restore,
}

FAULTS: dict[str, Callable[[FaultProxy], object]] = {
    "a storm of 503": lambda proxy: proxy.answer(503, "SlowDown", seconds=3, skip=2),
    "a storm of 429 and 500": lambda proxy: (
        proxy.answer(429, "TooManyRequests", times=6, skip=3),
        proxy.answer(500, "InternalError", times=6),
    ),
    "cut bodies": lambda proxy: (
        proxy.cut_response(after=70_000, method="GET", times=8),
        proxy.cut_request(after=200_000, method="PUT", times=4),
    ),
    "lost answers": lambda proxy: proxy.lose_answer(times=6, skip=1),
    "an endpoint that vanishes": lambda proxy: proxy.refuse(3),
    "delays": lambda proxy: proxy.delay(0.4, times=12),
    "a session that expires": lambda proxy: proxy.answer(400, "ExpiredToken", seconds=2, skip=2),
    "flipped bytes on the way up": lambda proxy: proxy.flip_request(at=150_000, method="PUT", times=2),
    "late listings": lambda proxy: proxy.hide_new(3600, path=BUCKET, times=3),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_survives_every_fault_that_passes(
    proxy: FaultProxy, s3_server: S3Server, cache: Path, name: str, fault: str
) -> None:
    prefix = new_prefix()
    # Made without the proxy, so that late listings hide what the faulty command itself writes.
    if name != "backup":
        run_backup(s3_server.place(prefix), cache)
    else:
        init(s3_server.place(prefix), Session())
    FAULTS[fault](proxy)
    place = proxy.place(prefix, give_up_after=30)
    within(120, lambda: COMMANDS[name](place, cache))
    proxy.clear()
    run_check_of_all_data(s3_server.place(prefix), cache)


LASTING: dict[str, tuple[Callable[[FaultProxy], object], type[ZitcacheError]]] = {
    "503": (lambda proxy: proxy.answer(503, "SlowDown"), Unreachable),
    "gone": (lambda proxy: proxy.refuse(600), Unreachable),
    "wrong key": (lambda proxy: proxy.answer(403, "InvalidAccessKeyId"), CredentialsError),
    "clock": (lambda proxy: proxy.answer(403, "RequestTimeTooSkewed"), CredentialsError),
    "expired": (lambda proxy: proxy.answer(400, "ExpiredToken"), CredentialsError),
}


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_in_a_clear_error_when_a_fault_lasts(
    proxy: FaultProxy,
    s3_server: S3Server,
    cache: Path,
    name: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zitcache.storage.s3.requests.RENEWAL_SECONDS", 2.0)
    prefix = new_prefix()
    run_backup(s3_server.place(prefix), cache)
    break_it, kind = LASTING[fault]
    break_it(proxy)
    with pytest.raises(kind) as caught:
        within(60, lambda: COMMANDS[name](proxy.place(prefix, give_up_after=2), cache))
    said = caught.value.message + " " + (caught.value.hint or "")
    assert caught.value.hint and not any(secret in said for secret in SECRETS)
    run_check_of_all_data(s3_server.place(prefix), cache)


def test_packs_of_another_machine_that_are_listed_late_are_not_taken_for_lost(
    proxy: FaultProxy, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = proxy.place()
    run_backup(place, cache)
    proxy.hide_new(3600, match=lambda request: "packs" in request.target)
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "of-another-machine"))
    run_check_of_all_data(place, cache)
    run_restore(place, cache)


def test_a_flipped_byte_in_a_bucket_is_found_and_named(
    s3_server: S3Server, s3_keys: None, cache: Path
) -> None:
    prefix = new_prefix()
    place = s3_server.place(prefix)
    run_backup(place, cache)
    name = max((key for key in s3_server.objects(prefix) if key.startswith("packs/")), key=str)
    raw = s3_server.client()
    body = bytearray(raw.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read())
    body[len(body) // 2] ^= 1
    raw.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=bytes(body))
    outcome = check(CheckRequest(repository=place, read_data=True), Session())
    assert outcome.exit_code == 1


# -- kill, and go on ----------------------------------------------------------------------------------


def test_a_killed_backup_goes_on_and_sends_only_what_is_missing(
    proxy: FaultProxy, s3_server: S3Server, tmp_path: Path
) -> None:
    cache = make_model(
        tmp_path / "big", {f"part-{number}.bin": noise(24 * MIB, str(number)) for number in range(10)}
    )
    prefix = new_prefix()
    place = proxy.place(prefix, limit_upload="60M")
    init(place, Session())
    proxy.clear()
    running = subprocess.Popen(
        command("backup", "-r", place, "--cache", cache, "--no-progress"),
        env=python_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 90
    while len([key for key in s3_server.objects(prefix) if key.startswith("packs/")]) < 3:
        assert running.poll() is None and time.monotonic() < end, running.communicate()
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = sum(size for key, size in s3_server.objects(prefix).items() if key.startswith("packs/"))
    assert not any(key.startswith("snapshots/") for key in s3_server.objects(prefix))
    proxy.clear()
    assert back_up(place, cache).exit_code == 0  # type: ignore[arg-type]
    sent = proxy.bytes_sent()
    total = 240 * MIB
    assert before >= 3 * 30 * MIB
    assert sent < total - before + 40 * MIB, "packs that are there are not sent again"
    target = tmp_path / "restored"
    assert bring_back(s3_server.place(prefix), target).exit_code == 0  # type: ignore[arg-type]
    require_same(cache, target)


def test_an_unchanged_cache_sends_next_to_nothing(proxy: FaultProxy, cache: Path) -> None:
    place = proxy.place()
    run_backup(place, cache)
    proxy.clear()
    run_backup(place, cache)
    assert proxy.bytes_sent("") < 20_000
    assert proxy.count() < 40


# -- append-only --------------------------------------------------------------------------------------


def test_keys_that_may_not_delete_are_enough_for_a_night(
    proxy: FaultProxy, s3_server: S3Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaweedFS's action Write allows deleting; the proxy takes that away, as a policy does elsewhere."""
    proxy.answer(403, "AccessDenied", method="DELETE")
    for name, value in APPENDER.environment().items():
        monkeypatch.setenv(name, value)
    place = proxy.place()
    run_backup(place, cache)
    (cache / "more").write_bytes(noise(3 * MIB, "more"))
    run_backup(place, cache)
    run_check_of_all_data(place, cache)
    run_restore(place, cache)
    run_repair(place, cache)
    run_drill(place, cache)
    assert proxy.count("PUT") > 5


def test_pruning_with_keys_that_may_not_delete_is_refused(proxy: FaultProxy, cache: Path) -> None:
    place = proxy.place()
    run_backup(place, cache)
    before = sorted(S3Server(proxy.endpoint).objects(place.partition("?")[0].rpartition("/")[2]))
    proxy.answer(403, "AccessDenied", method="DELETE")
    env = {"ZITCACHE_REPO": place, "AWS_EC2_METADATA_DISABLED": "true", **OWNER.environment()}
    (cache / "more").write_bytes(noise(3 * MIB, "more"))
    run_backup(place, cache)
    assert zitcache("forget", "--keep-last", "1", "--json", env=env).returncode in {0, 1, 4}
    done = zitcache("prune", "--json", "--yes", env=env)
    if done.returncode == 2:
        done = zitcache("prune", "--json", env=env)
    envelope = json.loads(done.stdout)
    said = json.dumps(envelope)
    assert "AccessDenied" in said or "append-only" in said or envelope["ok"]
    after = S3Server(proxy.endpoint).objects(place.partition("?")[0].rpartition("/")[2])
    assert set(before) <= set(after)
    run_check_of_all_data(place, cache)


# -- secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--debug"], ["--json"], ["-v"]], ids=lambda given: " ".join(given))
@pytest.mark.parametrize("fault", ["wrong secret", "expired", "gone", "forbidden", "echo"])
def test_no_output_ever_holds_a_secret(
    proxy: FaultProxy, s3_server: S3Server, fault: str, options: list[str]
) -> None:
    prefix = new_prefix()
    init(s3_server.place(prefix), Session())
    secret, token = "zit-owner-secret-c2VjcmV0", "FwoGZXIvYXdzEBYaDHVzZXNzaW9uLXRva2Vu"
    env = {
        "AWS_ACCESS_KEY_ID": OWNER.id,
        "AWS_SECRET_ACCESS_KEY": "wrong-" + secret if fault == "wrong secret" else secret,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if fault == "expired":
        env["AWS_SESSION_TOKEN"] = token
        proxy.answer(400, "ExpiredToken", text=f"The token {token} has expired")
    elif fault == "gone":
        proxy.refuse(600)
    elif fault == "forbidden":
        proxy.answer(403, "AccessDenied", text=f"{OWNER.id} may not")
    elif fault == "echo":
        proxy.answer(400, "Strange", text=f"You sent {secret}, which is not liked")
    place = proxy.place(prefix, give_up_after=1)
    done = zitcache("snapshots", "-r", place, *options, env=env)
    assert done.returncode in {4, 11}, done.stderr
    assert secret not in done.stdout + done.stderr
    assert token not in done.stdout + done.stderr
    assert ("Traceback" in done.stderr) == ("--debug" in options)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["snapshots", "-r", "s3://KEY:geheim@bucket/x"], 2),
        (["snapshots", "-r", "s3://bucket/x", "--endpoint-url", "http://user:geheim@127.0.0.1"], 2),
        (["init", "s3://bucket/x?secret=geheim"], 2),
        (["snapshots", "-r", "s4://KEY:geheim@bucket/x"], 2),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_secret_in_the_wrong_place_is_not_repeated(
    arguments: list[str], code: int, options: list[str], tmp_path: Path
) -> None:
    done = zitcache(*arguments, *options, env={"HOME": str(tmp_path)})
    assert done.returncode == code
    assert "geheim" not in done.stdout + done.stderr


def test_a_secret_in_the_environment_s_endpoint_is_not_repeated(tmp_path: Path) -> None:
    env = {"AWS_ENDPOINT_URL": "http://user:geheim@127.0.0.1:9", "HOME": str(tmp_path), **OWNER.environment()}
    done = zitcache("snapshots", "-r", "s3://bucket/x", env=env)
    assert done.returncode == 2
    assert "geheim" not in done.stdout + done.stderr and "AWS_ENDPOINT_URL" in done.stderr


# -- the command line -----------------------------------------------------------------------------------


def test_options_variables_and_profile_reach_the_endpoint(s3_server: S3Server, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(
        f"[backup]\naws_access_key_id = {OWNER.id}\naws_secret_access_key = {OWNER.secret}\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile backup]\nendpoint_url = {s3_server.endpoint}\nregion = us-east-1\n")
    env = {
        "HOME": str(tmp_path),
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_CONFIG_FILE": str(config),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    bucket = f"s3://{BUCKET}/{new_prefix()}"
    done = zitcache("init", bucket, "--endpoint-url", s3_server.endpoint, "--profile", "backup", env=env)
    assert done.returncode == 0, done.stderr
    # The next command, word for word, without any option.
    place = done.stdout.partition("ZITCACHE_REPO='")[2].partition("'")[0]
    assert "endpoint_url=" in place and "profile=backup" in place
    assert zitcache("snapshots", env={**env, "ZITCACHE_REPO": place}).returncode == 0
    # Everything from variables, and everything from the profile.
    named = {**env, "ZITCACHE_REPO": bucket, "ZITCACHE_PROFILE": "backup"}
    assert zitcache("snapshots", env={**named, "ZITCACHE_ENDPOINT_URL": s3_server.endpoint}).returncode == 0
    assert zitcache("snapshots", env=named).returncode == 0
    again = zitcache("snapshots", "--json", env={**env, "ZITCACHE_REPO": bucket, "AWS_PROFILE": "backup"})
    assert again.returncode == 0, again.stdout
    missing = zitcache("snapshots", "-r", bucket, "--profile", "nobody", env=env)
    assert missing.returncode == 4 and "nobody" in missing.stderr


def test_options_for_s3_without_s3_are_refused(tmp_path: Path) -> None:
    done = zitcache("snapshots", "-r", tmp_path, "--concurrency", "4", env={"HOME": str(tmp_path)})
    assert done.returncode == 2 and "--concurrency" in done.stderr
    done = zitcache(
        "snapshots", "-r", "s3://bucket/x", "--limit-download", "fast", env={"HOME": str(tmp_path)}
    )
    assert done.returncode == 2 and "20M" in done.stderr
    done = zitcache("snapshots", "-r", "s3://bucket/x", "--concurrency", "many", env={"HOME": str(tmp_path)})
    assert done.returncode == 2


def test_without_any_keys(s3_server: S3Server, tmp_path: Path) -> None:
    env = {
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
    }
    done = zitcache("snapshots", "-r", s3_server.place(), env=env)
    assert done.returncode == 4, done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr
