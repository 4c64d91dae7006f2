"""Make a model cache of a given size to measure on: real safetensors shards with plausible tensors.

The cache has ModelScope's layout (``models/bench--mix/snapshots/master/…``) and up to three parts that
stand for what Z-Image-Turbo holds: a transformer in fp32 that was upcast from bf16, a text encoder in bf16
and a decoder in true fp32. Weights are normal, with a sigma around 0.02 that differs per tensor.

Run alone: ``python benchmarks/cachemaker.py DIR --size 2G --kind mix``. :func:`make` runs that in a process
of its own, so that the memory of making a cache never shows in what is measured later.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from shapes import ITEM_BYTES, Tensor, plan, shards

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = 1
KINDS = ("mix", "bf16", "fp32-upcast", "fp32")
MIX_ORDER = ("fp32-upcast", "bf16", "fp32")
_ST_NAME = {"bf16": "BF16", "fp32-upcast": "F32", "fp32": "F32"}
_CHUNK_ITEMS = 1 << 21
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a cache is made from. ``shares``: those of :data:`MIX_ORDER` in percent, for "mix" alone."""

    size_bytes: int
    kind: str = "mix"
    shares: tuple[int, int, int] = (60, 30, 10)
    seed: int = 1

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of weights per kind."""
        if self.kind != "mix":
            return {self.kind: self.size_bytes}
        total = sum(self.shares)
        return {
            kind: self.size_bytes * share // total
            for kind, share in zip(MIX_ORDER, self.shares, strict=True)
            if share
        }

    @property
    def name(self) -> str:
        """A directory name that tells two recipes apart."""
        shares = "-".join(map(str, self.shares)) + "-" if self.kind == "mix" else ""
        return f"{self.kind}-{shares}{self.size_bytes}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class MadeCache:
    """A finished cache: its root and what lies in it."""

    root: Path
    size_bytes: int
    files: int


def parse_size(text: str) -> int:
    """Bytes from "2G" (2 * 10**9), "256M", "64MiB" or a plain number; raises ``ArgumentTypeError``."""
    digits = text.strip().upper().removesuffix("B")
    number = digits.rstrip("KMGI")
    unit = digits[len(number) :]
    try:
        size_bytes = int(float(number) * _UNITS[unit])
    except (KeyError, ValueError):
        size_bytes = 0
    if size_bytes <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 2G, 256M or 64MiB")
    return size_bytes


def listing(root: Path) -> dict[str, int]:
    """Relative path to size in bytes of every regular file under ``root``."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            found[str(path.relative_to(root))] = path.lstat().st_size
    return found


def make(recipe: Recipe, directory: Path) -> MadeCache:
    """The cache of ``recipe`` under ``directory``: that of an earlier run if it is whole, else a new one."""
    root = directory / recipe.name
    record = directory / f"{recipe.name}.json"
    wanted = {"format": FORMAT, "recipe": json.loads(json.dumps(asdict(recipe)))}
    if record.exists() and root.is_dir():
        known = json.loads(record.read_text())
        found = listing(root)
        if all(known.get(key) == value for key, value in wanted.items()) and known["files"] == found:
            return MadeCache(root, sum(found.values()), len(found))
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f"{recipe.name}.unfinished"
    for leftover in (root, unfinished):
        shutil.rmtree(leftover, ignore_errors=True)
    record.unlink(missing_ok=True)
    shares = ",".join(map(str, recipe.shares))
    options = {"size": recipe.size_bytes, "kind": recipe.kind, "shares": shares, "seed": recipe.seed}
    words = [f"--{name}={value}" for name, value in options.items()]
    subprocess.run([sys.executable, __file__, str(unfinished), *words], check=True)
    unfinished.rename(root)
    found = listing(root)
    record.write_text(json.dumps({**wanted, "files": found}, indent=1))
    return MadeCache(root, sum(found.values()), len(found))


