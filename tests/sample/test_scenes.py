"""The scenes the sample draws: what training may see, and the judge that measures a picture. No torch."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from tools.scene_judge import compare, look
from tools.scene_shapes import normalised
from tools.scenes import (
    COLOURS,
    SHAPES,
    Scene,
    Thing,
    held_out_scene,
    is_held_out,
    plain_prompt,
    prompt_for,
    training_pair,
)

SIZE = 128
FLAT = {
    "red": (214, 33, 33), "orange": (242, 133, 26), "yellow": (242, 217, 46), "green": (46, 163, 66),
    "cyan": (46, 199, 209), "blue": (41, 82, 219), "purple": (128, 56, 189), "pink": (245, 128, 184),
    "white": (237, 237, 237), "black": (26, 26, 28),
}  # fmt: skip


def flat_picture(shape: str, colour: str, background: str, x: float, y: float, side: float) -> Any:
    """A thing without light or shadow before a background that is darker on the right."""
    rows, columns = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE
    outline, _ = normalised(
        shape, ((columns - x) / side).astype(np.float32), ((rows - y) / side).astype(np.float32)
    )
    backdrop = np.array(FLAT[background]) * (1 - 0.3 * columns)[..., None]
    return np.where((outline < 0)[..., None], np.array(FLAT[colour]), backdrop).round().astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_judge_reads_every_shape(shape: str) -> None:
    seen = look(flat_picture(shape, "red", "blue", 0.5, 0.5, 0.32))
    (thing,) = seen.things
    assert (seen.background, thing.colour, thing.place, thing.size) == ("blue", "red", "centre", "medium")
    assert thing.shape == shape
    assert thing.overlap > 0.9


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", ["red", "white", "black"])
def test_judge_reads_every_colour(colour: str, background: str) -> None:
    if colour == background:
        pytest.skip("no thing has the colour of its background")
    seen = look(flat_picture("circle", colour, background, 0.5, 0.5, 0.32))
    assert (seen.background, seen.things[0].colour) == (background, colour)


@pytest.mark.parametrize(
    ("x", "y", "place"), [(0.25, 0.5, "left"), (0.75, 0.25, "top right"), (0.5, 0.75, "bottom")]
)
@pytest.mark.parametrize(("side", "size"), [(0.24, "small"), (0.315, "medium"), (0.4, "large")])
def test_judge_reads_place_and_size(x: float, y: float, place: str, side: float, size: str) -> None:
    (thing,) = look(flat_picture("square", "green", "yellow", x, y, side)).things
    assert (thing.place, thing.size) == (place, size)


def test_judge_sees_two_things_apart() -> None:
    left = flat_picture("circle", "red", "white", 0.26, 0.5, 0.28)
    right = flat_picture("star", "blue", "white", 0.74, 0.5, 0.28)
    both = np.concatenate([left[:, :64], right[:, 64:]], 1)
    scene = Scene(
        (Thing("circle", "red", "left", "medium"), Thing("star", "blue", "right", "medium")), "white"
    )
    assert all(compare(scene, look(both)).values())
    swapped = Scene(
        (Thing("star", "red", "left", "medium"), Thing("circle", "blue", "right", "medium")), "white"
    )
    assert not compare(swapped, look(both))["shape"]


def test_judge_denies_what_is_not_there() -> None:
    picture = flat_picture("circle", "red", "blue", 0.5, 0.5, 0.32)
    asked = Scene((Thing("square", "green", "left", "large"),), "yellow")
    verdict = compare(asked, look(picture))
    assert verdict.pop("count")
    assert not any(verdict.values())


@pytest.mark.parametrize("value", [0, 140, 255])
def test_judge_sees_nothing_in_a_constant_picture(value: int) -> None:
    assert look(np.full((SIZE, SIZE, 3), value, np.uint8)).things == ()


def test_judge_sees_no_scene_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    asked = Scene((Thing("circle", "red", "centre", "medium"),), "blue")
    assert not all(compare(asked, look(noise)).values())


def test_training_never_sees_a_held_out_triple() -> None:
    rng = Random(3)
    scenes = [training_pair(rng)[0] for _ in range(3000)]
    triples = {(t.shape, t.colour, scene.background) for scene in scenes for t in scene.things}
    assert len(triples) > 500
    assert not any(is_held_out(*triple) for triple in triples)


def test_every_colour_and_shape_is_trained_and_held_out() -> None:
    triples = [(s, c, b) for s in SHAPES for c in COLOURS for b in COLOURS if c != b]
    held_out = [triple for triple in triples if is_held_out(*triple)]
    assert 0.08 < len(held_out) / len(triples) < 0.2
    for position, words in enumerate((SHAPES, COLOURS, COLOURS)):
        assert {triple[position] for triple in held_out} == set(words)


def test_a_prompt_names_its_scene() -> None:
    rng = Random(4)
    for _ in range(200):
        scene = held_out_scene(rng, pairs=0.5)
        prompt = prompt_for(scene, rng)
        for thing in scene.things:
            assert thing.shape in prompt
            assert thing.colour in prompt
        assert scene.background in prompt


def test_the_plain_wording() -> None:
    small = Scene((Thing("circle", "red", "left", "small"),), "blue")
    assert plain_prompt(small) == "a small red circle on the left of a blue background"
    plain = Scene((Thing("cat", "orange", "centre", "medium"),), "white")
    assert plain_prompt(plain) == "an orange cat on a white background"
