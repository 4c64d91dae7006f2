"""Figures and pages for the tests of the report, and a browser without a window to look at them."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.night_reports import MODEL, SIZE, STORED, moment, overview, report_data
from zitcache.tasks.overview import ModelState
from zitcache.tasks.overview.problems import problems_of
from zitcache.tasks.overview.sizes import Sizes, Totals
from zitcache.tasks.report import ReportData
from zitcache.tasks.report.collect import InventoryLine, RunPoint, SnapshotPoint
from zitcache.tasks.report.pictures import Picture

BEGIN = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)
PHONE, DESK = (390, 844), (1280, 900)


def png(seed: int = 0, size: int = 256) -> bytes:
    """A real picture: a gradient with discs."""
    image_module = pytest.importorskip("PIL.Image", reason="needs pillow")
    draw_module = pytest.importorskip("PIL.ImageDraw", reason="needs pillow")
    image = image_module.new("RGB", (size, size))
    image.putdata([(x * 255 // size, y * 255 // size, 128) for y in range(size) for x in range(size)])
    pen = draw_module.Draw(image)
    for number in range(6):
        x, y = (seed * 37 + number * 71) % size, (seed * 53 + number * 29) % size
        pen.ellipse((x - 20, y - 20, x + 20, y + 20), fill=(255 - number * 30, number * 40, 90))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def snapshots(count: int) -> list[SnapshotPoint]:
    """One a night; some are suspect or partial, and a few pinned."""
    return [
        SnapshotPoint(
            id=f"{number:08x}" + "0" * 56,
            time=(BEGIN + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            size_bytes=SIZE + (number // 40) * 4_000_000_000,
            bytes_new_stored=STORED if number == 0 else 40_000_000 if number % 40 == 0 else 0,
            state="suspect" if number % 97 == 50 else "partial" if number % 61 == 30 else "good",
            host="box",
            tags=["nightly"],
            pinned=number % 90 == 10,
        )
        for number in range(count)
    ]


def runs(count: int) -> list[RunPoint]:
    """One a night; a drill each month, and a failure now and then."""
    found = []
    for number in range(count):
        drill = number % 30 == 12
        failed = number % 23 == 9
        steps = [("backup", 18.0 + number % 5, 5 if failed else 0), ("check", 4.0, 0)]
        found.append(
            RunPoint(
                started=(BEGIN + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                seconds=25.0 + number % 7 + (70.0 if drill else 0.0),
                exit_code=5 if failed else 0,
                steps=[*steps, *([("drill", 70.0, 0)] if drill else [])],
                bytes_read=1_100_000_000 if number else SIZE,
                bytes_new_stored=0,
                backup_seconds=1.2 if number else 21.0,
            )
        )
    return found


def rich(count: int = 120, **changes: Any) -> ReportData:
    """A repository of three models that has been at work for months."""
    models = [
        overview().models[0],
        ModelState(
            id="Qwen/Qwen3-4B",
            revision="1cfa9a7208912126459214e8b04321603b3df60c",
            size_bytes=8_044_982_012,
            in_cache="complete",
            snapshot_id="3fa4b2c1" + "0" * 56,
            snapshot_time="2026-01-31T02:00:00Z",
            age_seconds=36_000.0,
        ),
        ModelState(
            id="stabilityai/sdxl-vae",
            revision="main",
            size_bytes=334_643_276,
            in_cache="absent",
            snapshot_id="3fa4b2c1" + "0" * 56,
            snapshot_time="2026-01-31T02:00:00Z",
            age_seconds=90 * 86_400.0,
        ),
    ]
    data = report_data(
        overview=overview(models=models, snapshots=count),
        snapshots=snapshots(count),
        runs=runs(min(count, 60)),
        by_dtype=[
            Sizes(name="F32", size_bytes=24_619_690_888, stored_bytes=8_124_000_000),
            Sizes(name="BF16", size_bytes=16_089_963_624, stored_bytes=10_620_000_000),
            Sizes(name="F16", size_bytes=334_643_276, stored_bytes=301_000_000),
            Sizes(name="other", size_bytes=11_422_654, stored_bytes=2_900_000),
        ],
        by_model=[
            Sizes(name=MODEL, size_bytes=SIZE, stored_bytes=STORED),
            Sizes(name="Qwen/Qwen3-4B", size_bytes=8_044_982_012, stored_bytes=210_000_000),
            Sizes(name="stabilityai/sdxl-vae", size_bytes=334_643_276, stored_bytes=301_000_000),
        ],
        totals=Totals(size_bytes=count * SIZE, unique_bytes=33_200_000_000, stored_bytes=14_700_000_000),
        inventory=[
            *report_data().inventory,
            InventoryLine(
                id="Qwen/Qwen3-4B",
                revision="1cfa9a7208912126459214e8b04321603b3df60c",
                layout="huggingface",
                files=12,
                size_bytes=8_044_982_012,
                dtypes={"BF16": 8_044_936_192},
                complete=True,
                problems=[],
            ),
        ],
        next_run="2026-05-01T02:00:00Z",
        backend="cron",
        golden=Picture(png=png(1), model=MODEL, time="2026-01-02T04:30:00Z", detail="box"),
        proof=Picture(
            png=png(1),
            model=MODEL,
            time="2026-04-02T04:30:00Z",
            detail="The raw pixels are equal to the golden's.",
            verdict="passed",
        ),
    )
    return msgspec.structs.replace(data, **changes)


def in_trouble() -> ReportData:
    """Something of everything that can be wrong."""
    models = [
        msgspec.structs.replace(
            overview().models[0], snapshot_id=None, age_seconds=None, in_cache="incomplete"
        )
    ]
    moments = [
        moment("backup", 5, 1.5, last_exit_code=5),
        moment("check", 60, 40, detail="12 of 230 packs were never read back"),
        moment("drill", 12, 40),
        moment("proof", 0, 40, time=None, age_seconds=None),
    ]
    view = overview(models=models, moments=moments, stale=["backup", "check"])
    return rich(
        40,
        overview=view,
        problems=problems_of(view, ["9b01d7e2" + "0" * 56], 5),
        next_run=None,
        backend=None,
        schedule_problem="There is an entry for cron, but no cron daemon is running here.",
        golden=None,
        proof=None,
    )


# -- the browser --------------------------------------------------------------------------------------


@lru_cache
def browser() -> str | None:
    """Chromium, or what it is called here."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Seen:
    """What the browser made of a page: its elements after loading, and what it said."""

    dom: str
    said: str

    def text(self, element: str) -> str:
        """The words within the element with that id, without markup."""
        reader = _Text(element)
        reader.feed(self.dom)
        assert reader.seen, f"there is no {element}"
        return " ".join(" ".join(reader.words).split())

    def elements(self) -> list[tuple[str, list[str]]]:
        """Every element in its order, and the names of its attributes."""
        reader = _Elements()
        reader.feed(self.dom)
        return reader.found


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


