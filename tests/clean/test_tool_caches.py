"""Caches of pip, uv, conda, torch and Xet: found where the tools keep them, and only if they are theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clean.world import only, process, put, run
from zitcache.tasks.clean import Kind

UV = ("CACHEDIR.TAG", "archive-v0/abc/numpy/__init__.py", "wheels-v5/pypi/numpy.msgpack", ".lock")


def uv_cache(place: Path) -> Path:
    for name in UV:
        put(place / name)
    (place / ".lock").write_bytes(b"")
    return place


def test_the_pip_cache_is_where_pip_says(home: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    cached = put(Path(said) / "http-v2/a/b")
    mine = put(Path(said) / "my-own-folder/x")
    item = only(run(delete=True))
    assert (item.kind, item.path, item.removed) == ("pip-cache", f"{said}/http-v2", True)
    assert not cached.exists() and mine.exists()


@pytest.mark.parametrize("how", ["variable", "config"])
def test_the_pip_cache_may_be_set_elsewhere(
    how: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "elsewhere"
    if how == "variable":
        monkeypatch.setenv("PIP_CACHE_DIR", str(place))
    else:
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        (tmp_path / "pip.conf").write_text(f"[global]\ncache-dir = {place}\n")
    put(place / "wheels/x.whl")
    assert only(run()).path == str(place / "wheels")


def test_a_variable_that_names_the_model_cache_by_mistake_costs_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_CACHE_DIR", "UV_CACHE_DIR", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
                 "TORCH_EXTENSIONS_DIR", "HF_XET_CACHE", "CONDA_PKGS_DIRS", "XDG_CACHE_HOME"):  # fmt: skip
        monkeypatch.setenv(name, str(cache))
    before = sorted(cache.rglob("*"))
    outcome = run(delete=True, everything=True)
    assert all(not item.removed for item in outcome.data.items)
    assert sorted(cache.rglob("*")) == before


def test_uv_as_a_whole(home: Path) -> None:
    place = uv_cache(home / ".cache/uv")
    assert (only(run()).kind, only(run()).path) == ("uv-cache", str(place))
    with process("import fcntl\nf = open(sys.argv[1])\nfcntl.flock(f, fcntl.LOCK_SH)", place / ".lock"):
        assert "lock" in (only(run(delete=True)).kept_because or "")
    assert only(run(delete=True)).removed and not place.exists()


def test_uv_with_environments_that_need_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv_cache(home / ".cache/uv")
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    assert "UV_LINK_MODE" in (only(run(delete=True)).kept_because or "")


def test_a_folder_with_something_else_in_it_is_not_removed(home: Path) -> None:
    mine = put(uv_cache(home / ".cache/uv") / "thesis.tex")
    assert "thesis.tex" in (only(run(delete=True)).kept_because or "") and mine.exists()


def test_what_zitcache_runs_from_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv_cache(home / ".cache/uv")
    monkeypatch.setattr(sys, "prefix", str(home / ".cache/uv/archive-v0/abc"))
    assert "zitcache itself" in (only(run(delete=True)).kept_because or "")


def test_hard_links_into_an_environment_give_nothing_back(home: Path) -> None:
    place = uv_cache(home / ".cache/uv")
    big = put(place / "archive-v0/abc/big.so", b"x" * 1_000_000)
    alone = only(run()).size_bytes
    (home / "venv").mkdir()
    os.link(big, home / "venv/big.so")
    assert only(run()).size_bytes <= alone - 1_000_000
    run(delete=True)
    assert (home / "venv/big.so").read_bytes() == b"x" * 1_000_000


def test_conda_archives_that_are_unpacked(home: Path) -> None:
    packages = home / "miniconda3/pkgs"
    put(packages / "numpy-2.0-0.conda")
    put(packages / "numpy-2.0-0/info/repodata_record.json")
    waiting = put(packages / "torch-2.0-0.tar.bz2")
    item = only(run(delete=True))
    assert (item.kind, item.files, item.removed) == ("conda-packages", 1, True)
    assert waiting.exists() and (packages / "numpy-2.0-0/info").exists()
    assert not (packages / "numpy-2.0-0.conda").exists()


def test_what_torch_compiled_goes_and_what_it_downloaded_only_if_named(home: Path, tmp_path: Path) -> None:
    import getpass

    inductor = tmp_path / f"temporary/torchinductor_{getpass.getuser()}"
    put(inductor / "ab/kernel.py")
    put(inductor / "fxgraph/x/y")
    put(home / f".triton/cache/{'A' * 52}/kernel.cubin")
    put(home / ".cache/torch_extensions/py311_cu124/x/x.so")
    put(home / ".cache/torch/kernels/abc_0")
    checkpoint = put(home / ".cache/torch/hub/checkpoints/resnet.pth")
    outcome = run(delete=True)
    by_kind = [(item.kind, item.removed) for item in outcome.data.items]
    assert by_kind.count(("torch-cache", True)) == 4 and by_kind.count(("torch-hub", False)) == 1
    assert checkpoint.exists() and not inductor.exists()
    assert only(run(delete=True, kinds=(Kind.TORCH_HUB,))).removed and not checkpoint.exists()


def test_the_chunks_of_xet(home: Path) -> None:
    place = home / ".cache/huggingface/xet/https___cas_serv-abc"
    put(place / "chunk-cache/ab/x")
    put(place / "shard-cache/y.mdb")
    upload = put(place / "staging/shard-session/z")
    outcome = run(delete=True)
    assert {(item.kind, item.removed) for item in outcome.data.items} == {("xet-cache", True)}
    assert upload.exists() and not (place / "chunk-cache").exists()


def test_the_chunks_of_xet_in_a_cache_that_is_hf_home(cache: Path) -> None:
    chunks = put(cache / "xet/https___cas_serv-abc/chunk-cache/ab/x")
    item = only(run(cache, delete=True))
    assert (item.kind, item.removed, chunks.exists()) == ("xet-cache", True, False)


def test_whoever_names_a_cache_means_that_cache(home: Path, cache: Path) -> None:
    put(home / ".cache/pip/http-v2/a")
    assert run(cache, delete=True).data.items == []
    assert only(run(cache, delete=True, kinds=(Kind.PIP_CACHE,))).removed
