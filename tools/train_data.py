"""What training draws from: scenes with their prompts as token ids, then their latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.sample_parts import tokenise
from tools.scene_render import Renderer, to_row
from tools.scenes import training_pair
from tools.train_vae import encode

LONGEST = 64
SHORT = 32
# Scenes of each image size; long captions and large images are rarer and dearer: small share, small batches.
SIZES = {128: 220_000, 256: 10_000}
_LARGE_SHARE = 0.08
_LARGE_BATCH = 0.3


@dataclass(frozen=True, slots=True)
class Pool:
    """Encoded scenes of one image size whose captions fit into ``ids.shape[1]`` tokens.

    ``share`` of the steps draws from this pool, with ``batch_scale`` times the usual batch.
    """

    latents: Tensor
    ids: Tensor
    lengths: Tensor
    share: float
    batch_scale: float


def write_texts(file: Path, tokenizer: Any, seed: int, scale: float) -> None:
    """Scenes of the training set as rows of small integers, and one prompt of each as token ids."""
    arrays: dict[str, Any] = {}
    for size, count in SIZES.items():
        rng = Random(seed + size)
        pairs = [training_pair(rng) for _ in range(max(64, int(count * scale)))]
        ids, lengths = tokenise(tokenizer, [prompt for _, prompt in pairs], LONGEST)
        arrays[f"rows{size}"] = np.array([to_row(scene) for scene, _ in pairs], dtype=np.int8)
        arrays[f"ids{size}"] = ids.numpy().astype(np.int16)
        arrays[f"lengths{size}"] = lengths.numpy().astype(np.int16)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)


def read_texts(file: Path) -> dict[str, Tensor]:
    """What :func:`write_texts` wrote."""
    with np.load(file) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@torch.no_grad()
def encode_pools(vae: Any, renderer: Renderer, texts: dict[str, Tensor]) -> Iterator[Pool]:
    """Render and encode every scene once; short and long captions apart."""
    device = renderer.device
    for size in SIZES:
        rows, ids, lengths = (texts[f"{name}{size}"] for name in ("rows", "ids", "lengths"))
        latents = []
        for chunk in rows.split(1024 * 128 * 128 // (size * size) if device.type == "cuda" else 16):
            images = renderer(chunk, size).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16):
                latents.append(encode(vae, images).to(torch.bfloat16).contiguous())
        encoded = torch.cat(latents)
        share, batch_scale = (1.0, 1.0) if size == 128 else (_LARGE_SHARE, _LARGE_BATCH)
        for chosen, width in ((lengths <= SHORT, SHORT), (lengths > SHORT, LONGEST)):
            where = chosen.nonzero()[:, 0]
            if len(where):
                part = share * len(where) / len(lengths)
                narrowed = ids[where][:, :width].to(device).contiguous()
                yield Pool(
                    encoded[where.to(device)], narrowed, lengths[where].long().to(device), part, batch_scale
                )
