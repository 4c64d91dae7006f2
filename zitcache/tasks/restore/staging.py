"""Build what is missing beside the target, whole models at a time.

A hub SDK prefers a half-filled model directory to a complete one elsewhere, so nothing is restored file by
file into the live place. The unit is the model: its directory is built whole in the staging place (files
that are good are hard-linked there, names that the snapshot does not know are carried over), made durable,
and swapped in with one rename (``switch``). A target that does not exist, or is empty, is one unit. What
belongs to no model (shared blobs, marker files) is renamed file by file, before the models that need it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from zitcache.errors import UsageError, from_os_error
from zitcache.events import Session
from zitcache.machine.files import nearest_existing, sync_directory
from zitcache.repository.records import SnapshotModel, TreeEntry
from zitcache.repository.repository import Repository
from zitcache.tasks.fetching import Fetched, FetchTask, fetch_files
from zitcache.tasks.restore.order import in_loading_order
from zitcache.tasks.restore.survey import Survey
from zitcache.tasks.restore.workspace import PREFIX, Workspace

WHOLE = ""
"""The unit that is the target itself."""

_NO_HARD_LINK = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV}


class Staging:
    """One restore on its way: what goes where. ``models``: those of the snapshot, each in a directory."""

    def __init__(
        self, repository: Repository, workspace: Workspace, found: Survey, models: Sequence[SnapshotModel]
    ) -> None:
        self._repository = repository
        self.workspace = workspace
        self.target = workspace.target
        self.tree = workspace.tree
        self.wanted = found.wanted
        self.wanted_paths = {entry.real_path for entry in found.wanted}
        self.selected = [*found.kept, *found.wanted]
        self._models = models
        self.units = self._choose_units([model.root for model in models])
        self.fetched = Fetched()
        self._refuse_inner_mounts()

    def _choose_units(self, roots: Sequence[str]) -> list[str]:
        """Directories (relative to the target) that are swapped as one, none inside another."""
        place = self.workspace
        if not place.target_exists or (place.can_swap_whole and not any(self.target.iterdir())):
            return [WHOLE]
        mounted = [os.path.relpath(point, self.target) for point in place.inner_mounts]
        units: list[str] = []
        for root in sorted(set(roots)):
            if root == WHOLE and not place.can_swap_whole:
                continue
            if place.is_layered and (self.target / root).exists():
                continue
            if any(is_inside(point, root) for point in mounted):
                continue
            if not any(is_inside(root, unit) for unit in units):
                units.append(root)
        return [unit for unit in units if any(is_inside(path, unit) for path in self.wanted_paths)]

    def _refuse_inner_mounts(self) -> None:
        """A rename does not reach into another file system."""
        for point in self.workspace.inner_mounts:
            inner = os.path.relpath(point, self.target)
            if any(path.startswith(inner + "/") for path in self.wanted_paths):
                raise UsageError(
                    f"Another file system is mounted inside the target, at {point}, and files are to be "
                    "restored into it. Nothing was written.",
                    hint="Unmount it, or restore elsewhere: zitcache restore --to DIR",
                )

    def unit_of(self, path: str) -> str | None:
        """The unit in which ``path`` lies, if it lies in one."""
        return next((unit for unit in self.units if is_inside(path, unit)), None)

    def needed(self) -> tuple[int, int]:
        """Bytes and names that the staging place will still take; what is staged already does not count."""
        size_bytes = names = 0
        for entry in self.wanted:
            allocated = 0
            try:
                allocated = os.lstat(self.tree / entry.real_path).st_blocks * 512
            except OSError:
                names += 1
            if entry.kind == "file":
                size_bytes += max(0, entry.size - allocated)
        return size_bytes, names

    def build(self, session: Session) -> None:
        """Fetch what is wanted and lay out every unit completely."""
        try:
            self._keep_only_what_is_wanted()
            self._make_directories()
        except OSError as error:
            raise from_os_error(error, f"preparing {self.workspace.directory}") from error
        files = [entry for entry in self.wanted if entry.kind == "file"]
        session.progress.stage("Restoring", sum(entry.size for entry in files))
        self.fetched = fetch_files(
            self._repository,
            [
                FetchTask(entry, str(self.tree / entry.real_path), self._candidate(entry))
                for entry in in_loading_order(files, self.selected, self._models)
            ],
            session,
        )
        session.progress.stage("Putting in place")
        try:
            self._drop_failed(files)
            if self.workspace.target_exists:
                for unit in self.units:
                    self._carry_over(unit)
            self._make_links()
            self._adopt()
            self._finish_directories()
        except OSError as error:
            raise from_os_error(error, f"building {self.tree}") from error

    def _candidate(self, entry: TreeEntry) -> str | None:
        """The live version of a file: damaged, but most of its pieces may be good."""
        path = self.target / entry.real_path
        return str(path) if path.is_file() and not path.is_symlink() else None

    def _keep_only_what_is_wanted(self) -> None:
        """Of what an interrupted run staged, maybe of another snapshot, only wanted files stay."""
        self.tree.mkdir(exist_ok=True)
        wanted_files = {entry.real_path for entry in self.wanted if entry.kind == "file"}
        _make_writable(self.tree)
        folders: list[str] = []
        for folder, directories, names in os.walk(self.tree, onerror=_fail):
            for name in [*names, *split_off_links(folder, directories)]:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                # A hard link of a live file must never be written to.
                good = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if good and os.path.relpath(path, self.tree) in wanted_files:
                    os.chmod(path, 0o600)
                else:
                    os.unlink(path)
            for name in directories:
                folders.append(os.path.join(folder, name))
                _make_writable(folders[-1])
        for path in reversed(folders):
            with contextlib.suppress(OSError):  # not empty: it holds something wanted
                os.rmdir(path)

    def _make_directories(self) -> None:
        for entry in self.selected:
            path = self.tree / entry.real_path
            if entry.kind == "directory" and self.unit_of(entry.real_path) is not None:
                path.mkdir(parents=True, exist_ok=True)
            elif entry.real_path in self.wanted_paths:
                path.parent.mkdir(parents=True, exist_ok=True)

    def _drop_failed(self, files: Sequence[TreeEntry]) -> None:
        """What cannot be brought back is not put in place half; a live version of it is carried over."""
        for entry in files:
            if entry.real_path in self.fetched.failed:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.tree / entry.real_path)
                self.wanted_paths.discard(entry.real_path)

    def _carry_over(self, unit: str) -> None:
        """Hard-link (or copy) everything of the live unit that is not replaced into the staged one."""
        live_root = self.target / unit if unit else self.target
        if not live_root.is_dir() or live_root.is_symlink():
            return
        in_snapshot = {entry.real_path for entry in self.selected if entry.kind == "directory"}
        extra: list[tuple[str, Path]] = []
        # A directory that cannot be listed ends the restore: what is in it would be lost.
        for folder, directories, names in os.walk(live_root, onerror=_fail):
            directories[:] = [name for name in directories if not name.startswith(PREFIX)]
            relative_folder = os.path.relpath(folder, self.target)
            relative_folder = "" if relative_folder == "." else relative_folder
            staged_folder = self.tree / relative_folder
            staged_folder.mkdir(parents=True, exist_ok=True)
            _copy_owner(folder, staged_folder)
            for name in [*names, *split_off_links(folder, directories)]:
                relative = os.path.join(relative_folder, name)
                staged = self.tree / relative
                if relative in self.wanted_paths or os.path.lexists(staged):
                    continue
                link_or_copy(os.path.join(folder, name), staged)
            if relative_folder not in in_snapshot:
                extra.append((folder, staged_folder))
        for folder, staged_folder in reversed(extra):
            sync_directory(staged_folder)
            shutil.copystat(folder, staged_folder, follow_symlinks=False)

    def _make_links(self) -> None:
        for entry in self.wanted:
            staged = self.tree / entry.real_path
            if entry.kind == "symlink":
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(staged)
                os.symlink(entry.real_target, staged)
                os.utime(staged, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
            elif entry.kind == "hardlink":
                self._make_hard_link(entry, staged)

    def _make_hard_link(self, entry: TreeEntry, staged: Path) -> None:
        if entry.real_target in self.fetched.failed:
            # The second name of a file that could not be brought back: what lives under it stays, too.
            self.wanted_paths.discard(entry.real_path)
            live = self.target / entry.real_path
            if os.path.lexists(live) and self.unit_of(entry.real_path) is not None:
                link_or_copy(live, staged)
            return
        source = self.tree / entry.real_target
        if not os.path.lexists(source):
            source = self.target / entry.real_target
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
        link_or_copy(source, staged)

    def _adopt(self) -> None:
        """What root restores into a user's cache becomes that user's."""
        if os.geteuid() != 0:
            return
        owner = os.stat(nearest_existing(self.target))
        if owner.st_uid == 0:
            return
        for entry in self.wanted:
            staged = self.tree / entry.real_path
            if entry.kind != "hardlink" and os.path.lexists(staged):
                os.chown(staged, owner.st_uid, owner.st_gid, follow_symlinks=False)
        if not self.workspace.target_exists:
            os.chown(self.tree, owner.st_uid, owner.st_gid)

    def _finish_directories(self) -> None:
        """Modes and times of directories, innermost first, and their names on the disk."""
        for entry in reversed(self.selected):
            path = self.tree / entry.real_path
            if entry.kind == "directory" and path.is_dir():
                sync_directory(path)
                # The owner has to be able to rename it; the exact mode comes after that.
                os.chmod(path, entry.mode | stat.S_IRWXU)
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        sync_directory(self.tree)


def is_inside(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or below it; "" is the root of all."""
    return not folder or path == folder or path.startswith(folder + "/")


def split_off_links(folder: str, directories: list[str]) -> list[str]:
    """Take the links out of what ``os.walk`` calls directories, so that it does not look into them."""
    links = [name for name in directories if os.path.islink(os.path.join(folder, name))]
    directories[:] = [name for name in directories if name not in links]
    return links


def link_or_copy(source: str | os.PathLike[str], destination: Path) -> None:
    """A second name for ``source`` (not what it links to); a durable copy where there are no hard links."""
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        shutil.copy2(source, destination, follow_symlinks=False)
        if not os.path.islink(destination):
            with open(destination, "rb") as copied:
                os.fsync(copied.fileno())
        _copy_owner(source, destination)


def _make_writable(folder: str | os.PathLike[str]) -> None:
    """What a killed run made read-only is still ours to fill or to clear."""
    os.chmod(folder, stat.S_IMODE(os.lstat(folder).st_mode) | stat.S_IRWXU)


def _copy_owner(source: str | os.PathLike[str], destination: Path) -> None:
    """Only root can, and only root needs to."""
    if os.geteuid() == 0:
        status = os.lstat(source)
        os.chown(destination, status.st_uid, status.st_gid, follow_symlinks=False)


def _fail(error: OSError) -> None:
    raise error
