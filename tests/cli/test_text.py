from __future__ import annotations

import os
import re

from hypothesis import given
from hypothesis import strategies as st

from zitcache.machine.texts import exact_text
from zitcache.ui.style import Style
from zitcache.ui.table import Column, cell_width, table
from zitcache.ui.text import count, duration, json_text, local_time, printable, rate, size


def exact_bytes(shown: str) -> bytes:
    """The documented way back from a shown name to its bytes."""
    raw = shown.encode()
    return re.sub(
        rb"\\\\|\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", raw
    )


@given(st.binary(max_size=30) | st.lists(st.sampled_from([b"\\", b"x", b"f", b"\xff", b"a"])).map(b"".join))
def test_every_file_name_can_be_read_back_from_json(name: bytes) -> None:
    shown = json_text(os.fsdecode(name))
    shown.encode("utf-8", "strict")
    assert exact_bytes(shown) == name


@given(st.text())
def test_ordinary_names_are_shown_as_they_are(name: str) -> None:
    if "\\x" not in name and "\\\\" not in name:
        assert json_text(name) == name


@given(st.binary(max_size=30))
def test_a_printed_name_stays_on_its_line_and_cannot_drive_a_terminal(name: bytes) -> None:
    shown = printable(os.fsdecode(name))
    assert shown.splitlines() in ([], [shown])
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


def test_text_direction_marks_are_made_visible() -> None:
    assert printable("gpj\u202egnp") == "gpj\\u202egnp"
    assert printable("line\nbreak\tand\x1b[31m") == "line\\nbreak\\tand\\x1b[31m"
    assert printable("Tongyi-MAI/模型 é") == "Tongyi-MAI/模型 é"


def test_sizes_are_decimal_with_one_decimal() -> None:
    shown = [size(number) for number in (0, 999, 1000, 999_949, 999_950, 4_100_000, 32_848_304_654, 2e12)]
    assert shown == ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "4.1 MB", "32.8 GB", "2.0 TB"]
    assert rate(1.5e9) == "1.5 GB/s"


def test_times_are_short() -> None:
    shown = [duration(number) for number in (0, 0.44, 9.94, 9.95, 21.2, 59.6, 185, 4320, -1)]
    assert shown == [
        "0.0 s",
        "0.4 s",
        "9.9 s",
        "10 s",
        "21 s",
        "1 min 0 s",
        "3 min 5 s",
        "1 h 12 min",
        "0.0 s",
    ]


def test_counts_have_their_plural() -> None:
    assert [count(number, "file") for number in (0, 1, 12345)] == ["0 files", "1 file", "12,345 files"]


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    assert re.fullmatch(r"2026-0[12]-\d\d \d\d:\d\d", local_time("2026-01-31T02:00:00.123456Z"))
    assert local_time("yester\nday") == "yester\\nday"


def test_columns_line_up_with_wide_characters_too() -> None:
    lines = table(
        [Column("Model"), Column("Size", right=True), Column("Tags")],
        [["a", "1 B", ""], ["模型", "10.0 GB", ""]],
        Style(),
    )
    assert lines == ["Model     Size", "a          1 B", "模型   10.0 GB"]
    assert cell_width("模型e\u0301") == 5
    assert table([Column("Model")], [], Style()) == []


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")))
def test_every_name_comes_back_exactly(name: bytes) -> None:
    text = os.fsdecode(name)
    shown = json_text(text)
    shown.encode("utf-8", "strict")
    assert exact_text(shown) == text
