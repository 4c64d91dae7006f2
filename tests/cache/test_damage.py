"""Real damaged files are diagnosed as what they are."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from zitcache.cache import damage
from zitcache.cache.damage import DamageKind, classify, looks_like_html, looks_like_lfs_pointer

GOOD = random.Random(1).randbytes(300_000)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 300000\n"


def diagnose(tmp_path: Path, content: bytes, bad: list[tuple[int, int]] | None = None) -> damage.Diagnosis:
    path = tmp_path / "file"
    path.write_bytes(content)
    return classify(path, len(GOOD), bad)


def test_truncated(tmp_path: Path) -> None:
    found = diagnose(tmp_path, GOOD[:100_000])
    assert (found.kind, found.ranges) == (DamageKind.TRUNCATED, ((100_000, 300_000),))
    assert "200000 are missing" in found.message


def test_empty_is_truncated(tmp_path: Path) -> None:
    assert diagnose(tmp_path, b"").kind is DamageKind.TRUNCATED


def test_truncated_and_flipped_names_both_places(tmp_path: Path) -> None:
    found = diagnose(tmp_path, b"\xff" + GOOD[1:100_000], [(0, 1)])
    assert (found.kind, found.ranges) == (DamageKind.TRUNCATED, ((0, 1), (100_000, 300_000)))


def test_a_zero_filled_range(tmp_path: Path) -> None:
    content = GOOD[:65536] + bytes(65536) + GOOD[131072:]
    found = diagnose(tmp_path, content, [(65536, 131072)])
    assert (found.kind, found.ranges) == (DamageKind.ZERO_FILLED, ((65536, 131072),))


def test_a_zero_filled_tail_is_seen_without_ranges(tmp_path: Path) -> None:
    found = diagnose(
        tmp_path, GOOD[:200_000].rstrip(b"\0") + bytes(300_000 - len(GOOD[:200_000].rstrip(b"\0")))
    )
    assert found.kind is DamageKind.ZERO_FILLED
    assert found.ranges == ((200_000, 300_000),)


def test_a_file_of_zeros_only(tmp_path: Path) -> None:
    assert diagnose(tmp_path, bytes(300_000)).ranges == ((0, 300_000),)


def test_a_few_zeros_at_the_end_are_no_zero_filled_tail(tmp_path: Path) -> None:
    assert diagnose(tmp_path, b"\xff" + GOOD[1:299_990] + bytes(10)).kind is DamageKind.DIFFERS


def test_bit_flips_name_their_ranges(tmp_path: Path) -> None:
    content = bytearray(GOOD)
    content[70_000] ^= 1
    content[250_000] ^= 128
    found = diagnose(tmp_path, bytes(content), [(196_608, 262_144), (65_536, 131_072)])
    assert (found.kind, found.ranges) == (DamageKind.BIT_FLIPS, ((65_536, 131_072), (196_608, 262_144)))
    assert "2 place(s)" in found.message


def test_neighbouring_ranges_are_joined_and_empty_ones_dropped(tmp_path: Path) -> None:
    content = b"\xff" * 30 + GOOD[30:]
    assert diagnose(tmp_path, content, [(10, 20), (0, 10), (5, 30), (40, 40)]).ranges == ((0, 30),)


def test_a_wholly_different_file(tmp_path: Path) -> None:
    found = diagnose(tmp_path, bytes(reversed(GOOD)), [(0, 300_000)])
    assert (found.kind, found.ranges) == (DamageKind.DIFFERS, ((0, 300_000),))


def test_damage_all_over_the_file_is_a_different_file(tmp_path: Path) -> None:
    bad = [(start, start + 1000) for start in range(0, 300_000, 3000)]
    assert diagnose(tmp_path, bytes(reversed(GOOD)), bad).kind is DamageKind.DIFFERS


def test_extended(tmp_path: Path) -> None:
    found = diagnose(tmp_path, GOOD + b"more")
    assert (found.kind, found.ranges) == (DamageKind.EXTENDED, ((300_000, 300_004),))


def test_longer_and_different(tmp_path: Path) -> None:
    assert diagnose(tmp_path, b"\xff" + GOOD[1:] + b"more", [(0, 1)]).kind is DamageKind.DIFFERS


def test_an_lfs_pointer(tmp_path: Path) -> None:
    found = diagnose(tmp_path, POINTER, [(0, 300_000)])
    assert (found.kind, found.ranges) == (DamageKind.LFS_POINTER, ((0, 300_000),))


@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html><html>",
        b"\n\n  <HTML>\n<head>",
        b"\xef\xbb\xbf<!doctype HTML PUBLIC>",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    ],
)
def test_a_web_page(tmp_path: Path, page: bytes) -> None:
    assert diagnose(tmp_path, page).kind is DamageKind.HTML_PAGE


def test_a_page_filled_up_to_the_right_size(tmp_path: Path) -> None:
    assert diagnose(tmp_path, b"<html>" + bytes(299_994)).kind is DamageKind.HTML_PAGE


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    assert classify(tmp_path / "gone", 5, None).kind is DamageKind.UNREADABLE


def test_a_read_error_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert classify(tmp_path / "folder", 5, [(0, 5)]).kind is DamageKind.UNREADABLE


def test_an_unknown_size_is_no_reason_to_call_it_truncated(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(GOOD)
    assert classify(tmp_path / "file", None, [(3, 4)]).kind is DamageKind.BIT_FLIPS


def test_a_huge_hole_is_diagnosed_from_a_bounded_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    original = os.pread

    def counting(fd: int, count: int, offset: int) -> bytes:
        nonlocal read
        data = original(fd, count, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    path = tmp_path / "file"
    size = 10 << 30
    with path.open("wb") as file:
        file.write(GOOD)
        file.truncate(size)
    for bad in ([(1 << 20, size)], None):
        assert classify(path, size, bad).kind is DamageKind.ZERO_FILLED
    assert read <= 2 * (65 << 20)


def test_what_does_not_look_like_a_pointer_or_a_page() -> None:
    assert not looks_like_lfs_pointer(b"version 1")
    assert not looks_like_html(b"<|im_start|>")
    assert not looks_like_html(b"")
