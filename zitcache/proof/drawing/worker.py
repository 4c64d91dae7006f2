"""The drawing process: says what it has, loads when told to, draws what it is asked for.

It is started by ``zitcache.proof.process`` with a clean environment; see ``zitcache.proof.messages`` for
what is said in which order.
"""

from __future__ import annotations

import traceback
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from zitcache.errors import ZitcacheError, from_os_error
from zitcache.proof.drawing import devices, pictures
from zitcache.proof.drawing.channel import Channel
from zitcache.proof.drawing.guard import NetworkRefused, stay_offline
from zitcache.proof.drawing.loading import Gate, pipeline_class
from zitcache.proof.drawing.packages import installed_packages
from zitcache.proof.drawing.painter import Painter, Picture
from zitcache.proof.environment import Gpu
from zitcache.proof.errors import DrawingFailed, NetworkAttempted
from zitcache.proof.fits import Fit, Placement, fits_within, gpu_fits, sizes_to_try
from zitcache.proof.measures import measure, pixel_digest
from zitcache.proof.messages import (
    Attempt,
    Compare,
    Compared,
    Component,
    Devices,
    Draw,
    Drawn,
    Failed,
    Hello,
    Loaded,
    Open,
    Refit,
    Step,
)
from zitcache.proof.pipeline_folder import PipelineFolder, read_pipeline_folder, refuse_foreign
from zitcache.proof.similarity import compare

_MAX_MESSAGE = 1500
_TORCH_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


def main() -> None:
    """Run until stdin ends."""
    gate = Gate()
    channel = Channel(gate.open)
    worker = Worker(channel, gate)
    stay_offline(lambda target: channel.say(Attempt(target=target)))
    try:
        worker.run()
    except Exception as error:
        traceback.print_exc()
        channel.say(_failed(error))
        # Wait for the parent to end this process: it may still be sending.
        channel.next_command()


class Worker:
    """Obeys commands one by one."""

    def __init__(self, channel: Channel, gate: Gate) -> None:
        self._channel = channel
        self._gate = gate
        self._pictures: dict[str, Picture] = {}
        self._painter: Painter | None = None

    def run(self) -> None:
        """Say what is installed, import it, say what there is to draw on; then do as told."""
        packages = installed_packages()
        self._channel.say(Hello(packages=packages))
        started = perf_counter()
        torch: Any = import_module("torch")
        import_module("diffusers")
        gpus = devices.list_gpus(torch)
        self._channel.say(Devices(gpus=gpus, seconds=round(perf_counter() - started, 3)))
        while True:
            command = self._channel.next_command()
            if isinstance(command, Open):
                self._open(torch, gpus, command, packages)
            elif isinstance(command, Draw):
                self._draw(command)
            elif isinstance(command, Compare):
                self._compare(command)

    def _open(self, torch: Any, gpus: list[Gpu], request: Open, packages: dict[str, str]) -> None:
        self._gate.close(request.gated)
        folder = read_pipeline_folder(request.model)
        refuse_foreign(folder, trust=request.trust)
        device = devices.choose_device(request.device, gpus)
        dtype = devices.choose_dtype(request.dtype, device, gpus, sum(folder.elements.values()))
        source = pipeline_class(folder.class_name, has_modelscope="modelscope" in packages)
        devices.warm_up(torch, device, getattr(torch, _TORCH_DTYPES[dtype]))
        painter = Painter(
            torch=torch,
            source=source,
            folder=folder,
            device=device,
            dtype=getattr(torch, _TORCH_DTYPES[dtype]),
            fits=_fits(torch, folder, device, dtype, request.size, can_offload="accelerate" in packages),
            trust=request.trust,
            gate=self._gate,
            on_component=lambda name: self._say_component(folder, name),
            on_refit=lambda failed, fit: self._channel.say(Refit(failed=failed, fit=fit)),
            on_step=lambda done, total: self._channel.say(Step(done=done, total=total)),
        )
        started = perf_counter()
        painter.load()
        seconds = perf_counter() - started - self._gate.waited_seconds
        environment = devices.describe(torch, painter.pipeline, device, dtype, modelscope=source.modelscope)
        self._painter = painter
        self._channel.say(Loaded(environment=environment, fit=painter.fit, seconds=round(seconds, 3)))

    def _say_component(self, folder: PipelineFolder, name: str) -> None:
        size = next((part.size_bytes for part in folder.components if part.name == name), 0)
        self._channel.say(Component(name=name, size_bytes=size))

    def _draw(self, request: Draw) -> None:
        if self._painter is None:
            raise ValueError("draw before open")
        picture = self._painter.draw(
            request.prompt, request.seed, steps=request.steps, size=request.size, guidance=request.guidance
        )
        if request.keep:
            self._pictures[request.id] = picture
        path = None
        if request.path is not None:
            data = pictures.encode_png(picture.pixels, _settings_text(picture) | request.metadata)
            path = _write(request.path, data)
        self._channel.say(
            Drawn(
                id=request.id,
                path=path,
                settings=picture.settings,
                seconds=round(picture.seconds, 3),
                digest=pixel_digest(picture.pixels),
                vitals=measure(picture.pixels, picture.finite),
                fit=picture.fit,
            )
        )

    def _compare(self, request: Compare) -> None:
        now = self._pictures[request.id].pixels
        try:
            golden = pictures.decode_png(Path(request.golden).read_bytes())
        except (OSError, ValueError) as error:
            raise DrawingFailed(f"The golden cannot be read: {error}.") from error
        likeness = compare(golden, now)
        sheet = None
        if likeness is not None:
            drawn = pictures.contact_sheet(golden, now, likeness)
            sheet = _write(request.sheet, pictures.encode_png(drawn, {}))
        self._channel.say(Compared(likeness=likeness, sheet=sheet))


def _fits(
    torch: Any, folder: PipelineFolder, device: str, dtype: str, size: int | None, *, can_offload: bool
) -> list[Fit]:
    sizes = sizes_to_try(folder.native_size, size)
    if device == "cpu":
        return [Fit(size=candidate, placement=Placement.CPU) for candidate in sizes]
    free, _ = torch.cuda.mem_get_info(device)
    fits = gpu_fits(folder.elements, dtype, sizes)
    return fits_within([fit for fit in fits if can_offload or fit.placement is Placement.GPU], free)


def _settings_text(picture: Picture) -> dict[str, str]:
    settings = picture.settings
    return {
        "prompt": settings.prompt,
        "seed": str(settings.seed),
        "steps": str(settings.steps),
        "size": f"{settings.size}x{settings.size}",
        "guidance": "" if settings.guidance is None else str(settings.guidance),
        "scheduler": settings.scheduler,
    }


def _write(path: str, data: bytes) -> str:
    try:
        return pictures.write_new(path, data)
    except OSError as error:
        raise from_os_error(error, f"writing {path}") from error


def _failed(error: BaseException) -> Failed:
    """What happened, in the terms of ``proof.errors``. A refused connection explains whatever came of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NetworkRefused):
            return Failed(
                code=NetworkAttempted.code,
                message=f"The model did not load: {cause}.",
                hint=NetworkAttempted.default_hint,
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ZitcacheError):
        return Failed(code=error.code, message=error.message[:_MAX_MESSAGE], hint=error.hint)
    text = f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]
    return Failed(code=DrawingFailed.code, message=f"The weights do not load or do not draw: {text}")
