"""``env``: show and set the variables that name the cache.

``task``: the verb · ``survey``, ``sources``: what is set, and by which line · ``shell_lines``,
``other_files``: what the files say · ``syntax``: the variables as text for each reader · ``targets``: which
files to write · ``blocks``, ``placing``: our block in somebody else's file · ``files``: reading and
replacing them · ``crontab`` · ``changes``, ``install``: doing it · ``reached``: what it does not reach ·
``choosing``: the cache that has a model · ``own``, ``own_plan``, ``own_notes``, ``permissions``: a cache of
links into a shared one.
"""

from __future__ import annotations

from zitcache.tasks.environment.install import install, installed, uninstall
from zitcache.tasks.environment.report import EnvReport, FileChange, OwnCache, VariableState
from zitcache.tasks.environment.survey import survey
from zitcache.tasks.environment.task import EnvRequest, env

__all__ = [
    "EnvReport",
    "EnvRequest",
    "FileChange",
    "OwnCache",
    "VariableState",
    "env",
    "install",
    "installed",
    "survey",
    "uninstall",
]
