from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zitcache.cli.values import parse_share
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
