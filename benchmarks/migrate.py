"""Measure ``zitcache migrate`` against ``cp -r && sync``, in turns, with cold caches.

    python benchmarks/migrate.py --source-dir /var/tmp --target-dir /mnt/data     two real disks
    python benchmarks/migrate.py --size 1G --rounds 3                             two loop-mounted ones (root)
    python benchmarks/migrate.py --only reflink --source-dir /data --target-dir /data

Both must have everything on the disk before the clock stops. zitcache reads every byte back from the disk as
well, which ``cp`` does not. Results go to stdout, what happens meanwhile to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cachemaker import MadeCache, Recipe, make, parse_size
from describe import machine_line
from measure import Command, Sample, can_drop_caches, make_cold, remove, run, sync_file_system
from state import say

_CHECKOUT = Path(__file__).resolve().parent.parent
_GOAL = 1.05
_GOAL_REFLINK_SECONDS = 1.0
_SPARE_BYTES = 300_000_000


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ends the process with code 2 and a message for those that make no sense."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--source-dir", type=Path, help="where the cache is made (default: a loop-mounted ext4)")
    add("--target-dir", type=Path, help="where it is moved to (default: a loop-mounted XFS)")
    add("--size", type=parse_size, default=parse_size("1G"), help="of the cache (1G)")
    add("--rounds", type=int, default=3, help="how many times each is measured (3)")
    add("--only", choices=("copy", "reflink", "all"), default="all", help="which way (all)")
    add("--zitcache", default=f"{shlex.quote(sys.executable)} -m zitcache", help="how to start it")
    add("--images", type=Path, default=Path("/var/tmp"), help="where the loop images lie (/var/tmp)")
    add("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args(words)
    if (options.source_dir is None) != (options.target_dir is None):
        parser.error("--source-dir and --target-dir go together")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.source_dir is None and os.geteuid() != 0:
        parser.error("loop-mounted disks need root; or name --source-dir and --target-dir")
    return options


@contextlib.contextmanager
def places(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """Where the cache is made and where it goes."""
    if options.source_dir is not None:
        yield options.source_dir.resolve(), options.target_dir.resolve()
        return
    room = options.size * 2 + _SPARE_BYTES
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.images)))
        source = stack.enter_context(loop_disk(folder / "ext4", ["mkfs.ext4", "-q", "-F", "-m", "0"], room))
        target = stack.enter_context(loop_disk(folder / "xfs", ["mkfs.xfs", "-q", "-f"], room))
        yield source, target


@contextlib.contextmanager
def loop_disk(place: Path, mkfs: list[str], size: int) -> Iterator[Path]:
    """A new file system in an image beside ``place``, mounted there."""
    image = place.with_suffix(".img")
    with image.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)  # as a disk: no blocks are looked for while measuring
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    subprocess.run([*mkfs, str(image)], check=True, env=environment, stdout=subprocess.DEVNULL)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Migrations:
    """The runs of one benchmark. ``scratch``: a folder of its own on the target's disk."""

    def __init__(self, options: argparse.Namespace, cache: MadeCache, scratch: Path, drop: bool) -> None:
        self._zitcache = shlex.split(options.zitcache)
        self._cache = cache
        self._scratch = scratch
        self._drop = drop
        self._log = scratch / "output.log"

    def measure(self, argv: Sequence[str], what: str) -> Sample:
        """Run one command with a cold cache, its data on the disk when the clock stops."""
        make_cold([self._cache.root], self._drop)
        sync_file_system(self._scratch)
        sample = run(Command(tuple(argv), cwd=_CHECKOUT), self._log, sync_at=self._scratch)
        rate = self._cache.size_bytes / sample.seconds / 1e6
        say(
            f"{what}: {sample.seconds:.2f} s ({rate:.0f} MB/s), CPU {sample.cpu_seconds:.2f} s, "
            f"peak {sample.peak_bytes / 1e6:.0f} MB"
        )
        return sample

    def cp(self) -> Sample:
        """``cp -r CACHE SCRATCH/cp``, then sync."""
        target = self._scratch / "cp"
        try:
            return self.measure(["cp", "-r", str(self._cache.root), str(target)], "cp -r && sync")
        finally:
            remove(target)

    def migrate(self, target: Path, method: str) -> Sample:
        """``zitcache migrate``; then everything is as it was."""
        line = ["migrate", str(target), "--cache", str(self._cache.root)]
        more = ["--yes", "--force", "--no-env", "--no-kit", "--json"]
        root = self._cache.root
        try:
            sample = self.measure([*self._zitcache, *line, *more], f"zitcache migrate ({method})")
            data = json.loads(self._log.read_text())["data"]
            if (data["method"], data["linked"], data["bytes"]) != (method, True, self._cache.size_bytes):
                sys.exit(f"the migration was not what was to be measured: {data}")
            return sample
        finally:
            if root.is_symlink():
                root.unlink()
                root.with_name(f".zitcache-old-{root.name}").rename(root)
            remove(target)


