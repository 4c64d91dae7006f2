"""``verify --generate``: the drawing beside the verification, in one pass over the disk."""

from __future__ import annotations

import os
from types import TracebackType

from zitcache.cache.inventory import inventory
from zitcache.errors import Exit, RepositoryNotFound
from zitcache.events import Outcome, Session
from zitcache.proof.errors import ModelIncomplete
from zitcache.proof.verdict import Verdict
from zitcache.repository.repository import Repository
from zitcache.tasks.locations import open_repository
from zitcache.tasks.prove import ProofOptions, ProofReport, ProofRequest, worst
from zitcache.tasks.prove.choosing import choose_model
from zitcache.tasks.prove.run import ProofRun
from zitcache.tasks.settings import resolve_repository
from zitcache.tasks.verify.findings import Findings
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.reference import Reference
from zitcache.tasks.verify.report import VerifyReport, VerifyRequest


class VerifyProof:
    """The proof of one verification. The drawing process imports and loads while the files are hashed.

    Raises ``NotFound`` where no model can draw, ``PackagesMissing``, ``NotTrusted``, ``UsageError``. A
    model that is not complete is no error here: what is missing is what ``verify`` will tell.
    """

    def __init__(
        self,
        request: VerifyRequest,
        options: ProofOptions,
        live: Live,
        reference: Reference | None,
        session: Session,
    ) -> None:
        self._live = live
        self._session = session
        self._model = choose_model(live.models, options.model, session)
        self._request = ProofRequest(
            self._model, live.scope.root, _repository(request, options, reference, session), options
        )
        self._run: ProofRun | None = None
        try:
            # What is going to be repaired must not be loaded before.
            self._run = ProofRun.begin(self._request, session, early=not request.repair)
        except ModelIncomplete as error:
            self._incomplete = error

    def file_read(self, path: str, blake3: str) -> None:
        """``verify`` has read this file."""
        if self._run is not None:
            self._run.file_read(path, blake3)

    def add_to(self, outcome: Outcome[VerifyReport], findings: Findings) -> Outcome[VerifyReport]:
        """Draw if the files are good, and put the proof into the report and the exit code."""
        report = outcome.data
        report.proofs = self._finish(findings)
        report.proof = worst(report.proofs)
        verdict = report.proof.verdict
        if verdict is Verdict.FAILED and outcome.exit_code is not Exit.DAMAGE:
            outcome.exit_code = Exit.PROOF_FAILED
        elif outcome.exit_code is Exit.NOT_FOUND and verdict in (Verdict.PASSED, Verdict.WARNED):
            # Nothing says that the bytes are right, but the picture was asked for and is there.
            outcome.exit_code = Exit.OK
        return outcome

    def __enter__(self) -> VerifyProof:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._run.close()

    def _finish(self, findings: Findings) -> list[ProofReport]:
        damaged = self._damaged(findings)
        if self._run is None and not damaged:
            return self._begin_again(findings)
        if self._run is None:
            return [self._refused(self._incomplete.message)]
        for one in findings.wrong:
            if one.repaired:
                self._run.file_changed(self._live.full_path(one.content or one.path))
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            return self._run.give_up(
                f"Nothing was drawn, because the files are not good: {damaged[0]}{more}."
            )
        return self._run.finish(vouched=self._is_vouched(findings))

    def _begin_again(self, findings: Findings) -> list[ProofReport]:
        """The model was not complete in the beginning; perhaps it was repaired."""
        models = inventory(self._live.scope.root).models
        model = next((model for model in models if model.path == self._model.path), self._model)
        request = ProofRequest(model, self._request.cache, self._request.repository, self._request.options)
        try:
            with ProofRun.begin(request, self._session) as run:
                return run.finish(vouched=self._is_vouched(findings))
        except ModelIncomplete as error:
            return [self._refused(error.message)]

    def _refused(self, reason: str) -> ProofReport:
        model = self._model
        return ProofReport(
            verdict=Verdict.FAILED,
            tier=None,
            reasons=[f"Nothing was drawn: {reason}"],
            model=model.id,
            revision=model.revision,
        )

    def _damaged(self, findings: Findings) -> list[str]:
        """What is wrong with the model's files and was not repaired."""
        wrong = [one for one in findings.wrong if not one.repaired]
        names = {name for one in wrong for name in (one.path, one.content, *one.others) if name is not None}
        return sorted(name for name in {*names, *findings.missing} if self._is_of_model(name))

    def _is_of_model(self, name: str) -> bool:
        root = self._live.relative(self._model.path)
        own = {name for file in self._model.files for name in (file.path, file.content_path)}
        return name in own or not root or name.startswith(root + os.sep)

    def _is_vouched(self, findings: Findings) -> bool:
        unknown = any(self._is_of_model(name) for name in findings.unverified)
        return bool(findings.sources) and not unknown and not findings.partial


def _repository(
    request: VerifyRequest, options: ProofOptions, reference: Reference | None, session: Session
) -> Repository | None:
    """Where goldens are: the repository that is compared with, else the one that is configured.

    Raises ``RepositoryNotFound`` if there is none and a golden is to be saved.
    """
    if reference is not None:
        return reference.repository
    try:
        if options.save_golden or resolve_repository(request.repository).value is not None:
            return open_repository(request.repository, session)
    except RepositoryNotFound:
        if options.save_golden:
            raise
    return None
