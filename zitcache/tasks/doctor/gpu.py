"""Checks: a GPU, its memory and the main memory, for what the models of the cache need to draw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zitcache.errors import ZitcacheError
from zitcache.machine.gpus import Gpu
from zitcache.machine.memory import main_memory
from zitcache.proof.fits import Fit, Placement, fits_within, gpu_fits, sizes_to_try
from zitcache.proof.pipeline_folder import INDEX, PipelineFolder, read_pipeline_folder
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.report import Check, fail, ok, skip, warn
from zitcache.tasks.doctor.wording import named, size

_BF16_BYTES = 2


def check_gpu(facts: Facts) -> Iterator[Check]:
    """Is there one, does its driver answer, may programs see it."""
    gpus = facts.gpus()
    names = [_told(gpu) for gpu in gpus.found]
    if gpus.hidden_by is not None and names:
        yield warn(
            "gpu",
            f"{named(names)}; but {gpus.hidden_by} hides all of them from programs.",
            fix=f"unset {gpus.hidden_by}",
        )
    elif gpus.problem is not None and not names:
        yield fail("gpu", f"The driver does not answer: {gpus.problem}", fix="nvidia-smi")
    elif gpus.problem is not None:
        yield warn("gpu", f"{named(names)}. {gpus.problem}", fix="nvidia-smi")
    elif names:
        yield ok("gpu", f"{named(names)}.")
    else:
        yield skip("gpu", "There is no GPU here: nothing can be drawn, all else works.")


def _told(gpu: Gpu) -> str:
    total = f", {size(gpu.total_bytes)}" if gpu.total_bytes else ""
    free = f" ({size(gpu.free_bytes)} free)" if gpu.free_bytes is not None else ""
    driver = f", driver {gpu.driver}" if gpu.driver else ""
    return f"{gpu.name}{total}{free}{driver}"


def check_gpu_memory(facts: Facts) -> Iterator[Check]:
    """Does the largest pipeline of the cache fit."""
    folder = _largest(facts)
    gpus = [gpu for gpu in facts.gpus().found if gpu.total_bytes]
    if folder is None or not gpus:
        reason = "No GPU tells its memory." if folder else "There is no pipeline that draws in the cache."
        yield skip("gpu-memory", reason)
        return
    name, pipeline = folder
    best = max(gpus, key=lambda gpu: gpu.total_bytes or 0)
    dtype = "fp32" if best.bf16 is False else "bf16"
    fits = gpu_fits(pipeline.elements, dtype, sizes_to_try(pipeline.native_size, None))
    wanted = fits[0]
    told = f"{name} in {dtype} needs {size(wanted.needs_bytes)} for {wanted.size} px; {best.name} has"
    total, free = best.total_bytes or 0, best.free_bytes
    chosen = fits_within(fits, total)[0]
    if chosen.needs_bytes > total:
        yield fail("gpu-memory", f"{told} {size(total)}: not enough even for {chosen}.")
    elif chosen.placement is not Placement.GPU or chosen.size != wanted.size:
        yield warn("gpu-memory", f"{told} {size(total)}: it draws with {chosen}.")
    elif free is not None and free < wanted.needs_bytes:
        yield warn(
            "gpu-memory",
            f"{told} {size(total)}, of which other programs leave {size(free)}: "
            f"it would draw with {_first_fit(fits, free)}.",
            fix="nvidia-smi",
        )
    else:
        yield ok("gpu-memory", f"{told} {size(total)}.")


def _first_fit(fits: list[Fit], free_bytes: int) -> Fit:
    return fits_within(fits, free_bytes)[0]


def check_memory(facts: Facts) -> Iterator[Check]:
    """The main memory that loading takes: a component is read whole before it goes to the GPU."""
    folder = _largest(facts)
    if folder is None:
        yield skip("memory", "There is no pipeline that draws in the cache.")
        return
    name, pipeline = folder
    memory = main_memory()
    largest = max((part.size_bytes for part in pipeline.components), default=0)
    everything = sum(pipeline.elements.values()) * _BF16_BYTES
    has_gpu = bool(facts.gpus().found)
    needs = largest if has_gpu else max(largest, everything)
    told = (
        f"Loading {name} needs about {size(needs)} of main memory; {size(memory.available_bytes)} of "
        f"{size(memory.total_bytes)} are available ({memory.limited_by})."
    )
    if memory.total_bytes < needs:
        yield warn("memory", told, advice="Take a machine with more memory, or allow swap.")
    elif memory.available_bytes < needs:
        yield warn("memory", told, fix="ps aux --sort=-rss")
    else:
        yield ok("memory", told)


def _largest(facts: Facts) -> tuple[str, PipelineFolder] | None:
    """The pipeline with the most weights among the models of the cache."""
    stock = facts.cache().stock
    found: list[tuple[str, PipelineFolder]] = []
    for model in stock.models if stock else ():
        if not Path(model.path, INDEX).is_file():
            continue
        try:
            folder = read_pipeline_folder(model.path)
        except ZitcacheError:
            continue  # models-complete says what is wrong with it
        if folder.elements:
            found.append((model.id, folder))
    return max(found, key=lambda pair: pair[1].weights_bytes, default=None)
