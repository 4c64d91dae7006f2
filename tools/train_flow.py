"""Train the sample's transformer and text encoder by flow matching, in the pipeline's own conventions.

``x = (1 - sigma) * clean + sigma * noise``; the transformer sees the time ``1 - sigma`` and answers
``clean - noise`` (the pipeline negates it before the Euler step).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tools.sample_parts import Parts
from tools.train_data import Pool
from tools.train_forward import encode_text, velocity
from tools.train_loop import Log, Schedule, adam, recorded


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """``grid_share`` of the noise levels are exactly those the pipeline visits in ``grid_steps`` steps."""

    steps: int = 20000
    seconds: float | None = None
    batch: int = 512
    rate: float = 1.0e-3
    warmup: int = 300
    weight_decay: float = 0.01
    average: float = 0.999
    grid_steps: int = 9
    grid_share: float = 0.5
    shift: float = 3.0


def grid(settings: FlowSettings) -> Tensor:
    """The noise levels of the pipeline's schedule: evenly spaced, then shifted."""
    return shifted(torch.linspace(1.0, 1 / settings.grid_steps, settings.grid_steps), settings.shift)


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """As ``FlowMatchEulerDiscreteScheduler`` shifts them."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def train_flow(parts: Parts, pools: list[Pool], settings: FlowSettings, log: Log) -> dict[str, Any]:
    """Train both networks in place, ending with the running averages of their weights.

    Returns the steps done and the last loss.
    """
    device = next(parts.transformer.parameters()).device
    parameters = _trained(parts)
    averages = [p.detach().clone() for p in parameters]
    groups = _groups(parameters, settings)
    optimiser = adam(groups, settings.rate, device, betas=(0.9, 0.98))
    schedule = Schedule(settings.steps, settings.seconds, settings.rate, settings.warmup)
    levels = grid(settings).to(device)
    smooth = torch.full((), 2.0, device=device)

    def step(pool: Pool) -> None:
        loss = _loss(parts, pool, levels, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - settings.average)
        smooth.lerp_(loss.detach(), 0.01)

    runs = [recorded(partial(step, pool), optimiser, device, log) for pool in pools]
    log("flow: recorded")
    choice = torch.Generator().manual_seed(7)
    shares = torch.tensor([pool.share for pool in pools])
    for number in schedule.run(optimiser):
        runs[int(torch.multinomial(shares, 1, generator=choice))]()
        if schedule.says():
            log(f"flow: step {number} of {schedule.steps}, loss {float(smooth):.4f}")
    if not bool(smooth.isfinite()):
        raise SystemExit("the loss is no number: nothing was kept")
    for parameter, average in zip(parameters, averages, strict=True):
        parameter.data.copy_(average)
    return {"steps": schedule.done, "loss": round(float(smooth), 4)}


@torch.no_grad()
def follow_latents(transformer: Any, matrix: Tensor) -> None:
    """Let a transformer that was trained on other latents start from ``matrix`` times those."""
    first, last = transformer.all_x_embedder["2-1"], transformer.all_final_layer["2-1"].linear
    inverse = torch.linalg.inv(matrix.cpu()).to(matrix.device)
    channels = len(matrix)
    first.weight.copy_((first.weight.view(-1, channels) @ inverse).view_as(first.weight))
    by_place = last.weight.view(-1, channels, last.in_features)
    last.weight.copy_(torch.einsum("ij,pjd->pid", matrix, by_place).flatten(0, 1))
    last.bias.copy_((last.bias.view(-1, channels) @ matrix.T).flatten())


def _loss(parts: Parts, pool: Pool, levels: Tensor, settings: FlowSettings) -> Tensor:
    device = pool.latents.device
    count = max(1, int(settings.batch * pool.batch_scale))
    rows = torch.randint(len(pool.latents), (count,), device=device)
    clean = pool.latents[rows].float()
    noise = torch.randn_like(clean)
    free = shifted(torch.rand(count, device=device), settings.shift)
    exact = levels[torch.randint(len(levels), (count,), device=device)]
    sigma = torch.where(torch.rand(count, device=device) < settings.grid_share, exact, free)
    mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
    # The cache of cast weights would outlive the recording of a graph.
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False):
        caption = encode_text(parts.text_encoder, pool.ids[rows].long())
    mixed = mixed.to(torch.bfloat16) if device.type == "cuda" else mixed
    answer = velocity(parts.transformer, mixed, 1 - sigma, caption, pool.lengths[rows])
    return (answer.float() - (clean - noise)).square().mean()


def _trained(parts: Parts) -> list[Tensor]:
    # hidden_states[-2] is what the pipeline takes: nothing behind it is ever trained.
    behind = (parts.text_encoder.layers[-1], parts.text_encoder.norm)
    unused = {id(p) for network in behind for p in network.parameters()}
    networks = (parts.transformer, parts.text_encoder)
    return [p for network in networks for p in network.parameters() if id(p) not in unused]


def _groups(parameters: list[Tensor], settings: FlowSettings) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
