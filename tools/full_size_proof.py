"""Time ``verify --generate`` on a cache of the real size, cold, against a bare read of its files.

python tools/full_size_proof.py --work /data/full-size --output docs/full-size

It needs 33 GB of disk, a GPU and what ``zitcache[generate]`` installs. Random weights draw noise, so the
verdict is "warned" with equal pixels; the times are those of the real weights. ``--tiny --device cpu``
tries the program itself. Writes ``table.md``, ``results.json``, the picture, the contact sheet and the
attestation to ``--output``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from full_size_cache import MODEL_PATH, PROJECT, make_cache

READ_BYTES = 4 << 20
LIMIT_FACTOR, LIMIT_PLUS_SECONDS = 1.3, 5.0


def main() -> None:
    """Run all steps and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for cache and repository")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments.work, arguments.output, arguments.device)
    bench.prepare(full=not arguments.tiny, workers=arguments.workers)
    bench.measure()
    bench.write()


class Bench:
    """The steps and what they took."""

    def __init__(self, work: Path, output: Path, device: str) -> None:
        self.cache, self.repository = work / "cache", work / "repository"
        self.fingerprint = work / "fingerprint.json"
        self.output, self.device = output, device
        self.rows: list[tuple[str, float, str]] = []
        self.results: dict[str, Any] = {}
        self.proof: dict[str, Any] = {}

    @property
    def files(self) -> list[Path]:
        """All files of the model."""
        return sorted(path for path in (self.cache / MODEL_PATH).rglob("*") if path.is_file())

    def prepare(self, *, full: bool, workers: int) -> None:
        """Make the cache unless it is there, an empty repository, and the fingerprint that vouches for it."""
        if not self.cache.exists():
            started = time.perf_counter()
            size = make_cache(self.cache, full=full, workers=workers)
            self.add("make the cache", time.perf_counter() - started, f"{size:,} bytes, {workers} processes")
        shutil.rmtree(self.repository, ignore_errors=True)
        self.zitcache("init", str(self.repository))
        self.drop()
        self.fingerprint.unlink(missing_ok=True)
        seconds, _ = self.zitcache("checksum", "--cache", str(self.cache), "-o", str(self.fingerprint))
        self.add("`zitcache checksum`, cold", seconds, "BLAKE3 and SHA-256")

    def measure(self) -> None:
        """The bare reads, then the proofs."""
        total = sum(path.stat().st_size for path in self.files)
        bare = min(self.read(readers, total) for readers in (1, 4))
        first = self.verify("`verify --generate --save-golden`, cold", "--save-golden")
        second = self.verify("`verify --generate`, cold, another process")
        self.verify("`verify --generate`, warm", cold=False)
        limit = LIMIT_FACTOR * bare + LIMIT_PLUS_SECONDS
        seconds, _ = self.zitcache("verify", str(self.cache), "--against", str(self.fingerprint), cold=True)
        self.add("`verify` alone, cold", seconds, f"{seconds / bare:.2f} × the bare read")
        picture = self.output / "generated.png"
        picture.unlink(missing_ok=True)
        seconds, data = self.zitcache(
            "generate", "--cache", str(self.cache), "--device", self.device, "-o", str(picture)
        )
        drawn = data["images"][0]["seconds"]
        self.add("`generate`, warm", seconds, f"load {data['seconds_load']:.1f} s, draw {drawn:.2f} s")
        self.results |= {
            "bytes": total,
            "bare_read_seconds": bare,
            "limit_seconds": limit,
            "within_limit": max(first, second) <= limit,
            "identical_across_processes": self.proof["identical"],
        }

    def verify(self, name: str, *more: str, cold: bool = True) -> float:
        """One proof; gives its time."""
        folder = self.output / "proof"
        shutil.rmtree(folder, ignore_errors=True)
        seconds, data = self.zitcache(
            "verify", str(self.cache), "--against", str(self.fingerprint), "-r", str(self.repository),
            "--generate", "--device", self.device, "--proof-dir", str(folder), *more, cold=cold,
        )  # fmt: skip
        self.proof = data["proof"]
        told = (
            f"{self.proof['verdict']}, tier {self.proof['tier']}; load {self.proof['seconds_load']:.1f} s, "
            f"draw {self.proof['seconds_draw']:.2f} s"
        )
        if self.proof["identical"] is not None:
            told += f"; pixels {'identical' if self.proof['identical'] else 'DIFFERENT'}"
        self.add(name, seconds, told)
        return seconds

    def read(self, readers: int, total: int) -> float:
        """Read all files from the disk, and do nothing with them."""
        self.drop()
        seconds = timed(lambda: read_all(self.files, readers))
        rate = total / seconds / 1e9
        self.add(f"bare read, cold, {readers} reader{'s' * (readers > 1)}", seconds, f"{rate:.2f} GB/s")
        return seconds

    def zitcache(self, *arguments: str, cold: bool = False) -> tuple[float, dict[str, Any]]:
        """Run a command as a user would; gives its time as a whole process, and its data."""
        if cold:
            self.drop()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), *_python_path()])}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "zitcache", *arguments, "--json"],
            env=environment,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        try:
            envelope = json.loads(done.stdout)
        except ValueError:
            sys.exit(f"zitcache {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        print(f"{seconds:8.1f} s  zitcache {arguments[0]}  exit {done.returncode}", flush=True)
        for warning in envelope["warnings"]:
            print(f"            {warning['message']}", flush=True)
        if envelope["data"] is None:
            sys.exit(f"zitcache {' '.join(arguments)}: {envelope['error']}")
        return seconds, envelope["data"]

    def drop(self) -> None:
        """Let the page cache forget the files, and check that it did."""
        from zitcache.machine.files import drop_cached, is_resident

        for path in self.files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                drop_cached(file.fileno(), 0, 0)
        largest = max(self.files, key=lambda path: path.stat().st_size)
        with largest.open("rb") as file:
            if is_resident(file.fileno(), largest.stat().st_size):
                print("The page cache was not dropped: the times called cold are warm.", file=sys.stderr)
                self.results["really_cold"] = False

    def add(self, name: str, seconds: float, remark: str) -> None:
        """Remember a row of the table."""
        self.rows.append((name, seconds, remark))
        print(f"{seconds:8.1f} s  {name}: {remark}", flush=True)

    def write(self) -> None:
        """The table, the figures, and the pictures."""
        results = self.results
        lines = ["| step | seconds | |", "|---|---:|---|"]
        lines += [f"| {name} | {seconds:.1f} | {remark} |" for name, seconds, remark in self.rows]
        verdict = "within" if results["within_limit"] else "ABOVE"
        lines += [
            "",
            f"Limit: {LIMIT_FACTOR} × {results['bare_read_seconds']:.1f} s + {LIMIT_PLUS_SECONDS:.0f} s = "
            f"{results['limit_seconds']:.1f} s: {verdict} it.",
            "",
            f"{self.proof['device_name']}, {os.cpu_count()} cores, {self.proof['dtype']}, "
            f"{self.proof['size']} px, {self.proof['placement']}; {results['bytes']:,} bytes; "
            f"Python {platform.python_version()}.",
        ]
        (self.output / "table.md").write_text("\n".join(lines) + "\n")
        results |= {"rows": self.rows, "proof": self.proof}
        (self.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        print("\n" + "\n".join(lines))


def read_all(files: Sequence[Path], readers: int) -> None:
    """Read every file to its end, by ``readers`` threads, largest first."""
    waiting = sorted(files, key=lambda path: path.stat().st_size)
    lock = threading.Lock()

    def work() -> None:
        buffer = bytearray(READ_BYTES)
        while True:
            with lock:
                if not waiting:
                    return
                path = waiting.pop()
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    threads = [threading.Thread(target=work) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def timed(work: Callable[[], None]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


if __name__ == "__main__":
    main()
