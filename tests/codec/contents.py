"""Contents of blobs: what weights, text and files of no known kind look like, of any length."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from zitcache.cache.safetensors_header import BITS_PER_ELEMENT
from zitcache.codec.planes import CHUNK_ELEMENTS

DTYPES = (*sorted(BITS_PER_ELEMENT), None, "unknown", "F128")
"""Every dtype of safetensors, none, and two that nobody knows yet."""

_EDGES = sorted(
    {
        *range(34),
        *(size + step for size in (256, 4096, 16384) for step in (-1, 0, 1)),
        *(CHUNK_ELEMENTS * width + step for width in (1, 2, 4, 8) for step in (-1, 0, 1, 3)),
    }
)
lengths = st.one_of(st.sampled_from(_EDGES), st.integers(0, 3000), st.integers(0, 1_200_000))


def bf16_weights(count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` bf16 numbers as trained layers have them: normal, a scale for every row."""
    return (f32_weights(count, rng).view(np.uint32) >> 16).astype(np.uint16)


def f32_weights(count: int, rng: np.random.Generator) -> np.ndarray:
    """The same as fp32, the mantissa used to its last bit."""
    rows = -(-count // 1024)
    scale = np.repeat(rng.lognormal(-4, 0.3, rows).astype(np.float32), 1024)[:count]
    return rng.standard_normal(count, dtype=np.float32) * scale


def upcast_bf16(count: int, rng: np.random.Generator) -> np.ndarray:
    """fp32 numbers that were bf16 once."""
    return bf16_weights(count, rng).astype(np.uint32) << 16


def _upcast_fp16(size: int, rng: np.random.Generator) -> bytes:
    return f32_weights(size // 4 + 1, rng).astype(np.float16).astype(np.float32).tobytes()


def _no_numbers(size: int, rng: np.random.Generator) -> bytes:
    """NaN with payloads, infinities, zeros of both signs, in 32 bits and read as anything else."""
    patterns = np.array(
        [0x7FC00001, 0xFFC00000, 0x7F800000, 0xFF800000, 0x80000000, 0, 0x7F800001], np.uint32
    )
    return rng.choice(patterns, size // 4 + 1).tobytes()


def _denormals(size: int, rng: np.random.Generator) -> bytes:
    return (rng.integers(0, 1 << 23, size // 4 + 1, np.uint32) | rng.choice([0, 1 << 31])).tobytes()


def _almost_constant(size: int, rng: np.random.Generator) -> bytes:
    data = bytearray(rng.bytes(8) * (size // 8 + 1))
    data[int(rng.integers(0, max(size, 1)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def _text(size: int, rng: np.random.Generator) -> bytes:
    words = {f"layer.{number}.weight": f"model-{number % 3}.safetensors" for number in range(size // 40 + 1)}
    return json.dumps(words).encode()


MAKERS: dict[str, Callable[[int, np.random.Generator], bytes]] = {
    "noise": lambda size, rng: rng.bytes(size),
    "zeros": lambda size, rng: bytes(size),
    "one byte": lambda size, rng: rng.bytes(1) * size,
    "pattern": lambda size, rng: rng.bytes(8) * (size // 8 + 1),
    "almost constant": _almost_constant,
    "zeros with noise at the end": lambda size, rng: bytes(max(0, size - 9)) + rng.bytes(9),
    "no numbers": _no_numbers,
    "denormals": _denormals,
    "bf16": lambda size, rng: bf16_weights(size // 2 + 1, rng).tobytes(),
    "fp32": lambda size, rng: f32_weights(size // 4 + 1, rng).tobytes(),
    "fp64": lambda size, rng: f32_weights(size // 8 + 1, rng).astype(np.float64).tobytes(),
    "upcast bf16": lambda size, rng: upcast_bf16(size // 4 + 1, rng).tobytes(),
    "upcast fp16": _upcast_fp16,
    "small integers": lambda size, rng: rng.integers(0, 300, size // 8 + 1).tobytes(),
    "ascending integers": lambda size, rng: np.arange(size // 4 + 1, dtype=np.int32).tobytes(),
    "text": _text,
}


def make(kind: str, size: int, seed: int) -> bytes:
    """Exactly ``size`` bytes of that kind."""
    data = MAKERS[kind](size, np.random.default_rng(seed))
    return (data + bytes(size))[:size]


contents = st.builds(make, st.sampled_from(sorted(MAKERS)), lengths, st.integers(0, 1 << 30))
"""Anything that a blob can be, up to 1.2 MB."""

dtypes = st.sampled_from(DTYPES)
