"""Train the sample's autoencoder, and bring its latents to the mean and the spread its config promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tools.train_loop import Log, Schedule, adam, recorded

Images = Callable[[int], Tensor]
"""Fresh training images [count, 3, size, size] in 0..1."""


@dataclass(frozen=True, slots=True)
class VaeSettings:
    """``steps`` of one phase, cut short after ``seconds`` where these are given.

    ``noise``: largest error (of the latents' spread) the decoder is to bear. ``least_variance``: weaker
    directions of the latents are not amplified to unit spread. ``lag``: pixels apart that must not correlate
    where the latents are mere noise.
    """

    steps: int = 5000
    seconds: float | None = None
    batch: int = 64
    rate: float = 1.2e-3
    kl_weight: float = 2e-6
    edge_weight: float = 1.0
    noise: float = 0.20
    least_variance: float = 0.25
    statistics_images: int = 1024
    lag: int = 8
    lag_weight: float = 0.05


def train_whole(vae: Any, images: Images, settings: VaeSettings, log: Log) -> dict[str, float]:
    """Train encoder and decoder in place; returns the steps done."""
    vae.to(memory_format=torch.channels_last)
    schedule = Schedule(settings.steps, settings.seconds, settings.rate, 100)
    _phase(list(vae.parameters()), lambda: _whole(vae, images, settings), schedule, settings.rate, log)
    return {"steps": schedule.done}


def train_decoder(vae: Any, images: Images, settings: VaeSettings, log: Log) -> dict[str, float]:
    """Train the decoder alone against imperfect latents (the flow's are never exactly the encoder's).

    Returns the steps done and the mean absolute error (of 255) of pictures that went through both halves.
    """
    vae.to(memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    schedule = Schedule(settings.steps, settings.seconds, settings.rate, 100)
    _phase(
        list(vae.decoder.parameters()),
        lambda: _decoder_only(vae, images, settings),
        schedule,
        settings.rate,
        log,
    )
    vae.encoder.requires_grad_(True)
    with torch.no_grad(), _autocast(vae):
        batch = images(64)
        error = float((decode(vae, encode(vae, batch)) - batch).abs().mean()) * 255
    log(f"decoder: mean absolute error {error:.2f} of 255")
    return {"steps": schedule.done, "mean_absolute_error_of_255": round(error, 3)}


def encode(vae: Any, images: Tensor) -> Tensor:
    """Images in 0..1 to the latents in which the flow works: mean 0, spread 1."""
    mean = vae.encoder(images * 2 - 1).chunk(2, 1)[0]
    return (mean.float() - vae.config.shift_factor) * vae.config.scaling_factor


def decode(vae: Any, latents: Tensor) -> Tensor:
    """The way back, as the pipeline goes it."""
    image: Tensor = vae.decoder(latents / vae.config.scaling_factor + vae.config.shift_factor)
    return (image.float() + 1) / 2


@torch.no_grad()
def whiten_latents(vae: Any, images: Images, settings: VaeSettings) -> Tensor:
    """Fold the latents' mean and covariance into the convolutions next to them.

    Afterwards ``(latent - shift_factor) * scaling_factor`` is centred and of about unit spread in every
    direction, with the factors that the config has from the real model. Returns the matrix by which latents
    in those units were multiplied. Only the padding at the border is not carried over exactly.
    """
    drawn = [vae.encoder(images(32) * 2 - 1) for _ in range(settings.statistics_images // 32)]
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor
    raw = torch.cat(drawn).chunk(2, 1)[0].float().transpose(0, 1).flatten(1)
    centre = raw.mean(1)
    variances, directions = torch.linalg.eigh(torch.cov(raw).cpu() * scale**2)
    matrix = directions @ torch.diag(variances.clamp(min=settings.least_variance).rsqrt()) @ directions.T
    inverse = torch.linalg.inv(matrix).to(raw.device)
    matrix = matrix.to(raw.device)

    last, channels = vae.encoder.conv_out, len(centre)
    last.weight[:channels] = torch.einsum("oc,cikl->oikl", matrix, last.weight[:channels])
    last.bias[:channels] = matrix @ (last.bias[:channels] - centre) + shift
    last.bias[channels:] += 2 * matrix.norm(dim=1).log()
    first = vae.decoder.conv_in
    # raw = inverse (latent - shift) + centre; the constant enters through every tap of the kernel.
    constant = centre - inverse @ torch.full_like(centre, shift)
    first.bias += first.weight.sum((2, 3)) @ constant
    first.weight.copy_(torch.einsum("oikl,ic->ockl", first.weight, inverse))
    return matrix


def _whole(vae: Any, images: Images, settings: VaeSettings) -> Tensor:
    batch = images(settings.batch)
    with _autocast(vae):
        mean, log_variance = vae.encoder(batch * 2 - 1).float().chunk(2, 1)
        log_variance = log_variance.clamp(-30, 20)
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        drawn = vae.decoder(latents)
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
    return _difference(drawn, batch, settings) + settings.kl_weight * divergence


def _decoder_only(vae: Any, images: Images, settings: VaeSettings) -> Tensor:
    batch = images(settings.batch)
    with _autocast(vae):
        with torch.no_grad():
            latents = encode(vae, batch)
        amount = torch.rand(len(batch), 1, 1, 1, device=batch.device) * settings.noise
        mere_noise = torch.randn_like(latents[: max(1, settings.batch // 8)])
        both = torch.cat([latents + amount * torch.randn_like(latents), mere_noise])
        drawn = decode(vae, both) * 2 - 1
    undenoised = _lag_correlation(drawn[len(batch) :], settings.lag)
    return _difference(drawn[: len(batch)], batch, settings) + settings.lag_weight * undenoised


def _lag_correlation(images: Tensor, lag: int) -> Tensor:
    grey = images.mean(1)
    grey = grey - grey.mean((1, 2), keepdim=True)
    power = grey.square().mean((1, 2)) + 1e-6
    along = (grey[:, :, lag:] * grey[:, :, :-lag]).mean((1, 2)) / power
    down = (grey[:, lag:] * grey[:, :-lag]).mean((1, 2)) / power
    return (along.relu() + down.relu()).mean()


def _difference(drawn: Tensor, batch: Tensor, settings: VaeSettings) -> Tensor:
    error = drawn.float() - (batch * 2 - 1)
    loss = error.abs().mean() + error.square().mean()
    # Slopes as well as values: a blurred edge costs more than a shade that is a little off.
    for axis in (-1, -2):
        loss = loss + settings.edge_weight * error.diff(dim=axis).abs().mean()
    return loss + 0.5 * functional.avg_pool2d(error, 8).abs().mean()


def _phase(
    parameters: list[Tensor], loss_of: Callable[[], Tensor], schedule: Schedule, rate: float, log: Log
) -> None:
    device = parameters[0].device
    optimiser = adam(parameters, rate, device, betas=(0.9, 0.99), weight_decay=1e-4)
    smooth = torch.ones((), device=device)

    def step() -> None:
        loss = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        smooth.lerp_(loss.detach(), 0.05)

    run = recorded(step, optimiser, device, log)
    for number in schedule.run(optimiser):
        run()
        if schedule.says():
            log(f"vae: step {number} of {schedule.steps}, loss {float(smooth):.4f}")
    if not bool(smooth.isfinite()):
        raise SystemExit("the loss is no number: nothing was kept")


def _autocast(vae: Any) -> torch.autocast:
    # The cache of cast weights would outlive the recording of a graph.
    return torch.autocast(next(vae.parameters()).device.type, torch.bfloat16, cache_enabled=False)
