"""One proof on one device: draw, find the golden, compare, judge, write down."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from zitcache import __version__
from zitcache.errors import from_os_error
from zitcache.events import Session
from zitcache.machine.files import write_durably
from zitcache.proof.attestation import Attestation, encode_attestation
from zitcache.proof.fits import Placement
from zitcache.proof.goldens import Golden, GoldenRecord, choose_golden, save_golden
from zitcache.proof.judging import Evidence, GoldenEvidence, Judgement, judge
from zitcache.proof.messages import Compare, Compared, Component, Draw, Drawn, Event, Loaded, Refit
from zitcache.proof.process import DrawingProcess
from zitcache.proof.settings import OTHER_PROMPT
from zitcache.proof.similarity import Likeness
from zitcache.proof.verdict import Verdict
from zitcache.tasks.prove.report import ProofReport, ProofRequest

SMALL_SIZE = 256
"""Pixels. The same seed again and another prompt are drawn at this size: enough to tell, and a tenth of the
cost."""

_SMALL_STEPS = 4
_GOLDENS_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before anything is drawn; see ``ProofRun.finish`` for ``vouched`` and ``blessed``."""

    request: ProofRequest
    weights: str
    vouched: bool
    blessed: bool
    goldens: list[Golden]
    directory: Path


def draw_and_judge(process: DrawingProcess, known: Known, session: Session) -> ProofReport:
    """Draw with the model that ``process`` was told to open.

    Raises what the process fails with, ``NoSpace`` and the like from writing, and ``Interrupted``.
    """
    return _Proof(process, known, session).run()


