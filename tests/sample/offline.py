"""Programs run in a fresh Python, without the network, on a cache of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# A stray connection fails at once instead of turning a broken cache into a download.
_NO_NETWORK = """
import json, socket, sys
def refuse(*args, **kwargs):
    raise OSError("the network is off in this test")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""


def run_offline(program: str, cache: Path) -> dict[str, Any]:
    """Run ``program`` in a fresh Python that has ``cache`` as both SDKs' cache; returns its ``result``."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_"))
    }
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "MODELSCOPE_CACHE": str(cache)}
    environment |= {"HOME": str(cache.parent), "CUDA_VISIBLE_DEVICES": ""}
    last_line = "\nprint('\\n' + json.dumps(result))"
    done = subprocess.run(
        [sys.executable, "-c", _NO_NETWORK + program + last_line],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def need(*packages: str) -> None:
    """Skip the test where one of the packages is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install -c constraints-dev.txt 'zitcache[test-models]'")
