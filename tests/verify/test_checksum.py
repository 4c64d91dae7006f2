"""``checksum`` reads every file once and writes what ``verify --against`` and ``sha256sum -c`` take."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3

from tests.verify.places import MIB, MODEL, SHARD, Place, codes, flip_bit, noise, shard_files, write_files
from zitcache.cache.fingerprint import from_json
from zitcache.cache.fingerprint_set import fingerprints_from_json, fingerprints_to_json
from zitcache.errors import CacheNotFound, CredentialsError, Exit, RepositoryNotFound, UsageError
from zitcache.events import Session
from zitcache.repository.digests import known_sha256
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.checksum import ChecksumRequest, checksum
from zitcache.tasks.sample import SampleLayout


def _sha256sum(place: Place, sums: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sha256sum", "--strict", "--quiet", "-c", str(sums)], cwd=place.cache, capture_output=True
    )


def test_every_file_has_its_digests(place: Place, tmp_path: Path) -> None:
    outcome = place.checksum(output=tmp_path / "fingerprint.json")
    assert outcome.exit_code == Exit.OK
    fingerprint = from_json((tmp_path / "fingerprint.json").read_bytes())
    assert (fingerprint.model, fingerprint.revision) == ("owner/model", "master")
    assert {file.path: (file.size, file.blake3, file.sha256) for file in fingerprint.files} == {
        name: (len(data), blake3(data).hexdigest(), hashlib.sha256(data).hexdigest())
        for name, data in shard_files().items()
    }
    assert outcome.data.bytes_read == sum(map(len, shard_files().values()))
    assert json.loads(bytes(outcome.data.fingerprints[0])) == json.loads(
        (tmp_path / "fingerprint.json").read_bytes()
    )


def test_all_layouts_of_one_model_have_the_same_digest(tmp_path: Path) -> None:
    digests = set()
    for layout in SampleLayout:
        place = Place.of_sample(tmp_path / layout.value, layout)
        outcome = place.checksum()
        assert (outcome.exit_code, outcome.data.output, outcome.data.sha256sums) == (Exit.OK, None, None)
        digests.add(json.loads(bytes(outcome.data.fingerprints[0]))["digest"])
    assert len(digests) == 1


@pytest.mark.parametrize("layout", list(SampleLayout))
def test_sha256sum_accepts_the_sums_and_finds_damage(tmp_path: Path, layout: SampleLayout) -> None:
    place = Place.of_sample(tmp_path, layout)
    place.checksum(sha256sums=tmp_path / "SHA256SUMS")
    assert _sha256sum(place, tmp_path / "SHA256SUMS").returncode == 0
    shard = next(place.cache.rglob("diffusion_pytorch_model-00002-of-00003.safetensors")).resolve()
    shard.chmod(0o644)
    flip_bit(shard, 70_000)
    found = _sha256sum(place, tmp_path / "SHA256SUMS")
    assert found.returncode == 1
    assert b"diffusion_pytorch_model-00002-of-00003.safetensors: FAILED" in found.stdout


def test_sha256sum_accepts_names_of_any_bytes(tmp_path: Path) -> None:
    place = Place(tmp_path / "cache", tmp_path / "repository")
    odd = [
        "new\nline",
        "back\\slash",
        "return\rhere",
        " space ",
        "-dash",
        "*star",
        os.fsdecode(b"not\xffutf8"),
        "猫",
        "n" * 255,
    ]
    write_files(place.cache / MODEL, {name: name.encode("utf-8", "surrogateescape") for name in odd})
    write_files(place.cache / MODEL, {"config.json": b"{}", "model.bin": b"w"})
    outcome = place.checksum(output=tmp_path / "fingerprint.json", sha256sums=tmp_path / "SHA256SUMS")
    assert outcome.data.files == len(odd) + 2
    found = _sha256sum(place, tmp_path / "SHA256SUMS")
    assert (found.returncode, found.stderr) == (0, b"")
    for name in ("fingerprint.json", "SHA256SUMS"):
        outcome_of_verify = place.without_repository(against=tmp_path / name)
        assert (outcome_of_verify.exit_code, outcome_of_verify.data.unverified) == (Exit.OK, [])


def test_several_models_are_written_as_one_set(place: Place, tmp_path: Path) -> None:
    write_files(place.cache / "models/owner--second/snapshots/v1", {"config.json": b"{}", "w.bin": b"1"})
    place.checksum(output=tmp_path / "fingerprint.json")
    data = (tmp_path / "fingerprint.json").read_bytes()
    assert json.loads(data)["schema"] == "zitcache-fingerprints/1"
    prints = fingerprints_from_json(data)
    assert [(one.model, one.revision) for one in prints] == [
        ("owner/model", "master"),
        ("owner/second", "v1"),
    ]
    assert fingerprints_to_json(prints) == data
    assert place.without_repository(against=tmp_path / "fingerprint.json").exit_code == Exit.OK


def test_a_set_of_which_one_fingerprint_was_changed_is_refused(place: Place, tmp_path: Path) -> None:
    write_files(place.cache / "models/owner--second/snapshots/v1", {"config.json": b"{}", "w.bin": b"1"})
    place.checksum(output=tmp_path / "fingerprint.json")
    wire = json.loads((tmp_path / "fingerprint.json").read_bytes())
    wire["fingerprints"][1]["files"][0]["blake3"] = "0" * 64
    with pytest.raises(UsageError, match="was changed"):
        fingerprints_from_json(json.dumps(wire).encode())


def test_a_content_with_several_names_is_read_once(tmp_path: Path) -> None:
    place = Place(tmp_path / "cache", tmp_path / "repository")
    write_files(place.cache / MODEL, {"a.safetensors": noise("a", MIB), "config.json": b"{}"})
    (place.cache / MODEL / "b.safetensors").hardlink_to(place.cache / MODEL / "a.safetensors")
    outcome = place.checksum(sha256sums=tmp_path / "SHA256SUMS")
    assert (outcome.data.files, outcome.data.bytes_read) == (3, MIB + 2)
    assert (tmp_path / "SHA256SUMS").read_text().count("safetensors") == 2


def test_a_blob_that_two_revisions_share_is_read_once(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    first = place.checksum().data
    snapshot = next(place.cache.rglob("model_index.json")).parent
    other = snapshot.parent / ("1" * 40)
    for path in sorted(snapshot.rglob("*")):
        if path.is_symlink():
            copy = other / path.relative_to(snapshot)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(os.readlink(path))
    second = place.checksum().data
    assert len(second.fingerprints) == 2
    assert (second.files, second.bytes_read) == (2 * first.files, first.bytes_read)


def test_an_incomplete_model_is_fingerprinted_with_a_warning(place: Place) -> None:
    (place.cache / MODEL / "model-00003-of-00003.safetensors").unlink()
    outcome = place.checksum()
    assert (outcome.exit_code, outcome.data.files) == (Exit.OK, 4)
    assert "model-incomplete" in codes(outcome)


def test_a_file_that_changes_meanwhile_is_in_no_fingerprint(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zitcache.tasks.reading as reading

    real = reading.pread_into

    def grow(fd: int, view: memoryview, offset: int) -> int:
        if offset == 4 * MIB:
            with (place.cache / SHARD).open("ab") as stream:
                stream.write(b"x")
        return real(fd, view, offset)

    monkeypatch.setattr(reading, "pread_into", grow)
    outcome = place.checksum(output=tmp_path / "f.json")
    assert (outcome.exit_code, outcome.data.left_out) == (Exit.PARTIAL, [SHARD])
    assert "not-fingerprinted" in codes(outcome)
    assert "model-00002-of-00003.safetensors" not in (tmp_path / "f.json").read_text()


# -- outputs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["output", "sha256sums"])
def test_an_output_that_cannot_be_written_is_refused_before_reading(
    place: Place, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zitcache.tasks.checksum.digest_files", lambda *_, **__: pytest.fail("it was read"))
    for bad in (tmp_path, tmp_path / "no" / "such" / "folder", Path("/dev/null")):
        with pytest.raises(UsageError):
            place.checksum(**{option: bad})


def test_an_output_replaces_the_old_one_through_a_link(place: Place, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    place.checksum(sha256sums=tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text().count("\n") == 5


def test_a_read_only_place_for_the_output_is_said(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, data: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zitcache.tasks.checksum.write_durably", refuse)
    with pytest.raises(CredentialsError):
        place.checksum(output=tmp_path / "f.json")


def test_a_cache_without_a_model_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with pytest.raises(CacheNotFound):
        checksum(ChecksumRequest(cache=str(tmp_path / "cache")), Session())


# -- recording ------------------------------------------------------------------------------------------


@pytest.fixture
def slow_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A cache that was backed up where SHA-256 is slow, so that the snapshot has none."""
    with monkeypatch.context() as patch:
        patch.setattr("zitcache.tasks.backup.content.has_sha_extensions", lambda: False)
        return Place.of_shards(tmp_path)


