"""What lies in a bucket beside packs, and buckets with rules of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.world import MIB, back_up, bring_back, make_model, noise, require_same
from tests.proof.test_goldens import golden
from tests.s3.fixtures import S3Server, new_prefix
from tests.s3.proxy import FaultProxy
from tests.s3.server import BUCKET, free_ports
from zitcache.errors import CredentialsError, UsageError
from zitcache.events import Session
from zitcache.proof.goldens import load_goldens, save_golden
from zitcache.repository.repository import Repository
from zitcache.storage.opening import open_storage
from zitcache.tasks.check import CheckRequest, check
from zitcache.tasks.snapshots import init


@pytest.fixture(autouse=True)
def metadata_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))


def test_goldens_are_kept_in_the_bucket(
    s3_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(s3_location, Session())
    record = golden("picture").record
    kept = save_golden(Repository.open(open_storage(s3_location)), record)
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "another-machine"))
    found = load_goldens(Repository.open(open_storage(s3_location)))
    assert [(each.id, each.record) for each in found] == [(kept, record)]


def test_a_repository_at_the_root_of_a_bucket(s3_server: S3Server, s3_keys: None, tmp_path: Path) -> None:
    bucket = f"root-{new_prefix()}"
    s3_server.client().create_bucket(Bucket=bucket)
    cache = make_model(tmp_path / "cache", {"model.bin": noise(5 * MIB)})
    place = f"s3://{bucket}?endpoint_url={s3_server.endpoint}"
    back_up(place, cache)  # type: ignore[arg-type]
    bring_back(place, tmp_path / "restored")  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")
    with pytest.raises(UsageError, match="already holds a repository"):
        init(place, Session())


@pytest.fixture
def locked_bucket(s3_server: S3Server, s3_keys: None) -> Iterator[str]:
    """A bucket with object lock, which keeps all versions."""
    bucket = f"lock-{new_prefix()}"
    raw = s3_server.client()
    raw.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    yield bucket


def test_a_bucket_with_object_lock(s3_server: S3Server, locked_bucket: str, tmp_path: Path) -> None:
    raw = s3_server.client()
    raw.put_object_lock_configuration(
        Bucket=locked_bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    cache = make_model(tmp_path / "cache", {"model.bin": noise(5 * MIB)})
    place = f"s3://{locked_bucket}/zit?endpoint_url={s3_server.endpoint}"
    assert back_up(place, cache).exit_code == 0  # type: ignore[arg-type]
    assert check(CheckRequest(repository=place, read_data=True), Session()).exit_code == 0
    bring_back(place, tmp_path / "restored")  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")


def test_retention_that_is_asked_for_is_set(s3_server: S3Server, locked_bucket: str) -> None:
    storage = open_storage(f"s3://{locked_bucket}/x?endpoint_url={s3_server.endpoint}&object_lock_days=3")
    storage.store("packs/aa", b"precious")
    found = s3_server.client().get_object_retention(Bucket=locked_bucket, Key="x/packs/aa")["Retention"]
    assert found["Mode"] == "GOVERNANCE"
    assert storage.load("packs/aa") == b"precious"


def test_a_delete_that_a_lock_refuses_is_told(proxy: FaultProxy) -> None:
    storage = open_storage(proxy.place())
    storage.store("packs/aa", b"precious")
    proxy.answer(409, "FileImmutable", method="DELETE")
    with pytest.raises(CredentialsError, match="may not be deleted") as caught:
        storage.delete("packs/aa")
    assert "retention" in (caught.value.hint or "")
    assert storage.load("packs/aa") == b"precious"


def test_a_broken_bundle_of_certificates_is_named(
    s3_keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    place = f"s3://{BUCKET}/x?endpoint_url=https://127.0.0.1:{free_ports(1)[0]}&give_up_after=1"
    with pytest.raises(UsageError) as caught:
        open_storage(place).load("config")
    assert "AWS_CA_BUNDLE" in (caught.value.hint or "")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)[0]}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    storage = open_storage(s3_location)
    storage.store("packs/aa", b"x")
    assert storage.load("packs/aa") == b"x"