def report(name: str, ours: list[Sample], theirs: list[Sample]) -> dict[str, object]:
    """Print the ratio of the rounds, and give it for the JSON file."""
    ratios = [mine.seconds / other.seconds for mine, other in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    verdict = "reached" if ratio <= _GOAL else "MISSED"
    rounds = ", ".join(f"{value:.2f}" for value in ratios)
    print(f"{name}: {ratio:.2f} x the time of cp -r && sync (rounds: {rounds}); goal {_GOAL}: {verdict}")
    return {
        "ratio": ratio,
        "ratios": ratios,
        "seconds": [sample.seconds for sample in ours],
        "cp_seconds": [sample.seconds for sample in theirs],
        "peak_bytes": max(sample.peak_bytes for sample in ours),
    }


def main() -> int:
    """Measure, print, and leave nothing behind. 1 when a goal was missed."""
    options = parse_arguments()
    found: dict[str, object] = {}
    drop = can_drop_caches()
    with places(options) as (source, target), contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zitcache-bench-", dir=source)))
        cache = make(Recipe(options.size), work)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zitcache-bench-", dir=target)))
        bench = Migrations(options, cache, scratch, drop)
        print(f"{machine_line(scratch)}\n{cache.size_bytes / 1e6:.0f} MB in {cache.files} files", flush=True)
        bench.migrate(scratch / "warm-up", _method(options, source, target))
        if options.only in ("copy", "all") and _method(options, source, target) == "copy":
            ours, theirs = [], []
            for _ in range(options.rounds):
                theirs.append(bench.cp())
                ours.append(bench.migrate(scratch / "moved", "copy"))
            found["copy"] = report("migrate (copied and read back)", ours, theirs)
        if options.only in ("reflink", "all"):
            found |= reflinks(options, bench, source, target, work, cache, scratch, drop)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    missed = [name for name, value in found.items() if isinstance(value, dict) and not _reached(name, value)]
    return 1 if missed else 0


def reflinks(
    options: argparse.Namespace,
    bench: Migrations,
    source: Path,
    target: Path,
    work: Path,
    cache: MadeCache,
    scratch: Path,
    drop: bool,
) -> dict[str, object]:
    """Move the cache within one disk that can share blocks: the target's, if it can."""
    if _method(options, source, target) != "reflink":
        with tempfile.TemporaryDirectory(prefix="zitcache-bench-", dir=target) as folder:
            same = make(Recipe(options.size), Path(folder))
            within = Migrations(options, same, scratch, drop)
            if not _shares_blocks(Path(folder)):
                say("reflink: skipped, the target's disk cannot share blocks")
                return {}
            samples = [within.migrate(scratch / "moved", "reflink") for _ in range(options.rounds)]
    else:
        samples = [bench.migrate(scratch / "moved", "reflink") for _ in range(options.rounds)]
    seconds = statistics.median(sample.seconds for sample in samples)
    verdict = "reached" if seconds <= _GOAL_REFLINK_SECONDS else "MISSED"
    print(f"migrate (reflink): {seconds:.2f} s; goal {_GOAL_REFLINK_SECONDS:.0f} s: {verdict}")
    return {"reflink": {"seconds": [sample.seconds for sample in samples], "median_seconds": seconds}}


def _method(options: argparse.Namespace, source: Path, target: Path) -> str:
    return "reflink" if source.stat().st_dev == target.stat().st_dev and _shares_blocks(target) else "copy"


def _shares_blocks(folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        file = Path(trial, "a")
        file.write_bytes(bytes(8192))
        done = subprocess.run(
            ["cp", "--reflink=always", str(file), f"{file}2"], capture_output=True, check=False
        )
        return done.returncode == 0


def _reached(name: str, value: dict[str, object]) -> bool:
    if name == "copy":
        return float(str(value["ratio"])) <= _GOAL
    return float(str(value["median_seconds"])) <= _GOAL_REFLINK_SECONDS


if __name__ == "__main__":
    sys.exit(main())
