"""A proof from start to end. The drawing process is started early: it imports while the files are read."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.proof.errors import DrawingFailed, NoGpu
from zitcache.proof.goldens import Golden, load_goldens, weights_digest
from zitcache.proof.messages import Open, Ready
from zitcache.proof.pipeline_folder import PipelineFolder, read_pipeline_folder, refuse_foreign
from zitcache.proof.process import DrawingProcess
from zitcache.proof.verdict import Verdict
from zitcache.tasks.prove.choosing import refuse_incomplete
from zitcache.tasks.prove.drawing import Known, draw_and_judge
from zitcache.tasks.prove.files import ProvedFiles
from zitcache.tasks.prove.report import ProofReport, ProofRequest

_BYTES_PER_WEIGHT = 2


class ProofRun:
    """Use it in a ``with`` block: leaving it ends the drawing processes.

    :meth:`begin`, then :meth:`file_read` for every file that is read anyway, then :meth:`finish`; or
    :meth:`give_up`, when there turns out to be no point in drawing.
    """

    def __init__(self, request: ProofRequest, folder: PipelineFolder, early: bool, session: Session) -> None:
        self._request = request
        self._early = early
        self._session = session
        self._folder = folder
        self._process = DrawingProcess.start(session.cancel)
        self._others: list[DrawingProcess] = []
        self._files = ProvedFiles(request.model, request.cache, self._on_ready)

    @classmethod
    def begin(cls, request: ProofRequest, session: Session, *, early: bool = True) -> ProofRun:
        """Start the drawing process; it imports, and loads each component as soon as its files were read.

        ``early`` False: it loads nothing before :meth:`finish`, as files may still be repaired. Raises
        ``PackagesMissing``, ``NotTrusted``, ``UsageError``, and ``ModelIncomplete``.
        """
        refuse_incomplete(request.model)
        folder = read_pipeline_folder(os.path.realpath(request.model.path))
        refuse_foreign(folder, trust=request.options.trust)
        run = cls(request, folder, early, session)
        device = "cuda:0" if request.options.all_gpus else request.options.device
        run._open(run._process, device, gated=True)
        return run

    def file_read(self, path: str | os.PathLike[str], blake3: str) -> None:
        """The file with this content was read and is in the page cache. May be called by any thread."""
        self._files.read(path, blake3)

    def file_changed(self, path: str | os.PathLike[str]) -> None:
        """The file was written anew since :meth:`file_read` told of it."""
        self._files.forget(path)

    def give_up(self, reason: str) -> list[ProofReport]:
        """End without drawing: a failed proof with this reason."""
        self.close()
        return [self._report(Verdict.FAILED, reason)]

    def finish(self, *, vouched: bool, blessed: bool | None = None) -> list[ProofReport]:
        """Draw and judge; one report for each device, in their order.

        ``vouched``: the files are what they are meant to be, as far as anybody knows. ``blessed``: they are
        known to be good, so that a picture which is none may become a golden; by default the same. Raises
        ``UsageError`` and its like, ``NoSpace``, ``Interrupted``; whatever keeps the weights from drawing
        becomes a failed proof.
        """
        session, request = self._session, self._request
        may_use_cpu = request.options.device in ("cpu", "any")
        try:
            weights = weights_digest(self._files.fingerprints(session))
            self._process.send(Ready())
            session.progress.stage("Loading the weights", self._folder.weights_bytes)
            if not self._process.devices().gpus and not may_use_cpu:
                return [self._skipped()]
            known = Known(
                request,
                weights,
                vouched,
                vouched if blessed is None else blessed,
                self._goldens(weights),
                self._directory(),
            )
            return self._prove_all(known)
        except DrawingFailed as error:
            return [self._failed(error)]
        except NoGpu:
            return [self._skipped()]

    def close(self) -> None:
        """End the drawing processes. May be called again."""
        for process in (self._process, *self._others):
            process.close()

    def __enter__(self) -> ProofRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the devices --------------------------------------------------------------------------------

    def _prove_all(self, known: Known) -> list[ProofReport]:
        count = len(self._process.devices().gpus) if self._request.options.all_gpus else 1
        if count <= 1:
            return [self._prove_one(self._process, known)]
        parallel = self._parallel(count)
        with ThreadPoolExecutor(parallel, thread_name_prefix="proof") as pool:
            futures = [
                pool.submit(self._prove_gpu, index, _in_folder(known, f"gpu{index}"))
                for index in range(count)
            ]
            return [future.result() for future in futures]

    def _prove_gpu(self, index: int, known: Known) -> ProofReport:
        if index == 0:
            return self._prove_one(self._process, known)
        process = DrawingProcess.start(self._session.cancel)
        self._others.append(process)
        self._open(process, f"cuda:{index}", gated=False)
        report = self._prove_one(process, known)
        process.close()
        return report

    def _prove_one(self, process: DrawingProcess, known: Known) -> ProofReport:
        try:
            return draw_and_judge(process, known, self._session)
        except DrawingFailed as error:
            return self._failed(error)

    def _parallel(self, count: int) -> int:
        """How many GPUs at once: each process holds its weights in the main memory while it loads them."""
        import psutil

        held = max(1, sum(self._folder.elements.values()) * _BYTES_PER_WEIGHT)
        return max(1, min(count, int(psutil.virtual_memory().available // held)))

    def _open(self, process: DrawingProcess, device: str, *, gated: bool) -> None:
        options = self._request.options
        components = [part.name for part in self._folder.components]
        process.send(
            Open(
                model=self._folder.path,
                device=device,
                dtype=options.dtype,
                size=options.size,
                trust=options.trust,
                gated=components if gated else [],
            )
        )

    def _on_ready(self, component: str) -> None:
        if self._early:
            self._process.send(Ready(component=component))

    # -- what is around them ------------------------------------------------------------------------

    def _goldens(self, weights: str) -> list[Golden]:
        """Those of these weights, whatever they are called, and those of this model, of whatever weights."""
        request = self._request
        if request.repository is None:
            return []
        return [
            golden
            for golden in load_goldens(request.repository)
            if golden.record.weights == weights or golden.record.model == request.model.id
        ]

    def _directory(self) -> Path:
        """The folder for this proof, which holds no other; it is made when there is something to put in."""
        named = self._request.options.directory
        stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
        if named is not None:
            folder = named.absolute()
            return folder / stamp if folder.exists() and any(folder.iterdir()) else folder
        location = self._request.repository.storage.location if self._request.repository else None
        if location is not None and os.path.isabs(location):
            return Path(f"{location.rstrip('/')}-proofs") / stamp
        return Path.cwd() / f"zitcache-proof-{stamp}"

    def _skipped(self) -> ProofReport:
        reason = "There is no GPU that torch can use, so nothing was drawn and nothing is proved."
        self._session.warn("proof-skipped", reason, "To draw on the CPU, which is slow: --device cpu")
        return self._report(Verdict.SKIPPED, reason)

    def _failed(self, error: ZitcacheError) -> ProofReport:
        return self._report(Verdict.FAILED, *([error.message, error.hint] if error.hint else [error.message]))

    def _report(self, verdict: Verdict, *reasons: str) -> ProofReport:
        model = self._request.model
        return ProofReport(
            verdict=verdict, tier=None, reasons=list(reasons), model=model.id, revision=model.revision
        )


def _in_folder(known: Known, name: str) -> Known:
    return replace(known, directory=known.directory / name)
