"""Which tensors a part of a cache holds: those of a transformer, a text encoder and a decoder, to size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

ITEM_BYTES = {"bf16": 2, "fp32-upcast": 4, "fp32": 4}
_WIDTHS = (3840, 2560, 1920, 1280, 640, 320, 160, 64)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a shard."""

    name: str
    shape: tuple[int, ...]

    @property
    def items(self) -> int:
        """The number of values in it."""
        return math.prod(self.shape)


def plan(kind: str, size_bytes: int) -> list[Tensor]:
    """Tensors of about ``size_bytes`` in the shapes of the part that ``kind`` stands for, as wide as fits."""
    item = ITEM_BYTES[kind]
    layer_of = {"fp32-upcast": _transformer_layer, "bf16": _encoder_layer, "fp32": _decoder_block}[kind]

    def layer_bytes(width: int) -> int:
        return item * sum(tensor.items for tensor in layer_of(0, width))

    width = next((w for w in _WIDTHS if 4 * layer_bytes(w) <= size_bytes), _WIDTHS[-1])
    layers = size_bytes // layer_bytes(width)
    tensors = [tensor for index in range(layers) for tensor in layer_of(index, width)]
    # The rest goes into an embedding, the one tensor whose number of rows is anybody's choice.
    rows = (size_bytes - layers * layer_bytes(width)) // (width * item)
    return [Tensor("embedder.weight", (rows, width)), *tensors] if rows else tensors


def _transformer_layer(index: int, width: int) -> list[Tensor]:
    inner, prefix = width * 8 // 3, f"layers.{index}"
    attention = [
        Tensor(f"{prefix}.attention.{n}.weight", (width, width)) for n in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    norms = [
        Tensor(f"{prefix}.{n}.weight", (width,))
        for n in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2")
    ]
    return [
        *attention,
        *norms,
        Tensor(f"{prefix}.feed_forward.w1.weight", (inner, width)),
        Tensor(f"{prefix}.feed_forward.w2.weight", (width, inner)),
        Tensor(f"{prefix}.feed_forward.w3.weight", (inner, width)),
        Tensor(f"{prefix}.adaLN_modulation.0.weight", (4 * width, 256)),
        Tensor(f"{prefix}.adaLN_modulation.0.bias", (4 * width,)),
    ]


def _encoder_layer(index: int, width: int) -> list[Tensor]:
    heads, keys, inner, prefix = width * 8 // 5, width * 2 // 5, width * 19 // 5, f"model.layers.{index}"
    return [
        Tensor(f"{prefix}.input_layernorm.weight", (width,)),
        Tensor(f"{prefix}.self_attn.q_proj.weight", (heads, width)),
        Tensor(f"{prefix}.self_attn.k_proj.weight", (keys, width)),
        Tensor(f"{prefix}.self_attn.v_proj.weight", (keys, width)),
        Tensor(f"{prefix}.self_attn.o_proj.weight", (width, heads)),
        Tensor(f"{prefix}.post_attention_layernorm.weight", (width,)),
        Tensor(f"{prefix}.mlp.gate_proj.weight", (inner, width)),
        Tensor(f"{prefix}.mlp.up_proj.weight", (inner, width)),
        Tensor(f"{prefix}.mlp.down_proj.weight", (width, inner)),
    ]


def _decoder_block(index: int, width: int) -> list[Tensor]:
    channels, prefix = min(width, 512), f"decoder.up_blocks.{index // 3}.resnets.{index % 3}"
    tensors = [
        (
            Tensor(f"{prefix}.norm{n}.weight", (channels,)),
            Tensor(f"{prefix}.conv{n}.weight", (channels, channels, 3, 3)),
            Tensor(f"{prefix}.conv{n}.bias", (channels,)),
        )
        for n in (1, 2)
    ]
    return [tensor for group in tensors for tensor in group]


def shards(tensors: list[Tensor], item: int) -> Iterator[list[Tensor]]:
    """Three shards or so, none above 10 GB unless one tensor is, as the hubs' own tools cut them."""
    limit = min(max(math.ceil(sum(t.items for t in tensors) * item / 3 * 1.02), 32 * 10**6), 10**10)
    shard: list[Tensor] = []
    for tensor in tensors:
        if shard and item * (sum(t.items for t in shard) + tensor.items) > limit:
            yield shard
            shard = []
        shard.append(tensor)
    yield shard
