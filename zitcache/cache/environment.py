"""Where the SDKs would look for their cache, and where else one may lie.

Sources: ``modelscope_hub/config.py`` (``HubConfig.cache_dir``) and ``huggingface_hub/constants.py``
(``HF_HOME``, ``HF_HUB_CACHE``). They treat empty values differently: ModelScope as unset, Hugging Face as a
path, which makes it relative to the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.expansion import absolute, expand, expand_user, is_quoted
from zitcache.cache.layouts import find_models, is_directory
from zitcache.errors import CacheNotFound, UsageError, from_os_error
from zitcache.events import Notice

MODELSCOPE = "modelscope"
HUGGINGFACE = "huggingface"
ANY = "any"

IGNORED_VARIABLES = (
    "MS_CACHE_HOME",
    "MODELSCOPE_MODULES_CACHE",
    "TRANSFORMERS_CACHE",
    "PYTORCH_TRANSFORMERS_CACHE",
    "DIFFUSERS_CACHE",
    "HF_CACHE",
    "HF_HUB_CACHE_DIR",
)
"""Names that people set and that the SDKs do not (or no longer) take as the place of their cache."""

_PLACES = (
    "/root/workspace",
    "/root/autodl-tmp",
    "/root/autodl-fs",
    "/workspace",
    "/runpod-volume",
    "/hy-tmp",
    "/hy-nas",
    "/gz-data",
    "/gz-fs",
    "/storage",
    "/data",
    "/mnt/workspace",
    "/mnt/data",
)
_NAMES = (
    "model_cache",
    "modelscope_cache",
    "modelscope",
    "models",
    "hf_cache",
    "huggingface",
    "huggingface-cache",
)
_MODELSCOPE_VARIABLE = "MODELSCOPE_CACHE"
_OWN_VARIABLE = "ZITCACHE_CACHE"


@dataclass(frozen=True, slots=True)
class CacheRoot:
    """A place where a cache may lie. ``origin``: the variable or rule that names it; ``sdk``: whose cache."""

    path: Path
    origin: str
    sdk: str


@dataclass(frozen=True, slots=True)
class LocatedCache:
    """The cache to work on. ``path`` has no symlinks in it; ``others`` are further places with models.

    ``is_empty``: there is no model in it. ``warnings``: what is odd about the settings.
    """

    path: Path
    origin: str
    sdk: str
    others: tuple[CacheRoot, ...]
    is_empty: bool
    warnings: tuple[Notice, ...]


def candidate_roots(environ: Mapping[str, str], home: Path, cwd: Path) -> list[CacheRoot]:
    """Every place to look at, the most likely first, each path once. Nothing is read from the disk but links.

    Relative values are taken relative to ``cwd``, as the SDKs do.
    """
    ordered: dict[Path, CacheRoot] = {}
    for root in _candidates(environ, home, cwd):
        ordered.setdefault(root.path, root)
    return list(ordered.values())


def ignored_variables(environ: Mapping[str, str]) -> list[str]:
    """The names set in ``environ`` that look as if they placed the cache, but do not."""
    return [name for name in IGNORED_VARIABLES if environ.get(name)]


def modelscope_root(environ: Mapping[str, str], home: Path, cwd: Path) -> CacheRoot:
    """The one directory that ModelScope uses in that environment."""
    value = environ.get(_MODELSCOPE_VARIABLE)
    if value:
        return CacheRoot(absolute(expand_user(value, home), cwd), _MODELSCOPE_VARIABLE, MODELSCOPE)
    return CacheRoot(home / ".cache" / "modelscope", "the default of ModelScope", MODELSCOPE)


def huggingface_root(environ: Mapping[str, str], home: Path, cwd: Path) -> CacheRoot:
    """The one directory that Hugging Face uses in that environment (what ``HF_HUB_CACHE`` names)."""
    return next(_huggingface_roots(environ, home, cwd))


def locate_cache(explicit: str | None, environ: Mapping[str, str], home: Path, cwd: Path) -> LocatedCache:
    """Find the cache to work on: as named, or the first candidate with a model in it.

    Raises :class:`CacheNotFound` when the named place does not exist or no candidate has a model, and
    :class:`UsageError` when the named place is not a directory.
    """
    warnings = list(_setting_warnings(environ))
    if explicit is not None:
        return _named_cache(explicit, "--cache", environ, home, cwd, warnings)
    if environ.get(_OWN_VARIABLE):
        return _named_cache(environ[_OWN_VARIABLE], _OWN_VARIABLE, environ, home, cwd, warnings)
    candidates = candidate_roots(environ, home, cwd)
    with_models = [root for root in candidates if find_models(root.path)]
    if not with_models:
        raise CacheNotFound(_nothing_found(candidates))
    first, others = with_models[0], with_models[1:]
    warnings += _fallback_warnings(candidates, first, environ)
    return _located(first, others, warnings, is_empty=False)


def _candidates(environ: Mapping[str, str], home: Path, cwd: Path) -> Iterator[CacheRoot]:
    own = environ.get(_OWN_VARIABLE)
    if own:
        yield CacheRoot(absolute(expand_user(own, home), cwd), _OWN_VARIABLE, ANY)
    modelscope = modelscope_root(environ, home, cwd)
    if modelscope.origin == _MODELSCOPE_VARIABLE:
        common = _common_root(environ, home, cwd, modelscope.path)
        if common is not None:
            yield common
    yield modelscope
    yield from _huggingface_roots(environ, home, cwd)
    if modelscope.origin == _MODELSCOPE_VARIABLE:
        yield CacheRoot(home / ".cache" / "modelscope", "the default of ModelScope", MODELSCOPE)
    for place in _PLACES:
        for name in _NAMES:
            yield CacheRoot(Path(place, name), "a known place", ANY)


def _huggingface_roots(environ: Mapping[str, str], home: Path, cwd: Path) -> Iterator[CacheRoot]:
    """In upstream's precedence. A set but empty value counts, as for upstream's ``os.getenv``."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if name in environ:
            yield CacheRoot(absolute(expand(environ[name], environ, home), cwd), name, HUGGINGFACE)
    if "HF_HOME" in environ:
        hf_home = expand(environ["HF_HOME"], environ, home)
        yield CacheRoot(absolute(f"{hf_home}/hub" if hf_home else "hub", cwd), "HF_HOME", HUGGINGFACE)
    if "XDG_CACHE_HOME" in environ:
        xdg = environ["XDG_CACHE_HOME"]
        hub = expand(f"{xdg}/huggingface/hub" if xdg else "huggingface/hub", environ, home)
        yield CacheRoot(absolute(hub, cwd), "XDG_CACHE_HOME", HUGGINGFACE)
    yield CacheRoot(home / ".cache" / "huggingface" / "hub", "the default of Hugging Face", HUGGINGFACE)


