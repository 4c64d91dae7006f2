"""The backends that every test of the contract runs against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3.fixtures import FaultProxy, S3Server, proxy, s3_keys, s3_server
from tests.storage.faults import FaultyStorage
from zitcache.storage.local import LocalStorage
from zitcache.storage.opening import open_storage
from zitcache.storage.protocol import Storage
from zitcache.storage.s3.storage import S3Storage

__all__ = ["proxy", "s3_keys", "s3_server"]


@pytest.fixture(params=["local", "faulty", "s3", "s3-proxy"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Each backend, empty. "faulty" without faults shows that the test double keeps the contract too.

    "s3" is a real server, "s3-proxy" the same behind the proxy that other tests let break things.
    """
    if request.param.startswith("s3"):
        behind: S3Server | FaultProxy = request.getfixturevalue(
            "proxy" if request.param == "s3-proxy" else "s3_server"
        )
        request.getfixturevalue("s3_keys")
        remote = open_storage(behind.place())
        assert isinstance(remote, S3Storage)
        yield remote
        remote.close()
        return
    local = LocalStorage(tmp_path / "repository")
    yield local if request.param == "local" else FaultyStorage(local)
    local.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalStorage]:
    storage = LocalStorage(tmp_path / "repository")
    yield storage
    storage.close()
