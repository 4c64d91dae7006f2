"""What the tests of the proof share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.proof.fake_gpu import fake_machine as fake_machine
from zitcache.cache.inventory import Model, inventory
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.storage.opening import open_storage
from zitcache.tasks.prove import ProofOptions, ProofReport, ProofRequest, prove
from zitcache.tasks.sample import SampleLayout, sample


@dataclass
class World:
    """A sample cache, a repository, and what was said."""

    root: Path
    cache: Path
    session: Session

    @property
    def model(self) -> Model:
        """The sample, as it lies there now."""
        return inventory(self.cache).models[0]

    @property
    def model_path(self) -> Path:
        """Its folder."""
        return self.model.path

    @property
    def repository(self) -> Repository:
        """Opened anew each time, as another process would."""
        return Repository.open(open_storage(str(self.root / "repository")))

    def prove(self, *, vouched: bool = True, **options: object) -> list[ProofReport]:
        """Prove the sample; one report for each device."""
        request = ProofRequest(self.model, self.cache, self.repository, ProofOptions(**options))  # type: ignore[arg-type]
        return prove(request, self.session, vouched=vouched)

    def codes(self) -> list[str]:
        """The codes of all warnings."""
        return [notice.code for notice in self.session.warnings]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh sample beside an empty repository."""
    sample(tmp_path / "cache", SampleLayout.MODELSCOPE, Session())
    Repository.create(open_storage(str(tmp_path / "repository")))
    return World(tmp_path, tmp_path / "cache", Session())
