"""``generate``: draw pictures with a model of the cache. The user's own script, grown up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zitcache import __version__
from zitcache.cache.inventory import Model, inventory
from zitcache.errors import NotFound, UsageError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.proof.environment import Environment
from zitcache.proof.errors import NoGpu
from zitcache.proof.fits import Placement
from zitcache.proof.messages import Component, Draw, Drawn, Event, Loaded, Open, Refit
from zitcache.proof.pipeline_folder import INDEX, PipelineFolder, read_pipeline_folder, refuse_foreign
from zitcache.proof.process import DrawingProcess
from zitcache.proof.settings import DEFAULT_SEED, MAX_PROMPT_CHARACTERS, MAX_SEED
from zitcache.tasks.locations import live_cache
from zitcache.tasks.prove.choosing import choose_model, refuse_incomplete

MAX_PROMPTS_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """``model``: an id in the cache, or the path of a model's folder; None for the one that is meant.

    ``output``: a file, or a folder when it ends with a slash or is one. ``prompts_file``: one prompt a line.
    ``count``: pictures for each prompt, with seeds ``seed``, ``seed + 1``, … None stands for what suits the
    model and the machine.
    """

    prompts: tuple[str, ...]
    output: str
    cache: str | None = None
    model: str | None = None
    prompts_file: Path | None = None
    seed: int = DEFAULT_SEED
    count: int = 1
    steps: int | None = None
    size: int | None = None
    guidance: float | None = None
    dtype: str | None = None
    device: str = "auto"
    trust: bool = False


class GeneratedImage(msgspec.Struct, kw_only=True):
    """One picture. ``seconds``: to draw it; ``size``: width and height in pixels."""

    path: str
    prompt: str
    seed: int
    seconds: float
    size: int


class GenerateReport(msgspec.Struct, kw_only=True):
    """``seconds``: of the whole command, imports included. ``placement``: see ``proof.fits.Placement``."""

    images: list[GeneratedImage]
    seconds_load: float
    model: str
    revision: str
    device: str
    device_name: str
    dtype: str
    placement: str
    steps: int
    guidance: float | None
    pipeline: str
    seconds: float


def generate(request: GenerateRequest, session: Session) -> Outcome[GenerateReport]:
    """Draw every prompt, with the model loaded once. Existing files are kept: names get a number.

    Raises ``CacheNotFound``, ``NotFound``, ``ModelIncomplete``, ``NotTrusted``, ``PackagesMissing``,
    ``NoGpu``, ``DrawingFailed``, ``OutOfGpuMemory``, ``UsageError``, ``NoSpace``. Pictures drawn before
    stay.
    """
    started = time.monotonic()
    prompts = _prompts(request)
    if request.seed + request.count - 1 > MAX_SEED:
        raise UsageError(f"Seeds end at {MAX_SEED}.", hint="Choose a smaller --seed.")
    model, folder = _model(request, session)
    refuse_foreign(folder, trust=request.trust)
    paths = _paths(request.output, len(prompts) * request.count)
    session.progress.stage("Importing torch")
    with DrawingProcess.start(session.cancel) as process:
        if not process.devices().gpus and request.device != "cpu":
            raise NoGpu
        session.progress.stage("Loading the weights", folder.weights_bytes)
        process.send(
            Open(
                model=folder.path,
                device=request.device,
                dtype=request.dtype,
                size=request.size,
                trust=request.trust,
            )
        )
        pen = _Pen(process, session, model)
        loaded = process.wait_for(Loaded, pen.on_event)
        _say_fit(loaded, folder, request, session)
        session.progress.stage("Drawing")
        images = [
            pen.draw(request, prompt, request.seed + number, next(paths))
            for prompt in prompts
            for number in range(request.count)
        ]
    return Outcome(
        data=_report(images, loaded, pen, model, time.monotonic() - started), warnings=session.warnings
    )


class _Pen:
    def __init__(self, process: DrawingProcess, session: Session, model: _Chosen) -> None:
        self._process = process
        self._session = session
        self._model = model
        self.last: Drawn | None = None

    def draw(self, request: GenerateRequest, prompt: str, seed: int, path: Path) -> GeneratedImage:
        self._process.send(
            Draw(
                id="image",
                prompt=prompt,
                seed=seed,
                steps=request.steps,
                size=request.size,
                guidance=request.guidance,
                path=str(path),
                metadata={
                    "model": self._model.id,
                    "revision": self._model.revision,
                    "software": f"zitcache {__version__}",
                },
            )
        )
        self.last = drawn = self._process.wait_for(Drawn, self.on_event)
        if drawn.vitals.finite is False:
            self._session.warn(
                "not-finite",
                f"{drawn.path}: the latents hold NaN or infinity, so this is no picture. "
                "The weights may be damaged.",
                "zitcache verify",
            )
        return GeneratedImage(
            path=str(drawn.path), prompt=prompt, seed=seed, seconds=drawn.seconds, size=drawn.settings.size
        )

    def on_event(self, event: Event) -> None:
        if isinstance(event, Component):
            self._session.progress.advance(event.size_bytes)
        elif isinstance(event, Refit):
            self._session.warn(
                "less-memory", f"The GPU memory was not enough for {event.failed}; trying {event.fit}."
            )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The model's name as it is told."""

    id: str
    revision: str