def test_digests_that_the_snapshot_lacks_are_recorded_once(slow_place: Place) -> None:
    outcome = slow_place.checksum(repository=str(slow_place.repository))
    assert outcome.data.recorded == 5
    repository = Repository.open(LocalStorage(slow_place.repository))
    assert known_sha256(repository) == {
        blake3(data).hexdigest(): hashlib.sha256(data).hexdigest() for data in shard_files().values()
    }
    assert slow_place.checksum(repository=str(slow_place.repository)).data.recorded == 0


def test_nothing_is_recorded_where_the_backup_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zitcache.tasks.backup.content.has_sha_extensions", lambda: True)
    place = Place.of_shards(tmp_path)
    assert place.checksum(repository=str(place.repository)).data.recorded == 0
    assert not list((place.repository).rglob("digests/*"))


def test_digests_of_contents_that_no_snapshot_has_are_not_recorded(slow_place: Place) -> None:
    flip_bit(slow_place.cache / SHARD, 4_000_000)
    assert slow_place.checksum(repository=str(slow_place.repository)).data.recorded == 4


def test_a_repository_that_was_named_must_be_there(place: Place, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        place.checksum(repository=str(tmp_path / "nowhere"))


def test_a_configured_repository_that_is_away_is_only_a_warning(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZITCACHE_REPO", str(tmp_path / "not-mounted"))
    outcome = place.checksum()
    assert outcome.exit_code == Exit.OK
    assert "not-recorded" in codes(outcome)


def test_a_repository_that_cannot_be_written_is_only_a_warning(
    slow_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Repository, folder: str, record: object) -> str:
        raise CredentialsError("Not allowed: Read-only file system while writing.")

    monkeypatch.setattr(Repository, "store_record", refuse)
    outcome = slow_place.checksum(repository=str(slow_place.repository))
    assert (outcome.exit_code, outcome.data.recorded) == (Exit.OK, 0)
    assert "not-recorded" in codes(outcome)


def test_recorded_digests_spare_verify_the_slow_hash(
    slow_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_place.checksum(repository=str(slow_place.repository), sha256sums=tmp_path / "SHA256SUMS")
    import zitcache.tasks.verify.examine as examine

    asked: list[int] = []
    real = examine.digest_files

    def watch(files, session, **options):  # type: ignore[no-untyped-def]
        asked.extend([len(files)] if options["sha256"] else [])
        return real(files, session, **options)

    monkeypatch.setattr(examine, "digest_files", watch)
    outcome = slow_place.verify(against=tmp_path / "SHA256SUMS")
    assert (outcome.exit_code, asked) == (Exit.OK, [0])
    assert any("SHA-256 sums" in source for source in outcome.data.sources)
