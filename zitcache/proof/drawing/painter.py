"""Draw with a pipeline, in the best way that the memory allows.

When the memory does not suffice after all, the next smaller fit is tried, and said.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from zitcache.proof.drawing.loading import Gate, PipelineClass, load_pipeline, release
from zitcache.proof.environment import Environment
from zitcache.proof.errors import DrawingFailed, OutOfGpuMemory
from zitcache.proof.fits import Fit, Placement
from zitcache.proof.pipeline_folder import PipelineFolder
from zitcache.proof.settings import Z_IMAGE_CLASS, Z_IMAGE_GUIDANCE, Z_IMAGE_STEPS, Settings

if TYPE_CHECKING:
    from zitcache.proof.measures import Pixels

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Picture:
    """``finite``: see ``measures.Vitals``."""

    pixels: Pixels
    finite: bool | None
    settings: Settings
    seconds: float
    fit: Fit


@dataclass
class Painter:
    """A loaded pipeline with the ways of drawing that are left, the present one first."""

    torch: Any
    source: PipelineClass
    folder: PipelineFolder
    device: str
    dtype: Any
    fits: list[Fit]
    trust: bool
    gate: Gate
    on_component: Callable[[str], None]
    on_refit: Callable[[Fit, Fit], None]
    on_step: Callable[[int, int], None]
    pipeline: Any = None
    environment: Environment | None = None
    _placement: Placement | None = field(default=None, init=False)

    @property
    def fit(self) -> Fit:
        """How it draws now."""
        return self.fits[0]

    def load(self) -> None:
        """Load the pipeline, if it is not loaded in the placement of the present fit."""
        self._with_room(lambda: None)

    def draw(
        self, prompt: str, seed: int, *, steps: int | None, size: int | None, guidance: float | None
    ) -> Picture:
        """Draw one picture; None stands for what suits the model and the memory.

        Raises ``OutOfGpuMemory`` when not even the smallest fit does, and what the libraries raise.
        """
        return self._with_room(lambda: self._draw(prompt, seed, steps, size or self.fit.size, guidance))

    def _with_room(self, work: Callable[[], ResultT]) -> ResultT:
        """Do ``work`` with the pipeline in place, in ever smaller fits until the memory suffices."""
        while True:
            try:
                if self._placement is not self.fit.placement:
                    self._load()
                return work()
            except (self.torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(self.torch, error):
                    raise
                failed, reason = self.fit, str(error)
            # Outside of the handler: the traceback holds on to the tensors.
            self._next_fit(failed, reason)

    def _next_fit(self, failed: Fit, reason: str) -> None:
        if len(self.fits) == 1:
            raise OutOfGpuMemory(
                f"There is not enough memory to draw ({failed}), and nothing smaller is left to try: "
                f"{reason[:300]}"
            )
        del self.fits[0]
        if self.fit.placement is not self._placement:
            self.pipeline, self._placement = None, None
        release(self.torch)
        self.on_refit(failed, self.fit)

    def _load(self) -> None:
        self.pipeline = load_pipeline(
            self.source,
            self.folder,
            dtype=self.dtype,
            device=self.device,
            placement=self.fit.placement,
            trust=self.trust,
            gate=self.gate,
            on_component=self.on_component,
        )
        self._placement = self.fit.placement

    def _draw(self, prompt: str, seed: int, steps: int | None, size: int, guidance: float | None) -> Picture:
        from zitcache.codec.arrays import np

        call = inspect.signature(type(self.pipeline).__call__).parameters
        arguments, settings = self._settings(call, prompt, seed, steps, size, guidance)
        arguments["generator"] = self.torch.Generator(self.device).manual_seed(seed)
        if "callback_on_step_end" in call:
            arguments["callback_on_step_end"] = self._step_callback(settings.steps)
        started = perf_counter()
        with _finite_watch(self.torch, self.pipeline) as seen:
            image = self.pipeline(**arguments).images[0]
        pixels = np.asarray(image.convert("RGB"))
        seconds = perf_counter() - started
        return Picture(pixels, all(seen) if seen else None, settings, seconds, self.fit)

    def _settings(
        self, call: Any, prompt: str, seed: int, steps: int | None, size: int, guidance: float | None
    ) -> tuple[dict[str, Any], Settings]:
        """What to call the pipeline with, and the same for the record."""
        if "prompt" not in call:
            raise DrawingFailed(f"{type(self.pipeline).__name__} draws nothing from a prompt.")
        z_image = self.folder.class_name == Z_IMAGE_CLASS
        if steps is None:
            steps = Z_IMAGE_STEPS if z_image else int(call["num_inference_steps"].default)
        takes_guidance = "guidance_scale" in call
        if takes_guidance and guidance is None:
            guidance = Z_IMAGE_GUIDANCE if z_image else float(call["guidance_scale"].default)
        arguments: dict[str, Any] = {
            "prompt": prompt,
            "height": size,
            "width": size,
            "num_inference_steps": steps,
        }
        if takes_guidance:
            arguments["guidance_scale"] = guidance
        settings = Settings(
            prompt=prompt,
            seed=seed,
            steps=steps,
            size=size,
            guidance=guidance if takes_guidance else None,
            scheduler=type(getattr(self.pipeline, "scheduler", None)).__name__,
        )
        return arguments, settings

    def _step_callback(self, total: int) -> Callable[..., dict[str, Any]]:
        def callback(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self.on_step(step + 1, total)
            return tensors

        return callback


@contextmanager
def _finite_watch(torch: Any, pipeline: Any) -> Iterator[list[bool]]:
    """Look at what goes into the VAE and what comes out, before the cast to 8 bits hides a NaN as black."""
    seen: list[bool] = []
    vae = getattr(pipeline, "vae", None)
    if vae is None or not hasattr(vae, "decode"):
        yield seen
        return
    original = vae.decode

    def finite(value: Any) -> bool:
        return bool(torch.isfinite(value).all().item())

    def decode(latents: Any, *arguments: Any, **named: Any) -> Any:
        decoded = original(latents, *arguments, **named)
        picture = decoded[0] if isinstance(decoded, tuple) else getattr(decoded, "sample", None)
        seen.extend(finite(value) for value in (latents, picture) if value is not None)
        return decoded

    replaced = vars(vae).get("decode")
    vae.decode = decode
    try:
        yield seen
    finally:
        del vae.decode
        if replaced is not None:
            vae.decode = replaced


def _is_out_of_memory(torch: Any, error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The allocator of the CPU raises a plain RuntimeError.
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
