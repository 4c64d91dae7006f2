"""``init`` in S3: what it finds out, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.s3.fixtures import S3Server, new_prefix
from tests.s3.hangs import within
from tests.s3.proxy import FaultProxy, Request
from tests.s3.server import BUCKET, READER
from zitcache.errors import CredentialsError, UsageError
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.storage.opening import open_storage
from zitcache.storage.s3 import probe
from zitcache.storage.traits import CRC32, FORBID_OVERWRITE, IF_NONE_MATCH, MD5, NONE, innermost
from zitcache.tasks.snapshots import init


def config_of(server: S3Server, prefix: str) -> dict[str, object]:
    body = server.client().get_object(Bucket=BUCKET, Key=f"{prefix}/config")["Body"].read()
    found: dict[str, object] = json.loads(body)
    return found


def test_a_good_endpoint_is_probed_and_recorded(s3_server: S3Server, s3_keys: None) -> None:
    prefix = new_prefix()
    place = s3_server.place(prefix)
    session = Session()
    outcome = init(place, session)
    assert outcome.data.repository == place
    assert outcome.warnings == []
    assert config_of(s3_server, prefix)["storage"] == {
        "kind": "s3",
        "conditional_put": IF_NONE_MATCH,
        "checksum": CRC32,
        "listing": "immediate",
        "deletes": "allowed",
    }
    assert set(s3_server.objects(prefix)) == {"config", "readme.txt"}, "the probe cleaned up behind it"
    opened = Repository.open(open_storage(place))
    assert getattr(innermost(opened.storage), "traits").checksum == CRC32  # noqa: B009


def test_nothing_secret_is_stored(s3_server: S3Server, s3_keys: None) -> None:
    prefix = new_prefix()
    init(s3_server.place(prefix), Session())
    for key in s3_server.objects(prefix):
        body = s3_server.client().get_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["Body"].read()
        assert b"zit-owner" not in body and b"secret" not in body.lower()


def test_a_second_init_is_refused_and_changes_nothing(s3_server: S3Server, s3_keys: None) -> None:
    prefix = new_prefix()
    place = s3_server.place(prefix)
    init(place, Session())
    before = config_of(s3_server, prefix)
    with pytest.raises(UsageError, match="already holds a repository") as caught:
        init(place, Session())
    assert f"'{place}'" in (caught.value.hint or ""), "can be pasted into a shell"
    assert config_of(s3_server, prefix) == before


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        (["config", "data/00/ab", "keys/1", "locks/x", "index/1", "snapshots/1"], "restic"),
        (["config", "README", "data/0/1", "hints.5"], "borg"),
        (["kopia.repository", "kopia.blobcfg", "p01"], "kopia"),
        (["hub/models--a--b/refs/main", "models/x"], "hub SDKs"),
        (["holiday.jpg"], "'holiday.jpg'"),
        (["packs/00", "snapshots/11"], "lost its config"),
    ],
)
def test_a_prefix_that_belongs_to_something_else_is_refused(
    s3_server: S3Server, s3_keys: None, keys: list[str], word: str
) -> None:
    prefix = new_prefix()
    for key in keys:
        s3_server.client().put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=b"theirs")
    with pytest.raises(UsageError) as caught:
        init(s3_server.place(prefix), Session())
    assert word in caught.value.message
    assert caught.value.hint
    assert set(s3_server.objects(prefix)) == set(keys)


def test_a_neighbour_with_a_longer_name_is_no_obstacle(s3_server: S3Server, s3_keys: None) -> None:
    prefix = new_prefix()
    s3_server.client().put_object(Bucket=BUCKET, Key=f"{prefix}-two/x", Body=b"theirs")
    init(s3_server.place(prefix), Session())


def test_a_bucket_that_is_not_there(s3_server: S3Server, s3_keys: None) -> None:
    with pytest.raises(Exception, match="no bucket") as caught:
        init(f"s3://no-such-bucket-here/x?endpoint_url={s3_server.endpoint}", Session())
    assert getattr(caught.value, "exit_code", None) == 6
    assert "aws s3 mb" in getattr(caught.value, "hint", "")


def test_keys_that_may_only_read(s3_server: S3Server, s3_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in READER.environment().items():
        monkeypatch.setenv(name, value)
    prefix = new_prefix()
    with pytest.raises(CredentialsError, match="AccessDenied"):
        init(s3_server.place(prefix), Session())
    assert s3_server.objects(prefix) == {}


LIES: dict[str, tuple[Callable[[FaultProxy], object], str]] = {
    "another byte": (
        lambda proxy: proxy.flip_response(at=100, method="GET", path="/probes/"),
        "not what was sent",
    ),
    "another body": (
        lambda proxy: proxy.edit_response(lambda body: body[:-1] + b"?", method="GET", path="/probes/"),
        "not what was sent",
    ),
    "shorter bodies": (
        lambda proxy: proxy.truncate_response(by=3, method="GET", path="/probes/"),
        "another range",
    ),
    "never listed": (lambda proxy: proxy.hide_new(600), "not listed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_endpoint_that_lies_is_refused_with_the_reason(
    s3_server: S3Server, proxy: FaultProxy, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "VISIBLE_SECONDS", 1.0)
    prefix = new_prefix()
    make, reason = LIES[lie]
    make(proxy)
    with pytest.raises(UsageError, match="No repository can be kept") as caught:
        within(60, lambda: init(proxy.place(prefix), Session()))
    assert reason in caught.value.message
    assert "Nothing was created" in caught.value.message
    assert s3_server.objects(prefix) == {}


def test_an_endpoint_that_keeps_other_sizes_is_refused(s3_server: S3Server, proxy: FaultProxy) -> None:
    prefix = new_prefix()
    answer = {"Content-Length": "7", "Last-Modified": "Wed, 25 Nov 2026 10:00:00 GMT"}
    proxy.answer(200, "", headers=answer, method="HEAD", path="/probes/")
    with pytest.raises(UsageError, match="keeps 7 bytes where 200000 were sent"):
        within(60, lambda: init(proxy.place(prefix), Session()))
    assert s3_server.objects(prefix) == {}


def test_conditions_that_are_ignored_are_found_out(s3_server: S3Server, proxy: FaultProxy) -> None:
    """A server that takes the header and does not obey is worse than one that refuses it."""
    prefix = new_prefix()
    proxy.answer(200, "", body=b"", headers={"ETag": '"0"'}, method="PUT", match=is_conditional_probe)
    session = Session()
    init(proxy.place(prefix), session)
    assert config_of(s3_server, prefix)["storage"]["conditional_put"] == NONE  # type: ignore[index]
    assert [warning.code for warning in session.warnings] == ["no-conditional-write"]


def is_conditional_probe(request: Request) -> bool:
    return "/probes/" in request.path and (
        "if-none-match" in request.headers or "x-oss-forbid-overwrite" in request.headers
    )


def test_an_endpoint_with_a_header_of_its_own_for_conditions(s3_server: S3Server, proxy: FaultProxy) -> None:
    """OSS: 501 for If-None-Match, 409 FileAlreadyExists for x-oss-forbid-overwrite."""
    prefix = new_prefix()
    written: set[str] = set()

    def exists(request: Request) -> bool:
        if request.headers.get("x-oss-forbid-overwrite") != "true":
            return False
        was_there = request.path in written
        written.add(request.path)
        return was_there

    proxy.answer(501, "NotImplemented", match=lambda request: "if-none-match" in request.headers)
    proxy.answer(409, "FileAlreadyExists", match=exists)
    init(proxy.place(prefix), Session())
    assert config_of(s3_server, prefix)["storage"]["conditional_put"] == FORBID_OVERWRITE  # type: ignore[index]
    storage = Repository.open(open_storage(proxy.place(prefix))).storage
    assert storage.create("locks/aa", b"first") is True
    assert storage.create("locks/aa", b"second") is False
    storage.store("packs/aa", b"x")
    storage.store("packs/aa", b"x")
    assert storage.load("packs/aa") == b"x"


def test_checksums_are_only_used_where_they_are_compared(s3_server: S3Server, proxy: FaultProxy) -> None:
    prefix = new_prefix()
    proxy.answer(400, "InvalidArgument", match=lambda request: "x-amz-checksum-crc32" in request.headers)
    init(proxy.place(prefix), Session())
    assert config_of(s3_server, prefix)["storage"]["checksum"] == MD5  # type: ignore[index]
    proxy.answer(400, "InvalidArgument", match=lambda request: "content-md5" in request.headers)
    prefix = new_prefix()
    init(proxy.place(prefix), Session())
    assert config_of(s3_server, prefix)["storage"]["checksum"] == NONE  # type: ignore[index]


def test_keys_that_may_not_delete_are_enough(s3_server: S3Server, proxy: FaultProxy) -> None:
    prefix = new_prefix()
    proxy.answer(403, "AccessDenied", method="DELETE")
    session = Session()
    init(proxy.place(prefix), session)
    assert config_of(s3_server, prefix)["storage"]["deletes"] == "refused"  # type: ignore[index]
    assert [warning.code for warning in session.warnings] == ["append-only"]
    left = {key.partition("/")[0] for key in s3_server.objects(prefix)}
    assert left == {"config", "readme.txt", "probes"}


def test_probes_of_a_failed_init_are_no_obstacle(s3_server: S3Server, s3_keys: None) -> None:
    prefix = new_prefix()
    s3_server.client().put_object(Bucket=BUCKET, Key=f"{prefix}/probes/0123-0", Body=b"left")
    init(s3_server.place(prefix), Session())


def test_late_listings_are_recorded_and_said(s3_server: S3Server, proxy: FaultProxy) -> None:
    prefix = new_prefix()
    proxy.hide_new(1.0)
    session = Session()
    init(proxy.place(prefix), session)
    assert config_of(s3_server, prefix)["storage"]["listing"] == "late"  # type: ignore[index]
    assert [warning.code for warning in session.warnings] == ["late-listing"]


@pytest.mark.parametrize(
    "fault",
    [
        lambda proxy: proxy.answer(503, "SlowDown", times=5),
        lambda proxy: proxy.answer(500, "InternalError", times=5, skip=4),
        lambda proxy: proxy.lose_answer(method="PUT", times=4),
        lambda proxy: proxy.cut_request(after=1000, method="PUT", times=2),
        lambda proxy: proxy.cut_response(after=70_000, method="GET", times=2),
        lambda proxy: proxy.delay(0.5, times=5),
    ],
)
def test_faults_that_pass_do_not_disturb_the_probe(
    s3_server: S3Server, proxy: FaultProxy, fault: Callable[[FaultProxy], object]
) -> None:
    fault(proxy)
    prefix = new_prefix()
    within(60, lambda: init(proxy.place(prefix), Session()))
    assert config_of(s3_server, prefix)["storage"]["conditional_put"] == IF_NONE_MATCH  # type: ignore[index]


def test_two_that_create_one_repository_make_one(s3_server: S3Server, s3_keys: None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    place = s3_server.place()

    def create(number: int) -> str:
        try:
            return init(place, Session()).data.id
        except UsageError:
            return ""

    with ThreadPoolExecutor(4) as pool:
        made = [each for each in pool.map(create, range(4)) if each]
    assert len(made) == 1
    assert Repository.open(open_storage(place)).config.id == made[0]
