"""``schedule``: nights that come by themselves, and the truth about whether they do.

``installing``: put there and take away · ``state``: what is there, and does anything run it · ``running``:
our own scheduler, in the foreground · ``missed``: did a night not come.
"""

from __future__ import annotations

from zitcache.tasks.schedule.installing import InstallRequest, install, remove
from zitcache.tasks.schedule.running import RunRequest, run_scheduler
from zitcache.tasks.schedule.state import ScheduleReport, schedule_state, schedule_status

__all__ = [
    "InstallRequest",
    "RunRequest",
    "ScheduleReport",
    "install",
    "remove",
    "run_scheduler",
    "schedule_state",
    "schedule_status",
]
