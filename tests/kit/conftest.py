from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from zitcache.events import Session
from zitcache.tasks.kit import keep_kit
from zitcache.tasks.kit.layout import MANIFEST, python_tag
from zitcache.tasks.kit.sources import package_folder, source_fingerprint


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings, crontab or disks of the machine that the tests run on."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("ZITCACHE_", "XDG_CONFIG")):
            monkeypatch.delenv(name)
    for name in ("MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(tmp_path / "system"))
    monkeypatch.setattr("zitcache.tasks.discovery.data_mounts", lambda: ())
    monkeypatch.setattr("zitcache.tasks.locations.data_mounts", lambda: ())
    return home


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit, made once. Not to be changed."""
    place = tmp_path_factory.mktemp("made") / "holder" / "kit"
    session = Session()
    report = keep_kit(place, session, environment={"HF_HOME": "/data/cache"}, cache="/data/cache")
    assert report.action == "made" and not session.warnings, session.warnings
    return place


def own(path: Path) -> Path:
    """Make a file of a kit its own, before it is changed in place. Copying all of each kit takes minutes."""
    copy = path.with_name(path.name + ".own")
    shutil.copy2(path, copy)
    copy.replace(path)
    return path


@pytest.fixture
def kit(made: Path, tmp_path: Path) -> Path:
    """A kit to be changed, in a folder of its own. Its files are links: see :func:`own`."""
    place = tmp_path / "holder" / "kit"
    shutil.copytree(made, place, symlinks=True, copy_function=os.link)
    for path in [*place.glob("*"), *place.glob("machines/*"), *place.glob("*/*")]:
        if path.is_file():
            own(path)
    # Whoever edits zitcache while its tests run has not made the kit of this moment out of date.
    manifest = place / python_tag() / MANIFEST
    now = {"source": source_fingerprint(package_folder())}
    manifest.write_bytes(msgspec.json.encode(json.loads(manifest.read_bytes()) | now))
    return place
