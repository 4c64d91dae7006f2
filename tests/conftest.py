"""For all tests: no kit in the repositories that they make by the hundred. Those about the kit say so."""

from __future__ import annotations

import os

os.environ["ZITCACHE_KIT"] = "no"
