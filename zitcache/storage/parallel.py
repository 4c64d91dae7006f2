"""Many small calls on a storage at once, for one that answers slowly and to many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zitcache.events import Cancel

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_AHEAD = 2
_POLL_SECONDS = 0.1


def in_parallel(
    function: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    concurrency: int,
    cancel: Cancel | None = None,
    *,
    in_order: bool = True,
) -> Iterator[ResultT]:
    """``function(item)`` for every item, ``concurrency`` at a time; a few results are computed ahead.

    ``in_order``: as the items are; otherwise what is done first comes first. The first exception is raised
    when its turn comes, and nothing more is begun; so is ``Interrupted`` when ``cancel`` is set. What is
    under way is waited for. With a concurrency of 1 no thread is made.
    """
    if concurrency <= 1:
        for item in items:
            if cancel is not None:
                cancel.check()
            yield function(item)
        return
    from concurrent.futures import ThreadPoolExecutor

    source = iter(items)
    pending: list[Future[ResultT]] = []
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="request")

    def begin(count: int) -> None:
        for _, item in zip(range(count), source, strict=False):
            pending.append(pool.submit(function, item))

    try:
        begin(_AHEAD * concurrency)
        while pending:
            _wait(pending[:1] if in_order else pending, cancel)
            ready = next(future for future in pending if future.done())
            pending.remove(ready)
            begin(1)
            yield ready.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _wait(futures: list[Future[ResultT]], cancel: Cancel | None) -> None:
    """Until one of them is done."""
    from concurrent.futures import FIRST_COMPLETED, wait

    while not wait(futures, _POLL_SECONDS if cancel is not None else None, FIRST_COMPLETED).done:
        if cancel is not None:
            cancel.check()
    if cancel is not None:
        cancel.check()