class _Proof:
    def __init__(self, process: DrawingProcess, known: Known, session: Session) -> None:
        self._process = process
        self._known = known
        self._options = known.request.options
        self._session = session

    def run(self) -> ProofReport:
        """All steps in order."""
        loaded = self._process.wait_for(Loaded, self._on_event)
        _make(self._known.directory)
        drawn, repeats, prompts_differ = self._draw(loaded)
        golden, likeness, sheet = self._compare(loaded, drawn)
        judgement = judge(
            Evidence(
                vitals=drawn.vitals,
                size=drawn.settings.size,
                repeats=repeats,
                prompts_differ=prompts_differ,
                golden=golden,
                blessed=self._options.save_golden and self._known.blessed,
            )
        )
        saved = self._save_golden(loaded, drawn, golden, judgement)
        attestation = self._attest(loaded, drawn, golden, likeness, judgement)
        self._warn(judgement)
        model = self._known.request.model
        return ProofReport(
            verdict=judgement.verdict,
            tier=judgement.tier,
            reasons=judgement.reasons,
            model=model.id,
            revision=model.revision,
            device=loaded.environment.device,
            device_name=loaded.environment.device_name,
            dtype=loaded.environment.dtype,
            placement=drawn.fit.placement.value,
            size=drawn.settings.size,
            seconds_load=loaded.seconds,
            seconds_draw=drawn.seconds,
            image=drawn.path,
            golden=golden.id if golden else None,
            identical=golden.equal if golden else None,
            psnr=likeness.psnr if likeness else None,
            ssim=likeness.ssim if likeness else None,
            phash_distance=likeness.phash_distance if likeness else None,
            contact_sheet=sheet,
            attestation=attestation,
            golden_saved=saved,
            weights=self._known.weights,
        )

    def _draw(self, loaded: Loaded) -> tuple[Drawn, bool | None, bool | None]:
        """The picture; whether the same seed gives it again; whether another prompt gives another."""
        options, size = self._options, loaded.fit.size
        keep = str(self._known.directory / "picture.png")
        if loaded.fit.placement is Placement.LAYER_OFFLOAD:
            # Every picture takes minutes there.
            return self._draw_one("main", path=keep), None, None
        if size <= SMALL_SIZE:
            drawn = self._draw_one("main", path=keep)
            first, small, steps = drawn, None, options.steps
        else:
            small, steps = SMALL_SIZE, _SMALL_STEPS
            first = self._draw_one("first", size=small, steps=steps)
        again = self._draw_one("again", size=small, steps=steps)
        other = self._draw_one("other", size=small, steps=steps, prompt=OTHER_PROMPT)
        if size > SMALL_SIZE:
            drawn = self._draw_one("main", path=keep)
        return drawn, first.digest == again.digest, first.digest != other.digest

    def _draw_one(
        self,
        name: str,
        *,
        path: str | None = None,
        size: int | None = None,
        steps: int | None = None,
        prompt: str | None = None,
    ) -> Drawn:
        self._session.progress.stage("Drawing")
        model, options = self._known.request.model, self._options
        metadata = {
            "model": model.id,
            "revision": model.revision,
            "weights": self._known.weights,
            "software": f"zitcache {__version__}",
        }
        self._process.send(
            Draw(
                id=name,
                prompt=prompt or options.prompt,
                seed=options.seed,
                steps=steps or options.steps,
                size=size,
                guidance=options.guidance,
                path=path,
                metadata=metadata if path else {},
                keep=path is not None,
            )
        )
        return self._process.wait_for(Drawn, self._on_event)

    def _compare(
        self, loaded: Loaded, drawn: Drawn
    ) -> tuple[GoldenEvidence | None, Likeness | None, str | None]:
        environment = loaded.environment
        same = [golden for golden in self._known.goldens if golden.record.weights == self._known.weights]
        candidates = same if same or self._known.vouched else self._known.goldens
        golden = choose_golden(candidates, drawn.settings, environment, drawn.digest)
        if golden is None:
            self._say_other_settings(candidates, drawn)
            return None, None, None
        picture = self._process.scratch / "golden.png"
        picture.write_bytes(golden.record.picture)
        sheet = str(self._known.directory / "contact-sheet.png")
        self._process.send(Compare(id="main", golden=str(picture), sheet=sheet))
        compared = self._process.wait_for(Compared, self._on_event)
        evidence = GoldenEvidence(
            id=golden.id,
            equal=golden.record.pixels == drawn.digest,
            differences=environment.differences(golden.record.environment),
            likeness=compared.likeness,
            other_weights=not same,
        )
        return evidence, compared.likeness, compared.sheet

    def _say_other_settings(self, goldens: list[Golden], drawn: Drawn) -> None:
        if goldens:
            sizes = sorted({golden.record.settings.size for golden in goldens})
            self._session.warn(
                "golden-of-other-settings",
                f"The goldens of this model were drawn with other settings or in another size "
                f"({', '.join(map(str, sizes))} px; this picture has {drawn.settings.size} px).",
                "Draw with the same settings, or keep this one: zitcache verify --generate --save-golden",
            )

    def _save_golden(
        self, loaded: Loaded, drawn: Drawn, golden: GoldenEvidence | None, judgement: Judgement
    ) -> str | None:
        """Keep the picture as a golden, if that was asked for, and it is good, and it is not one already."""
        request = self._known.request
        if not self._options.save_golden or request.repository is None:
            return None
        if drawn.path is None:
            return None
        if golden is not None and golden.equal and not golden.differences and not golden.other_weights:
            return None
        good = judgement.verdict is Verdict.PASSED or (judgement.verdict is Verdict.WARNED and golden is None)
        if not (judgement.sound and good):
            self._session.warn("golden-not-saved", "No golden was saved: the proof did not pass.")
            return None
        record = GoldenRecord(
            time=_now(),
            host=socket.gethostname(),
            program=f"zitcache {__version__}",
            model=_text(request.model.id),
            revision=_text(request.model.revision),
            weights=self._known.weights,
            settings=drawn.settings,
            environment=loaded.environment,
            pixels=drawn.digest,
            alive=judgement.alive,
            picture=Path(drawn.path).read_bytes(),
        )
        with _GOLDENS_LOCK:
            return save_golden(request.repository, record)

    def _attest(
        self,
        loaded: Loaded,
        drawn: Drawn,
        golden: GoldenEvidence | None,
        likeness: Likeness | None,
        judgement: Judgement,
    ) -> str:
        from blake3 import blake3

        path = self._known.directory / "attestation.json"
        model = self._known.request.model
        picture = Path(str(drawn.path))
        attestation = Attestation(
            time=_now(),
            host=socket.gethostname(),
            program=f"zitcache {__version__}",
            model=_text(model.id),
            revision=_text(model.revision),
            weights=self._known.weights,
            files_verified=self._known.vouched,
            judgement=judgement,
            settings=drawn.settings,
            environment=loaded.environment,
            fit=drawn.fit,
            vitals=drawn.vitals,
            pixels=drawn.digest,
            picture=picture.name,
            picture_blake3=blake3(picture.read_bytes()).hexdigest(),
            golden=golden.id if golden else None,
            likeness=likeness,
            seconds_load=loaded.seconds,
            seconds_draw=drawn.seconds,
            network_attempts=[_text(target) for target in self._process.attempts],
        )
        try:
            write_durably(path, encode_attestation(attestation))
        except OSError as error:
            raise from_os_error(error, f"writing {path}") from error
        return str(path)

    def _warn(self, judgement: Judgement) -> None:
        if judgement.verdict is Verdict.WARNED:
            self._session.warn(
                "proof-warned", f"The proof passed with a warning: {' '.join(judgement.reasons)}"
            )
        if self._process.attempts:
            self._session.warn(
                "network-attempted",
                f"While drawing, something tried to reach {self._process.attempts[0]} and was refused.",
            )

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Component):
            self._session.progress.advance(event.size_bytes)
        elif isinstance(event, Refit):
            self._session.warn(
                "less-memory", f"The GPU memory was not enough for {event.failed}; trying {event.fit}."
            )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"making the folder {folder}") from error


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _text(name: str) -> str:
    """A name as valid Unicode."""
    return os.fsencode(name).decode(errors="replace")
