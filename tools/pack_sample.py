"""Put trained weights into the package: ``python -m tools.pack_sample trained`` after ``tools.train_sample``.

Prints the fingerprint that ``tests/sample/test_sample.py`` pins, and the size of the data in the wheel.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from zitcache.cache.sample.pipeline import pipeline_files
from zitcache.cache.sample.shapes import load_components

DATA = Path(__file__).resolve().parents[1] / "zitcache" / "cache" / "sample" / "data"
LEVEL = 19
# The checkpoint is that of the language model, training uses its trunk alone.
_PREFIX = {"text_encoder": "model."}


def pack(folder: Path) -> bytes:
    """All tensors in the order of ``shapes.json``: the high bytes of all values, then the low bytes, zstd."""
    stored: dict[str, Any] = {}
    for file in ("transformer.npz", "others.npz"):
        with np.load(folder / file) as arrays:
            stored |= {name: arrays[name] for name in arrays.files}
    values = []
    for component, contents in load_components().items():
        for tensors in contents.files.values():
            for name, shape in tensors.items():
                bits = stored.pop(f"{component}/{name.removeprefix(_PREFIX.get(component, ''))}")
                if bits.shape != shape:
                    raise SystemExit(f"{component}/{name} has the shape {bits.shape}, not {shape}")
                values.append(bits.ravel().view(np.uint16))
    if stored:
        raise SystemExit(f"trained, but not in shapes.json: {sorted(stored)}")
    bits = np.concatenate(values)
    planes = (bits >> 8).astype(np.uint8).tobytes() + bits.astype(np.uint8).tobytes()
    return zstandard.ZstdCompressor(level=LEVEL).compress(planes)


def main() -> None:
    """Write ``weights.zst``."""
    (DATA / "weights.zst").write_bytes(pack(Path(sys.argv[1])))
    digest = sha256()
    for name, content in sorted(pipeline_files().items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    print(f"fingerprint {digest.hexdigest()}")
    print(f"data {sum(file.stat().st_size for file in DATA.rglob('*') if file.is_file()):,} bytes")


if __name__ == "__main__":
    main()