def _common_root(environ: Mapping[str, str], home: Path, cwd: Path, modelscope: Path) -> CacheRoot | None:
    """HF_HOME when it is, or holds, the ModelScope cache: then one root has everything.

    Not when HF_HOME is a whole disk or the home directory: all kinds of other data lie there.
    """
    if not environ.get("HF_HOME"):
        return None
    hf_home = absolute(expand(environ["HF_HOME"], environ, home), cwd)
    if hf_home == modelscope:
        return CacheRoot(hf_home, f"{_MODELSCOPE_VARIABLE} and HF_HOME", ANY)
    too_wide = hf_home == home or os.path.ismount(hf_home)
    if hf_home in modelscope.parents and not too_wide:
        return CacheRoot(hf_home, f"HF_HOME, which holds {_MODELSCOPE_VARIABLE}", ANY)
    return None


def _named_cache(
    value: str, origin: str, environ: Mapping[str, str], home: Path, cwd: Path, warnings: list[Notice]
) -> LocatedCache:
    if value == "":
        raise UsageError(f"{origin} is empty.", hint="Name the directory, or leave the option out.")
    path = absolute(expand_user(value, home), cwd)
    if not _exists(path):
        reason = f"There is no {path} (named by {origin})."
        if is_quoted(value):
            reason += " The quotes are part of the name; leave them out."
        raise CacheNotFound(reason)
    if not is_directory(path):
        raise UsageError(
            f"{path} (named by {origin}) is a file, not a directory.", hint="Name the cache's top directory."
        )
    chosen = CacheRoot(path, origin, ANY)
    rest = [
        root
        for root in candidate_roots({k: v for k, v in environ.items() if k != _OWN_VARIABLE}, home, cwd)
        if root.path != path and find_models(root.path)
    ]
    return _located(chosen, rest, warnings, is_empty=not find_models(path))


