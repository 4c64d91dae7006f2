"""``env``: what is set, what should be, and making it so."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import msgspec

from zitcache.cache.inventory import Model
from zitcache.cache.variables import login_left_behind, variables_for
from zitcache.errors import CacheNotFound, UsageError
from zitcache.events import Outcome, Session
from zitcache.tasks.environment.choosing import MODEL_PATH_VARIABLE, cache_with_model, chosen_cache
from zitcache.tasks.environment.install import (
    Plan,
    carry_out,
    changes_of,
    installed,
    plan_removing,
    plan_writing,
)
from zitcache.tasks.environment.own import make_own, shared_cache_of
from zitcache.tasks.environment.report import EnvReport, OwnCache
from zitcache.tasks.environment.sources import set_anywhere
from zitcache.tasks.environment.survey import survey
from zitcache.tasks.environment.syntax import PRINTED, Syntax, check_variables, write_lines
from zitcache.tasks.environment.variable_checks import (
    refuse_dollar,
    warn_of_literal_values,
    warn_of_lost_models,
)


class EnvRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``cache``, ``model``, ``own``, ``format``: as on the command line. At most one of ``format``,
    ``write`` and ``remove`` is set.
    """

    cache: str | None = None
    model: str | None = None
    own: str | None = None
    format: str | None = None
    write: bool = False
    remove: bool = False
    dry_run: bool = False


def env(request: EnvRequest, session: Session) -> Outcome[EnvReport]:
    """Show, print, write or remove the variables that name the cache.

    Raises ``UsageError`` for options that exclude each other, ``CacheNotFound`` when no cache is there for
    which variables could be printed or written. Without anything to do, it shows what is set and never fails
    for want of a cache.
    """
    syntax = _check(request)
    if request.remove:
        return _remove(request, session)
    try:
        cache, model, own = _select(request, session)
    except CacheNotFound as error:
        if request != EnvRequest():
            raise
        session.warn(
            error.code, "No model cache was found.", "Name it: zitcache env --cache /path/to/the/cache"
        )
        return _outcome(
            EnvReport(variables=survey(), cache=None, selected={}, installed=installed()), session
        )
    selected = variables_for(cache, set_anywhere(os.environ))
    if syntax is not None or request.write:
        check_variables(selected)
        refuse_dollar(selected)
    warn_of_lost_models(cache, selected, session)
    report = EnvReport(
        variables=survey(),
        cache=str(cache),
        selected=selected,
        installed={},
        model=None if model is None else model.id,
        model_path=None if model is None else _model_path(cache, model, own),
        own=own,
        dry_run=request.dry_run,
    )
    if syntax is not None:
        report.action = "print"
        report.text = _text(report, syntax)
        if syntax is Syntax.DOTENV:
            warn_of_literal_values(selected, session)
    elif request.write:
        report.action = "write"
        _carry_out(report, plan_writing(selected, session), session)
        _warn_of_login(selected, session)
    report.installed = installed()
    return _outcome(report, session)


def _check(request: EnvRequest) -> Syntax | None:
    asked = [
        name
        for name, given in (
            ("--format", request.format is not None),
            ("--write", request.write),
            ("--remove", request.remove),
        )
        if given
    ]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} exclude each other.", hint=f"Give only {asked[0]}.")
    if request.dry_run and not (request.write or request.remove):
        raise UsageError(
            "--dry-run shows what --write or --remove would change; neither is given.",
            hint="zitcache env --write --dry-run",
        )
    if request.own is not None and request.dry_run:
        raise UsageError("--own has no dry run.", hint="Leave --dry-run out, or --own.")
    if request.remove and (request.own or request.model or request.cache):
        raise UsageError("--remove takes everything away; it needs no cache.", hint="zitcache env --remove")
    if request.own == "":
        raise UsageError("--own is empty.", hint="Name a directory: --own ~/model_cache")
    if request.format is None:
        return None
    try:
        syntax = Syntax(request.format)
    except ValueError:
        syntax = Syntax.PAM
    if syntax not in PRINTED:
        names = ", ".join(item.value for item in PRINTED)
        raise UsageError(f"There is no format {request.format!r}.", hint=f"Use --format with one of: {names}")
    return syntax


def _select(request: EnvRequest, session: Session) -> tuple[Path, Model | None, OwnCache | None]:
    """The cache to name, the model asked for (where it lies in the shared cache), and the own cache."""
    own_directory = None if request.own is None else Path(os.path.abspath(Path(request.own).expanduser()))
    named = request.cache
    if named is None and own_directory is not None:
        shared = shared_cache_of(own_directory)
        named = None if shared is None else str(shared)
    model: Model | None = None
    if request.model is not None:
        cache, model = cache_with_model(request.model, named, session)
    else:
        cache = chosen_cache(named, session)
    if own_directory is None:
        return cache, model, None
    own = make_own(own_directory, cache, model, session)
    return Path(own.path), model, own


def _model_path(cache: Path, model: Model, own: OwnCache | None) -> str:
    """The folder for ``from_pretrained``, in the own cache if there is one."""
    if own is None:
        return str(model.path)
    from zitcache.tasks.environment.own_plan import own_model

    folder = own_model(Path(own.shared), model).folder
    return os.path.normpath(cache / folder / os.path.relpath(model.path, model.location.root))


def _text(report: EnvReport, syntax: Syntax) -> str:
    variables = dict(report.selected)
    if report.model_path is not None:
        variables[MODEL_PATH_VARIABLE] = report.model_path
        check_variables(variables)
    return "\n".join(write_lines(variables, syntax))


def _remove(request: EnvRequest, session: Session) -> Outcome[EnvReport]:
    before = installed()
    report = EnvReport(
        variables=survey(),
        cache=None,
        selected=before,
        installed=before,
        action="remove",
        dry_run=request.dry_run,
    )
    _carry_out(report, plan_removing(session), session)
    report.installed = installed()
    return _outcome(report, session)


def _carry_out(report: EnvReport, plan: Plan, session: Session) -> None:
    report.changes = changes_of(plan)
    if not report.dry_run:
        report.written = carry_out(plan, session)


def _warn_of_login(selected: dict[str, str], session: Session) -> None:
    left = login_left_behind(selected, os.environ)
    if left is not None:
        old, new = left
        session.warn(
            "login-left-behind",
            f"HF_HOME changes: the Hugging Face login in {old} will not be found any more.",
            f"cp -p {shlex.quote(str(old))} {shlex.quote(str(new))}",
        )


def _outcome(report: EnvReport, session: Session) -> Outcome[EnvReport]:
    return Outcome(data=report, warnings=session.warnings)
