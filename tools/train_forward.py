"""The transformer and the text encoder run in whole batches, with few and cheap operations, for training.

The pipeline hands the transformer lists of images and captions of any length; in training all of a batch have
one size. The modules and weights are the real ones, only the way of the work differs (projections joined,
rotations in real numbers, activations of one dtype); :func:`check_against_pipeline` proves that both agree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tools.sample_parts import CAPTION_MULTIPLE, Parts, tokenise

PATCH = 2


def encode_text(encoder: Any, ids: Tensor) -> Tensor:
    """``hidden_states[-2]`` of the text encoder [batch, tokens, hidden]; padding on the right."""
    hidden = encoder.embed_tokens(ids)
    turns = encoder.rotary_emb(hidden, torch.arange(ids.shape[1], device=ids.device)[None])
    for layer in encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None, position_embeddings=turns)
    out: Tensor = hidden
    return out


def velocity(net: Any, latents: Tensor, time: Tensor, caption: Tensor, lengths: Tensor) -> Tensor:
    """The transformer's output (clean minus noise) for latents [batch, 16, height, width], in their dtype.

    ``time`` is 0 for noise and 1 for a clean latent, as the pipeline passes it; ``caption`` is padded to a
    multiple of 32 tokens, ``lengths`` counts the true ones.
    """
    dtype = latents.dtype
    batch, channels, height, width = latents.shape
    rows, columns = height // PATCH, width // PATCH
    modulation = net.t_embedder(time * net.t_scale).to(dtype)
    patches = latents.view(batch, channels, rows, PATCH, columns, PATCH).permute(0, 2, 4, 3, 5, 1)
    image = _linear(patches.reshape(batch, rows * columns, -1), net.all_x_embedder["2-1"])
    image_turns, caption_turns = _turns(net, rows, columns, caption.shape[1], latents)
    for layer in net.noise_refiner:
        image = _block(layer, image, image_turns, modulation)

    norm, project = net.cap_embedder
    padding = torch.arange(caption.shape[1], device=lengths.device) >= lengths[:, None]
    embedded = _linear(_rms(caption.to(dtype), norm), project)
    text = torch.where(padding[..., None], net.cap_pad_token.to(dtype), embedded)
    for layer in net.context_refiner:
        text = _block(layer, text, caption_turns, None)

    joint = torch.cat([image, text], 1)
    turns = (torch.cat([image_turns[0], caption_turns[0]]), torch.cat([image_turns[1], caption_turns[1]]))
    for layer in net.layers:
        joint = _block(layer, joint, turns, modulation)
    final = net.all_final_layer["2-1"]
    scale = 1 + _linear(functional.silu(modulation), final.adaLN_modulation[1])
    image = functional.layer_norm(joint[:, : rows * columns], (net.dim,), eps=1e-6) * scale[:, None]
    out = _linear(image, final.linear)
    out = out.view(batch, rows, columns, PATCH, PATCH, channels).permute(0, 5, 1, 3, 2, 4)
    return out.reshape(batch, channels, height, width)


@torch.no_grad()
def check_against_pipeline(parts: Parts, prompts: list[str]) -> float:
    """Largest difference between this way and the pipeline's own, for text and velocity together.

    For this the last layer, which starts as zeros, gets random weights.
    """
    final = parts.transformer.all_final_layer["2-1"].linear
    before = final.weight.detach().clone()
    torch.nn.init.normal_(final.weight, std=0.1)
    device = next(parts.transformer.parameters()).device
    pipeline = parts.pipeline()
    worst = 0.0
    for number, prompt in enumerate(prompts):
        expected, _ = pipeline.encode_prompt(prompt, device=device, do_classifier_free_guidance=False)
        ids, lengths = tokenise(parts.tokenizer, [prompt], len(expected[0]))
        caption = encode_text(parts.text_encoder, ids.to(device))
        latents = torch.randn(1, 16, 16, 16, device=device)
        time = torch.full((1,), (number + 0.5) / len(prompts), device=device)
        reference = parts.transformer([latents[0, :, None]], time, expected, return_dict=False)[0][0][:, 0]
        ours = velocity(parts.transformer, latents, time, caption, lengths.to(device))[0]
        text_error = (caption[0, : len(expected[0])] - expected[0]).abs().max()
        worst = max(worst, float(text_error), float((ours - reference).abs().max()))
    final.weight.copy_(before)
    return worst


def _block(block: Any, tokens: Tensor, turns: tuple[Tensor, Tensor], modulation: Tensor | None) -> Tensor:
    attended = _rms(tokens, block.attention_norm1)
    gates: tuple[Tensor, Tensor] | None = None
    scale_mlp: Tensor | None = None
    if modulation is not None:
        parts = _linear(modulation, block.adaLN_modulation[0]).unsqueeze(1).chunk(4, 2)
        attended = attended * (1 + parts[0])
        gates, scale_mlp = (parts[1].tanh(), parts[3].tanh()), 1 + parts[2]
    out = _rms(_attention(block.attention, attended, turns), block.attention_norm2)
    tokens = tokens + out if gates is None else torch.addcmul(tokens, gates[0], out)
    inner = _rms(tokens, block.ffn_norm1)
    if scale_mlp is not None:
        inner = inner * scale_mlp
    forward = block.feed_forward
    both = functional.linear(inner, torch.cat([forward.w1.weight, forward.w3.weight]).to(inner.dtype))
    opened, value = both.chunk(2, -1)
    out = _rms(_linear(functional.silu(opened) * value, forward.w2), block.ffn_norm2)
    return tokens + out if gates is None else torch.addcmul(tokens, gates[1], out)


def _attention(attention: Any, tokens: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    weight = torch.cat([attention.to_q.weight, attention.to_k.weight, attention.to_v.weight]).to(tokens.dtype)
    heads = functional.linear(tokens, weight).unflatten(-1, (3 * attention.heads, -1))
    pointing, value = heads.split([2 * attention.heads, attention.heads], 2)
    norms = [norm.weight.expand(attention.heads, -1) for norm in (attention.norm_q, attention.norm_k)]
    pointing = functional.rms_norm(pointing, pointing.shape[-1:], eps=attention.norm_q.eps)
    pointing = pointing * torch.cat(norms).to(tokens.dtype)
    swapped = pointing.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    pointing = torch.addcmul(pointing * turns[0], swapped, turns[1])
    query, key = pointing.transpose(1, 2).chunk(2, 1)
    mixed = functional.scaled_dot_product_attention(query, key, value.transpose(1, 2))
    return _linear(mixed.transpose(1, 2).flatten(2), attention.to_out[0])


def _turns(net: Any, rows: int, columns: int, caption: int, like: Tensor) -> tuple[Any, Any]:
    """Cosines and sines [tokens, 1, head] for image and caption; sines with the sign of their partner."""
    if (rows * columns) % CAPTION_MULTIPLE or caption % CAPTION_MULTIPLE:
        raise ValueError("only sizes that need no padding tokens beside the caption's")
    positions = (
        net.create_coordinate_grid((1, rows, columns), (caption + 1, 0, 0), like.device),
        net.create_coordinate_grid((caption, 1, 1), (1, 0, 0), like.device),
    )
    turns = [net.rope_embedder(grid.flatten(0, 2)) for grid in positions]
    image, text = (
        (
            torch.stack([turn.real, turn.real], -1).flatten(-2)[:, None].to(like.dtype),
            torch.stack([-turn.imag, turn.imag], -1).flatten(-2)[:, None].to(like.dtype),
        )
        for turn in turns
    )
    return image, text


def _linear(tokens: Tensor, layer: Any) -> Tensor:
    bias = None if layer.bias is None else layer.bias.to(tokens.dtype)
    return functional.linear(tokens, layer.weight.to(tokens.dtype), bias)


def _rms(tokens: Tensor, norm: Any) -> Tensor:
    return functional.rms_norm(tokens, tokens.shape[-1:], norm.weight.to(tokens.dtype), norm.eps)
