"""A cache beside its repository, and what tests do with them."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.cache.builders import safetensors
from zitcache.events import Outcome, Session
from zitcache.tasks.backup import BackupReport, BackupRequest, backup
from zitcache.tasks.checksum import ChecksumReport, ChecksumRequest, checksum
from zitcache.tasks.sample import SampleLayout, sample
from zitcache.tasks.verify import DamagedFile, VerifyReport, VerifyRequest, verify

MIB = 1 << 20
MODEL = "models/owner--model/snapshots/master"
SHARD = f"{MODEL}/model-00002-of-00003.safetensors"


@lru_cache
def noise(seed: object, size: int) -> bytes:
    """The same bytes for the same seed, none of them zero: where a test writes zeros, every byte differs."""
    return random.Random(str(seed)).randbytes(size).replace(b"\0", b"\1")


def shard_files() -> dict[str, bytes]:
    """A model of three shards (the second of 9 MiB: three pieces) and small files, by path in the model."""
    sizes = {1: MIB, 2: 9 * MIB, 3: MIB}
    files = {
        f"model-{number:05d}-of-00003.safetensors": safetensors(
            {f"weight{number}": ("U8", [size], noise(number, size))}
        )
        for number, size in sizes.items()
    }
    return files | {"config.json": b'{"dim": 64}', "README.md": b"<!-- a card -->\n# A model\n"}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@dataclass
class Place:
    """``cache`` and ``repository`` beside each other."""

    cache: Path
    repository: Path

    @classmethod
    def of_shards(cls, folder: Path) -> Place:
        """A backed up cache with the model of :func:`shard_files`."""
        place = cls(folder / "cache", folder / "repository")
        write_files(place.cache / MODEL, shard_files())
        place.backup()
        return place

    @classmethod
    def of_sample(cls, folder: Path, layout: SampleLayout) -> Place:
        """A backed up sample of the real pipeline."""
        place = cls(folder / "cache", folder / "repository")
        sample(place.cache, layout, Session())
        place.backup()
        return place

    def backup(self) -> Outcome[BackupReport]:
        request = BackupRequest(repository=str(self.repository), cache=str(self.cache), init=True)
        return backup(request, Session())

    def verify(self, path: str | Path | None = None, **options: Any) -> Outcome[VerifyReport]:
        options.setdefault("repository", str(self.repository))
        return verify(VerifyRequest(path=str(path or self.cache), **options), Session())

    def repair(self, **options: Any) -> Outcome[VerifyReport]:
        return self.verify(repair=True, **options)

    def without_repository(self, path: str | Path | None = None, **options: Any) -> Outcome[VerifyReport]:
        return self.verify(path, repository=None, **options)

    def checksum(self, **options: Any) -> Outcome[ChecksumReport]:
        return checksum(ChecksumRequest(cache=str(self.cache), **options), Session())

    def contents(self) -> dict[str, bytes | str]:
        """Every file's bytes and every link's target by path: what ``diff -r`` would compare."""
        found: dict[str, bytes | str] = {}
        for path in sorted(self.cache.rglob("*")):
            name = str(path.relative_to(self.cache))
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file():
                found[name] = path.read_bytes()
        return found

    def leftovers(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.name.startswith(".zitcache")]


def only_damaged(outcome: Outcome[VerifyReport]) -> DamagedFile:
    """The one damaged file of an outcome."""
    assert len(outcome.data.damaged) == 1, outcome.data.damaged
    return outcome.data.damaged[0]


def codes(outcome: Outcome[Any]) -> list[str]:
    return [warning.code for warning in outcome.warnings]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Change bytes in place and put the times back, as a disk that rots does."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_bit(path: Path, offset: int) -> None:
    with path.open("rb") as file:
        file.seek(offset)
        byte = file.read(1)[0]
    overwrite(path, offset, bytes([byte ^ 0x10]))