def _model(request: GenerateRequest, session: Session) -> tuple[_Chosen, PipelineFolder]:
    """The model that is meant: a folder by its path, or one of the cache."""
    if request.model is not None and (Path(request.model).expanduser() / INDEX).is_file():
        place = os.path.realpath(Path(request.model).expanduser())
        for found in inventory(Path(place)).models:
            if os.path.realpath(found.path) == place:
                return _checked(found)
        return _Chosen(place, ""), read_pipeline_folder(place)
    cache = live_cache(request.cache, session)
    session.progress.stage("Looking at the cache")
    return _checked(choose_model(inventory(cache).models, request.model, session))


def _checked(model: Model) -> tuple[_Chosen, PipelineFolder]:
    refuse_incomplete(model)
    return _Chosen(model.id, model.revision), read_pipeline_folder(os.path.realpath(model.path))


def _prompts(request: GenerateRequest) -> list[str]:
    prompts = _read_prompts(request.prompts_file) if request.prompts_file else list(request.prompts)
    for prompt in prompts:
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise UsageError(f"A prompt has {len(prompt)} characters; {MAX_PROMPT_CHARACTERS} are the limit.")
    return prompts


def _read_prompts(path: Path) -> list[str]:
    """One prompt a line; empty lines and lines that begin with # are passed over."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PROMPTS_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"The file of prompts {path} does not exist.", hint=f"See: ls -l {path}") from None
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    if len(raw) > MAX_PROMPTS_BYTES:
        raise UsageError(f"The file of prompts {path} is larger than {MAX_PROMPTS_BYTES >> 20} MiB.")
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"The file of prompts {path} is not UTF-8 text (line {line}).") from None
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise UsageError(f"The file of prompts {path} has no prompt.", hint="Write one prompt on each line.")
    return prompts


def _paths(output: str, count: int) -> Iterator[Path]:
    """Where each picture goes: ``cat.png``, or ``cat-1.png`` … ``cat-9.png`` when there are several."""
    target = Path(output).expanduser().absolute()
    if output.endswith("/") or target.is_dir():
        target = target / "zitcache.png"
    elif target.suffix.lower() != ".png":
        raise UsageError(
            f"Pictures are written as PNG; {output} has another ending.", hint=f"--output {output}.png"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"making the folder {target.parent}") from error
    if count == 1:
        return iter((target,))
    width = len(str(count))
    return (target.with_name(f"{target.stem}-{n:0{width}}{target.suffix}") for n in range(1, count + 1))


def _say_fit(loaded: Loaded, folder: PipelineFolder, request: GenerateRequest, session: Session) -> None:
    fit = loaded.fit
    if fit.placement in (Placement.GPU, Placement.CPU) and fit.size == (request.size or folder.native_size):
        return
    session.warn("less-memory", f"To fit the free GPU memory: {fit}.", "See who uses it: nvidia-smi")


def _report(
    images: list[GeneratedImage], loaded: Loaded, pen: _Pen, model: _Chosen, seconds: float
) -> GenerateReport:
    assert pen.last is not None
    environment: Environment = loaded.environment
    return GenerateReport(
        images=images,
        seconds_load=loaded.seconds,
        model=model.id,
        revision=model.revision,
        device=environment.device,
        device_name=environment.device_name,
        dtype=environment.dtype,
        placement=pen.last.fit.placement.value,
        steps=pen.last.settings.steps,
        guidance=pen.last.settings.guidance,
        pipeline=environment.pipeline,
        seconds=round(seconds, 3),
    )
