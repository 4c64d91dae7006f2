"""An index that can be used while it is still being loaded: what is known is known."""

from __future__ import annotations

import threading
from collections.abc import Callable

from zitcache.repository.index import Index


class GrowingIndex:
    """``load(index, grown)`` runs in a thread, fills ``index`` and calls ``grown`` after each step."""

    def __init__(self, load: Callable[[Index, Callable[[], None]], object]) -> None:
        self._index = Index()
        self._load = load
        self._changed = threading.Condition()
        self._is_complete = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._load(self._index, self._grown)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def _grown(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, blob_id: str) -> Index | None:
        """The index as soon as it knows the blob; None once it is complete, or failed, without that."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_complete or blob_id in self._index)
            return self._index if not self._is_complete else None

    def result(self) -> Index:
        """The complete index. Raises what loading it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._index
