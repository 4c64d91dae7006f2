"""What the parent and the drawing process say to each other: one JSON object a line.

Both sides are ours, but one of them has loaded a model: what it says is decoded into these types and nothing
else. Lone surrogates (file names that are not UTF-8) travel as JSON escapes, which is why :mod:`json` writes
and reads the lines.
"""

from __future__ import annotations

import json
from typing import TypeAlias

import msgspec

from zitcache.proof.environment import Environment, Gpu
from zitcache.proof.fits import Fit
from zitcache.proof.measures import Vitals
from zitcache.proof.settings import Prompt, Seed, Settings, Size, Steps
from zitcache.proof.similarity import Likeness

# -- to the drawing process ---------------------------------------------------------------------------


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Load the model in the folder ``model`` (absolute).

    ``device``: "auto", "any" (the CPU where there is no GPU), "cpu", "cuda" or "cuda:1". ``dtype``: "bf16",
    "fp32" or None to choose. ``size``: the only size that will do, or None. ``trust``: run the model's own
    code and unpickle its weights. ``gated``: the components that may be loaded only after :class:`Ready`
    came for them.
    """

    model: str
    device: str = "auto"
    dtype: str | None = None
    size: Size | None = None
    trust: bool = False
    gated: list[str] = []


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The files of ``component`` were read and are in the page cache; None: of all components."""

    component: str | None = None


class Draw(msgspec.Struct, frozen=True, kw_only=True, tag="draw"):
    """Draw one picture; ``keep`` it in memory as ``id`` for :class:`Compare`.

    None stands for what suits the model; ``size`` None is the size of the fit. ``path``: where to write it as
    PNG (a number is added to the name when that exists), None for nowhere. ``metadata``: what the PNG
    says beside its settings.
    """

    id: str
    prompt: Prompt
    seed: Seed
    steps: Steps | None = None
    size: Size | None = None
    guidance: float | None = None
    path: str | None = None
    metadata: dict[str, str] = {}
    keep: bool = False


class Compare(msgspec.Struct, frozen=True, kw_only=True, tag="compare"):
    """Compare the picture ``id`` with the PNG ``golden``, and put both on a contact sheet at ``sheet``."""

    id: str
    golden: str
    sheet: str


Command: TypeAlias = Open | Ready | Draw | Compare

# -- from the drawing process -------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """It runs, and every package that it needs is there. ``packages``: their versions."""

    packages: dict[str, str]


class Devices(msgspec.Struct, frozen=True, kw_only=True, tag="devices"):
    """The imports are done. ``gpus``: all that torch can use. ``seconds``: what the imports took."""

    gpus: list[Gpu]
    seconds: float


class Component(msgspec.Struct, frozen=True, kw_only=True, tag="component"):
    """A component of the pipeline was loaded. ``size_bytes``: of its weights on the disk."""

    name: str
    size_bytes: int


class Refit(msgspec.Struct, frozen=True, kw_only=True, tag="refit"):
    """The memory was not enough for ``failed``; ``fit`` is tried next."""

    failed: Fit
    fit: Fit


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """The pipeline is where it draws. ``seconds``: from when all files were ready."""

    environment: Environment
    fit: Fit
    seconds: float


class Step(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """A denoising step is done: ``done`` of ``total``."""

    done: int
    total: int


class Drawn(msgspec.Struct, frozen=True, kw_only=True, tag="drawn"):
    """A picture is drawn. ``path``: where it was written. ``digest``: see ``measures.pixel_digest``."""

    id: str
    path: str | None
    settings: Settings
    seconds: float
    digest: str
    vitals: Vitals
    fit: Fit


class Compared(msgspec.Struct, frozen=True, kw_only=True, tag="compared"):
    """``likeness``: None when the sizes differ."""

    likeness: Likeness | None
    sheet: str | None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, tag="attempt"):
    """Something in the drawing process tried to reach ``target`` on the network, and was refused."""

    target: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """It cannot go on. ``code``: of an error in ``proof.errors``."""

    code: str
    message: str
    hint: str | None = None


Event: TypeAlias = Hello | Devices | Component | Refit | Loaded | Step | Drawn | Compared | Attempt | Failed

MAX_LINE_BYTES = 4 << 20


def encode(message: Command | Event) -> bytes:
    """One line with its newline."""
    return json.dumps(msgspec.to_builtins(message), separators=(",", ":")).encode() + b"\n"


def decode_command(line: bytes) -> Command:
    """The opposite of :func:`encode`. Raises ``ValueError`` (msgspec's errors are of that class)."""
    command: Command = msgspec.convert(json.loads(line), type=Command)
    return command


def decode_event(line: bytes) -> Event:
    """The opposite of :func:`encode`. Raises ``ValueError``."""
    event: Event = msgspec.convert(json.loads(line), type=Event)
    return event
