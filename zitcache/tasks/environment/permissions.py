"""May this user read a shared cache, and had he better not write to it?"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from zitcache.cache.inventory import Model
from zitcache.errors import CredentialsError
from zitcache.events import Session

_NAMED_AT_MOST = 3


def check_readable(shared: Path, models: Iterable[Model]) -> None:
    """Raise :class:`CredentialsError` with the exact ``chmod`` when a file of the models cannot be read."""
    closed = next((folder for folder in _above(shared) if not os.access(folder, os.X_OK)), None)
    if closed is not None:
        raise CredentialsError(
            f"This user may not pass through {closed}, where the shared cache is.",
            hint=f"Its owner runs: chmod o+x {shlex.quote(str(closed))}",
        )
    unreadable = [path for path in _files(shared, models) if not os.access(path, os.R_OK)]
    # A folder that cannot be listed looks like one without files.
    unreadable += [folder for model in models for folder in _folders(model) if not _can_list(folder)]
    if unreadable:
        named = ", ".join(unreadable[:_NAMED_AT_MOST])
        more = f" and {len(unreadable) - _NAMED_AT_MOST} more" if len(unreadable) > _NAMED_AT_MOST else ""
        raise CredentialsError(
            f"This user may not read all of the shared cache: {named}{more}.",
            hint=f"Its owner runs: chmod -R o+rX {shlex.quote(str(shared))}",
        )


def warn_if_writable(shared: Path, models: Iterable[Model], session: Session) -> None:
    """Warn when this user could change the shared files: then a clean-up tool of his could delete them."""
    if os.geteuid() == 0 or not any(os.access(folder, os.W_OK) for m in models for folder in _folders(m)):
        return
    session.warn(
        "shared-cache-writable",
        f"You may write to the shared cache {shared}: a tool that follows links could change or delete it.",
        f"Let one user own it, and take the right from the others: chmod -R go-w {shlex.quote(str(shared))}",
    )


def _above(shared: Path) -> list[Path]:
    """The directories on the way to ``shared``, from the top."""
    return [*reversed(shared.parents), shared]


def _files(shared: Path, models: Iterable[Model]) -> Iterator[str]:
    real = os.path.realpath(shared)
    for model in models:
        for file in model.files:
            yield os.path.normpath(os.path.join(real, file.content_path))


def _folders(model: Model) -> Iterator[str]:
    yield str(model.location.root)
    for directory, names, _ in os.walk(model.location.root):
        # Named by the one above: a folder that cannot be listed is not walked.
        yield from (os.path.join(directory, name) for name in names)


def _can_list(folder: str) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)
