"""What is in a kit: all that runs, nothing that does not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import requires
from pathlib import Path

import pytest

from zitcache.events import Session
from zitcache.tasks.kit import keep_kit
from zitcache.tasks.kit.layout import SCRIPTS, parts_of, python_tag, read_manifest
from zitcache.tasks.kit.sources import CORE, collect

DATA = Path(__file__).parents[2] / "zitcache/tasks/kit/data"


def test_the_manifest_lists_every_file_with_its_digest(made: Path) -> None:
    part = made / python_tag()
    assert parts_of(made) == [part]
    manifest = read_manifest(part)
    present = {str(path.relative_to(part)) for path in part.rglob("*") if path.is_file()}
    assert present == {*manifest.files, "manifest.json"}
    for name, (size, digest) in manifest.files.items():
        data = (part / name).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (size, digest)
    assert set(manifest.scripts) == set(SCRIPTS)
    assert manifest.tag == python_tag() and manifest.libc != "unknown"
    assert {each.name for each in manifest.distributions} >= {"zitcache", "numpy", "msgspec", "zstandard"}


def test_nobody_else_may_put_a_program_into_it(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        report = keep_kit(tmp_path / "new/kit", Session(), environment={}, cache="/data/cache")
    finally:
        os.umask(mask)
    assert report.action == "made"
    for path in (tmp_path / "new/kit", *(tmp_path / "new/kit").rglob("*")):
        assert not path.stat().st_mode & 0o022, path


def test_it_holds_what_runs_and_little_else(made: Path) -> None:
    names = [str(path.relative_to(made)) for path in made.rglob("*")]
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pth", ".pyi"))]
    assert not [name for name in names if re.search(r"/numpy/(.*/)?tests/", name)]
    services = {path.name for path in made.glob("*/lib/botocore/data/*") if path.is_dir()}
    assert {"s3", "sts"} <= services <= {"s3", "sts", "sso", "sso-oidc", "signin"}
    assert list(made.glob("*/lib/botocore/data/endpoints.json"))
    assert [name for name in names if "numpy" in name and "icense" in name], "licences travel along"
    assert read_manifest(made / python_tag()).size_bytes < 200e6


def test_no_dependency_is_forgotten() -> None:
    declared = {
        re.match(r"[A-Za-z0-9._-]+", line)[0].lower()  # type: ignore[index]
        for line in requires("zitcache") or []
        if "extra" not in line
    }
    assert declared <= set(CORE), "CORE stands for the metadata where zitcache runs from its source"
    found = {each.name for each in collect().distributions}
    assert declared - {"tomli"} <= found


def test_everything_that_zitcache_imports_is_in_the_kit(made: Path) -> None:
    """Each module of zitcache is imported from the kit alone, but those that draw, which need torch."""
    library = made / python_tag() / "lib"
    program = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import zitcache
names = [m.name for m in pkgutil.walk_packages(zitcache.__path__, "zitcache.")]
names = [n for n in names if ".kit.data" not in n and ".drawing" not in n and not n.endswith("__main__")]
for name in names:
    importlib.import_module(name)
import boto3
boto3.client("s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
boto3.client("sts", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
outside = [n for n, m in sys.modules.items() if "site-packages" in (getattr(m, "__file__", None) or "")]
print(len(names), outside)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(library)], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    count, _, outside = done.stdout.strip().partition(" ")
    assert int(count) > 100 and outside == "[]"


def test_the_script_and_the_program_agree_on_the_name_of_a_python(made: Path) -> None:
    text = (DATA / "zitcache").read_text()
    program = re.search(r"tag_program='(.*?)'\n\n", text, re.DOTALL)
    assert program is not None
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program[1]], capture_output=True, text=True)
    assert done.stdout.strip() == python_tag()


@pytest.mark.parametrize("name", ["recover.sh", "zitcache", "pointer"])
def test_the_scripts_are_plain_sh(made: Path, name: str) -> None:
    from zitcache.tasks.kit.scripts import _POINTER, _POINTER_MARK

    text = (
        _POINTER.format(mark=_POINTER_MARK, name="zitcache-recover.sh", kits="    'a b' \\\n    c")
        if name == "pointer"
        else (DATA / name).read_text()
    )
    assert text.startswith("#!/bin/sh\n")
    for shell in ("dash", "bash"):
        if shutil.which(shell):
            assert subprocess.run([shell, "-n"], input=text, text=True).returncode == 0
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", "-s", "sh", "-"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_the_note_for_a_person_names_files_that_are_there(made: Path) -> None:
    text = (made / "RESTORE.md").read_text()
    assert "sh recover.sh" in text and "python3 read_repository.py .. latest" in text
    for name in ("recover.sh", "read_repository.py", "zitcache"):
        assert (made / name).is_file()
