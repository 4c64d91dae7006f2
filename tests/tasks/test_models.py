"""``models`` lists what lies in the cache and says what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cache.builders import MODEL, pipeline_files, write, write_huggingface
from tests.tasks.repositories import MODEL as FOLDER
from zitcache.errors import CacheNotFound, Exit
from zitcache.events import Session
from zitcache.tasks.models import models


def test_a_complete_model_is_listed_with_its_figures(tmp_path: Path) -> None:
    files = pipeline_files()
    write(tmp_path / FOLDER, files)
    outcome = models(str(tmp_path), Session())
    assert (outcome.exit_code, outcome.warnings) == (Exit.OK, [])
    (model,) = outcome.data.models
    assert (model.id, model.revision, model.complete, model.problems) == (MODEL, "master", True, [])
    assert model.path == str(tmp_path / FOLDER)
    assert (model.files, model.size_bytes) == (len(files), sum(map(len, files.values())))
    assert set(model.dtypes) == {"F32", "BF16"}
    assert outcome.data.cache == str(tmp_path)


def test_an_incomplete_model_is_warned_of_and_the_exit_code_stays_0(tmp_path: Path) -> None:
    write(tmp_path / FOLDER, pipeline_files())
    shard = "transformer/diffusion_pytorch_model-00002-of-00003.safetensors"
    (tmp_path / FOLDER / shard).unlink()
    outcome = models(str(tmp_path), Session())
    assert outcome.exit_code == Exit.OK
    (model,) = outcome.data.models
    assert not model.complete
    assert any("00002-of-00003" in problem for problem in model.problems)
    (notice,) = outcome.warnings
    assert (notice.code, MODEL in notice.message) == ("model-incomplete", True)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path / FOLDER, pipeline_files())
    shard = tmp_path / FOLDER / "text_encoder/model-00001-of-00002.safetensors"
    os.truncate(shard, shard.stat().st_size - 1)
    (model,) = models(str(tmp_path), Session()).data.models
    assert not model.complete
    assert any(shard.name in problem for problem in model.problems)


def test_models_of_several_layouts_in_one_cache_are_all_listed(tmp_path: Path) -> None:
    write(tmp_path / FOLDER, pipeline_files())
    snapshot = write_huggingface(tmp_path, pipeline_files())
    found = {model.layout: model for model in models(str(tmp_path), Session()).data.models}
    assert len(found) == 2
    assert {model.id for model in found.values()} == {MODEL}
    assert {model.path for model in found.values()} == {str(tmp_path / FOLDER), str(snapshot)}
    assert all(Path(model.path).is_absolute() and model.complete for model in found.values())


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_or_missing_cache_is_not_found(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "cache").mkdir()
    with pytest.raises(CacheNotFound) as missing:
        models(str(tmp_path / "cache"), Session())
    assert missing.value.exit_code == Exit.NOT_FOUND
