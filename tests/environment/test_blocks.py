"""Our block in somebody else's file: what was put in comes out, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zitcache.tasks.environment.blocks import (
    BEGIN,
    END,
    BrokenBlock,
    find_blocks,
    with_block,
    with_content,
    without_blocks,
)
from zitcache.tasks.environment.placing import place_block, settings_of
from zitcache.tasks.environment.syntax import Syntax

SELECTED = {"MODELSCOPE_CACHE": "/data/x", "HF_HOME": "/data/x"}
WRITTEN = (Syntax.SH, Syntax.FISH, Syntax.PAM, Syntax.ENVIRONMENT_D, Syntax.SYSTEM_CONF)

lines = st.sampled_from(
    [
        b"export HF_HOME=/old", b"  export MODELSCOPE_CACHE=$HOME/x", b"HF_HOME=/old python x.py", b"return",
        b'[ -z "$PS1" ] && return', b"case $- in *i*) ;; *) return;; esac", b"#!/bin/sh", b"# comment", b"",
        b"unset HF_HOME", b"set -gx HF_HOME /old", b"exec fish", b"export A=1 \\", b"cat <<EOF", b"EOF",
        b"caf\xe9 \xff\x00", b"'unfinished", b"HF_HOME=/old", b"\x1b[31m", b"MODELSCOPE_CACHE=/data/x",
    ]
)  # fmt: skip
texts = st.builds(
    lambda parts, newline, final: newline.join(parts) + (newline if final else b""),
    st.lists(lines, max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)
contents = st.one_of(texts, st.binary(max_size=200))


@given(data=contents, syntax=st.sampled_from(WRITTEN))
def test_install_and_uninstall_give_back_the_identical_bytes(data: bytes, syntax: Syntax) -> None:
    placed = place_block(data, SELECTED, syntax).data
    assert find_blocks(placed)
    assert without_blocks(placed) == data


@given(data=contents, syntax=st.sampled_from(WRITTEN))
def test_installing_twice_changes_nothing_more(data: bytes, syntax: Syntax) -> None:
    placed = place_block(data, SELECTED, syntax).data
    assert place_block(placed, SELECTED, syntax).data == placed


@given(data=contents, syntax=st.sampled_from(WRITTEN))
def test_other_values_replace_the_earlier_ones_and_still_come_out(data: bytes, syntax: Syntax) -> None:
    once = place_block(data, SELECTED, syntax).data
    twice = place_block(once, {"HF_HOME": "/elsewhere", "HF_HUB_CACHE": "/h"}, syntax).data
    content = "\n".join(find_blocks(twice)[0].content)
    found = {one.name: one.value for one in settings_of(content, syntax)}
    assert found == {"HF_HOME": "/elsewhere", "HF_HUB_CACHE": "/h"}
    assert without_blocks(twice) == data


@given(data=contents, more=texts, syntax=st.sampled_from(WRITTEN))
def test_what_the_user_appends_later_is_kept_whole(data: bytes, more: bytes, syntax: Syntax) -> None:
    placed = place_block(data, SELECTED, syntax).data + more
    without = without_blocks(placed)
    joined = more != b"" and data != b"" and not data.endswith(b"\n")
    # The newline that had to be added is now between two lines of the user: it must stay.
    allowed = {data + more, data + b"\n" + more, data + b"\r\n" + more} if joined else {data + more}
    assert without in allowed


@given(data=contents)
def test_every_offset_at_the_start_of_a_line_works(data: bytes) -> None:
    starts = [0, *(place + 1 for place, byte in enumerate(data) if byte == 10)]
    for offset in starts:
        assert without_blocks(with_block(data, ["a", "b"], offset)) == data


@given(data=contents)
def test_the_line_ends_of_the_file_are_used(data: bytes) -> None:
    windows = b"one\r\ntwo\r\n" + data.replace(b"\r", b"").replace(b"\n", b"\r\n")
    placed = with_block(windows, ["HF_HOME=/x"], 0)
    assert placed.startswith(f"{BEGIN}\r\n".encode())
    assert placed.count(b"\n") == placed.count(b"\r\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"a\n{BEGIN}\nexport A=1\n", 2),
        (f"a\nb\n{END}\n", 3),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", 2),
        (f"{BEGIN}\n{END}\n{END}", 3),
    ],
)
def test_marks_that_do_not_pair_are_found_with_their_line(text: str, line: int) -> None:
    with pytest.raises(BrokenBlock) as caught:
        find_blocks(text.encode())
    assert caught.value.line == line


def test_marks_inside_a_line_or_a_longer_comment_are_none() -> None:
    text = f"echo '{BEGIN}'\n {BEGIN}\n{BEGIN} not ours\n#{BEGIN}\n".encode()
    assert find_blocks(text) == []


def test_a_block_that_the_user_moved_stays_where_it_is() -> None:
    data = b"a\n" + with_block(b"", ["export HF_HOME=/x"], 0) + b"b\n"
    placed = place_block(data, {"HF_HOME": "/y"}, Syntax.SH).data
    assert placed == with_content(data, ["export HF_HOME=/y"])
    assert placed.startswith(b"a\n#") and placed.endswith(b"\nb\n")


def test_a_moved_block_that_has_not_the_last_word_any_more_is_placed_anew() -> None:
    data = with_block(b"", ["export HF_HOME=/x"], 0) + b"export HF_HOME=/old\n"
    placed = place_block(data, {"HF_HOME": "/y"}, Syntax.SH)
    assert placed.data.startswith(b"export HF_HOME=/old\n# >>>")
    assert [(rival.line, rival.wins) for rival in placed.rivals] == [(1, False)]


def test_the_home_directory_is_put_in_before_values_are_compared() -> None:
    for line in (b"export HF_HOME=$HOME/hf\n", b'export HF_HOME="${HOME}/hf"\n', b"export HF_HOME=~/hf\n"):
        placed = place_block(line, {"HF_HOME": "/home/u/hf"}, Syntax.SH, home=Path("/home/u"))
        assert placed.rivals == ()
