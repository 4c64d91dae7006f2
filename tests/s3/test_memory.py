"""Memory is bounded, whatever goes to a bucket or comes from it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.backup.world import MIB, command, make_model
from tests.s3.fixtures import S3Server
from tests.storage.disks import python_environment

LIMIT_BYTES = 500 * 10**6
_WATCHED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_backup_restore_copy_and_check_of_600_mb_stay_below_500_mb(
    s3_server: S3Server, s3_location: str, tmp_path: Path
) -> None:
    """Bytes that do not compress: as many go over the line as are in the cache."""
    cache = make_model(tmp_path / "cache")
    size = 600 * MIB
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    with (cache / "big.safetensors").open("wb") as file, Path("/dev/urandom").open("rb") as random:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        for _ in range(size // (8 * MIB)):
            file.write(random.read(8 * MIB))
    other = s3_server.place()
    peaks = {}
    for arguments in (
        ("backup", "--init", "--no-kit", "-r", s3_location, "--cache", str(cache)),
        ("copy", "--init", s3_location, other),
        ("check", "--read-data", "-r", other),
        ("restore", "latest", "-r", other, "--to", str(tmp_path / "restored")),
        ("copy", "--init", other, str(tmp_path / "local")),
    ):
        words = command(*arguments)
        done = subprocess.run(
            [words[0], "-c", _WATCHED, *words], capture_output=True, text=True, env=python_environment()
        )
        code, peak = map(int, done.stdout.split())
        assert code == 0, done.stderr
        peaks[arguments[0] + arguments[-1][-6:]] = peak
    assert max(peaks.values()) < LIMIT_BYTES, peaks
    same = subprocess.run(["cmp", cache / "big.safetensors", tmp_path / "restored" / "big.safetensors"])
    assert same.returncode == 0
