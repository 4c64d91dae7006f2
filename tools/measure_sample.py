"""Draw prompts that were never trained on, and count in the pictures what came out right.

    python -m tools.measure_sample --prompts 480 --pairs 120 --out docs/sample

Also measures the figures by which ``zitcache verify --generate`` tells a living picture from a dead one, on
these pictures and on what must fail: black, constant, noise, and latents that were never denoised.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from tools.scene_judge import compare, look
from tools.scenes import Scene, held_out_scene, prompt_for
from zitcache.events import Session
from zitcache.proof.measures import measure as measure_vitals
from zitcache.tasks.sample import SampleLayout, sample

STEPS = 9
SEED = 4_711
SHEET_COLUMNS, SHEET_SINGLE, SHEET_PAIRS = 8, 40, 8
_AT_ONCE = 40
_VITALS = ("std", "levels", "spread", "lag_correlation")

Drawn = tuple[str, Any, bool]
"""A prompt, its picture, and whether all of it is right."""


def held_out(count: int, pairs: float, seed: int = SEED) -> list[tuple[Scene, str]]:
    """Scenes training never saw, each with a prompt in one of the trained wordings."""
    rng = Random(seed)
    scenes = [held_out_scene(rng, pairs) for _ in range(count)]
    return [(scene, prompt_for(scene, rng)) for scene in scenes]


def draw(pipeline: Any, prompts: list[str], size: int = 128, seed: int = SEED) -> list[Any]:
    """Pictures [size, size, 3] of the prompts; picture number n has the seed ``seed + n`` on the CPU."""
    pictures: list[Any] = []
    for first in range(0, len(prompts), _AT_ONCE):
        chunk = prompts[first : first + _AT_ONCE]
        generators = [torch.Generator("cpu").manual_seed(seed + first + n) for n in range(len(chunk))]
        images = pipeline(
            list(chunk),
            height=size,
            width=size,
            num_inference_steps=STEPS,
            guidance_scale=0.0,
            generator=generators,
        ).images
        pictures += [np.asarray(image) for image in images]
    return pictures


def judge(
    wanted: list[tuple[Scene, str]], pictures: list[Any]
) -> tuple[dict[str, float], list[dict[str, bool]]]:
    """Share of the pictures that are right in each attribute and in all, and the verdicts one by one."""
    verdicts = [compare(scene, look(picture)) for (scene, _), picture in zip(wanted, pictures, strict=True)]
    right: Counter[str] = Counter()
    for verdict in verdicts:
        right.update({**verdict, "all": all(verdict.values())})
    return {name: round(right[name] / len(verdicts), 4) for name in (*verdicts[0], "all")}, verdicts


def measure(
    pipeline: Any, count: int, pairs: float, size: int, seed: int, log: Callable[[str], None]
) -> tuple[dict[str, float], list[Drawn]]:
    """Draw and judge ``count`` held-out scenes, a share of ``pairs`` of them with two things."""
    wanted = held_out(count, pairs, seed)
    pictures = draw(pipeline, [prompt for _, prompt in wanted], size, seed)
    shares, verdicts = judge(wanted, pictures)
    drawn: list[Drawn] = []
    for (_, prompt), picture, verdict in zip(wanted, pictures, verdicts, strict=True):
        wrong = [name for name, right in verdict.items() if not right]
        if wrong:
            log(f"wrong in {', '.join(wrong)}: {prompt!r}: {look(picture)}")
        drawn.append((prompt, picture, not wrong))
    return {"prompts": count, **shares}, drawn


def dead_pictures(pipeline: Any, size: int) -> dict[str, list[Any]]:
    """What must not pass for a picture, by what it is."""
    rng = np.random.default_rng(SEED)
    latents = torch.randn(24, 16, size // 8, size // 8, generator=torch.Generator().manual_seed(SEED))
    scaled = latents.to(pipeline.vae.dtype) / pipeline.vae.config.scaling_factor
    with torch.no_grad():
        decoded = pipeline.vae.decode(scaled + pipeline.vae.config.shift_factor, return_dict=False)[0]
    undenoised = pipeline.image_processor.postprocess(decoded.float(), output_type="pil")
    return {
        "black": [np.zeros((size, size, 3), np.uint8)],
        "constant": [np.full((size, size, 3), 140, np.uint8)],
        "noise": [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(8)],
        "undenoised": [np.asarray(image) for image in undenoised],
    }


def vitals(pictures: list[Any]) -> dict[str, dict[str, float]]:
    """Least, hundredth, median and largest value of each figure of tier A."""
    measured = [measure_vitals(picture, finite=None) for picture in pictures]
    summary: dict[str, dict[str, float]] = {}
    for name in _VITALS:
        values = np.array([getattr(each, name) for each in measured], dtype=np.float64)
        quantiles = {"min": 0.0, "1 %": 0.01, "median": 0.5, "max": 1.0}
        summary[name] = {key: round(float(np.quantile(values, q)), 3) for key, q in quantiles.items()}
    return summary


def sheet(drawn: list[Drawn]) -> Image.Image:
    """The pictures with their prompts below; one that is wrong has a red line under it."""
    side, text = 128, 46
    rows = -(-len(drawn) // SHEET_COLUMNS)
    canvas = Image.new("RGB", (SHEET_COLUMNS * (side + 12), rows * (side + text + 8)), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (prompt, picture, right) in enumerate(drawn):
        x, y = number % SHEET_COLUMNS * (side + 12) + 6, number // SHEET_COLUMNS * (side + text + 8) + 4
        canvas.paste(Image.fromarray(picture).resize((side, side)), (x, y))
        pen.multiline_text((x, y + side + 4), _wrapped(prompt), fill="black", font_size=9, spacing=1)
        if not right:
            pen.line((x, y + side + 1, x + side, y + side + 1), fill="red", width=2)
    return canvas


def load_sample(dtype: torch.dtype) -> Any:
    """The packaged sample as a pipeline on the CPU."""
    from diffusers import ZImagePipeline

    with tempfile.TemporaryDirectory() as scratch:
        path = sample(Path(scratch), SampleLayout.PLAIN, Session()).data.model_path
        pipeline = ZImagePipeline.from_pretrained(path, torch_dtype=dtype, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _wrapped(prompt: str, width: int = 28) -> str:
    lines = [""]
    for word in prompt.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines[:4])


def main() -> None:
    """Measure the packaged sample on the CPU."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--prompts", type=int, default=480, help="scenes of one thing")
    parser.add_argument("--pairs", type=int, default=120, help="scenes of two things")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--out", type=Path, help="folder for measured-DTYPE.json and contact-sheet.png")
    arguments = parser.parse_args()
    pipeline = load_sample(getattr(torch, arguments.dtype))
    size, seed = arguments.size, arguments.seed
    one, drawn = measure(pipeline, arguments.prompts, 0.0, size, seed, print)
    two, drawn_pairs = measure(pipeline, arguments.pairs, 1.0, size, seed, print)
    pictures = [picture for _, picture, _ in (*drawn, *drawn_pairs)]
    result = {
        "size": size,
        "seed": seed,
        "torch": torch.__version__,
        "one": one,
        "two": two,
        "vitals": {"pictures": vitals(pictures)}
        | {name: vitals(dead) for name, dead in dead_pictures(pipeline, size).items()},
    }
    print(json.dumps(result, indent=1))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        file = arguments.out / f"measured-{arguments.dtype}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
        sheet([*drawn[:SHEET_SINGLE], *drawn_pairs[:SHEET_PAIRS]]).save(arguments.out / "contact-sheet.png")


if __name__ == "__main__":
    main()