def _located(
    chosen: CacheRoot, others: list[CacheRoot], warnings: list[Notice], *, is_empty: bool
) -> LocatedCache:
    real = Path(os.path.realpath(chosen.path))
    elsewhere: dict[Path, CacheRoot] = {}
    for root in others:
        other = Path(os.path.realpath(root.path))
        # A cache inside the chosen one, or around it, is not another one.
        if other != real and real not in other.parents and other not in real.parents:
            elsewhere.setdefault(other, root)
    return LocatedCache(real, chosen.origin, chosen.sdk, tuple(elsewhere.values()), is_empty, tuple(warnings))


def _setting_warnings(environ: Mapping[str, str]) -> Iterator[Notice]:
    for name in (_OWN_VARIABLE, _MODELSCOPE_VARIABLE, "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        value = environ.get(name)
        if value == "":
            meaning = (
                "it counts as not set"
                if name in {_OWN_VARIABLE, _MODELSCOPE_VARIABLE}
                else "Hugging Face then uses the working directory"
            )
            yield Notice(
                code="empty-variable",
                message=f"{name} is set but empty: {meaning}.",
                hint=f"Run: unset {name}",
            )
        elif value is not None and is_quoted(value):
            yield Notice(
                code="quoted-variable",
                message=f"{name} has quotes in its value: {value}. They become part of the path.",
                hint=f"Set it without them: export {name}={value[1:-1]}",
            )
        elif name == _MODELSCOPE_VARIABLE and value and "$" in value:
            yield Notice(
                code="unexpanded-variable",
                message=f"{name} contains a dollar sign: {value}. ModelScope takes it literally.",
                hint=f"Write the path out: export {name}=/the/real/path",
            )
    for name in ignored_variables(environ):
        yield Notice(
            code="ignored-variable",
            message=f"{name} is set, but the SDKs do not take their cache directory from it.",
            hint=f"Set {_MODELSCOPE_VARIABLE} or HF_HOME instead, or unset {name}.",
        )


def _fallback_warnings(
    candidates: list[CacheRoot], chosen: CacheRoot, environ: Mapping[str, str]
) -> Iterator[Notice]:
    """Said when the place that a variable names is empty: after a reset that is not what the user expects."""
    for root in candidates[: candidates.index(chosen)]:
        if root.origin in environ:
            yield Notice(
                code="empty-cache",
                message=f"{root.origin} names {root.path}, where no model is; using {chosen.path} instead.",
                hint=f"Bring it back with: zitcache restore --to {root.path}",
            )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise from_os_error(error, f"looking at {path}") from error


def _nothing_found(candidates: list[CacheRoot]) -> str:
    named = [root for root in candidates if root.origin != "a known place"]
    lines = [
        f"  {root.path} ({root.origin}){'' if is_directory(root.path) else ': does not exist'}"
        for root in named
    ]
    places = ", ".join(_PLACES)
    names = ", ".join(_NAMES)
    return "\n".join(["No model cache was found. Looked at:", *lines, f"  and for {names} in {places}"])
