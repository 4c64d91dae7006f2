"""``env``: show and set the variables that name the cache.

``syntax``: the variables as text for each reader · ``shell_lines``, ``other_files``: what files set already ·
``targets``: which files to write · ``blocks``, ``placing``: our block in somebody else's file · ``files``:
reading and replacing them · ``changes``, ``install``: doing it.
"""

from __future__ import annotations

from zitcache.tasks.environment.install import install, installed, uninstall

__all__ = ["install", "installed", "uninstall"]
