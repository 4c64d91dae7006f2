"""``env --own``: a cache of the user's own whose models are links into a shared one.

Downloads, locks and refs of the user land in the own tree, so that no two users ever write into one. What
the user has there himself is never touched; running it again brings the links up to date.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from zitcache.cache.inventory import Model, inventory
from zitcache.cache.layouts import find_models
from zitcache.errors import CacheNotFound, UsageError, from_os_error
from zitcache.events import Session
from zitcache.machine.files import sync_directory, temporary_name, write_durably
from zitcache.tasks.environment.own_notes import OwnNote, digest, read_note, write_note
from zitcache.tasks.environment.own_plan import Entry, OwnModel, own_model
from zitcache.tasks.environment.permissions import check_readable, warn_if_writable
from zitcache.tasks.environment.report import OwnCache

_HOMES_OF_MODELS = frozenset({"hub", "models"})


def make_own(directory: Path, shared: Path, only: Model | None, session: Session) -> OwnCache:
    """Make or update the own cache in ``directory`` with all models of ``shared``, or ``only`` that one.

    Raises ``UsageError`` when the two overlap or ``directory`` holds something else, ``CredentialsError``
    when this user may not read the shared cache, and what the disk refuses.
    """
    own, real = Path(os.path.realpath(directory)), Path(os.path.realpath(shared))
    _refuse_overlap(own, real)
    note = read_note(own) or OwnNote(shared=str(real))
    _refuse_strangers(own, note)
    session.progress.stage("Looking at the shared cache")
    models = [only] if only is not None else list(inventory(real).models)
    if not models:
        raise CacheNotFound(f"The cache {real} is empty: there is no model in it to share.")
    check_readable(real, models)
    warn_if_writable(real, models, session)
    plans = _without_conflicts(own, note, [own_model(real, model) for model in models], session)
    try:
        return _Maker(own, real, note, session).make(plans, forget_others=only is None)
    except OSError as error:
        raise from_os_error(error, f"making the cache {own}") from error


def shared_cache_of(directory: Path) -> Path | None:
    """The shared cache that an own cache made earlier leads to."""
    note = read_note(Path(os.path.realpath(directory)))
    return None if note is None else Path(note.shared)


class _Maker:
    """Makes what is planned, entry by entry, and counts."""

    def __init__(self, own: Path, shared: Path, note: OwnNote, session: Session) -> None:
        self.own, self.note, self.session = own, note, session
        self.report = OwnCache(
            path=str(own), shared=str(shared), models=[], links=0, copies=0, kept=0, removed=0, skipped=[]
        )
        self.changed: set[Path] = set()

    def make(self, plans: list[OwnModel], *, forget_others: bool) -> OwnCache:
        entries = {entry.path: entry for plan in plans for entry in plan.entries}
        copies = {path: entry.source.read_bytes() for path, entry in entries.items() if entry.source}
        before = self.note
        links = {path: entry.target for path, entry in entries.items() if entry.target}
        wanted = OwnNote(
            shared=self.report.shared,
            links=links,
            copies={path: digest(data) for path, data in copies.items()},
        )
        if not forget_others:
            wanted.links = {**before.links, **wanted.links}
            wanted.copies = {**before.copies, **wanted.copies}
        self._directory(self.own)
        # Written first: after a kill, what was made is known to be ours.
        both = OwnNote(
            shared=wanted.shared,
            links={**before.links, **wanted.links},
            copies={**before.copies, **wanted.copies},
        )
        if both != before:
            write_note(self.own, both)
        for path in sorted(entries):
            self.session.cancel.check()
            self._entry(entries[path], copies.get(path), before)
        for path in sorted({*before.links, *before.copies} - {*wanted.links, *wanted.copies}):
            self._forget(path, before)
        if wanted != both:
            write_note(self.own, wanted)
        for directory in sorted(self.changed):
            sync_directory(directory)
        self.report.models = sorted({plan.model.id for plan in plans})
        return self.report

    def _entry(self, entry: Entry, data: bytes | None, before: OwnNote) -> None:
        path = self.own / entry.path
        self._directory(path.parent)
        state = _state(path, entry.path, before)
        if state == "theirs":
            self.report.skipped.append(entry.path)
        elif entry.target is not None:
            if state == "link" and os.readlink(path) == entry.target:
                self.report.kept += 1
                return
            _link(path, entry.target)
            self.changed.add(path.parent)
            self.report.links += 1
        else:
            assert data is not None
            if state == "copy" and path.read_bytes() == data:
                self.report.kept += 1
                return
            write_durably(path, data, mode=0o644)
            self.report.copies += 1

    def _forget(self, name: str, before: OwnNote) -> None:
        """Take away what was made earlier and is no more in the shared cache, if it is still ours."""
        path = self.own / name
        behind_link = any(parent.is_symlink() for parent in path.parents if self.own in parent.parents)
        if behind_link or _state(path, name, before) not in {"link", "copy"}:
            return
        path.unlink()
        self.report.removed += 1
        self.changed.add(path.parent)
        for parent in path.parents:
            if parent == self.own or any(True for _ in os.scandir(parent)):
                break
            parent.rmdir()
            self.changed.discard(parent)
            self.changed.add(parent.parent)

    def _directory(self, directory: Path) -> None:
        """Make a directory, which must not be a symlink: behind it the shared cache could lie."""
        if directory != self.own:
            _refuse_link(directory)
        if directory.is_dir():
            if directory != self.own:
                self._directory(directory.parent)
            return
        if self.own in directory.parents:
            self._directory(directory.parent)
            directory.mkdir()
        else:
            directory.mkdir(parents=True)
        self.changed.add(directory.parent)


def _state(path: Path, name: str, note: OwnNote) -> str:
    """What is at ``path``: "nothing", a "link" or "copy" of ours, or "theirs"."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return "nothing"
    if stat.S_ISLNK(status.st_mode):
        return "link" if note.links.get(name) == os.readlink(path) else "theirs"
    if stat.S_ISREG(status.st_mode) and name in note.copies:
        return "copy" if digest(path.read_bytes()) == note.copies[name] else "theirs"
    return "theirs"


