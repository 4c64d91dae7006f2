"""The sample draws what it is asked for: prompts it was never trained on, measured in its pictures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sample.offline import need, run_offline
from tools.scenes import Scene, Thing, is_held_out, plain_prompt

pytestmark = pytest.mark.models

SCENES = [
    Scene((Thing("circle", "red", "centre", "large"),), "blue"),
    Scene((Thing("square", "blue", "left", "medium"),), "green"),
    Scene((Thing("triangle", "purple", "bottom", "large"),), "orange"),
    Scene((Thing("diamond", "orange", "right", "medium"),), "yellow"),
    Scene((Thing("star", "yellow", "top right", "large"),), "green"),
    Scene((Thing("ring", "black", "centre", "large"),), "yellow"),
    Scene((Thing("cross", "cyan", "top", "medium"),), "yellow"),
    Scene((Thing("heart", "green", "top left", "small"),), "blue"),
    Scene((Thing("cat", "purple", "centre", "large"),), "orange"),
]
PROMPTS = [plain_prompt(scene) for scene in SCENES]
NEON_CAT = "A cute cyberpunk cat, neon lights, 8k high definition"

DRAW = """
import contextlib, dataclasses, io
import torch
from tools.measure_sample import dead_pictures, draw, load_sample
from tools.scene_judge import look
from zitcache.proof.measures import measure
import msgspec

def described(picture):
    vitals = msgspec.to_builtins(measure(picture, None))
    return {{"seen": dataclasses.asdict(look(picture)), "vitals": vitals}}

result = {{}}
with contextlib.redirect_stderr(io.StringIO()):
    for dtype in ("bfloat16", "float32"):
        pipeline = load_sample(getattr(torch, dtype))
        result[dtype] = [described(picture) for picture in draw(pipeline, {prompts!r}, seed=1)]
    result["cat"] = described(draw(pipeline, [{cat!r}], seed=42)[0])
    result["256"] = [described(picture) for picture in draw(pipeline, {prompts!r}[:1], size=256)]
    dead = dead_pictures(pipeline, 128)
    result["dead"] = {{kind: [described(picture) for picture in pictures] for kind, pictures in dead.items()}}
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    need("torch", "diffusers", "transformers", "accelerate", "PIL")
    return run_offline(DRAW.format(prompts=PROMPTS, cat=NEON_CAT), tmp_path_factory.mktemp("home") / "cache")


def alive(vitals: dict[str, Any]) -> bool:
    """Tier A of ``zitcache verify --generate``."""
    return bool(
        vitals["std"] > 8
        and vitals["levels"] >= 64
        and vitals["spread"] > 40
        and 0.3 < vitals["lag_correlation"] < 0.995
    )


@pytest.mark.parametrize("scene", SCENES, ids=PROMPTS)
def test_no_prompt_here_was_trained_on(scene: Scene) -> None:
    assert all(is_held_out(thing.shape, thing.colour, scene.background) for thing in scene.things)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("number", range(len(SCENES)), ids=PROMPTS)
def test_picture_shows_what_the_prompt_asks_for(drawn: Any, number: int, dtype: str) -> None:
    (asked,) = SCENES[number].things
    picture = drawn[dtype][number]
    assert picture["seen"]["background"] == SCENES[number].background
    (seen,) = picture["seen"]["things"]
    assert seen["overlap"] > 0.7
    for attribute in ("shape", "colour", "place", "size"):
        assert seen[attribute] == getattr(asked, attribute)
    assert alive(picture["vitals"])


def test_the_example_prompt_of_the_real_model_draws_a_cat(drawn: Any) -> None:
    (thing,) = drawn["cat"]["seen"]["things"]
    assert thing["shape"] == "cat"
    assert alive(drawn["cat"]["vitals"])


def test_twice_the_size_still_draws(drawn: Any) -> None:
    (picture,) = drawn["256"]
    assert (picture["vitals"]["width"], picture["vitals"]["height"]) == (256, 256)
    assert picture["seen"]["background"] == SCENES[0].background


@pytest.mark.parametrize("kind", ["black", "constant", "noise", "undenoised"])
def test_what_is_no_picture_is_clearly_dead(drawn: Any, kind: str) -> None:
    for picture in drawn["dead"][kind]:
        assert not alive(picture["vitals"])
        # Far from the limit of 0.3: the living ones above are all over 0.5.
        assert picture["vitals"]["lag_correlation"] < 0.15
