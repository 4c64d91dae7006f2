"""Everything that goes wrong between here and a bucket, for every verb of the storage.

Each ends in success after some attempts, or in an error that says what happened; nothing is lost or doubled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.s3.hangs import within
from tests.s3.proxy import FaultProxy, Request
from zitcache.errors import (
    CredentialsError,
    Exit,
    IntegrityError,
    NoSpace,
    NotFound,
    ObjectNotFound,
    Unreachable,
    UsageError,
    ZitcacheError,
)
from zitcache.storage.opening import open_storage
from zitcache.storage.s3 import client, retry
from zitcache.storage.s3.storage import S3Storage
from zitcache.storage.traits import CRC32, NONE, StorageTraits

MIB = 1 << 20
BIG = bytes(range(256)) * (40 * MIB // 256)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
def storage(proxy: FaultProxy) -> Iterator[S3Storage]:
    """Behind the proxy, with one object, and a first contact that is over."""
    opened = open_storage(proxy.place(give_up_after=20))
    assert isinstance(opened, S3Storage)
    opened.adapt(StorageTraits(checksum=CRC32))
    opened.store("packs/old", BIG)
    proxy.clear()
    yield opened
    opened.close()


def load_into(storage: S3Storage) -> None:
    buffer = bytearray(len(BIG) - 1000)
    storage.load_into("packs/old", 1000, memoryview(buffer))
    assert buffer == BIG[1000:]


def load(storage: S3Storage) -> None:
    assert storage.load("packs/old") == BIG


def write(storage: S3Storage) -> None:
    with storage.writer() as writer:
        for start in range(0, len(BIG), 4 * MIB):
            writer.write(memoryview(BIG)[start : start + 4 * MIB])
        writer.commit("packs/new")
    assert storage.info("packs/new").size == len(BIG)


def store(storage: S3Storage) -> None:
    storage.store("index/new", b"x" * 1000)
    assert storage.load("index/new") == b"x" * 1000


def create(storage: S3Storage) -> None:
    assert storage.create("locks/new", b"mine") is True
    assert storage.load("locks/new") == b"mine"


def list_all(storage: S3Storage) -> None:
    assert [found.name for found in storage.list("packs")] == ["packs/old"]


def info(storage: S3Storage) -> None:
    assert storage.info("packs/old").size == len(BIG)


def delete(storage: S3Storage) -> None:
    storage.delete("packs/old")
    with pytest.raises(ObjectNotFound):
        storage.info("packs/old")


VERBS: list[Callable[[S3Storage], None]] = [load, load_into, write, store, create, list_all, info, delete]

PASSING: dict[str, Callable[[FaultProxy], object]] = {
    "503 SlowDown": lambda proxy: proxy.answer(503, "SlowDown", times=8),
    "429": lambda proxy: proxy.answer(429, "TooManyRequests", headers={"Retry-After": "0"}, times=4),
    "500": lambda proxy: proxy.answer(500, "InternalError", times=4),
    "502 without sense": lambda proxy: proxy.answer(502, "", text="<html>Bad Gateway", times=3),
    "408": lambda proxy: proxy.answer(408, "RequestTimeout", times=3),
    "lost answers": lambda proxy: proxy.lose_answer(times=2),
    "delay": lambda proxy: proxy.delay(0.3, times=3),
    "connection refused": lambda proxy: proxy.refuse(2.0),
    "expired token": lambda proxy: proxy.answer(400, "ExpiredToken", times=3),
}


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_fault_that_passes_is_survived(
    proxy: FaultProxy, storage: S3Storage, verb: Callable[[S3Storage], None], fault: str
) -> None:
    PASSING[fault](proxy)
    within(40, lambda: verb(storage))


LASTING: dict[str, tuple[Callable[[FaultProxy], object], type[ZitcacheError], str]] = {
    "503": (lambda proxy: proxy.answer(503, "SlowDown"), Unreachable, "HTTP 503"),
    "500": (lambda proxy: proxy.answer(500, "InternalError"), Unreachable, "HTTP 500"),
    "gone": (lambda proxy: proxy.refuse(600), Unreachable, "refused"),
    "403": (lambda proxy: proxy.answer(403, "AccessDenied"), CredentialsError, "AccessDenied"),
    "key": (lambda proxy: proxy.answer(403, "InvalidAccessKeyId"), CredentialsError, "AWS_ACCESS_KEY_ID"),
    "signature": (lambda proxy: proxy.answer(403, "SignatureDoesNotMatch"), CredentialsError, "AWS_SECRET"),
    "expired": (lambda proxy: proxy.answer(400, "ExpiredToken"), CredentialsError, "expired"),
    "clock": (
        lambda proxy: proxy.answer(
            403, "RequestTimeTooSkewed", headers={"Date": "Wed, 25 Nov 2020 10:00:00 GMT"}
        ),
        CredentialsError,
        "minutes ahead",
    ),
    "bucket": (lambda proxy: proxy.answer(404, "NoSuchBucket"), NotFound, "zitcache"),
    "quota": (lambda proxy: proxy.answer(403, "QuotaExceeded"), NoSpace, "quota"),
    "region": (lambda proxy: proxy.answer(301, "PermanentRedirect"), UsageError, "--region"),
}


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_fault_that_lasts_is_a_clear_error_in_time(
    proxy: FaultProxy,
    storage: S3Storage,
    verb: Callable[[S3Storage], None],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage.requests.patience.give_up_after = 1.0
    monkeypatch.setattr("zitcache.storage.s3.requests.RENEWAL_SECONDS", 1.0)
    cause, kind, word = LASTING[fault]
    cause(proxy)
    begin = time.monotonic()
    with pytest.raises(kind) as caught:
        within(30, lambda: verb(storage))
    assert time.monotonic() - begin < 10
    assert word in caught.value.message + " " + (caught.value.hint or "")
    assert "zit-owner-secret" not in caught.value.message + (caught.value.hint or "")


def test_cut_uploads_are_sent_again(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.cut_request(after=3 * MIB, method="PUT", times=2)
    within(60, lambda: write(storage))
    assert storage.load("packs/new") == BIG


def test_cut_downloads_go_on_where_they_broke(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.cut_response(after=5 * MIB, method="GET", times=5)
    within(60, lambda: load(storage))
    received = sum(request.received for request in proxy.seen("GET"))
    assert received < len(BIG) + 8 * MIB, "what had arrived was not asked for again"
    assert any("if-match" in request.headers for request in proxy.seen("GET"))


def test_bodies_that_are_short_with_a_right_length_are_completed(
    proxy: FaultProxy, storage: S3Storage
) -> None:
    proxy.truncate_response(by=1000, method="GET", times=3)
    with pytest.raises(IntegrityError, match="another range"):
        within(30, lambda: load(storage))
    proxy.clear()
    within(30, lambda: load(storage))


def test_a_bit_that_flips_on_the_way_up_is_refused_by_the_endpoint_and_sent_again(
    proxy: FaultProxy, storage: S3Storage
) -> None:
    proxy.flip_request(at=2 * MIB + 7, method="PUT", times=2)
    within(60, lambda: write(storage))
    assert storage.load("packs/new") == BIG
    assert [request.status for request in proxy.seen("PUT")] == [400, 400, 200]


def test_an_object_that_became_another_while_it_was_read_is_read_anew(
    proxy: FaultProxy, storage: S3Storage
) -> None:
    storage.store("index/changing", b"a" * (2 * MIB))
    other = open_storage(storage.location)
    proxy.cut_response(after=MIB, method="GET", path="changing", times=1)
    # The body breaks off after 1 MiB; before the rest is asked for, somebody replaces the object.
    original = storage.requests.patience.begin

    def begin() -> retry.Tries:
        tries = original()
        pause = tries.pause

        def replaced_meanwhile(**arguments: float | None) -> bool:
            other.delete("index/changing")
            other.store("index/changing", b"b" * (3 * MIB // 2))
            return pause(**arguments)

        tries.pause = replaced_meanwhile  # type: ignore[method-assign]
        return tries

    storage.requests.patience.begin = begin  # type: ignore[method-assign]
    assert within(30, lambda: storage.load("index/changing")) == b"b" * (3 * MIB // 2)


def test_create_whose_answer_was_lost_knows_its_own_object(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.lose_answer(method="PUT", times=1)
    assert storage.create("locks/mine", b"mine") is True
    open_storage(storage.location).store("locks/theirs", b"theirs")
    proxy.clear()
    proxy.answer(500, "InternalError", method="PUT", times=1)
    assert storage.create("locks/theirs", b"mine") is False
    assert storage.load("locks/theirs") == b"theirs"


def test_a_stalled_answer_ends_at_the_timeout(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_SECONDS", 1)
    storage = open_storage(proxy.place())
    proxy.stall(times=1)
    begin = time.monotonic()
    within(20, lambda: storage.store("packs/aa", b"x"))
    assert 0.9 < time.monotonic() - begin < 10
    assert storage.load("packs/aa") == b"x"


def test_a_region_that_the_endpoint_names_is_used(proxy: FaultProxy, storage: S3Storage) -> None:
    def is_elsewhere(request: Request) -> bool:
        return "/eu-west-9/" not in request.headers["authorization"]

    proxy.answer(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-9"}, match=is_elsewhere)
    within(30, lambda: [verb(storage) for verb in VERBS if verb not in {list_all}])
    assert storage.requests.connection.region == "eu-west-9"


def test_a_session_renewed_in_the_middle_is_picked_up(
    proxy: FaultProxy,
    storage: S3Storage,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("aws") / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(place))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    def keys(secret: str) -> None:
        place.write_text(f"[default]\naws_access_key_id = zit-owner-key\naws_secret_access_key = {secret}\n")

    keys("of-an-old-session")
    fresh = open_storage(proxy.place(storage.location.partition("?")[0].rpartition("/")[2], give_up_after=20))
    old = proxy.answer(400, "ExpiredToken", text="The provided token has expired.")
    threading.Timer(0.5, lambda: keys("zit-owner-secret-c2VjcmV0")).start()
    threading.Timer(2.0, lambda: setattr(old, "times", 0)).start()
    assert within(20, lambda: fresh.load("packs/old", 0, 10)) == BIG[:10]


def test_keys_replaced_in_the_middle_are_picked_up(
    proxy: FaultProxy, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.answer(403, "InvalidAccessKeyId", times=1)
    assert within(20, lambda: storage.load("packs/old", 0, 10)) == BIG[:10]
    proxy.answer(403, "SignatureDoesNotMatch", times=2)
    with pytest.raises(CredentialsError):
        within(20, lambda: storage.load("packs/old", 0, 10))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
    with pytest.raises(CredentialsError):
        within(20, lambda: open_storage(storage.location).load("packs/old", 0, 10))


def test_late_listings_do_not_hide_what_this_process_wrote(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.hide_new(60)
    write(storage)
    assert sorted(found.name for found in storage.list("packs")) == ["packs/new", "packs/old"]
    storage.delete("packs/new")
    assert [found.name for found in storage.list("packs")] == ["packs/old"]


def test_keys_that_may_not_delete_are_told_so(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.answer(403, "AccessDenied", method="DELETE")
    with pytest.raises(CredentialsError, match="may not be deleted") as caught:
        storage.delete("packs/old")
    assert caught.value.exit_code is Exit.CREDENTIALS
    assert "append-only" in (caught.value.hint or "") or "only add" in (caught.value.hint or "")
    load(storage)


def test_a_long_storm_over_many_requests_loses_nothing(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.answer(503, "SlowDown", match=lambda request: hash(time.monotonic()) % 3 != 0, seconds=6)
    names = [f"packs/n{number}" for number in range(60)]
    with ThreadPoolExecutor(16) as pool:
        within(60, lambda: list(pool.map(lambda name: storage.store(name, name.encode() * 1000), names)))
    assert {found.name for found in storage.list("packs")} == {*names, "packs/old"}
    assert all(storage.load(name) == name.encode() * 1000 for name in names)


def test_listings_of_many_pages_are_complete(proxy: FaultProxy, storage: S3Storage) -> None:
    names = [f"many/n{number:04}" for number in range(1205)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.store(name, b""), names))
    fresh = open_storage(storage.location)
    assert sorted(found.name for found in fresh.list("many")) == names
    proxy.clear()
    # An endpoint that knows the old listing only.
    proxy.answer(501, "NotImplemented", match=lambda request: "list-type=2" in request.target)
    assert sorted(found.name for found in open_storage(storage.location).list("many")) == names


def test_foreign_keys_in_the_bucket_are_not_objects(s3_server, storage: S3Storage) -> None:  # type: ignore[no-untyped-def]
    prefix = storage.location.partition("?")[0].rpartition("/")[2]
    raw = s3_server.client()
    for key in ("packs/", "packs/UPPER", "packs/.tmp-1-0123456789abcdef", "packs/deeper/x", "packs/ümlaut"):
        raw.put_object(Bucket="zitcache", Key=f"{prefix}/{key}", Body=b"")
    list_all(storage)


def test_an_endpoint_without_conditional_writes_is_worked_with(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.answer(501, "NotImplemented", match=lambda request: "if-none-match" in request.headers)
    write(storage)
    assert storage.traits.conditional_put == NONE
    assert storage.create("locks/aa", b"first") is True
    assert storage.create("locks/aa", b"second") is False
    assert storage.load("locks/aa") == b"first"


def test_an_endpoint_that_sends_whole_objects_for_long_ranges_is_understood(
    proxy: FaultProxy, storage: S3Storage
) -> None:
    """OSS answers a range that ends behind the object with all of it."""
    storage.store("index/short", b"0123456789")

    def is_long(request: Request) -> bool:
        return int(request.headers["range"].rpartition("-")[2]) > 9

    whole = {"ETag": '"781e5e245d69b566979b86e28d23f2c7"', "Content-Type": "application/octet-stream"}
    proxy.answer(200, "", body=b"0123456789", headers=whole, method="GET", path="index/short", match=is_long)
    assert storage.load("index/short") == b"0123456789"
    assert storage.load("index/short", 4) == b"456789"
    assert storage.load("index/short", 4, 100) == b"456789"
    assert storage.load("index/short", 50, 100) == b""


def test_an_endpoint_that_wants_signed_bodies_gets_them(proxy: FaultProxy, storage: S3Storage) -> None:
    proxy.answer(
        400,
        "InvalidArgument",
        text="x-amz-content-sha256 must be the digest of the body",
        match=lambda request: request.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD",
    )
    write(storage)
    assert storage.load("packs/new") == BIG


def test_limits_hold(proxy: FaultProxy, storage: S3Storage) -> None:
    place = storage.location + "&limit_upload=4M&limit_download=8M"
    slow = open_storage(place)
    begin = time.monotonic()
    slow.store("packs/slow", BIG[: 4 * MIB])
    up = time.monotonic() - begin
    begin = time.monotonic()
    slow.load("packs/slow")
    down = time.monotonic() - begin
    assert up > 0.7 and down > 0.25


def test_no_more_requests_at_a_time_than_allowed(proxy: FaultProxy, storage: S3Storage) -> None:
    few = open_storage(storage.location + "&concurrency=3")
    running, most, lock = [0], [0], threading.Lock()

    def entering(request: Request) -> bool:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return False

    proxy.answer(500, "never", match=entering)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: few.load("packs/old", number, 10), range(30)))
    assert most[0] <= 3
