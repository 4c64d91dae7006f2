"""The how-to pages for object stores: their commands work as written, their policies are sound and small."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import (
    MIB,
    back_up,
    bring_back,
    describe,
    make_model,
    noise,
    require_same,
    zitcache,
)
from tests.s3.fixtures import S3Server, new_prefix
from tests.s3.server import OWNER
from zitcache.errors import CredentialsError
from zitcache.events import Session
from zitcache.storage.opening import open_storage
from zitcache.tasks.check import CheckRequest, check

PAGES = sorted((Path(__file__).parents[2] / "docs/how-to").glob("keep-snapshots-in-*.md"))
_BLOCK = re.compile(r"```(sh|json)\n(.*?)```", re.DOTALL)
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.:-]+")


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in _BLOCK.findall(page.read_text()) if kind == language]


def policies(page: Path) -> list[dict[str, Any]]:
    return [found for found in map(json.loads, blocks(page, "json")) if "Statement" in found]


def test_there_is_a_page_for_each() -> None:
    assert [page.stem.rpartition("-")[2] for page in PAGES] == ["aws", "oss", "r2", "seaweedfs"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_in_their_order(page: Path, s3_server: S3Server, tmp_path: Path) -> None:
    """On the tests' server: its endpoint stands for the page's, and a bucket of the test for the page's."""
    bucket = f"page-{new_prefix()}"
    s3_server.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    cache = make_model(tmp_path / "cache", {"model.bin": noise(3 * MIB)})
    before = describe(cache)
    env = {
        "HOME": str(tmp_path),
        "ZITCACHE_CACHE": str(cache),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        **OWNER.environment(),
    }
    ran = set()
    for line in "\n".join(blocks(page, "sh")).splitlines():
        line = _ENDPOINT.sub(s3_server.endpoint, line.replace("my-bucket", bucket))
        words = shlex.split(line, comments=True)
        if words[:1] == ["export"]:
            name, _, value = words[1].partition("=")
            env[name] = env.get(name, value) if value == "…" else value
        elif words[:1] == ["zitcache"]:
            done = zitcache(*words[1:], env=env)
            assert done.returncode == 0, (line, done.stderr)
            assert words[1] != "init" or f"s3://{bucket}/zitcache?" in done.stdout
            ran.add(words[1])
    assert {"init", "backup", "snapshots", "restore", "check"} <= ran
    assert describe(cache) == before


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_options_that_a_page_names_exist(page: Path) -> None:
    said = zitcache("backup", "--help", env=dict(os.environ)).stdout
    for option in set(re.findall(r"`(--[a-z-]+)", page.read_text())):
        assert option in said, option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_policy_lets_a_machine_delete_what_a_restore_needs(page: Path) -> None:
    for policy in policies(page):
        for statement in policy["Statement"]:
            actions, resources = (
                each if isinstance(each, list) else [each]
                for each in (statement["Action"], statement["Resource"])
            )
            assert not any(action.endswith(":*") or action == "*" for action in actions)
            if statement["Effect"] == "Allow" and any("Delete" in action for action in actions):
                assert all(resource.endswith(("/claims/*", "/probes/*")) for resource in resources)


def test_the_page_for_seaweedfs_protects_what_it_says(
    s3_server: S3Server, s3_keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real server that refuses to delete: a night works, and nothing a restore needs can be removed."""
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))
    bucket = f"deny-{new_prefix()}"
    raw = s3_server.client()
    raw.create_bucket(Bucket=bucket)
    page = next(page for page in PAGES if "seaweedfs" in page.name)
    [policy] = policies(page)
    raw.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy).replace("my-bucket", bucket))
    place = f"s3://{bucket}/zitcache?endpoint_url={s3_server.endpoint}"
    cache = make_model(tmp_path / "cache", {"model.bin": noise(5 * MIB)})
    assert back_up(place, cache).exit_code == 0  # type: ignore[arg-type]
    storage = open_storage(place)
    for folder in ("packs", "snapshots"):
        for found in list(storage.list(folder)):
            with pytest.raises(CredentialsError, match="may not be deleted"):
                storage.delete(found.name)
    assert check(CheckRequest(repository=place, read_data=True), Session()).exit_code == 0
    bring_back(place, tmp_path / "restored")  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")


def test_all_deletes_refused_by_a_real_server(
    s3_server: S3Server, s3_keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))
    bucket = f"deny-{new_prefix()}"
    raw = s3_server.client()
    raw.create_bucket(Bucket=bucket)
    everything = f"arn:aws:s3:::{bucket}/*"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": everything}
    raw.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    place = f"s3://{bucket}/zitcache?endpoint_url={s3_server.endpoint}"
    cache = make_model(tmp_path / "cache", {"model.bin": noise(5 * MIB)})
    outcome = back_up(place, cache)  # type: ignore[arg-type]
    assert outcome.exit_code == 0
    assert "append-only" in [warning.code for warning in outcome.warnings]
    (cache / "more").write_bytes(noise(MIB, "more"))
    assert back_up(place, cache).exit_code == 0  # type: ignore[arg-type]
    assert check(CheckRequest(repository=place, read_data=True), Session()).exit_code == 0
    bring_back(place, tmp_path / "restored")  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")
