"""What the tests of nights share."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.backup.world import command, make_model, settle
from tests.storage.disks import python_environment
from zitcache.errors import Exit
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.schedule.history import Run, recent_runs, state_directory
from zitcache.storage.local import LocalStorage
from zitcache.tasks.night import NightReport, NightRequest, night
from zitcache.ui.page import render_page


class World:
    """A cache, a repository and a configuration below one directory, in a home of its own."""

    def __init__(self, base: Path) -> None:
        self.cache = base / "cache"
        self.place = base / "data/zitcache"
        self.config = base / "home/.config/zitcache/config.toml"
        self.model = make_model(self.cache / "models/a--b/snapshots/master")
        self.config.parent.mkdir(parents=True)
        self.place.parent.mkdir()
        Repository.create(LocalStorage(self.place))
        settle(self.cache)
        self.configure("")

    def configure(self, text: str, *, kit: bool = False) -> None:
        """Write the configuration; without a kit, whose 100 MB would be copied in every test."""
        self.config.write_text(("" if kit else "kit = false\n") + text)
        self.config.chmod(0o600)

    def night(self, **request: Any) -> tuple[NightReport, Exit, Session]:
        session = Session()
        wanted = {"repository": str(self.place), "cache": str(self.cache), "render": render_page, **request}
        outcome = night(NightRequest(**wanted), session)
        return outcome.data, outcome.exit_code, session

    def runs(self) -> list[Run]:
        return recent_runs(Repository.open(LocalStorage(self.place)), state_directory())

    def snapshots(self) -> int:
        return len(list_snapshots(Repository.open(LocalStorage(self.place)))[0])

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """``zitcache night`` as a process of its own."""
        return subprocess.Popen(
            command("night", "--repo", self.place, "--cache", self.cache, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**python_environment(), **environ},
        )


def steps(report: NightReport) -> dict[str, int]:
    return {step.name: step.exit_code for step in report.steps if step.skipped is None}
