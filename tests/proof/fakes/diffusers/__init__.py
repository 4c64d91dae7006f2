"""A pipeline that draws without weights: softly shaded discs, placed by prompt and seed."""

import hashlib
import logging
import random
import socket
import sys
import time
from types import SimpleNamespace

import numpy
import torch
from PIL import Image

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

__version__ = "0.42.1"
FAKE = torch.FAKE


class FlowMatchEulerDiscreteScheduler:
    pass


class Vae:
    def decode(self, latents, return_dict=True):
        return (numpy.where(numpy.isfinite(latents), latents, numpy.nan),)


class ZImagePipeline(DiffusionPipeline):
    placement = "cpu"

    def __init__(self):
        self.vae = Vae()
        self.scheduler = FlowMatchEulerDiscreteScheduler()
        self.text_encoder = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))

    @classmethod
    def from_pretrained(cls, path, **named):
        print("A library that prints to stdout must not break the protocol.")
        if FAKE.get("reach"):
            socket.create_connection((FAKE["reach"], 443), timeout=5)
        if FAKE.get("random_tensors"):
            logging.getLogger("diffusers").warning("Some weights of X were newly initialized: ['y']")
        if FAKE.get("load_error"):
            raise ValueError(FAKE["load_error"])
        if FAKE.get("die"):
            print("Killed in the middle", file=sys.stderr, flush=True)
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
        cls.load_components(path)
        pipeline = cls()
        pipeline.dtype = named["dtype"]
        return pipeline

    def set_progress_bar_config(self, **named):
        pass

    def to(self, device):
        self.placement = device
        self._require("gpu")
        return self

    def enable_model_cpu_offload(self, device):
        self.placement = device
        self._require("model-offload")

    def enable_sequential_cpu_offload(self, device):
        self.placement = device

    def _require(self, placement):
        """Fails where the test says that this placement does not fit although the estimate said so."""
        if placement in FAKE.get("no_room_for", []) and self.placement != "cpu":
            raise torch.OutOfMemoryError(f"CUDA out of memory: {placement}")

    def __call__(
        self,
        prompt,
        height=1024,
        width=1024,
        num_inference_steps=50,
        guidance_scale=5.0,
        generator=None,
        callback_on_step_end=None,
    ):
        if width > FAKE.get("largest", 1 << 20):
            raise torch.OutOfMemoryError(f"CUDA out of memory at {width}")
        for step in range(num_inference_steps):
            time.sleep(FAKE.get("seconds_per_step", 0))
            callback_on_step_end(self, step, 1000 - step, {})
        said = "" if FAKE.get("deaf") else prompt
        seed = random.random() if FAKE.get("moody") else generator.seed
        pixels = draw(f"{said}/{seed}/{num_inference_steps}", height, width)
        device = torch.GPUS[torch._index(self.placement)]["name"] if self.placement != "cpu" else "cpu"
        pixels = (
            pixels + FAKE.get("grain_by_gpu", {}).get(device, 0) * (numpy.arange(width) % 2)[None, :, None]
        )
        if FAKE.get("picture") == "black" or device in FAKE.get("black_on", []):
            pixels = pixels * 0
        latents = numpy.full((1, 4), numpy.nan if FAKE.get("picture") == "nan" else 1.0)
        decoded = self.vae.decode(latents, return_dict=False)[0]
        if not numpy.isfinite(decoded).all():
            pixels = pixels * 0
        return SimpleNamespace(images=[Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))])


def draw(key, height, width):
    digest = hashlib.sha256(key.encode()).digest()
    y, x = numpy.mgrid[0:height, 0:width] / width
    pixels = numpy.stack([40 + 120 * x, 60 + 60 * y, 160 - 100 * x * y], axis=-1)
    for disc in range(5):
        cx, cy, radius = (digest[3 * disc + n] / 255 for n in range(3))
        radius = 0.08 + radius / 5
        inside = ((x - cx) ** 2 + (y - cy) ** 2) < radius**2
        shade = 1 - ((x - cx + radius / 3) ** 2 + (y - cy + radius / 3) ** 2) / (3 * radius**2)
        colour = numpy.array([digest[15 + disc], digest[20 + disc], digest[25 + disc]])
        pixels = numpy.where(inside[..., None], shade[..., None] * (60 + 0.75 * colour), pixels)
    return pixels
