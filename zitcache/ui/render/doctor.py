"""How ``doctor`` is shown: the danger first, then what deserves a look, then the rest (``-v``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zitcache.ui.table import Column, table
from zitcache.ui.text import duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.doctor.report import Check, DiskState, DoctorReport
    from zitcache.ui.report import View

_DISKS = (
    Column("Disk"),
    Column("Type"),
    Column("Free", right=True),
    Column("After a reset"),
    Column("Why"),
)
_VERDICTS = {"survives": "survives", "lost": "lost", "unknown": "not known"}


def render_doctor(report: DoctorReport, view: View) -> list[str]:
    """The headline with its command; failed checks; warnings; what was fixed; a count of the others."""
    failed = [check for check in report.checks if check.status == "fail"]
    warned = [check for check in report.checks if check.status == "warn"]
    paint = view.style.bad if failed else view.style.caution if warned else view.style.good
    lines = [paint(printable(report.headline))]
    if report.command:
        lines.append(f"Run: {view.style.strong(printable(report.command))}")
    for fixed in report.fixed:
        lines.append(view.style.good("fixed") + f"  {printable(fixed.done)}")
        lines += view.items([f"       {printable(path)}" for path in fixed.files])
    shown = [*failed, *warned]
    if view.limit is None:
        shown += [check for check in report.checks if check not in shown]
    if shown:
        lines.append("")
    for check in shown:
        lines += _check(check, view)
    if view.limit is None and report.disks:
        lines += ["", *table(_DISKS, (_disk(disk) for disk in report.disks), view.style)]
    lines += ["", _count(report, view)]
    return lines


def _check(check: Check, view: View) -> list[str]:
    paint: dict[str, Callable[[str], str]] = {
        "fail": view.style.bad,
        "warn": view.style.caution,
        "ok": view.style.good,
        "skip": view.style.dim,
    }
    status = paint.get(check.status, view.style.dim)(f"{printable(check.status):<4}")
    lines = [f"{status}  {printable(check.id)}: {printable(check.evidence)}"]
    if check.fix:
        lines.append(f"      Run: {view.style.strong(printable(check.fix))}")
    if check.advice:
        lines.append(f"      {printable(check.advice)}")
    return lines


def _disk(disk: DiskState) -> list[str]:
    return [
        printable(disk.mount_point),
        printable(disk.fstype),
        "no answer" if disk.bytes_free is None else size(disk.bytes_free),
        _VERDICTS.get(disk.verdict, printable(disk.verdict)),
        printable(disk.reason),
    ]


def _count(report: DoctorReport, view: View) -> str:
    numbers = {
        status: sum(1 for check in report.checks if check.status == status)
        for status in ("fail", "warn", "ok", "skip")
    }
    told = ", ".join(f"{number} {status}" for status, number in numbers.items() if number)
    more = "" if view.limit is None else " -v shows all."
    return view.style.dim(f"{len(report.checks)} checks in {duration(report.seconds)}: {told}.{more}")
