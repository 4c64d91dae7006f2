"""What the phases of training share: the clock and its learning rate, the optimiser, steps as CUDA graphs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

Log = Callable[[str], None]
_WARM_UP_RUNS = 3


class Schedule:
    """Counts the steps of one phase: ``steps`` at most, and at most ``seconds`` where these are given.

    A phase cut short by the clock still ends with a learning rate near zero; :attr:`done` says after how many
    steps, so that the same run can be asked for by steps alone.
    """

    def __init__(self, steps: int, seconds: float | None, rate: float, warmup: int) -> None:
        self.steps = max(1, steps)
        self.done = 0
        self._seconds = seconds
        self._rate = rate
        self._warmup = warmup
        self._share = 0.0
        self._said = -1
        self._start = time.monotonic()

    def run(self, optimiser: torch.optim.Optimizer) -> Iterator[int]:
        """The number of each step, with the optimiser's rate set for it: warm-up, then half a cosine."""
        while self._share < 1:
            cosine = 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * self._share))
            rate = self._rate * min(1.0, (self.done + 1) / self._warmup) * cosine
            for group in optimiser.param_groups:
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
            yield self.done
            self.done += 1
            if self._seconds is not None and torch.cuda.is_available() and self.done % 20 == 0:
                torch.cuda.synchronize()  # else the clock runs ahead of the work that is queued
            spent = (time.monotonic() - self._start) / self._seconds if self._seconds else 0.0
            self._share = max(self.done / self.steps, spent)

    def says(self) -> bool:
        """True at about twenty steps spread over the phase, by its share done."""
        before, self._said = self._said, int(self._share * 20)
        return self._said != before


def adam(groups: list[Any], rate: float, device: torch.device, **options: Any) -> torch.optim.AdamW:
    """AdamW that can be recorded on a GPU: its rate is a tensor there, so that a graph sees it change."""
    if device.type != "cuda":
        return torch.optim.AdamW(groups, lr=rate, **options)
    first = torch.tensor(rate / 100, device=device)
    return torch.optim.AdamW(groups, lr=first, fused=True, capturable=True, **options)


def recorded(
    step: Callable[[], None], optimiser: torch.optim.Optimizer, device: torch.device, log: Log
) -> Callable[[], None]:
    """The step, from its loss to the optimiser's update, as one CUDA graph where there is a GPU.

    Launching a thousand small kernels takes longer than running them. The step must set no gradient to zero;
    on a GPU it runs a few times here, before it is recorded.
    """

    def plain() -> None:
        optimiser.zero_grad(set_to_none=True)
        step()

    if device.type != "cuda":
        return plain
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP_RUNS):
            plain()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    optimiser.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        log(f"no graph ({str(error).splitlines()[0]}), step by step instead")
        torch.cuda.synchronize()
        return plain
    return graph.replay