class _Text(HTMLParser):
    """Collects the text of one element."""

    _VOID = frozenset({"br", "img", "meta", "link", "path", "rect"})

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self._wanted, self._depth = wanted, 0
        self.seen = False
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._depth and tag not in self._VOID:
            self._depth += 1
        elif ("id", self._wanted) in attrs:
            self._depth, self.seen = 1, True

    def handle_endtag(self, tag: str) -> None:
        if self._depth and tag not in self._VOID:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.words.append(data)


def look(page: str, *more: str, size: tuple[int, int] = DESK, dark: bool = False) -> Seen:
    """Load a page and give its elements back."""
    with tempfile.TemporaryDirectory() as folder:
        done = _run(Path(folder), page, "--dump-dom", *more, size=size, dark=dark)
    return Seen(done.stdout, done.stderr)


def screenshot(page: str, output: Path, *, size: tuple[int, int] = DESK, dark: bool = False) -> bytes:
    """A picture of a page as a window of that size shows it."""
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), page, f"--screenshot={output}", "--hide-scrollbars", size=size, dark=dark)
    return output.read_bytes()


def _run(
    folder: Path, page: str, *more: str, size: tuple[int, int], dark: bool
) -> subprocess.CompletedProcess[str]:
    program = browser()
    if program is None:
        pytest.skip("needs chromium (package chromium)")
    (folder / "page.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    return subprocess.run(
        [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--force-device-scale-factor=1",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--no-proxy-server",
            f"--user-data-dir={folder}/profile",
            f"--window-size={size[0]},{size[1]}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--virtual-time-budget=2000",
            *more,
            f"file://{folder}/page.html",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        env={**os.environ, "HOME": str(folder)},
        check=True,
    )
