"""What goes into a kit: the files of this zitcache and of the packages it needs, as they are installed here.

The list of packages comes from the metadata of the installation (``importlib.metadata``): what zitcache
requires, what that requires, and so on, as far as it is installed. Extras are left out: the kit restores, it
does not draw.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

import zitcache
from zitcache.tasks.kit.layout import KitDistribution

PACKAGE = "zitcache"
CORE = ("typer", "rich", "msgspec", "zstandard", "numpy", "blake3", "psutil", "boto3", "apscheduler", "tomli")
"""What is needed where zitcache runs from its source folder, without metadata that would say so."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r";.*\bextra\s*==")
_WITHOUT_TESTS = frozenset({"numpy", "psutil", "zstandard", "msgspec"})
"""Packages whose folders called ``tests`` are known not to be imported by the rest."""

_S3_NEEDS = frozenset({"s3", "sts", "sso", "sso-oidc", "signin"})
"""The services of botocore that storing in a bucket and logging in to one can ask for."""

_KEPT_METADATA = frozenset({"METADATA", "PKG-INFO", "RECORD", "WHEEL", "top_level.txt", "requires.txt"})
_SKIPPED_SUFFIXES = (".pyc", ".pyo", ".pyi", ".pth", ".pxd", ".h", ".c", ".a")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to copy: where it is, and its path in the kit's library."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that a kit is made of. ``missing``: required packages that are not installed."""

    files: list[SourceFile]
    distributions: list[KitDistribution]
    missing: list[str]
    fingerprint: str
    package: Path


def collect() -> Sources:
    """Find everything. Raises ``OSError``."""
    files: dict[str, SourceFile] = {}
    distributions: list[KitDistribution] = []
    missing: list[str] = []
    pending = _own_requirements()
    own = _distribution(PACKAGE)
    if own is not None:
        distributions.append(_described(own, PACKAGE))
        files.update((file.name, file) for file in _metadata_files(own))
    seen = {PACKAGE}
    while pending:
        name, is_optional = pending.pop()
        key = _normal(name)
        if key in seen:
            continue
        seen.add(key)
        found = _distribution(name)
        if found is None:
            if not is_optional:
                missing.append(name)
            continue
        distributions.append(_described(found, name))
        files.update((file.name, file) for file in _files_of(found, name))
        pending += _requirements(found)
    package = package_folder()
    files.update((file.name, file) for file in _tree(package, PACKAGE))
    return Sources(
        files=[files[name] for name in sorted(files)],
        distributions=sorted(distributions, key=lambda each: each.name),
        missing=sorted(missing),
        fingerprint=source_fingerprint(package),
        package=package,
    )


def package_folder() -> Path:
    """Where the running zitcache's modules are."""
    return Path(zitcache.__file__).resolve().parent


def source_fingerprint(package: Path) -> str:
    """A digest of names, sizes and times of zitcache's own files: a milliseconds' work, also when edited."""
    digest = sha256()
    for path, status in sorted(_walk(package)):
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    pending = [("", folder)]
    while pending:
        prefix, directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        pending.append((f"{prefix}{entry.name}/", Path(entry.path)))
                elif entry.is_file() and not entry.name.endswith((".pyc", ".pyo")):
                    yield prefix + entry.name, entry.stat()


def _tree(folder: Path, name: str) -> Iterator[SourceFile]:
    for path, _ in _walk(folder):
        yield SourceFile(folder / path, f"{name}/{path}")


def _own_requirements() -> list[tuple[str, bool]]:
    found = _distribution(PACKAGE)
    if found is None:
        return [(name, name == "tomli") for name in CORE]
    return _requirements(found)


def _requirements(distribution: importlib.metadata.Distribution) -> list[tuple[str, bool]]:
    """Names required without an extra, and whether a marker makes each one optional here."""
    found = []
    for text in distribution.requires or []:
        match = _REQUIREMENT.match(text)
        if match and not _EXTRA.search(text):
            found.append((match[1], ";" in text))
    return found


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _described(distribution: importlib.metadata.Distribution, name: str) -> KitDistribution:
    origin = metadata_folder(distribution)
    return KitDistribution(
        name=_normal(name),
        version=distribution.version,
        origin=str(origin or ""),
        mtime_ns=origin.stat().st_mtime_ns if origin else 0,
    )


def metadata_folder(distribution: importlib.metadata.Distribution) -> Path | None:
    """The ``.dist-info`` or ``.egg-info`` of a distribution; None if it lies in no plain folder."""
    # Every finder of the standard library has it, and there is no public name for it.
    folder = getattr(distribution, "_path", None)
    return Path(folder) if isinstance(folder, os.PathLike) and Path(folder).exists() else None


def _files_of(distribution: importlib.metadata.Distribution, name: str) -> Iterator[SourceFile]:
    listed = list(_listed_files(distribution, _normal(name)))
    if not any(file.name.endswith((".py", ".so")) for file in listed):
        # Debian's packages list no files, an editable installation lists none of its own.
        yield from _imported_files(distribution, name)
    yield from listed


def _listed_files(distribution: importlib.metadata.Distribution, key: str) -> Iterator[SourceFile]:
    for path in distribution.files or []:
        name = path.as_posix()
        if ".." in path.parts or path.is_absolute() or not _is_wanted(PurePosixPath(name), key):
            continue
        located = Path(str(path.locate()))
        # A kit's own list still names what was left out of it.
        if located.is_file():
            yield SourceFile(located, name)


def _imported_files(distribution: importlib.metadata.Distribution, name: str) -> Iterator[SourceFile]:
    top_level = (distribution.read_text("top_level.txt") or "").split() or [_normal(name).replace("-", "_")]
    for module in top_level:
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        if spec is None:
            continue
        for folder in spec.submodule_search_locations or []:
            for file in _tree(Path(folder), module):
                if _is_wanted(PurePosixPath(file.name), _normal(name)):
                    yield file
        if not spec.submodule_search_locations and spec.origin and Path(spec.origin).is_file():
            yield SourceFile(Path(spec.origin), Path(spec.origin).name)
    yield from _metadata_files(distribution)


def _metadata_files(distribution: importlib.metadata.Distribution) -> Iterator[SourceFile]:
    folder = metadata_folder(distribution)
    if folder is not None and folder.is_dir():
        for file in _tree(folder, folder.name):
            if _is_wanted(PurePosixPath(file.name), ""):
                yield file


def _is_wanted(path: PurePosixPath, key: str) -> bool:
    folders = path.parts[:-1]
    if "__pycache__" in folders or path.name.endswith(_SKIPPED_SUFFIXES):
        return False
    if folders and folders[0].endswith((".dist-info", ".egg-info")):
        # Licences travel with what they are for.
        return path.name in _KEPT_METADATA or "licen" in str(path).lower() or "notice" in path.name.lower()
    if key in _WITHOUT_TESTS and "tests" in folders:
        return False
    if key == "botocore" and folders[:2] == ("botocore", "data") and len(folders) > 2:
        return folders[2] in _S3_NEEDS
    if key == "boto3" and folders[:2] == ("boto3", "data") and len(folders) > 2:
        return folders[2] in _S3_NEEDS
    return not (key == "numpy" and folders[:2] == ("numpy", "f2py"))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
