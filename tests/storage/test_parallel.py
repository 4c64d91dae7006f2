"""Many calls at once: in the asked order, bounded, and with the errors of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from zitcache.errors import Interrupted, Unreachable
from zitcache.events import Cancel
from zitcache.storage.parallel import in_parallel


@pytest.mark.parametrize("concurrency", [0, 1, 2, 7, 100])
def test_results_come_in_the_order_of_the_items(concurrency: int) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number < 3 else 0)
        return number * number

    assert list(in_parallel(slow_at_first, range(40), concurrency)) == [n * n for n in range(40)]


def test_or_as_they_are_ready() -> None:
    release = threading.Event()

    def first_is_stuck(number: int) -> int:
        if number == 0:
            assert release.wait(10)
        return number

    results = in_parallel(first_is_stuck, range(20), 3, in_order=False)
    early = [next(results) for _ in range(19)]
    assert sorted(early) == list(range(1, 20))
    release.set()
    assert list(results) == [0]


def test_no_more_at_once_than_asked_for_and_not_all_ahead() -> None:
    lock = threading.Lock()
    running = most = begun = 0

    def items() -> Iterator[int]:
        nonlocal begun
        for number in range(1000):
            begun += 1
            yield number

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return number

    results = in_parallel(work, items(), 4)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert begun <= 10 + 2 * 4 + 1
    results.close()  # type: ignore[attr-defined]
    assert most <= 4


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_error_comes_in_its_turn_and_ends_the_work(concurrency: int) -> None:
    done: list[int] = []

    def fail_at_five(number: int) -> int:
        if number == 5:
            raise Unreachable("gone")
        done.append(number)
        return number

    results = in_parallel(fail_at_five, range(1000), concurrency)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(Unreachable):
        next(results)
    assert list(results) == []
    assert len(done) < 30


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_stop_that_is_asked_for_ends_the_work(concurrency: int) -> None:
    cancel = Cancel()
    results = in_parallel(lambda number: number, range(1000), concurrency, cancel)
    assert next(results) == 0
    cancel.set()
    with pytest.raises(Interrupted):
        list(results)
