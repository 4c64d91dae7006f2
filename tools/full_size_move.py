"""Time ``migrate`` against ``cp``, then backup, proof on every GPU and restore, on a cache of the real size.

python tools/full_size_move.py /data/work      needs root, 100 GB of one disk, and what draws

Source and destination lie on one disk, which reads every byte twice and writes it once: the worst case.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ZITCACHE = [sys.executable, "-m", "zitcache"]


def main() -> None:
    """Run all steps, each cold, and print what they took."""
    work = Path(sys.argv[1])
    cache, moved, repository = work / "cache", work / "data/cache", work / "repository"
    for name in ("home", "system", "data"):
        (work / name).mkdir(parents=True)
    settings = {"HOME": work / "home", "ZITCACHE_SYSTEM_ROOT": work / "system", "MODELSCOPE_CACHE": cache}
    os.environ.update({name: str(value) for name, value in settings.items()})
    subprocess.run([sys.executable, str(TOOLS / "full_size_cache.py"), str(cache)], check=True)
    timed("bare read", ["sh", "-c", f"cat $(find {cache} -name '*.safetensors') > /dev/null"])
    copied = timed("cp -r && sync", ["sh", "-c", f"cp -r {cache} {work}/copy && sync -f {work}/copy"])
    shutil.rmtree(work / "copy")
    migrate = [*ZITCACHE, "migrate", str(moved), "--force", "--yes", "--cache", str(cache)]
    seconds = timed("migrate", migrate)
    print(f"migrate takes {seconds / copied:.2f} x cp")
    timed("migrate --delete-source", [*migrate, "--delete-source"])
    timed("backup --init", [*ZITCACHE, "backup", "--init", "-r", str(repository), "--cache", str(moved)])
    timed("backup, nothing changed", [*ZITCACHE, "backup", "-r", str(repository), "--cache", str(moved)])
    prove = [*ZITCACHE, "verify", str(moved), "--generate", "--gpus", "all", "-r", str(repository)]
    timed("verify --generate --gpus all --save-golden", [*prove, "--save-golden"])
    timed("verify --generate --gpus all", prove)
    shutil.rmtree(work / "data")
    timed("restore", [*ZITCACHE, "restore", "latest", "-r", str(repository), "--to", str(work / "back")])


def timed(name: str, command: list[str]) -> float:
    """Run ``command`` with cold caches; seconds."""
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    started = time.monotonic()
    code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    seconds = time.monotonic() - started
    print(f"{name}: {seconds:.1f} s, exit code {code}", flush=True)
    return seconds


if __name__ == "__main__":
    main()
