"""`env --own`: a cache of one's own, the weights shared, and never two writers in one tree."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache import hub_server
from tests.cache.builders import HF_FOLDER, MODEL, pipeline_files, write, write_huggingface, write_legacy
from tests.cache.hub_server import COMMIT, huggingface_hub
from tests.cache.test_sdk_caches import needs, sdk
from tests.environment.machine import NOBODY, as_nobody, needs_root
from zitcache.cache.inventory import inventory
from zitcache.cache.variables import variables_for
from zitcache.errors import CacheNotFound, IntegrityError, UsageError
from zitcache.events import Notice, Session
from zitcache.tasks.environment import own as making
from zitcache.tasks.environment.own import make_own, shared_cache_of
from zitcache.tasks.environment.own_notes import NOTE_NAME
from zitcache.tasks.environment.report import OwnCache

NEW = f"models/{MODEL.replace('/', '--')}/snapshots/master"
FILES = pipeline_files()


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every name with its bytes, or where it points."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A cache with the model as both SDKs have it."""
    write(tmp_path / "shared" / NEW, FILES)
    write_huggingface(tmp_path / "shared/hub", FILES)
    return tmp_path / "shared"


def make(own: Path, shared: Path) -> tuple[OwnCache, list[Notice]]:
    session = Session()
    return make_own(own, shared, None, session), session.warnings


def test_every_file_is_there_and_none_is_copied_but_bookkeeping(tmp_path: Path, shared: Path) -> None:
    own = tmp_path / "own"
    before = tree(shared)
    report, _ = make(own, shared)
    assert tree(shared) == before, "the shared cache is only read"
    models = inventory(own).models
    assert [(model.id, model.complete) for model in models] == [(MODEL, True)] * 2
    for model in models:
        for file in model.files:
            assert (own / file.path).read_bytes() == FILES[os.path.relpath(own / file.path, model.path)]
    copied = {name for name, what in tree(own).items() if isinstance(what, bytes)}
    assert copied == {NOTE_NAME, f"hub/{HF_FOLDER}/refs/main", f"hub/{HF_FOLDER}/trees/{COMMIT}.json"}
    assert (report.copies, report.kept, report.removed, report.skipped) == (2, 0, 0, [])
    assert report.links == len(tree(own)) - 3
    assert not any(path.is_symlink() for path in own.rglob("*") if path.is_dir()), "directories are real"


def test_running_it_again_changes_nothing(tmp_path: Path, shared: Path) -> None:
    first, _ = make(tmp_path / "own", shared)
    before = {path: path.lstat().st_mtime_ns for path in (tmp_path / "own").rglob("*")}
    again, _ = make(tmp_path / "own", shared)
    assert (again.links, again.copies, again.removed) == (0, 0, 0)
    assert again.kept == first.links + first.copies
    assert {path: path.lstat().st_mtime_ns for path in (tmp_path / "own").rglob("*")} == before


@pytest.mark.parametrize("layout", ["shared-blobs", "legacy", "legacy-hub", "legacy-plain", "direct"])
def test_other_layouts_are_shared_too(tmp_path: Path, layout: str) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    if layout == "shared-blobs":
        write_huggingface(shared / "hub", FILES, shared=True)
    elif layout == "direct":
        write_huggingface(shared, FILES)
    else:
        folder = {"legacy": "models/", "legacy-hub": "hub/models/", "legacy-plain": ""}[layout]
        write_legacy(shared / f"{folder}Tongyi-MAI/Z-Image-Turbo", FILES)
    make(own, shared)
    (model,) = inventory(own).models
    assert (model.id, model.complete, len(model.files)) == (
        MODEL, True, len(FILES) + 3 * layout.startswith("legacy")
    )  # fmt: skip
    marks = (".msc", ".mdl", ".mv")
    outside = [os.path.realpath(own / file.path) for file in model.files if not file.path.endswith(marks)]
    assert all(path.startswith(f"{shared}/") for path in outside)
    for mark in marks:
        assert not (model.path / mark).is_symlink(), "the old SDK writes into it"


def test_what_the_shared_cache_gains_and_loses_comes_over(tmp_path: Path, shared: Path) -> None:
    own = tmp_path / "own"
    make(own, shared)
    (shared / NEW / "README.md").unlink()
    (shared / NEW / "new/a.json").parent.mkdir()
    (shared / NEW / "new/a.json").write_text("{}")
    report, _ = make(own, shared)
    assert (report.links, report.removed) == (1, 1)
    assert not (own / NEW / "README.md").is_symlink()
    assert (own / NEW / "new/a.json").read_text() == "{}"
    shutil.rmtree(shared / "models")
    make(own, shared)
    assert not (own / "models").exists(), "empty directories go, too"


