"""``prove``: load the weights, draw, and know that the picture is right.

``report``: request and answer · ``choosing``: which model · ``files``: their digests, as they are read ·
``run``: the drawing processes and devices · ``drawing``: one proof on one device. ``verify --generate``,
``backup --generate`` and ``drill`` are built on :class:`zitcache.tasks.prove.run.ProofRun`; :func:`prove`
is all of it in one call. Only ``report`` is imported with this package: the nightly backup has to start
fast.
"""

from __future__ import annotations

from zitcache.events import Session
from zitcache.tasks.prove.report import ProofOptions, ProofReport, ProofRequest, worst

__all__ = ["ProofOptions", "ProofReport", "ProofRequest", "prove", "worst"]


def prove(request: ProofRequest, session: Session, *, vouched: bool = False) -> list[ProofReport]:
    """Prove a model; one report for each device (one, unless all GPUs were asked for).

    ``vouched``: the files are known to be good. Raises ``PackagesMissing``, ``NotTrusted``,
    ``ModelIncomplete``, ``UsageError``, ``NoSpace`` and the like, ``Interrupted``.
    """
    from zitcache.tasks.prove.run import ProofRun

    with ProofRun.begin(request, session) as run:
        return run.finish(vouched=vouched)
