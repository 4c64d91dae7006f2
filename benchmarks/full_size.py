"""The real size on a real machine: a 32.83 GB cache, each step once, on a disk with room for 1.5 times that.

    sudo python benchmarks/full_size.py --work /data/bench --out rows.json      (some ten minutes)

``bench.py`` needs four times the size on the disk and repeats everything; this program removes the cache
before it restores it, as the reset does, and compares with ``cat`` of the files and ``cp`` of a part.
Needs root, to drop the kernel's caches before every step.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from cachemaker import Recipe, make, parse_size
from describe import machine_line

_PROGRAMS = (["-m", "zitcache", "--help"], ["-c", "import numpy, zstandard, blake3, msgspec"])


class Steps:
    """Runs commands on cold caches and keeps what they took."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self.rows: list[dict[str, object]] = []

    def run(self, name: str, command: str, *, cold: bool = True) -> None:
        """One shell command, timed to its end; programs are warmed up, data is not."""
        os.sync()
        if cold:
            Path("/proc/sys/vm/drop_caches").write_text("3")
            for arguments in _PROGRAMS:
                subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        start = time.perf_counter()
        process = subprocess.Popen(
            command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        row: dict[str, object] = {
            "step": name,
            "seconds": round(time.perf_counter() - start, 2),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mb": usage.ru_maxrss // 1024,
            "exit_code": os.waitstatus_to_exitcode(status),
            "output": output[-300:],
        }
        self.rows.append(row)
        print(
            "| {step} | {seconds} s | {cpu_seconds} s | {peak_mb} MB | {exit_code} |".format(**row),
            flush=True,
        )
        if row["exit_code"] or "stored" in name:
            print(output[-600:], flush=True)
        if self._out is not None:
            self._out.write_text(json.dumps(self.rows, indent=1))


def main() -> int:
    """Make the cache, run the steps, print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=parse_size, default=parse_size("32.83G"), help="of the cache (32.83G)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/zitcache-full"), help="an empty place")
    parser.add_argument("--out", type=Path, help="write all rows to this file")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(work).free < 1.55 * options.size:
        sys.exit(f"{work} has not enough room: 1.55 times the size of the cache is needed.")
    print(machine_line(work), flush=True)
    # Z-Image's shares: transformer fp32 upcast from bf16, text encoder and VAE bf16, a little true fp32.
    cache = make(Recipe(options.size, "mix", (75, 24, 1), 1), work).root
    files = sorted(cache.rglob("*.safetensors"))
    names = shlex.join(map(str, files))
    zitcache = f"{shlex.quote(sys.executable)} -m zitcache"
    repository = work / "repository"
    part = files[: max(1, len(files) // 4)]
    part_size = sum(file.stat().st_size for file in part)
    copied = work / "part"
    print(f"\n{options.size / 1e9:.2f} GB in {len(files)} shards\n", flush=True)
    print("| step | time | CPU | peak memory | exit |\n|---|---|---|---|---|", flush=True)
    steps = Steps(options.out)
    steps.run("bare read: cat FILES > /dev/null", f"cat {names} > /dev/null")
    steps.run("init", f"{zitcache} init -q {repository} 2>&1", cold=False)
    steps.run("first backup && sync", f"{zitcache} backup -q -r {repository} --cache {cache} && sync")
    steps.run("stored: du -sb", f"du -sb {repository} {cache}", cold=False)
    steps.run("nightly, nothing changed, cold", f"{zitcache} backup -q -r {repository} --cache {cache}")
    steps.run(
        "nightly, nothing changed, warm", f"{zitcache} backup -q -r {repository} --cache {cache}", cold=False
    )
    steps.run("verify", f"{zitcache} verify -q {cache} -r {repository}")
    steps.run("bare read again", f"cat {names} > /dev/null")
    steps.run(
        f"cp of {part_size / 1e9:.2f} GB && sync",
        f"cp {shlex.join(map(str, part))} {copied} && sync"
        if len(part) == 1
        else f"mkdir {copied} && cp {shlex.join(map(str, part))} {copied} && sync",
    )
    if copied.is_dir():
        shutil.rmtree(copied)
    else:
        copied.unlink(missing_ok=True)
    shutil.rmtree(cache)
    steps.run("restore && sync", f"{zitcache} restore -q -r {repository} && sync")
    steps.run("verify what was restored", f"{zitcache} verify -q {cache} -r {repository}")
    steps.run("check --read-data", f"{zitcache} check -q --read-data -r {repository}")
    return 1 if any(row["exit_code"] for row in steps.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
