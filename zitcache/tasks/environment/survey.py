"""Which variables are set, by what, and whether they do anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zitcache.cache.environment import IGNORED_VARIABLES, huggingface_root, modelscope_root
from zitcache.cache.expansion import absolute, expand, expand_user, has_dollar, is_quoted
from zitcache.cache.variables import (
    HOME_VARIABLE,
    HUB_VARIABLES,
    MODELSCOPE_VARIABLE,
    OWN_VARIABLE,
    home_of,
)
from zitcache.tasks.environment.placing import expanded
from zitcache.tasks.environment.report import VariableState
from zitcache.tasks.environment.sources import DIRECTORY_VARIABLES, VARIABLES, Reach, Source, sources
from zitcache.tasks.environment.targets import surroundings

_TAKES_DOLLAR = frozenset({*HUB_VARIABLES, HOME_VARIABLE, "XDG_CACHE_HOME"})
_EMPTY_IS_UNSET = frozenset({MODELSCOPE_VARIABLE, OWN_VARIABLE, "ZITCACHE_REPO", "ZITCACHE_CONFIG"})
_HUGGINGFACE = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", HOME_VARIABLE, "XDG_CACHE_HOME")
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


def survey(environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> list[VariableState]:
    """Every variable of interest that is set: in this process, and in files where they say something else.

    Names come in the order of :data:`~zitcache.tasks.environment.sources.VARIABLES`; of one name, the value
    of this process first.
    """
    where = surroundings(environ)
    found = sources(where)
    here = cwd if cwd is not None else _working_directory()
    states: list[VariableState] = []
    for name in VARIABLES:
        lines = [source for source in found if source.assignment.name == name]
        if name in environ:
            states.append(_in_process(name, environ, here, lines))
        states += _in_files(name, environ, here, lines)
    return states


def is_effective(name: str, environ: Mapping[str, str]) -> bool:
    """Whether what the variable is for takes its value in that environment."""
    if name in IGNORED_VARIABLES or name not in environ:
        return False
    if name in {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}:
        first = environ.get("HF_HUB_OFFLINE")
        return environ[name].upper() in _TRUE and (name == "HF_HUB_OFFLINE" or not first)
    if name in _HUGGINGFACE:
        # An empty value counts for Hugging Face.
        return _outranked_by(name, environ) is None
    return bool(environ[name])


def _in_process(name: str, environ: Mapping[str, str], cwd: Path, lines: Sequence[Source]) -> VariableState:
    home = home_of(environ)
    value = environ[name]
    same = [source for source in lines if expanded(source.assignment, home) == value]
    warnings = list(_about_value(name, value, environ, cwd))
    other = [source for source in lines if source not in same and source in _final(lines)]
    if other and other[-1].reach is not Reach.CRON:
        warnings.append(f"Differs from {other[-1].label}.")
    if is_effective(name, environ) and name in DIRECTORY_VARIABLES:
        warnings += _about_reach(same)
    return VariableState(
        name=name,
        value=value,
        origin=same[-1].label if same else "process",
        effective=is_effective(name, environ),
        warning=" ".join(warnings) or None,
        path=_path_of(name, environ, cwd),
        origins=[source.label for source in same],
    )


def _in_files(
    name: str, environ: Mapping[str, str], cwd: Path, lines: Sequence[Source]
) -> Iterator[VariableState]:
    """One state per value that files give and the process has not."""
    home = home_of(environ)
    by_value: dict[str, list[Source]] = {}
    for source in lines:
        value = expanded(source.assignment, home)
        if value is not None and value != environ.get(name):
            by_value.setdefault(value, []).append(source)
    for value, same in by_value.items():
        there = {**environ, name: value}
        final = _final(lines)
        current = f"this process has {environ[name]!r}" if name in environ else "not set in this process"
        count = [source for source in same if source in final]
        later = [source for source in final if source.place == same[-1].place]
        said = f"It counts for {_who(count)}; {current}." if count else f"Overridden by {later[-1].label}."
        warnings = [said, *_about_value(name, value, there, cwd)]
        if not any(source.assignment.exported for source in same):
            warnings.append("It is not exported: programs do not see it.")
        yield VariableState(
            name=name,
            value=value,
            origin=same[-1].label,
            effective=False,
            warning=" ".join(warnings),
            path=_path_of(name, there, cwd),
            origins=[source.label for source in same],
        )


def _about_value(name: str, value: str, environ: Mapping[str, str], cwd: Path) -> Iterator[str]:
    if name in IGNORED_VARIABLES:
        yield _about_ignored(name, value, environ)
        return
    if name not in DIRECTORY_VARIABLES:
        if value == "" and name in _EMPTY_IS_UNSET:
            yield "It is empty: that counts as not set."
        return
    if value == "":
        yield (
            "It is empty: that counts as not set."
            if name in _EMPTY_IS_UNSET
            else "It is empty: Hugging Face then uses the working directory."
        )
    elif is_quoted(value):
        yield f"The quotes are part of the path; set it to {value[1:-1]}."
    yield from _about_dollar(name, value, environ)
    over = _outranked_by(name, environ)
    if over is not None and _path_of(name, environ, cwd) != _path_of(over, environ, cwd):
        rest = "; the login is still kept there" if name == HOME_VARIABLE else ""
        yield f"Overridden by {over}{rest}."
    path = _path_of(name, environ, cwd)
    if value and path is not None and not is_quoted(value):
        literal = expand_user(value, home_of(environ))
        if not literal.startswith(("/", "$")):
            yield f"It is relative: here it is {path}, elsewhere another directory."
        if over is None and name != "XDG_CACHE_HOME":
            yield from _about_place(path)


def _about_dollar(name: str, value: str, environ: Mapping[str, str]) -> Iterator[str]:
    if "$" not in value:
        return
    if name not in _TAKES_DOLLAR:
        reader = "ModelScope" if name == MODELSCOPE_VARIABLE else "zitcache"
        yield f"{reader} takes the dollar sign literally; write the path out."
    elif has_dollar(expand(value, environ, home_of(environ))):
        yield "It names a variable that is not set; the dollar sign stays in the path."


def _about_ignored(name: str, value: str, environ: Mapping[str, str]) -> str:
    if name == "MS_CACHE_HOME" and value and not environ.get(MODELSCOPE_VARIABLE):
        # modelscope 1.40 hands it on as text where its own code needs a path.
        return "Without MODELSCOPE_CACHE, ModelScope 1.40 fails because of it; set that one instead."
    return "It is ignored: the SDKs do not take their cache directory from it."


def _about_place(path: str) -> Iterator[str]:
    try:
        if not os.path.lexists(path):
            yield f"{path} does not exist."
        elif not os.path.exists(path):
            yield f"{path} is a link to {os.readlink(path)}, which does not exist."
        elif not os.path.isdir(path):
            yield f"{path} is not a directory."
        elif not os.access(path, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            yield f"{path} cannot be read by this user."
    except (OSError, ValueError) as error:
        yield f"{path} cannot be used: {error}."


def _about_reach(same: Sequence[Source]) -> Iterator[str]:
    """Whether cron and services get the value, too."""
    if same and all(source.reach is Reach.SHELLS for source in same):
        yield "Set for shells alone: cron, services and notebooks may not see it."


def _final(lines: Sequence[Source]) -> list[Source]:
    """Of each place, the line that has the last word."""
    return list({source.place: source for source in lines}.values())


def _who(same: Sequence[Source]) -> str:
    names = {
        Reach.SHELLS: "new shells",
        Reach.LOGINS: "new logins and cron",
        Reach.SERVICES: "services",
        Reach.CRON: "cron jobs",
        Reach.CONTAINER: "what this container starts",
    }
    return ", ".join(dict.fromkeys(names[source.reach] for source in same))


def _outranked_by(name: str, environ: Mapping[str, str]) -> str | None:
    """The variable that Hugging Face looks at before ``name`` and finds."""
    if name not in _HUGGINGFACE:
        return None
    higher = _HUGGINGFACE[: _HUGGINGFACE.index(name)]
    return next((other for other in higher if other in environ), None)


def _path_of(name: str, environ: Mapping[str, str], cwd: Path) -> str | None:
    """The directory that the value comes to, whether it is the one in use or not."""
    home = home_of(environ)
    value = environ[name]
    if name == MODELSCOPE_VARIABLE:
        return str(modelscope_root(environ, home, cwd).path)
    if name in _HUGGINGFACE:
        alone = {key: text for key, text in environ.items() if key not in _HUGGINGFACE or key == name}
        return str(huggingface_root(alone, home, cwd).path)
    if name == OWN_VARIABLE and value:
        return str(absolute(expand_user(value, home), cwd))
    return None


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
