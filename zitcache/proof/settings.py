"""What is drawn: prompt, seed, steps, size, guidance, and their defaults."""

from __future__ import annotations

from typing import Annotated

import msgspec

DEFAULT_PROMPT = "A cute cyberpunk cat, neon lights, 8k high definition"
OTHER_PROMPT = "An old lighthouse on a green hill in bright daylight, oil painting"
"""A second prompt, which must give another picture than the first."""

DEFAULT_SEED = 42
Z_IMAGE_CLASS = "ZImagePipeline"
Z_IMAGE_STEPS = 9
Z_IMAGE_GUIDANCE = 0.0
"""diffusers' own defaults (50 steps, guidance 5.0) are not those that Z-Image-Turbo was distilled for."""

DEFAULT_SIZE = 1024
SMALLER_SIZES = (768, 512)
SIZE_UNIT = 16
"""Sizes must be multiples of this: twice the VAE's factor of 8."""

MAX_SIZE = 4096
MAX_STEPS = 1000
MAX_SEED = 2**63 - 1
MAX_PROMPT_CHARACTERS = 20_000

Prompt = Annotated[str, msgspec.Meta(max_length=MAX_PROMPT_CHARACTERS)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEED)]
Steps = Annotated[int, msgspec.Meta(ge=1, le=MAX_STEPS)]
Size = Annotated[int, msgspec.Meta(ge=SIZE_UNIT, le=MAX_SIZE)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one picture as they were in the end. ``size``: width and height in pixels.

    ``guidance``: None where the pipeline has no such argument. ``scheduler``: its class.
    """

    prompt: Prompt
    seed: Seed
    steps: Steps
    size: Size
    guidance: float | None
    scheduler: str
