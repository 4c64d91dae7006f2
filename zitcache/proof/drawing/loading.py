"""Load the pipeline as the user's own script does: ``from_pretrained`` on the folder, then to the device.

While the files are still being read for their digests, each component waits at a gate until its own are in
the page cache. So the loading of one runs beside the reading of the next, and the disk is read once.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import Any

from zitcache.proof.drawing.packages import parse_version
from zitcache.proof.errors import UPGRADE, DrawingFailed, PackagesMissing
from zitcache.proof.fits import Placement
from zitcache.proof.pipeline_folder import PipelineFolder
from zitcache.proof.settings import Z_IMAGE_CLASS

_DTYPE_RENAMED = (0, 42)
"""The version of diffusers in which ``torch_dtype`` became ``dtype``."""

_LEFT_RANDOM = ("newly initialized", "not initialized from", "MISSING")
"""How diffusers and transformers say that a tensor was not in the files. They go on with random numbers."""


class Gate:
    """Components wait here until their files were read. It may be opened before it is known what waits."""

    def __init__(self) -> None:
        self._gated: frozenset[str] = frozenset()
        self._opened: set[str] = set()
        self._all_opened = False
        self._condition = threading.Condition()
        self.waited_seconds = 0.0

    def close(self, gated: Iterable[str]) -> None:
        """From now on ``gated`` have to wait, but for those that were opened already."""
        with self._condition:
            self._gated = frozenset(gated)

    def open(self, component: str | None) -> None:
        """Let ``component`` pass, or all."""
        with self._condition:
            if component is None:
                self._all_opened = True
            else:
                self._opened.add(component)
            self._condition.notify_all()

    def wait(self, component: str | None) -> None:
        """Wait until ``component`` may be loaded; None: until all may."""
        started = perf_counter()
        with self._condition:
            self._condition.wait_for(lambda: self._is_open(component))
        self.waited_seconds += perf_counter() - started

    def _is_open(self, component: str | None) -> bool:
        closed = frozenset() if self._all_opened else self._gated - self._opened
        return component not in closed if component is not None else not closed


@dataclass(frozen=True, slots=True)
class PipelineClass:
    """``load``: its ``from_pretrained``. ``modelscope``: whether it is modelscope's."""

    load: Callable[..., Any]
    modelscope: bool


def pipeline_class(class_name: str, *, has_modelscope: bool) -> PipelineClass:
    """modelscope's ``ZImagePipeline`` where it is installed, for all others the class of diffusers.

    Raises ``PackagesMissing`` when the installed diffusers does not have it.
    """
    if class_name == Z_IMAGE_CLASS and has_modelscope:
        try:
            return PipelineClass(import_module("modelscope").ZImagePipeline.from_pretrained, True)
        except (ImportError, AttributeError):
            pass  # modelscope wraps what diffusers has; an old one of either does not know it
    diffusers = import_module("diffusers")
    found = getattr(diffusers, class_name, None)
    if found is None or not hasattr(found, "from_pretrained"):
        raise PackagesMissing(
            f"The installed diffusers ({diffusers.__version__}) has no {class_name}.",
            hint=f"Upgrade: {UPGRADE}",
        )
    return PipelineClass(found.from_pretrained, False)


def load_pipeline(
    found: PipelineClass,
    folder: PipelineFolder,
    *,
    dtype: Any,
    device: str,
    placement: Placement,
    trust: bool,
    gate: Gate,
    on_component: Callable[[str], None],
) -> Any:
    """Load the pipeline and put it where ``placement`` says.

    Raises ``DrawingFailed`` when tensors are missing from the files, and whatever the libraries raise.
    """
    on_gpu = placement is Placement.GPU

    def loaded(name: str, part: Any) -> None:
        # Moved one by one: the copy of one runs beside the reading of the next, and the memory is freed
        # early.
        if on_gpu and hasattr(part, "parameters"):
            part.to(device)
        on_component(name)

    with _watched_components(gate, loaded), _collected_warnings() as warnings:
        pipeline = found.load(folder.path, **_arguments(folder, dtype, trust))
    random = next((text for text in warnings if any(mark in text for mark in _LEFT_RANDOM)), None)
    if random is not None:
        raise DrawingFailed(f"Some weights are not in the files: {random[:500]}")
    pipeline.set_progress_bar_config(disable=True)
    if placement is Placement.MODEL_OFFLOAD:
        pipeline.enable_model_cpu_offload(device=device)
    elif placement is Placement.LAYER_OFFLOAD:
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline


def release(torch: Any) -> None:
    """Give the memory of what nothing refers to any more back to the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _arguments(folder: PipelineFolder, dtype: Any, trust: bool) -> dict[str, Any]:
    version = parse_version(str(import_module("diffusers").__version__))
    arguments: dict[str, Any] = {
        "dtype" if version >= _DTYPE_RENAMED else "torch_dtype": dtype,
        "local_files_only": True,
        "trust_remote_code": trust,
        # None lets it fall back to pickles.
        "use_safetensors": None if trust else True,
    }
    if folder.class_name == Z_IMAGE_CLASS:
        # As the user's script has it. Other models keep parts in fp32, for which diffusers refuses it.
        arguments["low_cpu_mem_usage"] = False
    return arguments


@contextmanager
def _watched_components(gate: Gate, loaded: Callable[[str, Any], None]) -> Iterator[None]:
    """Let each component wait at the gate, and tell when it is loaded; all in the order of their names.

    diffusers loads every component through one function, in an order that changes from run to run (it comes
    from a set). Its function and the one that gives the order are wrapped here. A version that lacks them
    is waited for as a whole: slower, not wrong.
    """
    utils = import_module("diffusers.pipelines.pipeline_utils")
    base = utils.DiffusionPipeline
    load, extract = getattr(utils, "load_sub_model", None), getattr(base, "extract_init_dict", None)
    if load is None or extract is None:
        gate.wait(None)
        yield
        return

    def load_sub_model(*arguments: Any, **named: Any) -> Any:
        name = named.get("name")
        gate.wait(name)
        part = load(*arguments, **named)
        loaded(str(name), part)
        return part

    def extract_init_dict(cls: Any, *arguments: Any, **named: Any) -> Any:
        found, *others = extract.__func__(cls, *arguments, **named)
        return dict(sorted(found.items())), *others

    own = vars(base).get("extract_init_dict")
    utils.load_sub_model = load_sub_model  # type: ignore[attr-defined]
    base.extract_init_dict = classmethod(extract_init_dict)
    try:
        yield
    finally:
        utils.load_sub_model = load  # type: ignore[attr-defined]
        del base.extract_init_dict
        if own is not None:
            base.extract_init_dict = own


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """What diffusers and transformers warn of meanwhile."""
    collector = _Collector()
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for logger in loggers:
        logger.addHandler(collector)
    try:
        yield collector.texts
    finally:
        for logger in loggers:
            logger.removeHandler(collector)
