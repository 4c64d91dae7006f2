"""The tools that are compared: how each makes its store, backs up and restores. All run as a user would.

A tool's *store* is where its backup lies: a directory for most, a file for tar. Every tool's time includes a
last sync of the file system; for those that sync themselves it finds nothing left to do.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from measure import Command


class Tool:
    """One tool. ``slow``: by default measured once, on a smaller cache. ``compresses``: stores less."""

    key = ""
    title = ""
    package = ""
    slow = False
    compresses = False
    version_argv: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Why this tool cannot run here, or None."""
        for program in (self.version_argv[0], *(["zstd"] if self.key == "tar-zstd" else [])):
            if shutil.which(program) is None:
                return f"{program} is not installed (Debian: apt install {self.package})"
        return None

    def version(self) -> str:
        """The first line of what the tool says its version is."""
        done = subprocess.run(self.version_argv, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip().partition("\n")[0]

    def prepare(self, store: Path) -> Sequence[Command]:
        """What must run before the first backup into ``store``; not measured."""
        return ()

    def backup(self, cache: Path, store: Path) -> Command:
        """Back ``cache`` up into ``store``."""
        raise NotImplementedError

    def restore(self, store: Path, target: Path) -> Command | None:
        """Bring the backup back into ``target``, which does not exist; None: not measured."""
        return None


class Copy(Tool):
    """The yardstick."""

    key, title, package, version_argv = "cp", "cp -r && sync", "coreutils", ("cp", "--version")

    def backup(self, cache: Path, store: Path) -> Command:
        return Command(("cp", "-r", str(cache), str(store)))

    def restore(self, store: Path, target: Path) -> Command:
        return Command(("cp", "-r", str(store), str(target)))


class Rsync(Tool):
    """What many nightly scripts use."""

    key, title, package, version_argv = "rsync", "rsync -a && sync", "rsync", ("rsync", "--version")

    def backup(self, cache: Path, store: Path) -> Command:
        return Command(("rsync", "-a", f"{cache}/", f"{store}/"))


class TarGzip(Tool):
    """The archive most guides propose."""

    key, title, package, version_argv = "tar-gz", "tar -czf && sync", "tar", ("tar", "--version")
    slow = compresses = True

    def backup(self, cache: Path, store: Path) -> Command:
        return Command(("tar", "-C", str(cache), "-czf", str(store), "."))


class TarZstd(Tool):
    """An archive on all cores."""

    key, title, package, version_argv = "tar-zstd", "tar | zstd -T0 && sync", "zstd", ("tar", "--version")
    slow = compresses = True

    def backup(self, cache: Path, store: Path) -> Command:
        script = 'tar -C "$1" -cf - . | zstd -q -T0 -o "$2"'
        return Command(("sh", "-c", script, "sh", str(cache), str(store)))


class Borg(Tool):
    """Unencrypted, at its fastest zstd level."""

    key, title, package, version_argv = "borg", "borg create -C zstd,1", "borgbackup", ("borg", "--version")
    slow = compresses = True

    def __init__(self, home: Path) -> None:
        self._env = {
            "BORG_BASE_DIR": str(home / "borg"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def prepare(self, store: Path) -> Sequence[Command]:
        return (Command(("borg", "init", "--encryption", "none", str(store)), env=self._env),)

    def backup(self, cache: Path, store: Path) -> Command:
        argv = ("borg", "create", "--compression", "zstd,1", f"{store}::bench", ".")
        return Command(argv, cwd=cache, env=self._env)

    def restore(self, store: Path, target: Path) -> Command:
        script = 'mkdir "$1" && cd "$1" && exec borg extract "$2"'
        return Command(("sh", "-c", script, "sh", str(target), f"{store}::bench"), env=self._env)


class Restic(Tool):
    """As it comes: encrypted, compression auto."""

    key, title, package, version_argv = "restic", "restic backup", "restic", ("restic", "version")
    slow = compresses = True

    def __init__(self, home: Path) -> None:
        self._env = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(home / "restic")}

    def prepare(self, store: Path) -> Sequence[Command]:
        return (Command(("restic", "-q", "-r", str(store), "init"), env=self._env),)

    def backup(self, cache: Path, store: Path) -> Command:
        return Command(("restic", "-q", "-r", str(store), "backup", "."), cwd=cache, env=self._env)

    def restore(self, store: Path, target: Path) -> Command:
        argv = ("restic", "-q", "-r", str(store), "restore", "latest", "--target", str(target))
        return Command(argv, env=self._env)


class Zitcache(Tool):
    """This project. ``command`` starts it, ``checkout`` is where it is started from."""

    key, title = "zitcache", "zitcache"
    compresses = True

    def __init__(self, command: Sequence[str], checkout: Path, home: Path) -> None:
        self.command = tuple(command)
        self.version_argv = (*self.command, "--version")
        self._checkout = checkout
        # What it remembers between runs belongs to the benchmark, not to the user who runs it.
        names = ("CACHE", "STATE", "CONFIG")
        self._env = {f"XDG_{name}_HOME": str(home / "xdg" / name.lower()) for name in names}

    def _with(self, *arguments: str) -> Command:
        return Command((*self.command, *arguments), cwd=self._checkout, env=self._env)

    def _ask(self, argument: str) -> subprocess.CompletedProcess[str]:
        argv = [*self.command, argument]
        return subprocess.run(argv, cwd=self._checkout, capture_output=True, text=True, check=False)

    def version(self) -> str:
        done = self._ask("--version")
        return (done.stdout or done.stderr).strip().rpartition("\n")[2]

    def missing(self) -> str | None:
        try:
            done = self._ask("--help")
        except OSError as error:
            return f"`{' '.join(self.command)}` does not start: {error}"
        if done.returncode == 0:
            return None
        return f"`{' '.join(self.command)} --help` fails: {done.stderr.strip()[-400:]}"

    def prepare(self, store: Path) -> Sequence[Command]:
        return (self._with("init", str(store)),)

    def backup(self, cache: Path, store: Path) -> Command:
        return self._with("backup", "--repo", str(store), "--cache", str(cache), "--json")

    def restore(self, store: Path, target: Path) -> Command:
        return self._with("restore", "--repo", str(store), "--to", str(target), "--json")

    def verify(self, cache: Path, store: Path) -> Command:
        """Compare the files of ``cache`` with the snapshot in ``store``."""
        return self._with("verify", str(cache), "--repo", str(store), "--json")

    def help(self) -> Command:
        """Print the list of commands."""
        return self._with("--help")


def bare_read(cache: Path) -> Command:
    """Read every file once and do nothing with it."""
    return Command(("sh", "-c", 'find "$1" -type f -exec cat {} + > /dev/null', "sh", str(cache)))


def peers(home: Path) -> list[Tool]:
    """All tools that zitcache is compared with; what they keep in a home directory goes into ``home``."""
    return [Copy(), Rsync(), TarGzip(), TarZstd(), Borg(home), Restic(home)]
