"""Start zitcache from the kit that this file lies in: ``python3 -I -S -B run.py COMMAND …``.

Nothing of the system's Python is used but its standard library. A disk from which no shared object may be
loaded (mounted noexec) is no obstacle: the packages that have some are copied to another place for the time
of the run. A Python that cannot load them at all is passed over: the script that found it looks for another.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
LIBRARY = os.path.join(HERE, "lib")
COMPILED = ("msgspec", "zstandard", "blake3")
PREFIX = "zitcache-kit-"


def main() -> None:
    """Find the library, prove that its compiled modules load, and go."""
    # With the process it is true of: a program started from here inherits both, and may be another zitcache.
    os.environ["ZITCACHE_KIT_DIR"] = os.path.dirname(HERE)
    os.environ["ZITCACHE_KIT_PID"] = str(os.getpid())
    if os.environ.get("ZITCACHE_KIT_OFFLINE"):
        sys.addaudithook(refuse_network)
    sys.path.insert(0, LIBRARY)
    if os.statvfs(LIBRARY).f_flag & os.ST_NOEXEC:
        use_copy()
    try:
        load()
    except ImportError as error:
        if "failed to map segment" not in str(error) or sys.path[0] != LIBRARY:
            look_further(error)
        forget()
        use_copy()
        try:
            load()
        except ImportError as again:
            look_further(again)
    from zitcache.cli.main import main as zitcache

    zitcache()


def load() -> None:
    """Import what has compiled parts. Raises ``ImportError``."""
    for name in COMPILED:
        importlib.import_module(name)


def forget() -> None:
    """Undo the half of an import that failed."""
    for name in list(sys.modules):
        if name.partition(".")[0] in COMPILED:
            del sys.modules[name]
    importlib.invalidate_caches()


def look_further(error: ImportError) -> None:
    """This Python will not do: start the script again, which then passes it over."""
    tried = os.environ.get("ZITCACHE_KIT_TRIED", "").splitlines()
    this = os.environ.get("ZITCACHE_KIT_PYTHON", sys.executable)
    problem = f"{this} cannot load the kit: {error}"
    launcher = os.environ.get("ZITCACHE_KIT_LAUNCHER")
    if launcher is None or this in tried:
        sys.exit(f"error: {problem}")
    os.environ["ZITCACHE_KIT_TRIED"] = "\n".join([*tried, this])
    os.environ["ZITCACHE_KIT_PROBLEM"] = problem
    os.execv("/bin/sh", ["/bin/sh", launcher, *sys.argv[1:]])


def use_copy() -> None:
    """Copy the packages with shared objects to where these can be loaded, for the time of this run."""
    paths = [os.path.join(LIBRARY, name) for name in sorted(os.listdir(LIBRARY))]
    # zitcache itself, too: the process that draws gets the folder that zitcache lies in, and no other.
    packages = [path for path in paths if has_shared_objects(path) or os.path.basename(path) == "zitcache"]
    needed = 2 * sum(size_of(path) for path in packages)
    home = os.path.expanduser("~")
    for place in (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp", home, "/dev/shm", "/run"):
        with contextlib.suppress(OSError):
            if not place or os.statvfs(place).f_flag & os.ST_NOEXEC or shutil.disk_usage(place).free < needed:
                continue
            remove_leftovers(place)
            folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            for path in packages:
                copy = shutil.copytree if os.path.isdir(path) else shutil.copyfile
                copy(path, os.path.join(folder, os.path.basename(path)))
            sys.path.insert(0, folder)
            return
    sys.exit(
        f"error: programs cannot be run from the disk of {HERE} (noexec), and no other place has "
        f"{needed // 1000000} MB for them.\n"
        "Name one with TMPDIR=/path in front of the line, or allow it: mount -o remount,exec THE_DISK"
    )


def has_shared_objects(path: str) -> bool:
    """Whether a package, or a single module, has compiled parts."""
    if not os.path.isdir(path):
        return path.endswith(".so")
    return any(".so" in name for _, _, names in os.walk(path) for name in names)


def size_of(path: str) -> int:
    """The bytes of a file or a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names
    )


def remove_leftovers(place: str) -> None:
    """Remove the copies of runs that were killed."""
    for name in os.listdir(place):
        pid = name[len(PREFIX) :].partition("-")[0]
        if not name.startswith(PREFIX) or not pid.isdigit() or os.path.exists(f"/proc/{pid}"):
            continue
        path = os.path.join(place, name)
        if os.lstat(path).st_uid == os.geteuid() and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)


def refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: whoever proves the kit proves that it needs no network."""
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"}:
        raise PermissionError(f"The kit reached for the network: {event}")


if __name__ == "__main__":
    main()
