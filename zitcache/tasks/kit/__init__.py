"""The kit: what a bare machine needs to run zitcache from the data disk, without network or installation.

``layout``: what lies where · ``sources``: what goes in · ``fresh``: is it up to date · ``build``: put it
there · ``scripts``: ``recover.sh`` and its kind, in ``data/`` · ``settings``: config, variables and schedule
of each machine · ``keep``: all of that after a backup · ``check``: prove that it runs · ``command``: what
``zitcache kit`` does.
"""

from __future__ import annotations

from zitcache.tasks.kit.keep import keep_kit
from zitcache.tasks.kit.report import KitReport, KitStep

__all__ = ["KitReport", "KitStep", "keep_kit"]