def _link(path: Path, target: str) -> None:
    """Put the link in place in one step, over one that was there."""
    temporary = path.parent / temporary_name()
    os.symlink(target, temporary)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def _without_conflicts(own: Path, note: OwnNote, plans: list[OwnModel], session: Session) -> list[OwnModel]:
    """The models that can be made: not those of which the user has a copy of his own there."""
    kept: list[OwnModel] = []
    folders: dict[str, Path] = {}
    made = (*note.links, *note.copies)
    for plan in plans:
        root = plan.model.location.root
        if folders.setdefault(plan.folder, root) != root:
            session.warn(
                "same-model-twice",
                f"{plan.model.id} is in the shared cache twice; {folders[plan.folder]} is used, not {root}.",
            )
            continue
        _refuse_link((own / plan.folder).parent)
        ours = any(name.startswith(f"{plan.folder}/") for name in made)
        if os.path.lexists(own / plan.folder) and not ours:
            session.warn(
                "own-model-kept",
                f"{own / plan.folder} is there already and was not made by zitcache: it stays as it is.",
                f"To share it instead, move it away: mv {shlex.quote(str(own / plan.folder))} …",
            )
            continue
        kept.append(plan)
    return kept


def _refuse_link(directory: Path) -> None:
    if directory.is_symlink():
        raise UsageError(
            f"{directory} is a symlink; in a cache of your own it must be a directory.",
            hint=f"Remove the link and repeat: rm {shlex.quote(str(directory))}",
        )


def _refuse_overlap(own: Path, shared: Path) -> None:
    if own == shared or own in shared.parents or shared in own.parents:
        raise UsageError(
            f"{own} and the shared cache {shared} must be apart: one must not lie in the other.",
            hint="Name a directory in your home: zitcache env --own ~/model_cache",
        )


def _refuse_strangers(own: Path, note: OwnNote) -> None:
    """Only an empty directory, a cache, or one made here before gets models put into it."""
    try:
        names = set(os.listdir(own))
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"looking at {own}") from error
    if note.links or note.copies or not names - _HOMES_OF_MODELS or find_models(own):
        return
    raise UsageError(
        f"{own} is not empty, and no model cache.", hint="Name an empty or new directory: --own ~/model_cache"
    )
