"""Memory is bounded whatever the size of the cache."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.backup.world import MIB, command, make_model
from tests.storage.disks import python_environment

LIMIT_BYTES = 400 * 10**6
_WATCHED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_backup_and_a_restore_of_600_mb_stay_below_400_mb(
    cache: Path, repository: Path, target: Path
) -> None:
    make_model(cache)
    header = json.dumps({"t": {"dtype": "BF16", "shape": [300 * MIB], "data_offsets": [0, 600 * MIB]}})
    with (cache / "big.safetensors").open("wb") as file, Path("/dev/urandom").open("rb") as random:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        for _ in range(75):
            file.write(random.read(8 * MIB))
    for arguments in (
        command("backup", "--init", "-r", repository, "--cache", cache),
        command("restore", "-r", repository, "--to", target),
        command("restore", "-r", repository, "--to", target),
    ):
        done = subprocess.run(
            [arguments[0], "-c", _WATCHED, *arguments],
            capture_output=True,
            text=True,
            env=python_environment(),
        )
        code, peak = map(int, done.stdout.split())
        assert code == 0, done.stderr
        assert peak < LIMIT_BYTES
    assert subprocess.run(["cmp", cache / "big.safetensors", target / "big.safetensors"]).returncode == 0