def test_what_the_user_made_or_changed_is_never_touched(tmp_path: Path, shared: Path) -> None:
    own = tmp_path / "own"
    make(own, shared)
    config = own / NEW / "vae/config.json"
    config.unlink()
    config.write_text("mine")
    ref = own / f"hub/{HF_FOLDER}/refs/main"
    ref.write_text("f" * 40)
    mine = write(own / "models/me--mine/snapshots/master", {"config.json": b"{}"})
    report, _ = make(own, shared)
    assert report.skipped == [f"hub/{HF_FOLDER}/refs/main", f"{NEW}/vae/config.json"]
    assert (config.read_text(), ref.read_text()) == ("mine", "f" * 40)
    assert (mine / "config.json").read_bytes() == b"{}"
    (shared / NEW / "vae/config.json").unlink()
    make(own, shared)
    assert config.read_text() == "mine"


def test_a_model_that_the_user_has_himself_is_kept_whole(tmp_path: Path, shared: Path) -> None:
    own = tmp_path / "own"
    write(own / NEW, {"config.json": b"mine"})
    report, notices = make(own, shared)
    assert tree(own / NEW) == {"config.json": b"mine"}
    assert [notice.code for notice in notices] == ["own-model-kept"]
    assert (own / "hub" / HF_FOLDER).is_dir() and report.models == [MODEL]


def test_a_single_model_can_be_shared_and_the_next_one_added(tmp_path: Path, shared: Path) -> None:
    write(shared / "models/Other--Model/snapshots/master", {"config.json": b"{}"})
    own = tmp_path / "own"
    models = {model.id: model for model in inventory(shared).models}
    assert make_own(own, shared, models["Other/Model"], Session()).models == ["Other/Model"]
    assert [model.id for model in inventory(own).models] == ["Other/Model"]
    report = make_own(own, shared, models[MODEL], Session())
    assert report.removed == 0
    assert {model.id for model in inventory(own).models} == {"Other/Model", MODEL}


@pytest.mark.parametrize("place", ["shared", "shared/own", "."])
def test_the_two_must_lie_apart(tmp_path: Path, shared: Path, place: str) -> None:
    with pytest.raises(UsageError, match="must be apart"):
        make(tmp_path / place, shared)


def test_the_two_must_lie_apart_behind_links_too(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "alias").symlink_to(shared)
    with pytest.raises(UsageError, match="must be apart"):
        make(tmp_path / "alias/own", shared)


def test_a_directory_of_other_things_is_refused(tmp_path: Path, shared: Path) -> None:
    write(tmp_path / "own", {"thesis.tex": b""})
    with pytest.raises(UsageError, match="no model cache"):
        make(tmp_path / "own", shared)
    assert tree(tmp_path / "own") == {"thesis.tex": b""}


def test_a_link_into_the_shared_cache_is_no_directory_to_write_to(tmp_path: Path, shared: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "models").symlink_to(shared / "models")
    before = tree(shared)
    with pytest.raises(UsageError, match="is a symlink"):
        make(own, shared)
    assert tree(shared) == before


def test_nothing_is_cleaned_up_behind_a_link(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    write_legacy(shared / "models/a/b", FILES)
    write(shared / "models/c--d/snapshots/master", FILES)
    make(own, shared)
    shutil.rmtree(own / "models/a")
    (shared / "models/a").rename(tmp_path / "elsewhere")
    (own / "models/a").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    make(own, shared)
    assert tree(tmp_path / "elsewhere") == before


def test_an_empty_shared_cache_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with pytest.raises(CacheNotFound):
        make(tmp_path / "own", tmp_path / "shared")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"shared": 5}', '{"shared": "/s", "links": {"../x": "/etc/passwd"}}',
             '{"shared": "/s", "version": 2}', '{"shared": "s"}', '{"shared": "/s", "copies": {"/x": ""}}'],
)  # fmt: skip
def test_a_note_that_makes_no_sense_is_refused(tmp_path: Path, shared: Path, text: str) -> None:
    write(tmp_path / "own", {NOTE_NAME: text.encode()})
    with pytest.raises(IntegrityError):
        make(tmp_path / "own", shared)


