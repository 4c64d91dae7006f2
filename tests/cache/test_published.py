"""Digests that need no backup: published ones, and those in the names of a Hugging Face cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.cache.builders import HF_FOLDER, MODEL, pipeline_files, write, write_huggingface, write_legacy
from tests.cache.hub_server import COMMIT, git_sha1
from zitcache.cache.layouts import find_models
from zitcache.cache.published import huggingface_digests, published_fingerprint
from zitcache.cache.walk import scan_tree

VAE = "vae/diffusion_pytorch_model.safetensors"


def digests(root: Path) -> dict[str, tuple[str, str]]:
    (location,) = find_models(root)
    return huggingface_digests(location)


def content_matches(root: Path, path: str, digest: tuple[str, str]) -> bool:
    content = (root / path).read_bytes()
    return digest[1] == (hashlib.sha256(content).hexdigest() if digest[0] == "sha256" else git_sha1(content))


def test_z_image_turbo_is_known_by_any_case() -> None:
    known = published_fingerprint(MODEL)
    assert known == published_fingerprint(MODEL.lower())
    assert known is not None
    assert len(known) == 8
    size, sha256 = known["vae/diffusion_pytorch_model.safetensors"]
    assert (size, sha256[:8]) == (167_666_902, "f5b59a26")
    assert all(len(digest) == 64 and int(digest, 16) and size > 0 for size, digest in known.values())


def test_other_models_are_not_known() -> None:
    assert published_fingerprint("someone/else") is None


def test_the_caller_cannot_change_what_is_published() -> None:
    known = published_fingerprint(MODEL)
    assert known is not None
    known.clear()
    assert published_fingerprint(MODEL)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tree", [False, True])
def test_every_content_file_has_a_digest_that_holds(tmp_path: Path, shared: bool, tree: bool) -> None:
    write_huggingface(tmp_path / "hub", pipeline_files(), shared=shared, tree=tree)
    found = digests(tmp_path)
    assert len(found) == len(set(pipeline_files().values()))
    assert all(content_matches(tmp_path, path, digest) for path, digest in found.items())
    files = {item.path for item in scan_tree(tmp_path).items if item.kind.value == "file"}
    assert set(found) <= files


def test_names_of_shared_blobs_are_not_taken_for_sha256(tmp_path: Path) -> None:
    write_huggingface(tmp_path, pipeline_files(), shared=True)
    shared = {path: digest for path, digest in digests(tmp_path).items() if path.startswith("blobs/")}
    assert len(shared) == 6
    assert all(path.rpartition("/")[2] != digest for path, (_, digest) in shared.items())


def test_a_flipped_bit_in_a_blob_does_not_match_its_name(tmp_path: Path) -> None:
    snapshot = write_huggingface(tmp_path, pipeline_files())
    blob = (snapshot / VAE).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    wrong = [
        path for path, digest in digests(tmp_path).items() if not content_matches(tmp_path, path, digest)
    ]
    assert wrong == [os.fspath(blob.relative_to(tmp_path))]


def test_real_files_in_a_snapshot_get_their_digest_from_the_listing(tmp_path: Path) -> None:
    snapshot = write_huggingface(tmp_path, pipeline_files())
    for path in list(snapshot.rglob("*")):
        if path.is_symlink():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    found = digests(tmp_path)
    path = f"{HF_FOLDER}/snapshots/{COMMIT}/{VAE}"
    assert found[path] == ("sha256", hashlib.sha256(pipeline_files()[VAE]).hexdigest())


def test_a_blob_link_out_of_the_cache_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"secret": b"s"})
    write_huggingface(tmp_path / "cache", {"a.txt": b"x"})
    (tmp_path / f"cache/{HF_FOLDER}/blobs/{'a' * 64}").symlink_to(tmp_path / "secret")
    assert [digest for _, digest in digests(tmp_path / "cache").values()] == [git_sha1(b"x")]


def test_a_listing_cannot_point_out_of_the_snapshot(tmp_path: Path) -> None:
    write_huggingface(tmp_path, {"../../../evil": b"x", "a": b"y"})
    assert "evil" not in digests(tmp_path)


def test_a_download_into_a_folder_leaves_notes_that_count_until_the_file_changes(tmp_path: Path) -> None:
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    write(tmp_path, {"vae/a.safetensors": content, "config.json": b"{}"})
    notes = ".cache/huggingface/download"
    os.utime(tmp_path / "vae/a.safetensors", (1000, 1000))
    write(tmp_path, {f"{notes}/vae/a.safetensors.metadata": f"{COMMIT}\n{sha256}\n1000.5\n".encode()})
    write(
        tmp_path,
        {f"{notes}/config.json.metadata": b"broken", f"{notes}/gone.metadata": f"c\n{sha256}\n9".encode()},
    )
    assert digests(tmp_path) == {"vae/a.safetensors": ("sha256", sha256)}
    os.utime(tmp_path / "vae/a.safetensors", (2000, 2000))
    assert digests(tmp_path) == {}


def test_modelscope_layouts_carry_no_digests(tmp_path: Path) -> None:
    write_legacy(tmp_path / "models/a/b", pipeline_files())
    assert digests(tmp_path) == {}
