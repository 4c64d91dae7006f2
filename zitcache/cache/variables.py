"""Which variables make both SDKs use one cache, judged by what lies in it and by what is set now.

ModelScope has one variable, ``MODELSCOPE_CACHE``. Hugging Face has three, of which the first that is set
wins: ``HF_HUB_CACHE`` and ``HUGGINGFACE_HUB_CACHE`` name the directory with the models, ``HF_HOME`` the one
above it. Sources: ``modelscope_hub/config.py``, ``huggingface_hub/constants.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from zitcache.cache.environment import huggingface_root, modelscope_root
from zitcache.cache.expansion import absolute, expand
from zitcache.cache.layouts import Layout, ModelLocation, find_models, is_directory

MODELSCOPE_VARIABLE = "MODELSCOPE_CACHE"
HUB_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
"""What Hugging Face looks at before ``HF_HOME``, in this order."""

HOME_VARIABLE = "HF_HOME"
OWN_VARIABLE = "ZITCACHE_CACHE"

_LOGIN = ("token", "stored_tokens")
_HUGGINGFACE = frozenset({Layout.HUGGINGFACE, Layout.HUGGINGFACE_SHARED})
_LEGACY_HUB = frozenset({Layout.MODELSCOPE_LEGACY_HUB, Layout.MODELSCOPE_LEGACY_HUB_PLAIN})
_MODELSCOPE = _LEGACY_HUB | {
    Layout.MODELSCOPE,
    Layout.MODELSCOPE_LEGACY,
    Layout.MODELSCOPE_LEGACY_PLAIN,
}


def variables_for(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables, with absolute paths, that must be set so that both SDKs use the cache at ``root``.

    All of them, those that ``environ`` sets rightly already too, so that they can be kept in a file. A name
    that ``environ`` uses is changed rather than outranked by another one. An SDK of which ``root`` holds
    nothing is left alone when it has models in another place now: they would seem to be gone.
    """
    place = Path(os.path.abspath(root))
    home, cwd = home_of(environ), _working_directory()
    models = find_models(place)
    modelscope = [model for model in models if model.layout in _MODELSCOPE]
    huggingface = [model for model in models if model.layout in _HUGGINGFACE]
    modelscope_now = modelscope_root(environ, home, cwd).path
    hub_now = huggingface_root(environ, home, cwd).path
    together = _overlap(modelscope_now, hub_now) or _same(modelscope_now, huggingface_home(environ))
    variables: dict[str, str] = {}
    if modelscope or together or not _holds(modelscope_now, _MODELSCOPE, place):
        variables[MODELSCOPE_VARIABLE] = str(_modelscope_place(place, modelscope, modelscope_now))
    if huggingface or together or not _holds(hub_now, _HUGGINGFACE, place):
        variables |= _huggingface_variables(_hub_place(place, huggingface, hub_now), environ)
    if environ.get(OWN_VARIABLE):
        variables[OWN_VARIABLE] = str(place)
    return variables


def home_of(environ: Mapping[str, str]) -> Path:
    """The home directory in that environment, as ``os.path.expanduser`` sees it."""
    value = environ.get("HOME")
    return Path(value) if value else Path(os.path.expanduser("~"))


def huggingface_home(environ: Mapping[str, str]) -> Path:
    """What Hugging Face takes for ``HF_HOME``: there it keeps the login, whatever ``HF_HUB_CACHE`` says."""
    home = home_of(environ)
    base = environ.get("XDG_CACHE_HOME", os.fspath(home / ".cache"))
    value = environ.get(HOME_VARIABLE, os.path.join(base, "huggingface"))
    return absolute(expand(value, environ, home), _working_directory())


def login_left_behind(variables: Mapping[str, str], environ: Mapping[str, str]) -> tuple[Path, Path] | None:
    """The Hugging Face login that no program would find any more with ``variables``: (from, to) to copy.

    None when there is no login, when it is found in the new place, or when ``HF_HOME`` does not change.
    """
    if HOME_VARIABLE not in variables or environ.get("HF_TOKEN_PATH"):
        return None
    old, new = huggingface_home(environ), Path(variables[HOME_VARIABLE])
    for name in _LOGIN:
        if (old / name).is_file() and not (new / name).exists():
            return old / name, new / name
    return None


def _modelscope_place(place: Path, models: list[ModelLocation], now: Path) -> Path:
    """What ``MODELSCOPE_CACHE`` must be.

    With models below ``hub/`` alone it is ``hub``: SDKs up to 1.37 look there only when told, newer ones do
    in both places.
    """
    direct = [model.base for model in models if model.layout not in _LEGACY_HUB]
    below_hub = [model.base / "hub" for model in models if model.layout in _LEGACY_HUB]
    return _choose(direct or below_hub, now, (place,))


def _hub_place(place: Path, models: list[ModelLocation], now: Path) -> Path:
    """The directory that must be what ``HF_HUB_CACHE`` names."""
    bases = [model.base for model in models]
    if not bases and place in now.parents:
        return now
    return _choose(bases, now, (place / "hub", place))


def _choose(bases: Iterable[Path], now: Path, usual: tuple[Path, ...]) -> Path:
    """Of several places the one in use, else a usual one, else that with most models."""
    counted = Counter(bases)
    if not counted:
        return usual[0]
    for base in counted:
        if _same(base, now):
            return base
    return next((base for base in usual if base in counted), counted.most_common(1)[0][0])


def _huggingface_variables(hub: Path, environ: Mapping[str, str]) -> dict[str, str]:
    as_home = hub.parent if hub.name == "hub" else None
    variables = {name: str(hub) for name in HUB_VARIABLES if name in environ}
    if as_home is not None and HOME_VARIABLE in environ:
        variables[HOME_VARIABLE] = str(as_home)
    if variables:
        return variables
    # HF_HOME is where the login lies as well: without need it is not moved away from one.
    if as_home is None or login_left_behind({HOME_VARIABLE: str(as_home)}, environ) is not None:
        return {HUB_VARIABLES[0]: str(hub)}
    return {HOME_VARIABLE: str(as_home)}


def _holds(now: Path, layouts: frozenset[Layout], place: Path) -> bool:
    """Whether the directory in use has models of an SDK and is another one than ``place``."""
    if not is_directory(now) or _overlap(now, place):
        return False
    return any(model.layout in layouts for model in find_models(now))


def _overlap(one: Path, other: Path) -> bool:
    """Whether one is the other or lies in it, links followed."""
    a, b = Path(os.path.realpath(one)), Path(os.path.realpath(other))
    return a == b or a in b.parents or b in a.parents


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _working_directory() -> Path:
    """The working directory; the root if it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
