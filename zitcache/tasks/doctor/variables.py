"""Checks: which variable wins for each SDK, from where, and which are set without doing what was meant."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zitcache.cache.environment import (
    HUGGINGFACE,
    IGNORED_VARIABLES,
    MODELSCOPE,
    CacheRoot,
    huggingface_root,
    modelscope_root,
)
from zitcache.cache.expansion import expand, expand_user, is_quoted
from zitcache.cache.inventory import Model
from zitcache.cache.layouts import Layout
from zitcache.errors import ZitcacheError
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.report import Check, ok, skip, warn
from zitcache.tasks.doctor.wording import command, named
from zitcache.tasks.environment import VariableState, installed

DIRECTORY_VARIABLES = (
    "MODELSCOPE_CACHE",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "ZITCACHE_CACHE",
)
_SDK_NAMES = {MODELSCOPE: "ModelScope", HUGGINGFACE: "Hugging Face"}
_HUGGINGFACE_LAYOUTS = frozenset({Layout.HUGGINGFACE, Layout.HUGGINGFACE_SHARED, Layout.SEED})
_ANY_SDK = frozenset({Layout.PLAIN})


def check_modelscope(facts: Facts) -> Iterator[Check]:
    """Where ModelScope looks, because of what."""
    yield _winner("modelscope-cache", MODELSCOPE, facts)


def check_huggingface(facts: Facts) -> Iterator[Check]:
    """Where Hugging Face looks, because of what."""
    yield _winner("huggingface-cache", HUGGINGFACE, facts)


def _winner(check_id: str, sdk: str, facts: Facts) -> Check:
    root = _root_of(sdk, facts)
    states = [state for state in facts.variables() if state.name == root.origin]
    origin = root.origin
    if root.origin in facts.environ and states:
        where = states[0].origin
        origin += ", set by this shell or service" if where == "process" else f", set by {where}"
    told = f"{_SDK_NAMES[sdk]} looks in {root.path} ({origin})."
    missed = _models_elsewhere(sdk, root, facts)
    if missed:
        return warn(
            check_id,
            f"{told} It does not find {named(missed)} there and would download anew.",
            fix=facts.command("env", "--write", cache=True),
        )
    return ok(check_id, told)


def _root_of(sdk: str, facts: Facts) -> CacheRoot:
    find = modelscope_root if sdk == MODELSCOPE else huggingface_root
    return find(facts.environ, Path.home(), _working_directory())


def _models_elsewhere(sdk: str, root: CacheRoot, facts: Facts) -> list[str]:
    """Models in this SDK's layouts that the SDK does not look for where they are."""
    try:
        cache = facts.cache()
    except (OSError, ZitcacheError):
        return []
    seen = _real(root.path)
    missed: dict[str, None] = {}
    found: set[str] = set()
    for model in cache.stock.models if cache.stock else ():
        if not _is_of(sdk, model):
            continue
        base = _real(model.location.base)
        # Hugging Face is told the directory with the models, ModelScope the one above it.
        if seen == base:
            found.add(model.id)
        else:
            missed[model.id] = None
    return [name for name in missed if name not in found]


def _is_of(sdk: str, model: Model) -> bool:
    if model.layout in _ANY_SDK:
        return False
    return (model.layout in _HUGGINGFACE_LAYOUTS) is (sdk == HUGGINGFACE)


def check_ignored(facts: Facts) -> Iterator[Check]:
    """Names that look as if they placed the cache, and do not."""
    wrong = [state for state in facts.variables() if state.name in IGNORED_VARIABLES and state.value]
    yield _verdict("variables-ignored", wrong, facts, "Every variable that is set counts.")


def check_empty(facts: Facts) -> Iterator[Check]:
    """Set, but to nothing."""
    wrong = [state for state in facts.variables() if state.value == "" and _is_read(state)]
    yield _verdict("variables-empty", wrong, facts, "No variable is empty.")


def check_relative(facts: Facts) -> Iterator[Check]:
    """Another directory for each working directory."""

    def is_relative(state: VariableState) -> bool:
        value = state.value
        if not value or is_quoted(value):
            return False
        home = Path.home()
        full = expand_user(value, home)
        if state.name not in {"MODELSCOPE_CACHE", "ZITCACHE_CACHE"}:
            full = expand(value, facts.environ, home)
        return not full.startswith(("/", "$"))

    yield _of_directories("variables-relative", is_relative, facts, "No variable is relative.")


def check_quoted(facts: Facts) -> Iterator[Check]:
    """Quotes that became part of the path."""
    good = "No variable has quotes in its value."
    yield _of_directories("variables-quoted", lambda state: is_quoted(state.value), facts, good)


