"""Measure the codec alone, on one core: how fast each kind of weights is encoded and decoded, and how small.

    python benchmarks/codec.py
    python benchmarks/codec.py --blob 4MiB --rounds 10 --only BF16,F32

Each number is the best of some rounds over several different blobs that lie in memory, without hashing, files
or threads: what the kernels can do, not what a backup does. GB/s counts the bytes of the weights.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, installed or not

from cachemaker import normal_values, parse_size
from describe import machine_line
from report import markdown

from zitcache.codec.blob import blob_id, decode_into, encode

Array = npt.NDArray[Any]
_SIGMA = 0.02


def _bf16(generator: np.random.Generator, items: int) -> Array:
    return normal_values(generator, items, 0.0, _SIGMA, "bf16")


def _upcast(generator: np.random.Generator, items: int) -> Array:
    return normal_values(generator, items, 0.0, _SIGMA, "fp32-upcast")


def _fp32(generator: np.random.Generator, items: int) -> Array:
    return normal_values(generator, items, 0.0, _SIGMA, "fp32")


def _fp16(generator: np.random.Generator, items: int) -> Array:
    return _fp32(generator, items).astype(np.float16)


def _fp64(generator: np.random.Generator, items: int) -> Array:
    return generator.standard_normal(items) * _SIGMA


def _fp8(generator: np.random.Generator, items: int) -> Array:
    """E4M3 after scaling to its range, rounded to the nearest of its 127 finite magnitudes."""
    code = np.arange(127)
    exponent, mantissa = code >> 3, code & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    magnitudes = np.where(exponent == 0, mantissa / 8 * 2.0**-6, normal).astype(np.float32)
    values = _fp32(generator, items)
    values *= np.float32(448 / np.abs(values).max())
    middles = (magnitudes[1:] + magnitudes[:-1]) / 2
    return (np.searchsorted(middles, np.abs(values)) | (np.signbit(values) << 7)).astype(np.uint8)


def _noise(generator: np.random.Generator, items: int) -> Array:
    return generator.integers(0, 256, items, np.uint8)


KINDS: dict[str, tuple[str | None, int, Callable[[np.random.Generator, int], Array]]] = {
    "BF16": ("BF16", 2, _bf16),
    "F32 (upcast from bf16)": ("F32", 4, _upcast),
    "F32": ("F32", 4, _fp32),
    "F16": ("F16", 2, _fp16),
    "F8_E4M3": ("F8_E4M3", 1, _fp8),
    "F64": ("F64", 8, _fp64),
    "BF16 in an unknown format": (None, 2, _bf16),
    "noise in an unknown format": (None, 1, _noise),
}


def best_rate(work: Sequence[Callable[[], object]], size_bytes: int, rounds: int) -> float:
    """GB/s of the fastest of ``rounds`` times through ``work``, each item of which takes ``size_bytes``."""
    fastest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for item in work:
            item()
        fastest = min(fastest, time.perf_counter() - start)
    return size_bytes * len(work) / fastest / 1e9


def measure_zitcache(blobs: Sequence[bytes], dtype: str | None, rounds: int) -> tuple[float, float, float]:
    """Stored share, encode and decode GB/s of our codec. Ends the process if a blob does not come back."""
    names = [blob_id(blob) for blob in blobs]
    frames = [encode(blob, dtype, known_id=name) for blob, name in zip(blobs, names, strict=True)]
    payloads = [b"".join(frame.parts) for frame in frames]
    size = len(blobs[0])
    out = memoryview(bytearray(size))
    for blob, frame, payload in zip(blobs, frames, payloads, strict=True):
        decode_into(frame.header, payload, out)
        if out != blob:
            sys.exit(f"a blob of {dtype} did not survive the round trip")
    encoders = [partial(encode, blob, dtype, known_id=name) for blob, name in zip(blobs, names, strict=True)]
    decoders = [
        partial(decode_into, frame.header, payload, out)
        for frame, payload in zip(frames, payloads, strict=True)
    ]
    share = sum(frame.size for frame in frames) / (size * len(blobs))
    return share, best_rate(encoders, size, rounds), best_rate(decoders, size, rounds)


def measure_zstd(blobs: Sequence[bytes], level: int, rounds: int) -> tuple[float, float, float]:
    """Stored share, encode and decode GB/s of plain zstd."""
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    packed = [compressor.compress(blob) for blob in blobs]
    size = len(blobs[0])
    encoders = [partial(compressor.compress, blob) for blob in blobs]
    decoders = [partial(decompressor.decompress, frame) for frame in packed]
    share = sum(map(len, packed)) / (size * len(blobs))
    return share, best_rate(encoders, size, rounds), best_rate(decoders, size, rounds)


def main() -> None:
    """Measure every kind and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blob", type=parse_size, default=parse_size("16MiB"), help="size of a blob (16MiB)")
    parser.add_argument("--blobs", type=int, default=3, help="how many different ones (3)")
    parser.add_argument("--rounds", type=int, default=3, help="the best of which counts (3)")
    parser.add_argument("--only", help=f"dtypes, from: {', '.join(KINDS)}")
    options = parser.parse_args()
    wanted = [name.strip() for name in options.only.split(",")] if options.only else list(KINDS)
    lines = []
    for name, (dtype, width, maker) in KINDS.items():
        if name not in wanted and dtype not in wanted:
            continue
        generator = np.random.default_rng(1)
        blobs = [maker(generator, options.blob // width).tobytes() for _ in range(options.blobs)]
        results = {
            "zitcache": measure_zitcache(blobs, dtype, options.rounds),
            "zstd -1": measure_zstd(blobs, 1, options.rounds),
            "zstd -3": measure_zstd(blobs, 3, options.rounds),
        }
        for codec, (share, encoding, decoding) in results.items():
            lines.append((name, codec, f"{share:.1%}", f"{encoding:.2f}", f"{decoding:.2f}"))
        hashing = best_rate([partial(blob_id, blobs[0])], len(blobs[0]), options.rounds)
        print(f"{name}: done (blob_id {hashing:.1f} GB/s)", file=sys.stderr)
    print(markdown(("weights", "codec", "stored", "encode GB/s", "decode GB/s"), lines))
    print(f"\nMachine: {machine_line(Path.cwd())}; one core used.")


if __name__ == "__main__":
    main()
