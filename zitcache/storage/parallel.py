"""Many small calls on a storage at once, for one that answers slowly and to many at a time."""

from __future__ import annotations

from collections import deque
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
) -> Iterator[ResultT]:
    """``function(item)`` for every item, in the order of the items, ``concurrency`` at a time.

    A few results are computed ahead, whatever the number of items. The first exception is raised when its
    turn comes, and nothing more is begun; so is ``Interrupted`` when ``cancel`` is set. What is under way is
    waited for. With a concurrency of 1 no thread is made.
    """
    if concurrency <= 1:
        for item in items:
            if cancel is not None:
                cancel.check()
            yield function(item)
        return
    from concurrent.futures import ThreadPoolExecutor

    source = iter(items)
    pending: deque[Future[ResultT]] = deque()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="request")
    try:
        for item in source:
            pending.append(pool.submit(function, item))
            if len(pending) >= _AHEAD * concurrency:
                break
        while pending:
            yield _result(pending.popleft(), cancel)
            for item in source:
                pending.append(pool.submit(function, item))
                break
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[ResultT], cancel: Cancel | None) -> ResultT:
    if cancel is None:
        return future.result()
    from concurrent.futures import wait

    while not wait([future], _POLL_SECONDS).done:
        cancel.check()
    cancel.check()
    return future.result()