def check_dollar(facts: Facts) -> Iterator[Check]:
    """A dollar sign that nobody expands."""

    def stays(state: VariableState) -> bool:
        if state.name in {"MODELSCOPE_CACHE", "ZITCACHE_CACHE"}:
            return "$" in state.value
        return "$" in expand(state.value, facts.environ, Path.home())

    yield _of_directories("variables-unexpanded", stays, facts, "No variable holds a dollar sign.")


def check_conflicts(facts: Facts) -> Iterator[Check]:
    """Files that say something else than what this process has: the next login will be another world."""
    wrong: list[VariableState] = []
    for state in facts.variables():
        is_in_files_alone = state.value != facts.environ.get(state.name)
        is_overruled = (state.warning or "").startswith("Overridden by")
        if state.name not in DIRECTORY_VARIABLES or not is_in_files_alone or is_overruled:
            continue
        # After a migration, a process that still has the old path gets there through the link.
        if not _same_place(state.value, facts.environ.get(state.name), facts):
            wrong.append(state)
    if not wrong:
        yield ok("variables-differ", "Files and this process agree about every variable.")
        return
    told = [f"{state.name}={state.value} by {state.origin}: {state.warning or ''}" for state in wrong]
    yield warn("variables-differ", " ".join(told), fix=facts.command("env", "--write", cache=True))


def check_reach(facts: Facts) -> Iterator[Check]:
    """What only shells know: cron, services and notebooks start with next to no environment."""
    ours = installed()
    narrow: list[VariableState] = []
    for state in facts.variables():
        is_live = state.effective and facts.environ.get(state.name) == state.value
        if state.name not in DIRECTORY_VARIABLES or state.name == "XDG_CACHE_HOME" or not is_live:
            continue
        if not state.value or _same_place(state.value, ours.get(state.name), facts):
            continue
        if state.origin == "process" or "shells alone" in (state.warning or ""):
            narrow.append(state)
    if not narrow:
        yield ok("variables-reach", "Nothing is set for this shell alone.")
        return
    told = [
        f"{state.name} is set in this process alone, by no file: it is gone with it."
        if state.origin == "process"
        else f"{state.name} is set by {state.origin} for shells alone: cron and services may not see it."
        for state in narrow
    ]
    yield warn("variables-reach", " ".join(told), fix=facts.command("env", "--write", cache=True))


def _same_place(value: str, other: str | None, facts: Facts) -> bool:
    """Whether two values name one directory, perhaps through a link."""
    if value == other:
        return True
    if not (other and value.startswith("/") and other.startswith("/")):
        return False
    if facts.disks().is_below_dead(value) or facts.disks().is_below_dead(other):
        return False
    return _real(Path(value)) == _real(Path(other))


def _is_read(state: VariableState) -> bool:
    return state.name not in IGNORED_VARIABLES


def _of_directories(
    check_id: str, is_wrong: Callable[[VariableState], bool], facts: Facts, good: str
) -> Check:
    wrong = [state for state in facts.variables() if state.name in DIRECTORY_VARIABLES and is_wrong(state)]
    return _verdict(check_id, wrong, facts, good)


def _verdict(check_id: str, wrong: Sequence[VariableState], facts: Facts, good: str) -> Check:
    if not wrong:
        return ok(check_id, good)
    told = [
        f"{state.name}={state.value} ({_where(state)}): {state.warning or 'it does nothing.'}"
        for state in wrong
    ]
    first = wrong[0]
    if facts.environ.get(first.name) == first.value:
        return warn(check_id, " ".join(told), fix=f"unset {first.name}", advice=_and_in_files(wrong))
    line = _line_to_delete(first)
    return warn(check_id, " ".join(told), fix=line, advice=None if line else _and_in_files(wrong))


def _where(state: VariableState) -> str:
    return "this process" if state.origin == "process" else state.origin


def _and_in_files(wrong: Sequence[VariableState]) -> str | None:
    places = [place for state in wrong for place in state.origins]
    return f"Remove or correct the line: {named(places)}." if places else None


def _line_to_delete(state: VariableState) -> str | None:
    """``sed`` for a line of a file that this user may write; None for what is no such line."""
    path, colon, line = state.origin.rpartition(":")
    if not colon or not line.isdecimal() or not path.startswith("/"):
        return None
    return f"sed -i {line}d {shlex.quote(path)}"


def check_cache_choice(facts: Facts) -> Iterator[Check]:
    """Does everything that runs here mean the same cache as zitcache does."""
    cache = facts.cache()
    if cache.located is None:
        yield skip("cache-choice", "There is no cache.")
        return
    fallback = [notice for notice in cache.located.warnings if notice.code == "empty-cache"]
    if fallback:
        yield warn(
            "cache-choice", fallback[0].message, fix=command("env", "--write", "--cache", str(cache.path))
        )
        return
    yield ok("cache-choice", f"zitcache works on {cache.path}, because of {cache.located.origin}.")


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