def write_cache(recipe: Recipe, root: Path) -> None:
    """Write the cache of ``recipe`` into ``root``, with a few threads of some tens of MB each."""
    model = root / "models" / "bench--mix" / "snapshots" / "master"
    folders = {"fp32-upcast": "transformer", "bf16": "text_encoder", "fp32": "vae"}
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        pending = []
        for number, (kind, size_bytes) in enumerate(recipe.parts.items()):
            folder = model / folders[kind]
            folder.mkdir(parents=True)
            stem = "model" if kind == "bf16" else "diffusion_pytorch_model"
            parts = list(shards(plan(kind, size_bytes), ITEM_BYTES[kind]))
            index: dict[str, str] = {}
            for position, shard in enumerate(parts, 1):
                name = f"{stem}-{position:05d}-of-{len(parts):05d}.safetensors"
                index.update({tensor.name: name for tensor in shard})
                seed = (recipe.seed, number, position)
                pending.append(pool.submit(_write_shard, folder / name, shard, kind, seed))
            total = sum(t.items for shard in parts for t in shard) * ITEM_BYTES[kind]
            table = {"metadata": {"total_size": total}, "weight_map": index}
            _write_json(folder / f"{stem}.safetensors.index.json", table)
            _write_json(folder / "config.json", {"_class_name": "Benchmark", "dtype": kind})
        for future in pending:
            future.result()
    _write_json(model / "model_index.json", {"_class_name": "ZImagePipeline", "parts": sorted(recipe.parts)})
    _write_json(model / "configuration.json", {"framework": "pytorch", "task": "text-to-image-synthesis"})
    (model / "tokenizer").mkdir()
    _write_json(model / "tokenizer" / "vocab.json", {f"token{n * 7919 % 20011}": n for n in range(20000)})
    (model / "README.md").write_text("# A cache to measure on\nRandom weights; nothing here can draw.\n")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _write_shard(path: Path, tensors: list[Tensor], kind: str, seed: tuple[int, ...]) -> None:
    import numpy as np

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.items * ITEM_BYTES[kind]
        header[tensor.name] = {"dtype": _ST_NAME[kind], "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            sigma = 0.02 * math.exp(0.5 * float(generator.standard_normal()))
            # Norm weights lie near one; everything with two dimensions or more near zero.
            mean = 1.0 if len(tensor.shape) == 1 and "norm" in tensor.name else 0.0
            _write_values(file, generator, tensor.items, mean, sigma, kind)
        file.flush()
        os.fsync(file.fileno())


def _write_values(
    file: BinaryIO, generator: np.random.Generator, items: int, mean: float, sigma: float, kind: str
) -> None:
    """Append ``items`` normal values as ``kind``, a few MB at a time."""
    for start in range(0, items, _CHUNK_ITEMS):
        file.write(normal_values(generator, min(_CHUNK_ITEMS, items - start), mean, sigma, kind).data)


def normal_values(
    generator: np.random.Generator, items: int, mean: float, sigma: float, kind: str
) -> npt.NDArray[Any]:
    """Normal values as ``kind``: float32, or the bits of bf16 rounded to nearest even, as torch rounds."""
    import numpy as np

    values: npt.NDArray[Any] = generator.standard_normal(items, dtype=np.float32)
    values *= np.float32(sigma)
    if mean:
        values += np.float32(mean)
    if kind == "fp32":
        return values
    bits = values.view(np.uint32)
    bits += ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    if kind == "bf16":
        top: npt.NDArray[Any] = (bits >> np.uint32(16)).astype(np.uint16)
        return top
    bits &= np.uint32(0xFFFF0000)
    return values


def parse_shares(text: str) -> tuple[int, int, int]:
    """Three whole percentages from "60,30,10"; raises ``ArgumentTypeError``."""
    words = text.split(",")
    if len(words) != 3 or not all(word.isdecimal() for word in words) or not any(map(int, words)):
        raise argparse.ArgumentTypeError(f"{text!r} are not three shares such as 60,30,10")
    return int(words[0]), int(words[1]), int(words[2])


def main() -> None:
    """Make one cache in a directory that does not exist yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--size", type=parse_size, default=parse_size("2G"))
    parser.add_argument("--kind", choices=KINDS, default="mix")
    parser.add_argument("--shares", type=parse_shares, default=(60, 30, 10), help="upcast, bf16, true fp32")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write_cache(Recipe(options.size, options.kind, options.shares, options.seed), options.directory)


if __name__ == "__main__":
    main()
