"""zitcache keeps large model caches alive: back up, restore, verify, migrate, prove."""

from __future__ import annotations

__version__ = "0.1.0"
