"""The options of the commands that draw: ``generate``, ``verify --generate``, ``backup --generate``,
``drill``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.errors import UsageError

if TYPE_CHECKING:
    from zitcache.tasks.prove import ProofOptions

Model = Annotated[
    str | None,
    typer.Option("--model", metavar="ID", help="owner/name, or a folder. Default: Z-Image, else the first."),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cuda, cuda:1 or cpu.", show_default=False)
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", metavar="TYPE", help="bf16 or fp32. Default: bf16 where the GPU has it."),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="PIXELS", help="Default: 1024, less where the GPU memory is small."),
]
Steps = Annotated[
    str | None, typer.Option("--steps", metavar="N", help="Default: 9 for Z-Image, else the pipeline's own.")
]
Guidance = Annotated[
    str | None,
    typer.Option("--guidance", metavar="X", help="Default: 0 for Z-Image, else the pipeline's own."),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the model's own code and unpickle its weights, if it has such.")
]

Generate = Annotated[bool, typer.Option("--generate", help="Draw, too: prove that the weights work.")]
Gpus = Annotated[
    str | None, typer.Option("--gpus", metavar="all", help="Prove every GPU, each with its own picture.")
]
ProofDir = Annotated[
    str | None,
    typer.Option("--proof-dir", metavar="DIR", help="For the picture. Default: beside the repository."),
]

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_DTYPES = {"bf16": "bf16", "bfloat16": "bf16", "fp32": "fp32", "float32": "fp32"}


@dataclass(frozen=True, slots=True)
class DrawingValues:
    """What the options said, checked; None where nothing was said."""

    size: int | None
    steps: int | None
    guidance: float | None
    dtype: str | None
    device: str


def parse_drawing(
    *,
    size: str | None = None,
    steps: str | None = None,
    guidance: str | None = None,
    dtype: str | None = None,
    device: str = "auto",
) -> DrawingValues:
    """Raise ``UsageError`` for values that cannot be meant."""
    from zitcache.proof.settings import MAX_STEPS

    if dtype in ("fp16", "float16", "half"):
        raise UsageError(
            "--dtype cannot be fp16: its latents become NaN, and the pictures black.",
            hint="Use --dtype bf16, or --dtype fp32 where the GPU has no bf16.",
        )
    if dtype is not None and dtype not in _DTYPES:
        raise UsageError(f"--dtype cannot be {dtype!r}.", hint="Use --dtype bf16 or --dtype fp32.")
    if not _DEVICE.fullmatch(device):
        raise UsageError(
            f"--device cannot be {device!r}.", hint="Use one of: auto, cuda, cuda:0, cuda:1, …, cpu"
        )
    return DrawingValues(
        size=None if size is None else _parse_size(size),
        steps=None if steps is None else parse_integer("--steps", steps, 1, MAX_STEPS),
        guidance=None if guidance is None else _parse_guidance(guidance),
        dtype=None if dtype is None else _DTYPES[dtype],
        device=device,
    )


def parse_proof(
    *,
    wanted: bool,
    save_golden: bool = False,
    model: str | None = None,
    device: str = "auto",
    gpus: str | None = None,
    dtype: str | None = None,
    size: str | None = None,
    trust: bool = False,
    proof_dir: str | None = None,
    flag: str = "--generate",
) -> ProofOptions | None:
    """How to draw; None when drawing was not ``wanted``. Raises ``UsageError``."""
    from pathlib import Path

    from zitcache.tasks.prove import ProofOptions

    given = {
        "--save-golden": save_golden,
        "--model": model,
        "--device": device != "auto",
        "--gpus": gpus,
        "--dtype": dtype,
        "--size": size,
        "--trust": trust,
        "--proof-dir": proof_dir,
    }
    if not wanted:
        option = next((name for name, value in given.items() if value), None)
        if option is not None:
            raise UsageError(f"{option} says how to draw, but nothing is drawn.", hint=f"Add {flag}")
        return None
    if gpus not in (None, "all"):
        raise UsageError(
            f"--gpus cannot be {gpus!r}.", hint="Use --gpus all, or --device cuda:1 for one of them."
        )
    if gpus and device != "auto":
        raise UsageError("--gpus all and --device name different devices.", hint="Give one of the two.")
    values = parse_drawing(size=size, dtype=dtype, device=device)
    return ProofOptions(
        model=model,
        device=values.device,
        all_gpus=gpus == "all",
        dtype=values.dtype,
        size=values.size,
        trust=trust,
        save_golden=save_golden,
        directory=Path(proof_dir).expanduser() if proof_dir else None,
    )


def parse_integer(option: str, text: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``. Raises ``UsageError``."""
    typed = text.strip()
    if not typed.isascii() or not typed.isdigit() or len(typed) > 20 or not low <= int(typed) <= high:
        raise UsageError(f"{option} cannot be {text!r}.", hint=f"Use a whole number from {low} to {high}.")
    return int(typed)


def _parse_size(text: str) -> int:
    from zitcache.proof.settings import MAX_SIZE, SIZE_UNIT

    least = 4 * SIZE_UNIT
    size = parse_integer("--size", text, least, MAX_SIZE)
    if size % SIZE_UNIT:
        raise UsageError(
            f"--size cannot be {size}: it must be a multiple of {SIZE_UNIT}.",
            hint=f"Use --size {round(size / SIZE_UNIT) * SIZE_UNIT}",
        )
    return size


def _parse_guidance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(
            f"--guidance cannot be {text!r}.", hint="Use a number from 0 to 100, such as 0 or 3.5."
        )
    return value
