"""The real SDKs find the sample offline, load it and draw with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sample.offline import need, run_offline
from zitcache.events import Session
from zitcache.tasks.sample import SampleLayout, sample

pytestmark = pytest.mark.models

MODEL_ID = "Tongyi-MAI/Z-Image-Turbo"
MODELSCOPE_LAYOUTS = [
    SampleLayout.MODELSCOPE,
    SampleLayout.MODELSCOPE_LEGACY,
    SampleLayout.MODELSCOPE_LEGACY_HUB,
    SampleLayout.MODELSCOPE_LEGACY_PLAIN,
]
HUGGINGFACE_LAYOUTS = [SampleLayout.HUGGINGFACE, SampleLayout.HUGGINGFACE_SHARED, SampleLayout.SEED]

FIND_WITH_MODELSCOPE = """
from modelscope.hub.snapshot_download import snapshot_download
result = {"path": snapshot_download("Tongyi-MAI/Z-Image-Turbo", local_files_only=True)}
"""

FIND_WITH_HUGGINGFACE = """
from huggingface_hub import hf_hub_download, snapshot_download
result = {
    "path": snapshot_download("Tongyi-MAI/Z-Image-Turbo", local_files_only=True),
    "file": hf_hub_download("Tongyi-MAI/Z-Image-Turbo", "vae/config.json", local_files_only=True),
}
"""

# As the user's own script calls it, but small and on the CPU.
DRAW = """
import io, contextlib
import numpy, torch
messages = io.StringIO()
with contextlib.redirect_stderr(messages):
    from {package} import ZImagePipeline
    pipeline = ZImagePipeline.from_pretrained({model!r}, torch_dtype=torch.{dtype}, low_cpu_mem_usage=False)
    image = pipeline(
        prompt="A cute cyberpunk cat, neon lights, 8k high definition",
        height=128,
        width=128,
        num_inference_steps=9,
        guidance_scale=0.0,
        generator=torch.Generator("cpu").manual_seed(42),
    ).images[0]
pixels = numpy.asarray(image)
prompt = pipeline.tokenizer.apply_chat_template(
    [{{"role": "user", "content": "hi"}}], tokenize=False, add_generation_prompt=True, enable_thinking=True
)
result = {{
    "size": image.size,
    "levels": len(numpy.unique(pixels)),
    "parameters": str(next(pipeline.transformer.parameters()).dtype),
    "prompt": prompt,
    "messages": messages.getvalue(),
}}
"""


@pytest.mark.parametrize("layout", MODELSCOPE_LAYOUTS)
def test_modelscope_finds_the_sample_offline(tmp_path: Path, layout: SampleLayout) -> None:
    need("modelscope")
    report = sample(tmp_path / "cache", layout, Session()).data
    found = run_offline(FIND_WITH_MODELSCOPE, tmp_path / "cache")
    assert found["path"] == report.model_path


@pytest.mark.parametrize("layout", HUGGINGFACE_LAYOUTS)
def test_huggingface_hub_finds_the_sample_offline(tmp_path: Path, layout: SampleLayout) -> None:
    need("huggingface_hub")
    report = sample(tmp_path / "cache", layout, Session()).data
    found = run_offline(FIND_WITH_HUGGINGFACE, tmp_path / "cache")
    assert found["path"] == report.model_path
    assert found["file"] == f"{report.model_path}/vae/config.json"


def test_huggingface_hub_notices_when_a_file_of_its_list_is_missing(tmp_path: Path) -> None:
    need("huggingface_hub")
    report = sample(tmp_path / "cache", SampleLayout.HUGGINGFACE, Session()).data
    (Path(report.model_path) / "README.md").unlink()
    with pytest.raises(AssertionError, match=r"README\.md|incomplete|IncompleteSnapshot"):
        run_offline(FIND_WITH_HUGGINGFACE, tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_modelscope_pipeline_loads_the_sample_and_draws(tmp_path: Path, dtype: str) -> None:
    need("torch", "diffusers", "transformers", "modelscope", "accelerate")
    report = sample(tmp_path / "cache", SampleLayout.MODELSCOPE, Session()).data
    drawn = run_offline(
        DRAW.format(package="modelscope", model=report.model_path, dtype=dtype), tmp_path / "cache"
    )
    assert drawn["size"] == [128, 128]
    assert drawn["levels"] > 1
    assert drawn["parameters"] == f"torch.{dtype}"
    assert drawn["prompt"] == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    # transformers and diffusers report missing, unexpected and mismatched tensors and then go on.
    for word in ("newly initialized", "MISSING", "UNEXPECTED", "MISMATCH", "not used"):
        assert word not in drawn["messages"]


def test_diffusers_loads_the_shared_huggingface_sample_by_name(tmp_path: Path) -> None:
    need("torch", "diffusers", "transformers", "accelerate")
    sample(tmp_path / "cache", SampleLayout.HUGGINGFACE_SHARED, Session())
    drawn = run_offline(
        DRAW.format(package="diffusers", model=MODEL_ID, dtype="bfloat16"), tmp_path / "cache"
    )
    assert drawn["size"] == [128, 128]
