"""What a scheduled run is started with: it has no shell, no profile and no working directory."""

from __future__ import annotations

import os
import sys


def own_program() -> tuple[str, ...]:
    """The absolute words that start this very zitcache, from a place that outlives the shell."""
    launcher = os.environ.get("ZITCACHE_KIT_LAUNCHER")
    if launcher:
        return ("/bin/sh", os.path.abspath(launcher))
    script = os.path.abspath(sys.argv[0]) if sys.argv else ""
    if os.path.basename(script) == "zitcache" and os.access(script, os.X_OK) and os.path.isfile(script):
        return (script,)
    return (sys.executable, "-m", "zitcache")


def absolute(place: str) -> str:
    """A path that means the same in any directory; a URL stays as it is."""
    return place if "://" in place else os.path.abspath(os.path.expanduser(place))
