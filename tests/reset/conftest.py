from __future__ import annotations

from pathlib import Path

import pytest

from tests.reset.machine import Machine, require_machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a system disk and a data disk at /data."""
    require_machine()
    return Machine(tmp_path)
