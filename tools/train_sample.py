"""Train the weights of ``zitcache sample``: autoencoder, text encoder and transformer, from nothing.

    pip install -c constraints-dev.txt -e '.[test-models]'
    python -m tools.train_sample --out trained texts vae whiten flow decoder
    python -m tools.pack_sample trained

Phases are run in the order in which they are named, each on what ``--out`` holds, so that a run may be cut
into several, on different machines: ``texts`` (scenes and tokenised prompts) needs no GPU, ``vae``, ``flow``
and ``decoder`` want one (minutes on one H200). ``vae:60`` ends that phase after a minute; ``--scale 0.001``
runs everything on a CPU and draws mud.
Writes ``texts.npz``, ``transformer.npz``, ``others.npz`` (bf16 bits by tensor) and ``training.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from tools.sample_parts import Parts, load, save
from tools.scene_render import Renderer, to_row
from tools.scenes import training_pair
from tools.train_data import encode_pools, read_texts, write_texts
from tools.train_flow import FlowSettings, follow_latents, train_flow
from tools.train_forward import check_against_pipeline
from tools.train_vae import VaeSettings, train_decoder, train_whole, whiten_latents

MODEL = Path(__file__).parents[1] / "zitcache" / "cache" / "sample" / "data" / "model"
_SCENES_OF_VAE = 20_000
_CHECKED = ("a red circle on a blue background", "hi", "a cat at the top, white background" + ", soft" * 12)


class Run:
    """The networks, the pictures to train on, and the clock of one call of this program."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.start = time.monotonic()
        self.out: Path = arguments.out
        self.scale: float = arguments.scale
        self.seed: int = arguments.seed
        self.device = torch.device(arguments.device)
        self.parts = Parts(arguments.model, self.seed)
        if (self.out / "others.npz").exists():
            load(self.parts, self.out)
        self.parts.to(self.device)
        self.renderer = Renderer(self.device)
        rng = Random(self.seed)
        rows = [to_row(training_pair(rng)[0]) for _ in range(_SCENES_OF_VAE)]
        self._rows = torch.tensor(rows, device=self.device)

    def log(self, text: str) -> None:
        """Print with the seconds since the start."""
        print(f"[{time.monotonic() - self.start:6.1f}s] {text}", flush=True)

    def images(self, count: int) -> torch.Tensor:
        """Fresh pictures of scenes of the training set."""
        rows = self._rows[torch.randint(len(self._rows), (count,), device=self.device)]
        return self.renderer(rows, 128).contiguous(memory_format=torch.channels_last)


def train(arguments: argparse.Namespace) -> None:
    """The phases asked for; what is finished is on the disk before the next one starts."""
    torch.set_float32_matmul_precision("high")
    run = Run(arguments)
    run.log(f"ready on {_machine(run.device)}")
    for named in arguments.phases:
        phase, _, seconds_text = named.partition(":")
        arguments.seconds = float(seconds_text) if seconds_text else None
        began = time.monotonic()
        settings, result = _PHASES[phase](run, arguments)
        if phase != "texts":
            save(run.parts, run.out)
        seconds = round(time.monotonic() - began, 1)
        entry = {"phase": phase, "machine": _machine(run.device), "seconds": seconds, **result}
        _note(run.out, {**entry, "settings": settings})
        run.log(f"{phase}: done in {seconds} s {result}")


def _texts(run: Run, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    difference = check_against_pipeline(run.parts, list(_CHECKED))
    run.log(f"the training's and the pipeline's own forward differ by {difference:.1e}")
    if not difference < 1e-3:
        raise SystemExit("training would not train what the pipeline runs")
    write_texts(run.out / "texts.npz", run.parts.tokenizer, run.seed, run.scale)
    return {}, {"seed": run.seed}


def _vae(run: Run, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = _vae_settings(run, arguments)
    return asdict(settings), train_whole(run.parts.vae, run.images, settings, run.log)


def _whiten(run: Run, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    matrix = whiten_latents(run.parts.vae, run.images, VaeSettings())
    follow_latents(run.parts.transformer, matrix)
    return {}, {"amplified_by_at_most": round(float(torch.linalg.eigvalsh(matrix).max()), 2)}


def _flow(run: Run, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    texts = read_texts(run.out / "texts.npz")
    pools = list(encode_pools(run.parts.vae, run.renderer, texts))
    scenes = sum(len(pool.latents) for pool in pools)
    run.log(f"encoded {scenes} scenes")
    seconds = arguments.seconds
    if arguments.deadline is not None:
        seconds = arguments.deadline - (time.monotonic() - run.start)
    settings = replace(
        FlowSettings(),
        steps=int((arguments.steps or FlowSettings().steps) * run.scale),
        seconds=seconds,
        batch=arguments.batch or FlowSettings().batch,
        rate=arguments.rate or FlowSettings().rate,
    )
    return asdict(settings), {"scenes": scenes, **train_flow(run.parts, pools, settings, run.log)}


def _decoder(run: Run, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = _vae_settings(run, arguments)
    return asdict(settings), train_decoder(run.parts.vae, run.images, settings, run.log)


_PHASES = {"texts": _texts, "vae": _vae, "whiten": _whiten, "flow": _flow, "decoder": _decoder}


def _vae_settings(run: Run, arguments: argparse.Namespace) -> VaeSettings:
    return replace(
        VaeSettings(),
        steps=int((arguments.steps or VaeSettings().steps) * run.scale),
        seconds=arguments.seconds,
        batch=arguments.batch or VaeSettings().batch,
        rate=arguments.rate or VaeSettings().rate,
    )


def _machine(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU {platform.machine()}"


def _note(out: Path, entry: dict[str, Any]) -> None:
    file = out / "training.json"
    entries = json.loads(file.read_text()) if file.exists() else []
    file.write_text(json.dumps([*entries, {**entry, "torch": torch.__version__}], indent=1) + "\n")


def main() -> None:
    """Parse the arguments and train."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("phases", nargs="+", metavar="PHASE[:SECONDS]", help=", ".join(_PHASES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=MODEL, help="folder with the configs and the tokenizer")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=20_260)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps and of the texts")
    parser.add_argument("--steps", type=int, help="of each phase named")
    parser.add_argument("--deadline", type=float, help="end the flow so long after the program's start")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rate", type=float, help="largest learning rate")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
