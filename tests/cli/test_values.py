from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zitcache.cli.values import parse_share, parse_time_span
from zitcache.errors import UsageError


@pytest.mark.parametrize(
    ("text", "share"),
    [("100%", 1), ("30%", 0.3), ("2.5 %", 0.025), ("0%", 0), ("0", 0), ("1", 1), ("0.3", 0.3), (".5", 0.5),
     ("1/30", 1 / 30), ("7/7", 1), (" 30% ", 0.3)],
)  # fmt: skip
def test_a_share_may_be_written_in_three_ways(text: str, share: float) -> None:
    assert parse_share("--reread", text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    ["", "30", "2", "101%", "8/7", "1/0", "0/0", "-1%", "-0.1", "nan", "inf", "1e-1", "half", "%", "1/2/3"],
)  # fmt: skip
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_share("--reread", text)
    assert "--reread" in str(caught.value.hint)


def test_a_bare_number_gets_the_likely_meaning_as_hint() -> None:
    with pytest.raises(UsageError) as caught:
        parse_share("--reread", "30")
    assert "--reread 30%" in str(caught.value.hint)


@given(st.text(max_size=12))
def test_any_text_gives_a_share_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 <= parse_share("--reread", text) <= 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("30 min", 1800), ("1.5h", 5400), ("2d", 172800), ("1W", 604800), ("0", 0)],
)
def test_a_span_of_time_has_a_unit(text: str, seconds: float) -> None:
    assert parse_time_span("--min-age", text) == seconds


@pytest.mark.parametrize("text", ["", "30", "-1h", "1y", "h", "1h 30m", "1e3s", "inf", "9999999999h"])
def test_what_is_no_span_of_time_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_time_span("--min-age", text)
    assert caught.value.hint is not None and "--min-age" in caught.value.hint
