"""The drawing process with stand-ins for torch and the like: GPUs at will, and every kind of trouble."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).parent / "fakes"
GIB = 1 << 30


def gpu(
    name: str = "Fake H200", free: int = 140 * GIB, capability: tuple[int, int] = (9, 0)
) -> dict[str, Any]:
    """One GPU with its free memory in bytes."""
    return {"name": name, "free": free, "total": max(free, 8 * GIB), "capability": list(capability)}


@dataclass
class FakeMachine:
    """Sets what the stand-ins do.

    ``gpus`` (:func:`gpu`) · ``largest``: px above which the memory runs out · ``no_room_for``:
    placements · ``picture``: "black" or "nan" · ``deaf``: the prompt does not matter · ``moody``: the
    seed does not matter · ``black_on``: names of GPUs that draw black · ``grain_by_gpu``: grey levels
    added to every other column on a GPU of that name · ``reach``: host that the loading tries to reach
    · ``load_error`` · ``random_tensors`` · ``die`` · ``pid_file``: gets the number of the process when
    it loads · ``seconds_per_component`` · ``seconds_per_step``.
    """

    monkeypatch: pytest.MonkeyPatch

    def set(self, **settings: Any) -> None:
        """Replace all settings."""
        self.monkeypatch.setenv("FAKE_GPU", json.dumps(settings))


@pytest.fixture
def fake_machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """A machine with one large GPU, until the test sets something else."""
    if find_spec("PIL") is None:
        pytest.skip("needs pillow: pip install pillow")
    paths = [str(FAKES), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    machine = FakeMachine(monkeypatch)
    machine.set(gpus=[gpu()])
    return machine
