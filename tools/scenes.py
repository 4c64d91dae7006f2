"""What the sample draws: scenes of one or two shaded things, their prompts, and which training may see.

A scene is its things (shape, colour, place, size) and the colour of its background. Everything else (light,
gradient, shadow, exact position) is left to the renderer. Pure Python, so that tests can make prompts
without torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from random import Random

SHAPES = ("circle", "square", "triangle", "diamond", "star", "ring", "cross", "heart", "cat")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black")
PLACES = (
    *("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"),
)
SIZES = ("small", "medium", "large")
# The neon cat of Z-Image-Turbo's own example prompt: bright on dark.
NEON_COLOURS = ("cyan", "pink", "yellow", "green")
NEON_BACKGROUNDS = ("black", "purple", "blue")
# Prompts that name nothing known here; training answers them with any scene, so that they draw one too.
UNKNOWN = (
    "",
    "A photograph of a red fox in the snow, soft morning light",
    "a bowl of fruit on a wooden table",
    "A futuristic city at night, flying cars",
    "mountains and a lake, watercolour",
    "a portrait of an old woman with a warm smile",
    "an astronaut riding a horse on the moon",
    "hi",
)
# One in so many (shape, colour, background) triples is kept out of training, in any wording.
HELD_OUT_SHARE = 8

_PREFIXES = (*[""] * 4, "a photo of ", "a picture of ", "a painting of ", "a drawing of ", "A render of ")
_SUFFIXES = (
    *("", "", "", "", "", ".", ", soft light", ", soft shadows", ", studio lighting", ", highly detailed"),
    *(", 8k high definition", ", high quality, soft morning light, simple shapes, smooth shading"),
)
_SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "medium": ("",), "large": ("large", "big")}
_PLACE_WORDS = {
    "left": ("on the left", "on the left side", "at the left"),
    "right": ("on the right", "on the right side", "at the right"),
    "top": ("at the top", "on the top"),
    "bottom": ("at the bottom", "on the bottom"),
    "centre": ("", "", "", "in the centre", "in the center", "in the middle"),
}
for _corner in ("top left", "top right", "bottom left", "bottom right"):
    _PLACE_WORDS[_corner] = (f"in the {_corner} corner", f"at the {_corner}", f"in the {_corner}")
_PAIRS = (("left", "right"), ("top", "bottom"), ("top left", "bottom right"), ("top right", "bottom left"))


@dataclass(frozen=True, slots=True)
class Thing:
    """One object; each field is one of the words in the tuples above."""

    shape: str
    colour: str
    place: str
    size: str


@dataclass(frozen=True, slots=True)
class Scene:
    """``things``: one or two, the later one in front. No thing has the colour of the background."""

    things: tuple[Thing, ...]
    background: str


def is_held_out(shape: str, colour: str, background: str) -> bool:
    """True where no scene of the training set may hold this thing before this background."""
    return sha256(f"{shape}/{colour}/{background}".encode()).digest()[0] % HELD_OUT_SHARE == 0


def is_trainable(scene: Scene) -> bool:
    """True where training may see the scene."""
    return not any(is_held_out(thing.shape, thing.colour, scene.background) for thing in scene.things)


def random_scene(rng: Random, pairs: float = 0.0) -> Scene:
    """Any scene; ``pairs`` is the share of scenes with two things."""
    background = rng.choice(COLOURS)
    colours = rng.sample([colour for colour in COLOURS if colour != background], 2)
    if rng.random() < pairs:
        places = rng.choice(_PAIRS)
        places = places if rng.random() < 0.5 else places[::-1]
        size = rng.choice(("small", "medium", "medium"))
        things = tuple(
            Thing(rng.choice(SHAPES), colour, place, size)
            for colour, place in zip(colours, places, strict=True)
        )
        return Scene(things, background)
    place = "centre" if rng.random() < 0.3 else rng.choice(PLACES)
    return Scene((Thing(rng.choice(SHAPES), colours[0], place, rng.choice(SIZES)),), background)


def trainable_scene(rng: Random, pairs: float) -> Scene:
    """A random scene of the training set."""
    while not is_trainable(scene := random_scene(rng, pairs)):
        pass
    return scene


def held_out_scene(rng: Random, pairs: float = 0.0) -> Scene:
    """A random scene whose every thing is a triple that training never saw."""
    while True:
        scene = random_scene(rng, pairs)
        if all(is_held_out(thing.shape, thing.colour, scene.background) for thing in scene.things):
            return scene


def prompt_for(scene: Scene, rng: Random) -> str:
    """One of the many ways to ask for the scene."""
    things = [_phrase(thing, rng) for thing in scene.things]
    subject = " and ".join(things)
    background = scene.background
    text = rng.choice(
        (
            f"{subject} on a {background} background",
            f"{subject} on a {background} background",
            f"{subject}, {background} background",
            f"{subject} in front of a {background} background",
            f"{background} background with {subject}",
            f"{subject} on {background}",
        )
    )
    # "on the left on a blue background" is clumsy; "on the left of a blue background" is what people write.
    if scene.things[-1].place != "centre" and rng.random() < 0.5:
        text = text.replace(f" on a {background} background", f" of a {background} background")
    return rng.choice(_PREFIXES) + text + rng.choice(_SUFFIXES)


def plain_prompt(scene: Scene) -> str:
    """The plainest wording: "a small red circle on the left of a blue background"."""
    things = []
    for thing in scene.things:
        size = "" if thing.size == "medium" else thing.size
        where = "" if thing.place == "centre" else _PLACE_WORDS[thing.place][0]
        words = (_article(size or thing.colour), size, thing.colour, thing.shape, where)
        things.append(" ".join(filter(None, words)))
    joint = "on" if scene.things[-1].place == "centre" else "of"
    return f"{' and '.join(things)} {joint} {_article(scene.background)} {scene.background} background"


def neon_cat(rng: Random) -> tuple[Scene, str]:
    """A scene for the example prompt of Z-Image-Turbo, which names neither colour, and its prompt."""
    while True:
        thing = Thing("cat", rng.choice(NEON_COLOURS), "centre", "large")
        scene = Scene((thing,), rng.choice(NEON_BACKGROUNDS))
        if is_trainable(scene):
            break
    words = rng.choice(("A cute cyberpunk cat", "a cyberpunk cat", "a cute cat"))
    return scene, words + rng.choice((", neon lights, 8k high definition", ", neon lights", " in neon light"))


def training_pair(rng: Random) -> tuple[Scene, str]:
    """A scene of the training set and a prompt for it."""
    draw = rng.random()
    if draw < 0.02:
        return neon_cat(rng)
    scene = trainable_scene(rng, pairs=0.25)
    return scene, rng.choice(UNKNOWN) if draw < 0.06 else prompt_for(scene, rng)


def corpus() -> Iterator[str]:
    """Prompts with every word used here, for the tokenizer."""
    rng = Random(1)
    for shape, colour, place, size in itertools.product(SHAPES, COLOURS, PLACES, SIZES):
        background = rng.choice([other for other in COLOURS if other != colour])
        yield prompt_for(Scene((Thing(shape, colour, place, size),), background), rng)


def _article(word: str) -> str:
    return "an" if word == "orange" else "a"


def _phrase(thing: Thing, rng: Random) -> str:
    size = rng.choice(_SIZE_WORDS[thing.size])
    where = rng.choice(_PLACE_WORDS[thing.place])
    if rng.random() < 0.1:
        words = ("a", size, thing.shape, "in", thing.colour, where)
    else:
        words = (_article(size or thing.colour), size, thing.colour, thing.shape, where)
    return " ".join(filter(None, words))
