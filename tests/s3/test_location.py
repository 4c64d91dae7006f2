"""What an ``s3://`` place may say, in one spelling, and what it must never hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from zitcache.errors import UsageError
from zitcache.storage.opening import open_storage
from zitcache.storage.s3.addressing import other_style, preferred_style, region_of
from zitcache.storage.s3.limits import RateLimit, parse_rate
from zitcache.storage.s3.location import S3Location, fill, fold, parse_location
from zitcache.tasks.settings import connected, resolve_repository


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s3://bucket", S3Location("bucket")),
        ("s3://bucket/", S3Location("bucket")),
        ("S3://bucket/a/b/", S3Location("bucket", "a/b")),
        ("s3://bucket/p?region=eu-west-1", S3Location("bucket", "p", region="eu-west-1")),
        (
            "s3://bucket/p?endpoint_url=http%3A%2F%2F127.0.0.1%3A8333/&concurrency=4",
            S3Location("bucket", "p", endpoint_url="http://127.0.0.1:8333", concurrency=4),
        ),
        (
            "s3://bucket/p?endpoint_url=https://[::1]:9000",
            S3Location("bucket", "p", endpoint_url="https://[::1]:9000"),
        ),
        # The console of OSS shows this one.
        (
            "s3://mine/p?endpoint_url=https://mine.oss-cn-hangzhou.aliyuncs.com",
            S3Location("mine", "p", endpoint_url="https://oss-cn-hangzhou.aliyuncs.com"),
        ),
        ("s3://bucket/p?addressing=auto&profile=", S3Location("bucket", "p")),
        ("s3://bucket/p?profile=my%20work", S3Location("bucket", "p", profile="my work")),
    ],
)
def test_a_place_is_read(typed: str, meant: S3Location) -> None:
    assert parse_location(typed) == meant
    assert parse_location(str(meant)) == meant, "what it prints is read as the same"
    assert open_storage(typed).location == str(meant)


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("s3://", "bucket"),
        ("s3:///prefix", "bucket"),
        ("s3://b", "bucket"),
        ("s3://buc ket/x", "bucket"),
        ("s3://buck..et/x", "bucket"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/../b", "prefix"),
        ("s3://bucket/a\nb", "prefix"),
        ("s3://bucket/x?endpoint=http://h", "endpoint_url"),
        ("s3://bucket/x?regoin=x", "region"),
        ("s3://bucket/x?nothing", "question mark"),
        ("s3://bucket/x?endpoint_url=localhost:8333", "https://"),
        ("s3://bucket/x?endpoint_url=ftp://h", "https://"),
        ("s3://bucket/x?endpoint_url=http://h:99999", "endpoint"),
        ("s3://bucket/x?endpoint_url=http://h?x=1", "endpoint"),
        ("s3://bucket/x?region=..", "region"),
        ("s3://bucket/x?region=a&region=b", "twice"),
        ("s3://bucket/x?concurrency=0", "concurrency"),
        ("s3://bucket/x?concurrency=many", "concurrency"),
        ("s3://bucket/x?concurrency=1000", "concurrency"),
        ("s3://bucket/x?limit_upload=fast", "limit_upload"),
        ("s3://bucket/x?addressing=host", "addressing"),
        ("s3://bucket/x?object_lock_days=-1", "object_lock_days"),
        ("s3:https://host/bucket", "s3://"),
        ("oss://bucket/x", "s3://"),
    ],
)
def test_a_place_that_is_none_is_refused_with_what_was_meant(typed: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_storage(typed)
    assert word in caught.value.message + (caught.value.hint or "")
    assert caught.value.hint


@pytest.mark.parametrize(
    "typed",
    [
        "s3://AKIAKEY:geheim@bucket/x",
        "s3://geheim@bucket/x",
        "s3://bucket/x?secret_access_key=geheim",
        "s3://bucket/x?aws_secret=geheim",
        "s3://bucket/x?token=geheim",
        "s3://bucket/x?access_key=geheim",
        "s3://bucket/x?endpoint_url=https://user:geheim@host",
        "s3://bucket/x?endpoint_url=https://geheim@host:9",
    ],
)
def test_a_place_with_a_secret_is_refused_without_repeating_it(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_storage(typed)
    assert "geheim" not in caught.value.message + (caught.value.hint or "")
    assert "profile" in (caught.value.hint or "")


def test_options_become_a_part_of_the_place() -> None:
    place = "s3://bucket/p?region=a&concurrency=2"
    assert fold(place, {"region": "b", "profile": None}) == "s3://bucket/p?region=b&concurrency=2"
    assert fill(place, {"region": "b", "profile": "w"}) == "s3://bucket/p?region=a&profile=w&concurrency=2"
    assert fold("/data/zit", {"region": None}) == "/data/zit"
    with pytest.raises(UsageError):
        fold("/data/zit", {"region": "b"})


def test_environment_and_configuration_complete_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'repo = "s3://bucket/p"\nregion = "from-config"\nlimit_upload = "20M"\nconcurrency = 3\n'
    )
    environ = {"ZITCACHE_CONFIG": str(config), "ZITCACHE_REGION": "from-variable"}
    expected = "s3://bucket/p?region=from-variable&concurrency=3&limit_upload=20M"
    assert resolve_repository(None, environ).value == expected
    assert connected("s3://bucket/q?region=own", environ) == (
        "s3://bucket/q?region=own&concurrency=3&limit_upload=20M"
    )
    assert connected("/data/zit", environ) == "/data/zit"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20M", 20_000_000),
        ("20MB/s", 20_000_000),
        ("1.5 MiB", 1_572_864),
        ("500k", 500_000),
        ("100Mbit", 12_500_000),
        ("1Gbps", 125_000_000),
        ("4096", 4096),
    ],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate("--limit-upload", text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1M", "0", "10", "1e9", "20M20", "M"])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rate("--limit-upload", text)
    assert "--limit-upload" in caught.value.message and caught.value.hint


def test_threads_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr("zitcache.storage.s3.limits.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("zitcache.storage.s3.limits.time.sleep", sleep)
    limit = RateLimit(1_000_000)
    for _ in range(100):
        limit.take(100_000)
    assert clock[0] - 100.0 == pytest.approx(10.0, abs=0.6)


@pytest.mark.parametrize(
    ("endpoint", "style", "other", "region"),
    [
        ("https://oss-cn-hangzhou.aliyuncs.com", "virtual", None, "cn-hangzhou"),
        ("https://s3.oss-cn-beijing-internal.aliyuncs.com", "virtual", None, "cn-beijing"),
        ("https://cos.ap-shanghai.myqcloud.com", "virtual", None, "ap-shanghai"),
        ("https://tos-s3-cn-beijing.volces.com", "virtual", None, "cn-beijing"),
        ("https://0123abcd.r2.cloudflarestorage.com", "path", "virtual", "auto"),
        ("https://s3.eu-central-1.amazonaws.com", "auto", None, "eu-central-1"),
        ("https://s3.us-west-1.wasabisys.com", "path", "virtual", "us-west-1"),
        ("http://127.0.0.1:8333", "path", None, None),
        ("http://[::1]:8333", "path", None, None),
        ("http://minio:9000", "path", None, None),
        ("https://s3.example.com", "path", "virtual", None),
    ],
)
def test_an_endpoint_s_name_says_how_to_speak_to_it(
    endpoint: str, style: str, other: str | None, region: str | None
) -> None:
    assert preferred_style(endpoint) == style
    assert other_style(endpoint, style) == other
    assert region_of(endpoint) == region
