"""Make a cache with random weights in the true shape of Z-Image-Turbo: 32.83 GB, or tiny with ``--tiny``.

python tools/full_size_cache.py /data/cache

Names and shapes come from the real classes (diffusers, transformers) built on the meta device, so nothing
of the model is ever in memory; the bytes are written by all cores, piece by piece. The tokenizer is that of
the sample. The result is a ModelScope cache that ``from_pretrained`` loads. It draws noise, of course.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

SAMPLE = PROJECT / "zitcache" / "cache" / "sample" / "data" / "model"
MODEL_PATH = "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master"
ITEM_BYTES = {"F32": 4, "BF16": 2}
PIECE_ELEMENTS = 8 << 20
SIGMA = 0.02

# What the published configs say where they differ from the sample's.
FULL: dict[str, dict[str, Any]] = {
    "transformer": {
        "dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30,
        "cap_feat_dim": 2560, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
    },
    "text_encoder": {
        "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936, "max_window_layers": 36,
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32,
        "sample_size": 1024,
    },
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {"transformer": {}, "text_encoder": {}, "vae": {"sample_size": 128}}

DTYPES = {"transformer": "F32", "text_encoder": "BF16", "vae": "BF16"}
NAMES = {
    "transformer": "diffusion_pytorch_model",
    "text_encoder": "model",
    "vae": "diffusion_pytorch_model",
}
# As published: three shards of the transformer, three of the text encoder, one file for the VAE.
SHARD_BYTES = {
    True: {"transformer": 9_990_000_000, "text_encoder": 4_000_000_000, "vae": 10**10},
    False: {"transformer": 1_400_000, "text_encoder": 700_000, "vae": 10**10},
}


@dataclass(frozen=True)
class Piece:
    """A part of a tensor: where its bytes go and what they are."""

    path: str
    offset: int
    elements: int
    dtype: str
    kind: str
    seed: int


def main() -> None:
    """Parse the arguments and make the cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--tiny", action="store_true", help="the shape of the sample, to try this program")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    started = time.perf_counter()
    size = make_cache(arguments.cache, full=not arguments.tiny, workers=arguments.workers)
    print(f"{size:,} bytes in {time.perf_counter() - started:.1f} s: {arguments.cache}")


def make_cache(cache: Path, *, full: bool, workers: int) -> int:
    """Write everything, synced to the disk; gives the bytes of all files."""
    model = cache / MODEL_PATH
    pieces: list[Piece] = []
    for component in ("transformer", "text_encoder", "vae"):
        config = write_config(model, component, (FULL if full else TINY)[component])
        shapes = meta_shapes(component, config)
        pieces += lay_out(model / component, component, shapes, SHARD_BYTES[full][component])
    copy_rest(model)
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(write_piece, pieces, chunksize=4):
            pass
    for path in sorted(model.rglob("*")):
        if path.is_file():
            sync(path)
    return sum(path.stat().st_size for path in model.rglob("*") if path.is_file())


def write_config(model: Path, component: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The sample's config with the changes."""
    config: dict[str, Any] = json.loads((SAMPLE / component / "config.json").read_text()) | changes
    if component == "vae":
        blocks = len(config["block_out_channels"])
        config["down_block_types"] = ["DownEncoderBlock2D"] * blocks
        config["up_block_types"] = ["UpDecoderBlock2D"] * blocks
    (model / component).mkdir(parents=True, exist_ok=True)
    (model / component / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return config


def meta_shapes(component: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors, by the real class on the meta device."""
    import torch

    with torch.device("meta"):
        if component == "text_encoder":
            from transformers import Qwen3Config, Qwen3Model

            own = {key: value for key, value in config.items() if key not in ("architectures", "torch_dtype")}
            built: Any = Qwen3Model(Qwen3Config(**own))
        else:
            import diffusers

            known = {key: value for key, value in config.items() if not key.startswith("_")}
            built = getattr(diffusers, config["_class_name"])(**known)
    # The published text encoder is a Qwen3ForCausalLM with tied embeddings: its tensors have a prefix.
    prefix = "model." if component == "text_encoder" else ""
    return {prefix + name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}


def lay_out(
    folder: Path, component: str, shapes: dict[str, tuple[int, ...]], shard_bytes: int
) -> list[Piece]:
    """Write headers and index, reserve the files, and say which pieces are to be filled in."""
    dtype = DTYPES[component]
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    used = 0
    for name, shape in shapes.items():
        size = prod(shape) * ITEM_BYTES[dtype]
        if used + size > shard_bytes and shards[-1]:
            shards.append({})
            used = 0
        shards[-1][name] = shape
        used += size
    weight_map: dict[str, str] = {}
    pieces: list[Piece] = []
    for number, tensors in enumerate(shards, 1):
        part = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        name = f"{NAMES[component]}{part}.safetensors"
        weight_map |= dict.fromkeys(tensors, name)
        pieces += lay_out_file(folder / name, dtype, tensors, seed=1_000_000 * number)
    if len(shards) > 1:
        total = sum(prod(shape) for shape in shapes.values()) * ITEM_BYTES[dtype]
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{NAMES[component]}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return pieces


def lay_out_file(path: Path, dtype: str, tensors: dict[str, tuple[int, ...]], seed: int) -> list[Piece]:
    """One safetensors file without its payload."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    pieces: list[Piece] = []
    for name, shape in tensors.items():
        base = 8 + len(text) + header[name]["data_offsets"][0]
        count = prod(shape)
        for first in range(0, count, PIECE_ELEMENTS):
            elements = min(PIECE_ELEMENTS, count - first)
            seed += 1
            offset = base + first * ITEM_BYTES[dtype]
            pieces.append(Piece(str(path), offset, elements, dtype, kind_of(name, shape), seed))
    return pieces


def kind_of(name: str, shape: tuple[int, ...]) -> str:
    """Norms are ones and biases zeros, as a fresh model has them; all else is normal."""
    if len(shape) == 1:
        return "one" if name.endswith("weight") else "zero"
    return "normal"


def write_piece(piece: Piece) -> None:
    """Fill one piece with its values."""
    import numpy as np

    if piece.kind == "normal":
        random = np.random.Generator(np.random.SFC64(piece.seed))
        values = random.standard_normal(piece.elements, dtype=np.float32) * np.float32(SIGMA)
    else:
        values = np.full(piece.elements, 1.0 if piece.kind == "one" else 0.0, np.float32)
    data = values if piece.dtype == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16)
    view = memoryview(data).cast("B")
    fd = os.open(piece.path, os.O_WRONLY)
    try:
        offset = piece.offset
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(fd)


def copy_rest(model: Path) -> None:
    """Everything of the sample that is no weights and no config of weights."""
    for source in SAMPLE.rglob("*"):
        target = model / source.relative_to(SAMPLE)
        if source.is_file() and not target.exists() and source.suffix != ".safetensors":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())


def sync(path: Path) -> None:
    """Wait until the file is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


if __name__ == "__main__":
    main()