@pytest.mark.parametrize("stop_at", [1, 2, 7, 25])
def test_after_a_stop_anywhere_the_next_run_completes_it(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    own = tmp_path / "own"
    really, count = making._link, 0

    def link(path: Path, target: str) -> None:
        nonlocal count
        count += 1
        if count == stop_at:
            raise KeyboardInterrupt
        really(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(making, "_link", link)
        with pytest.raises(KeyboardInterrupt):
            make(own, shared)
    report, notices = make(own, shared)
    assert (report.skipped, notices) == ([], [])
    assert all(model.complete for model in inventory(own).models)


def test_the_shared_cache_is_remembered(tmp_path: Path, shared: Path) -> None:
    assert shared_cache_of(tmp_path / "own") is None
    make(tmp_path / "own", shared)
    assert shared_cache_of(tmp_path / "own") == shared


@pytest.mark.models
def test_the_real_sdks_load_from_it_and_download_into_it(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("huggingface_hub")
    needs("modelscope")
    own = tmp_path / "own"
    make(own, shared)
    environ = {"HOME": str(tmp_path / "home"), "MODELSCOPE_CACHE": str(shared), "HF_HOME": str(shared)}
    environ |= variables_for(own, environ)
    assert (environ["MODELSCOPE_CACHE"], environ["HF_HOME"]) == (str(own), str(own))
    before = tree(shared)
    code = f"""
import json
from huggingface_hub import snapshot_download, try_to_load_from_cache
from modelscope import snapshot_download as modelscope_download
print(json.dumps([
    snapshot_download({MODEL!r}, local_files_only=True),
    try_to_load_from_cache({MODEL!r}, "vae/config.json"),
    modelscope_download({MODEL!r}, local_files_only=True),
]))
"""
    snapshot = own / "hub" / HF_FOLDER / "snapshots" / COMMIT
    assert json.loads(sdk(code, **environ)) == [
        str(snapshot), str(snapshot / "vae/config.json"), str(own / NEW)
    ]  # fmt: skip

    # A new revision on the hubs, of which one shard is new: it alone is downloaded, into the own tree.
    newer = "9" * 40
    monkeypatch.setattr(hub_server, "COMMIT", newer)
    shard = "vae/diffusion_pytorch_model.safetensors"
    changed = {**FILES, shard: FILES[shard] + b"new"}
    with huggingface_hub(MODEL, changed) as url:
        code = f"""
from huggingface_hub import snapshot_download
from modelscope import snapshot_download as modelscope_download
snapshot_download({MODEL!r})
modelscope_download({MODEL!r})
snapshot_download({MODEL!r}, force_download=True)
print("done")
"""
        sdk(code, HF_ENDPOINT=url, MODELSCOPE_ENDPOINT=url, **environ)
    assert tree(shared) == before, "nothing was written, renamed or locked in the shared cache"
    assert (own / "hub" / HF_FOLDER / "refs/main").read_text() == newer
    assert (own / "hub" / HF_FOLDER / "snapshots" / newer / shard).read_bytes() == changed[shard]
    assert (own / NEW / shard).read_bytes() == changed[shard]
    assert (snapshot / shard).read_bytes() == FILES[shard], "the old revision is still shared"

    # huggingface_hub deletes its links, never what they lead to.
    code = f"""
from huggingface_hub import scan_cache_dir
scan_cache_dir().delete_revisions({COMMIT!r}, {newer!r}).execute()
print("done")
"""
    sdk(code, **environ)
    assert tree(shared) == before
    report, _ = make(own, shared)
    assert [model.complete for model in inventory(own).models if model.revision == COMMIT] == [True]
    assert f"{NEW}/{shard}" in report.skipped, "what the user downloaded himself stays"


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A place that other users may enter; pytest's own folders let nobody in."""
    needs_root()
    place = Path(tempfile.mkdtemp(prefix="zitcache-own-", dir="/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def home_for_nobody(place: Path) -> Path:
    home = place / "home"
    home.mkdir()
    shutil.chown(home, NOBODY, NOBODY)
    return home


@pytest.mark.root
def test_another_user_shares_the_cache_of_root(open_place: Path) -> None:
    shared, home = open_place / "shared", home_for_nobody(open_place)
    write(shared / NEW, FILES)

    def work() -> object:
        report, notices = make(home / "own", shared)
        return report.links, [notice.code for notice in notices]

    links, said = as_nobody(work, HOME=str(home))
    assert (links, said) == (len(FILES), [])
    assert (home / "own" / NEW).stat().st_uid == NOBODY


@pytest.mark.root
def test_a_user_who_may_not_read_gets_the_exact_chmod_for_the_owner(open_place: Path) -> None:
    shared, home = open_place / "closed/shared", home_for_nobody(open_place)
    write(shared / NEW, FILES)

    def work() -> object:
        return make(home / "own", shared)[0].links

    (shared / NEW / "vae/config.json").chmod(0o600)
    with pytest.raises(AssertionError, match=r"CredentialsError: .*vae/config.json") as caught:
        as_nobody(work, HOME=str(home))
    assert f"chmod -R o+rX {shared}" in str(caught.value)
    os.system(str(caught.value).partition("Its owner runs: ")[2])
    assert as_nobody(work, HOME=str(home)) == len(FILES)
    (shared / NEW / "vae").chmod(0o700)
    with pytest.raises(AssertionError, match="CredentialsError"):
        as_nobody(work, HOME=str(home))


@pytest.mark.root
def test_a_directory_on_the_way_that_is_closed_is_named(open_place: Path) -> None:
    shared, home = open_place / "closed/shared", home_for_nobody(open_place)
    write(shared / NEW, FILES)
    (open_place / "closed").chmod(0o700)

    def work() -> object:
        from zitcache.tasks.environment.permissions import check_readable

        check_readable(shared, [])
        return None

    with pytest.raises(AssertionError, match=r"CredentialsError: .*may not pass through") as caught:
        as_nobody(work, HOME=str(home))
    assert f"chmod o+x {open_place}/closed" in str(caught.value)


@pytest.mark.root
def test_a_user_who_could_change_the_shared_files_is_warned(open_place: Path) -> None:
    shared, home = open_place / "shared", home_for_nobody(open_place)
    write(shared / NEW, FILES)
    (shared / NEW).chmod(0o777)
    said = as_nobody(lambda: [notice.code for notice in make(home / "own", shared)[1]], HOME=str(home))
    assert said == ["shared-cache-writable"]
