"""The numbers of the sample: where they come from, apart from where they go.

A :class:`WeightSource` gives the values of one tensor as bf16 bits. What the sample ships is trained
(``tools/train_sample.py``) and lies in ``data/weights.zst``; :func:`random_weights` makes a pipeline of the
same shape that draws noise.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING, Protocol

from zitcache.cache.sample.shapes import DATA, load_components

if TYPE_CHECKING:
    from numpy import float32, uint16
    from numpy.typing import NDArray

SIGMA = 0.02
_TERMS = 8
_TERM_MEAN = 65535 / 2
_SUM_SIGMA = ((65536**2 - 1) / 12 * _TERMS) ** 0.5


class WeightSource(Protocol):
    """Gives the values of one tensor."""

    def __call__(self, component: str, name: str, shape: tuple[int, ...]) -> NDArray[uint16]:
        """The ``prod(shape)`` values of the tensor ``name`` as bf16 bits, in row-major order."""


def trained_weights(component: str, name: str, shape: tuple[int, ...]) -> NDArray[uint16]:
    """What training left; raises ``KeyError`` for a tensor that ``data/shapes.json`` does not name."""
    bits, places = _trained()
    start, count = places[component, name]
    if count != prod(shape):
        raise KeyError(f"{component}/{name} holds {count} values, not {prod(shape)}")
    return bits[start : start + count]


def random_weights(component: str, name: str, shape: tuple[int, ...]) -> NDArray[uint16]:
    """Nearly normal values, sigma 0.02, around 1 for the weights of norms and around 0 for all else.

    The same bits on every machine and with every numpy: the stream of PCG64 is fixed for good (NEP 19), its
    16-bit pieces are added up as integers (eight of them make a good bell, without numpy's float samplers,
    which may change), and what follows are single IEEE operations.
    """
    import numpy as np

    count = prod(shape)
    seed = int.from_bytes(sha256(f"zitcache sample 1/{component}/{name}".encode()).digest()[:16], "little")
    raw = np.random.PCG64(seed).random_raw(-(-count * _TERMS // 4))
    pieces = raw.astype("<u8", copy=False).view("<u2")[: count * _TERMS].reshape(_TERMS, count)
    centred = pieces.sum(axis=0, dtype=np.int32) - np.int32(_TERMS * _TERM_MEAN)
    values = centred.astype(np.float32) * np.float32(SIGMA / _SUM_SIGMA)
    if _is_norm(name, shape):
        values += np.float32(1)
    return bf16_bits(values)


def bf16_bits(values: NDArray[float32]) -> NDArray[uint16]:
    """float32 values rounded to the nearest bf16, ties to even (no NaN expected)."""
    import numpy as np

    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    bits16: NDArray[uint16] = rounded.astype(np.uint16)
    return bits16


@cache
def _trained() -> tuple[NDArray[uint16], dict[tuple[str, str], tuple[int, int]]]:
    """All values in one array, and where each tensor lies in it (start, count).

    The file holds the tensors in the order of ``data/shapes.json``: first the high bytes of all values, which
    compress well, then the low bytes, which do not.
    """
    import numpy as np
    import zstandard

    planes = zstandard.ZstdDecompressor().decompress((DATA / "weights.zst").read_bytes())
    count = len(planes) // 2
    high, low = np.frombuffer(planes, np.uint8).reshape(2, count)
    bits = high.astype(np.uint16) << np.uint16(8) | low
    places: dict[tuple[str, str], tuple[int, int]] = {}
    start = 0
    for component, contents in load_components().items():
        for tensors in contents.files.values():
            for name, shape in tensors.items():
                places[component, name] = (start, prod(shape))
                start += prod(shape)
    if start != count:
        raise ValueError(f"weights.zst holds {count} values, shapes.json names {start}")
    return bits, places


def _is_norm(name: str, shape: tuple[int, ...]) -> bool:
    # RMSNorm and GroupNorm are the only modules with a one-dimensional "weight".
    return len(shape) == 1 and name.endswith(".weight")
