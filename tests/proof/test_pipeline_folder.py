"""What a model folder says about itself, and what is refused before anything of it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.proof.conftest import World
from zitcache.errors import UsageError
from zitcache.proof.errors import DrawingFailed, ModelIncomplete, NotTrusted
from zitcache.proof.pipeline_folder import read_pipeline_folder, refuse_foreign
from zitcache.tasks.prove.choosing import refuse_incomplete


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_sample_is_read_without_running_anything(world: World) -> None:
    folder = read_pipeline_folder(world.model_path)
    assert folder.class_name == "ZImagePipeline"
    assert set(folder.elements) == {"text_encoder", "transformer", "vae"}
    assert folder.weights_bytes == sum(
        file.stat().st_size for file in world.model_path.rglob("*.safetensors")
    )
    assert folder.foreign == ()
    refuse_foreign(folder, trust=False)


def own_class(path: Path) -> None:
    edit(path / "model_index.json", _class_name=["pipeline_own", "OwnPipeline"])


def own_pipeline(path: Path) -> None:
    (path / "pipeline.py").write_text("raise SystemExit")


def own_component(path: Path) -> None:
    edit(path / "model_index.json", transformer=["own_transformer", "OwnModel"])


def own_file(path: Path) -> None:
    (path / "transformer" / "modeling_own.py").write_text("raise SystemExit")


def auto_map(path: Path) -> None:
    edit(path / "text_encoder" / "config.json", auto_map={"AutoModel": "modeling_own.Own"})


def tokenizer_auto_map(path: Path) -> None:
    edit(path / "tokenizer" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})


def pickled_weights(path: Path) -> None:
    for weights in (path / "vae").glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))


FOREIGN = [own_class, own_pipeline, own_component, own_file, auto_map, tokenizer_auto_map, pickled_weights]


@pytest.mark.parametrize("change", FOREIGN, ids=lambda change: change.__name__)
def test_a_model_with_code_of_its_own_is_refused_unless_it_is_trusted(world: World, change: Any) -> None:
    change(world.model_path)
    folder = read_pipeline_folder(world.model_path)
    with pytest.raises(NotTrusted) as refused:
        refuse_foreign(folder, trust=False)
    assert "--trust" in (refused.value.hint or "")
    assert int(refused.value.exit_code) == 2
    refuse_foreign(folder, trust=True)


def test_safetensors_beside_a_pickle_are_fine(world: World) -> None:
    (world.model_path / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    assert read_pipeline_folder(world.model_path).foreign == ()


def test_a_folder_without_an_index_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model_index\.json"):
        read_pipeline_folder(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", "\x00", '{"a":' * 100_000])
def test_an_index_that_is_no_object_is_no_pipeline(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(UsageError, match=r"model_index\.json"):
        read_pipeline_folder(tmp_path)


def test_component_names_cannot_lead_out_of_the_folder(world: World) -> None:
    edit(world.model_path / "model_index.json", **{"../../x": ["diffusers", "A"], "..": ["diffusers", "B"]})
    assert all("." not in part.name for part in read_pipeline_folder(world.model_path).components)


def test_a_damaged_header_is_named(world: World) -> None:
    shard = next((world.model_path / "vae").glob("*.safetensors"))
    shard.write_bytes(b"\xff" * 100)
    with pytest.raises(DrawingFailed, match=shard.name):
        read_pipeline_folder(world.model_path)


@pytest.mark.parametrize(
    ("said", "native"), [(128, 128), (1000, 992), (4096, 1024), (True, 1024), ("x", 1024)]
)
def test_the_size_it_was_made_for_is_that_of_the_vae(world: World, said: object, native: int) -> None:
    edit(world.model_path / "vae" / "config.json", sample_size=said)
    assert read_pipeline_folder(world.model_path).native_size == native


def test_an_incomplete_model_is_named_with_what_is_missing(world: World) -> None:
    lost = sorted((world.model_path / "transformer").glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelIncomplete) as error:
        refuse_incomplete(world.model)
    assert lost.name in error.value.message
    assert int(error.value.exit_code) == 1
    assert "--repair" in (error.value.hint or "")
