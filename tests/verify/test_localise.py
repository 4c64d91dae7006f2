"""Ranges hold every byte that differs, are few, and never claim more than they must."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zitcache.tasks.verify.localise import MAX_RANGES, differences, joined

SIZE = 3 << 20


@given(st.sets(st.integers(0, SIZE - 1), max_size=300), st.integers(0, 1 << 40))
def test_every_byte_that_differs_lies_in_a_range(changed: set[int], offset: int) -> None:
    expected = bytes(SIZE)
    data = bytearray(expected)
    for position in changed:
        data[position] = 1
    found = differences(memoryview(data), memoryview(expected), offset)
    assert found.bytes_differing == len(changed)
    assert len(found.ranges) <= MAX_RANGES
    assert list(found.ranges) == sorted(found.ranges)
    for start, end in found.ranges:
        # Both ends of a range are bytes that differ.
        assert start - offset in changed
        assert end - 1 - offset in changed
    inside = sum(any(start <= offset + position < end for start, end in found.ranges) for position in changed)
    assert inside == len(changed)


def test_a_run_across_the_step_of_the_comparison_is_one_range() -> None:
    data = bytearray(SIZE)
    data[(1 << 20) - 5 : (1 << 20) + 5] = b"x" * 10
    found = differences(memoryview(data), memoryview(bytes(SIZE)), 100)
    assert found.ranges == (((1 << 20) + 95, (1 << 20) + 105),)


def test_the_smallest_gaps_are_closed_first() -> None:
    ranges = [(n * 1000, n * 1000 + 10) for n in range(100)] + [(10**9, 10**9 + 1)]
    few = joined(ranges)
    assert len(few) == MAX_RANGES
    assert few[-1] == (10**9, 10**9 + 1)


def test_equal_bytes_differ_nowhere() -> None:
    found = differences(memoryview(b"abc"), memoryview(b"abc"), 7)
    assert (found.ranges, found.bytes_differing, joined([])) == ((), 0, ())
