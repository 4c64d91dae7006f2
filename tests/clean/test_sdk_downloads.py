"""Real downloads by the real SDKs, killed in the middle: clean, and the next download completes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cache.builders import MODEL, pipeline_files, safetensors
from tests.cache.hub_server import huggingface_hub
from tests.clean.stalling import stalling
from tests.clean.world import run
from zitcache.cache.inventory import inventory
from zitcache.tasks.clean import Kind

pytestmark = pytest.mark.models

MIB = 1 << 20
DOWNLOAD = Kind.UNFINISHED_DOWNLOAD.value
WEIGHTS = safetensors({"v": ("U8", [6 * MIB], hashlib.shake_128(b"v").digest(6 * MIB))})
FILES = {**pipeline_files(), "vae/diffusion_pytorch_model.safetensors": WEIGHTS}

# SDK, what runs, the variable of its server, further settings, and what the kill leaves.
CASES = {
    "huggingface_hub": (
        f"from huggingface_hub import snapshot_download as d; d({MODEL!r}, max_workers=1)",
        "HF_ENDPOINT",
        {},
        ".incomplete",
    ),
    "huggingface_hub to a folder": (
        f"from huggingface_hub import snapshot_download as d; d({MODEL!r}, local_dir='model', max_workers=1)",
        "HF_ENDPOINT",
        {},
        ".incomplete",
    ),
    "modelscope": (
        f"from modelscope import snapshot_download as d; d({MODEL!r}, max_workers=1)",
        "MODELSCOPE_ENDPOINT",
        {},
        ".incomplete",
    ),
    "modelscope in parts": (
        f"from modelscope import snapshot_download as d; d({MODEL!r}, max_workers=1)",
        "MODELSCOPE_ENDPOINT",
        {
            "MODELSCOPE_DOWNLOAD_PARALLEL_WORKERS": "2",
            "MODELSCOPE_DOWNLOAD_PARALLEL_THRESHOLD_MB": "4",
            "MODELSCOPE_DOWNLOAD_PART_SIZE_MB": "2",
        },
        "_2097151",
    ),
}


def environment(cache: Path, **more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MODELSCOPE", "XDG_"))}
    clean |= {"NO_PROXY": "*", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    return {**clean, "HF_HOME": str(cache), "MODELSCOPE_CACHE": str(cache), "HOME": str(cache), **more}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_download_is_cleaned_and_the_next_one_completes(tmp_path: Path, case: str) -> None:
    code, variable, settings, suffix = CASES[case]
    if importlib.util.find_spec(case.split()[0]) is None:
        pytest.skip(f"needs {case.split()[0]}: pip install 'zitcache[test-models]'")
    cache = tmp_path / "cache"
    cache.mkdir()
    with huggingface_hub(MODEL, FILES) as hub:
        with stalling(hub, MIB) as (proxy, stalled):
            env = environment(cache, **settings, **{variable: proxy})
            download = subprocess.Popen(
                [sys.executable, "-c", code], env=env, cwd=cache, stderr=subprocess.DEVNULL
            )
            try:
                assert stalled.wait(60), "the download never came to the weights"
                _wait_for(cache, suffix)
                running = run(cache, delete=True, later=0.0, min_age_seconds=0.0)
                (busy,) = {item.kept_because for item in running.data.items if item.kind == DOWNLOAD}
                assert busy is not None and "in use" in busy, "it is still running"
            finally:
                download.send_signal(signal.SIGKILL)
                download.wait()
        left = _names(cache, suffix)
        assert left, "the kill left nothing; then this test proves nothing"
        outcome = run(cache, delete=True)
        assert all(item.removed for item in outcome.data.items), outcome.data.items
        assert DOWNLOAD in {item.kind for item in outcome.data.items}
        assert not _names(cache, suffix)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(cache, **settings, **{variable: hub}),
            cwd=cache,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    (model,) = inventory(cache / "model" if "folder" in case else cache).models
    assert model.complete and len(model.files) >= len(FILES)
    assert run(cache).data.bytes_removable == 0


def _names(cache: Path, suffix: str) -> list[str]:
    return [name for _, _, names in os.walk(cache) for name in names if name.endswith(suffix)]


def _wait_for(cache: Path, suffix: str) -> None:
    deadline = time.monotonic() + 30
    while not _names(cache, suffix):
        assert time.monotonic() < deadline, "no unfinished file appeared"
        time.sleep(0.02)
