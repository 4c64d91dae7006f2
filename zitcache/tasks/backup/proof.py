"""``backup --generate``: draw with what was just backed up, and keep the picture as a golden."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from zitcache.cache.inventory import Inventory
from zitcache.errors import Exit
from zitcache.events import Outcome, Session
from zitcache.proof.verdict import Verdict
from zitcache.repository.records import TreeEntry
from zitcache.repository.repository import Repository
from zitcache.tasks.prove import ProofOptions, ProofRequest, worst
from zitcache.tasks.prove.choosing import choose_model
from zitcache.tasks.prove.run import ProofRun

if TYPE_CHECKING:
    from zitcache.tasks.backup import BackupReport


class BackupProof:
    """The proof of one backup. The drawing process is started first, so that what it lacks is told before.

    Raises ``NotFound`` where no model can draw, ``ModelIncomplete``, ``PackagesMissing``, ``NotTrusted``.
    """

    def __init__(
        self, options: ProofOptions, stock: Inventory, repository: Repository, session: Session
    ) -> None:
        self._root = stock.root
        model = choose_model(stock.models, options.model, session)
        request = ProofRequest(model, stock.root, repository, replace(options, save_golden=True))
        # Weights are loaded when the snapshot is written: before, they would take the memory from the backup.
        self._run = ProofRun.begin(request, session, early=False)

    def add_to(self, outcome: Outcome[BackupReport], entries: Sequence[TreeEntry]) -> Outcome[BackupReport]:
        """Draw unless the snapshot is suspect, and put the proof into the report and the exit code."""
        report = outcome.data
        if report.suspect:
            report.proofs = self._run.give_up("Nothing was drawn, because files of the cache are damaged.")
        else:
            for entry in entries:
                if entry.kind == "file" and entry.blake3 is not None:
                    self._run.file_read(os.path.join(self._root, entry.real_path), entry.blake3)
            # A first snapshot takes what it finds: nobody has said yet that these weights are good.
            report.proofs = self._run.finish(vouched=not report.left_out, blessed=False)
        report.proof = worst(report.proofs)
        if report.proof.verdict is Verdict.FAILED and outcome.exit_code is not Exit.DAMAGE:
            outcome.exit_code = Exit.PROOF_FAILED
        return outcome

    def __enter__(self) -> BackupProof:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.close()
