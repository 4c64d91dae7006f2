"""Caches of other tools that fill a small system disk: pip, uv, conda, torch and its compilers, Xet.

A tool's cache counts only if it holds what that tool puts there: a variable that points somewhere else by
mistake costs nothing. Where each lies: the tools' own documentation, named at each function.
"""

from __future__ import annotations

import configparser
import getpass
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.tasks.clean.candidate import Candidate, real_place
from zitcache.tasks.clean.report import Kind

_PIP_FOLDERS = ("http", "http-v2", "wheels", "selfcheck")
_UV_NAMES = re.compile(r"[a-z-]+-v\d+|CACHEDIR\.TAG|\.gitignore|\.git|\.lock|\.tmp.*|\.zitcache-tmp-.*")
_XET_FOLDERS = ("chunk-cache", "chunk_cache", "shard-cache", "shard_cache")
_CONDA_ARCHIVES = (".conda", ".tar.bz2")
_CONDA_HOMES = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")
_INDUCTOR_NAMES = re.compile(
    r"[a-z0-9]{2}|aotautograd|fxgraph|triton|locks|cache|aoti|aotinductor|\.zitcache-tmp-.*"
)
_TRITON_NAMES = re.compile(r"[A-Za-z0-9_-]{32,}(\.lock)?|\.zitcache-tmp-.*")
_EXTENSION_NAMES = re.compile(r"py3\d+_\w+|\.zitcache-tmp-.*")

_PIP = "Downloads and wheels that pip keeps for another installation."
_UV = "Packages that uv keeps for another installation. The same as: uv cache clean"
_XET = "Pieces that huggingface_hub keeps for other downloads; models do not need them."
_CONDA = "Package archives that conda has unpacked already. The same as: conda clean --tarballs"
_COMPILED = "Compiled kernels; torch compiles them again when they are needed."
_HUB = "Models and code that torch.hub has downloaded; torch downloads them again when they are needed."


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment, the home directory and the temporary folder of whoever runs this."""

    environ: Mapping[str, str]
    home: Path
    temporary: Path

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process."""
        return cls(dict(os.environ), Path.home(), Path(tempfile.gettempdir()))

    def named(self, variable: str) -> Path | None:
        """The absolute path that a variable holds; None if it is unset, empty or relative."""
        value = self.environ.get(variable, "")
        if value.startswith("~/"):
            value = f"{self.home}{value[1:]}"
        return Path(value) if value.startswith("/") else None

    @property
    def caches(self) -> Path:
        """``$XDG_CACHE_HOME``, else ``~/.cache``."""
        return self.named("XDG_CACHE_HOME") or self.home / ".cache"


def tool_caches(around: Surroundings) -> Iterator[Candidate]:
    """Every cache of these tools that exists."""
    yield from _pip(around)
    yield from _uv(around)
    yield from _conda(around)
    yield from _torch(around)
    yield from _xet(around)


def tool_folders(around: Surroundings) -> list[Path]:
    """The folders right in which these caches lie: where a killed ``clean`` may have left one, put aside."""
    torch = _torch_home(around)
    folders = [around.caches, around.temporary, around.home / ".triton", torch, torch / "hub"]
    folders += [_pip_cache(around), *(place.parent for place in _conda_places(around))]
    return [*folders, *_xet_places(around)]


def _pip(around: Surroundings) -> Iterator[Candidate]:
    """https://pip.pypa.io/en/stable/topics/caching/"""
    for name in _PIP_FOLDERS:
        yield from _folder(_pip_cache(around) / name, Kind.PIP_CACHE, _PIP)


def _pip_cache(around: Surroundings) -> Path:
    configured = around.named("PIP_CACHE_DIR") or _pip_configured(around)
    return configured or around.caches / "pip"


def _pip_configured(around: Surroundings) -> Path | None:
    config = around.named("XDG_CONFIG_HOME") or around.home / ".config"
    places = [Path("/etc/pip.conf"), around.home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    places += [place for place in (around.named("PIP_CONFIG_FILE"),) if place is not None]
    found = None
    for place in places:  # the later ones win
        parser = configparser.RawConfigParser()
        try:
            parser.read(place, encoding="utf-8")
            value = parser.get("global", "cache-dir", fallback="")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        if value.startswith("/"):
            found = Path(value)
    return found


def _uv(around: Surroundings) -> Iterator[Candidate]:
    """https://docs.astral.sh/uv/concepts/cache/: parts of it must not be removed one by one."""
    place = around.named("UV_CACHE_DIR") or around.caches / "uv"
    keep = None
    if around.environ.get("UV_LINK_MODE") == "symlink":
        keep = "UV_LINK_MODE is symlink: the environments that uv made need it."
    locks = (str(place / ".lock"),)
    yield from _only_with(place, _UV_NAMES, Kind.UV_CACHE, _UV, needs="CACHEDIR.TAG", locks=locks, keep=keep)


def _conda(around: Surroundings) -> Iterator[Candidate]:
    """https://docs.conda.io/projects/conda/en/stable/commands/clean.html. Unpacked packages stay:
    environments are linked to them."""
    for place in _conda_places(around):
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        archives = tuple(
            name
            for name in names
            if name.endswith(_CONDA_ARCHIVES) and _is_unpacked(place, name) and (place / name).is_file()
        )
        if archives:
            yield Candidate(real_place(place), Kind.CONDA_PACKAGES, _CONDA, names=archives)


def _conda_places(around: Surroundings) -> list[Path]:
    places = [around.home / name / "pkgs" for name in _CONDA_HOMES]
    places += [Path("/opt", name, "pkgs") for name in ("conda", *_CONDA_HOMES[:-1])]
    if program := around.named("CONDA_EXE"):
        places.append(program.parent.parent / "pkgs")
    for value in around.environ.get("CONDA_PKGS_DIRS", "").split(","):
        if value.startswith("/"):
            places.append(Path(value))
    return list(dict.fromkeys(Path(os.path.realpath(place)) for place in places))


def _is_unpacked(place: Path, archive: str) -> bool:
    """Only then is the archive superfluous; conda says so by ``info/repodata_record.json`` in the folder."""
    folder = next(archive.removesuffix(suffix) for suffix in _CONDA_ARCHIVES if archive.endswith(suffix))
    return (place / folder / "info" / "repodata_record.json").is_file()


def _torch(around: Surroundings) -> Iterator[Candidate]:
    """``torch/_inductor/runtime/cache_dir_utils.py``, ``triton/knobs.py``, ``torch/utils/cpp_extension.py``,
    ``torch/hub.py``."""
    home = _torch_home(around)
    try:
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
    except (KeyError, OSError):  # an id without a name, as in containers
        user = f"uid_{os.getuid()}"
    inductor = around.named("TORCHINDUCTOR_CACHE_DIR") or around.temporary / f"torchinductor_{user}"
    triton = around.named("TRITON_CACHE_DIR")
    if triton is None:
        triton = (around.named("TRITON_HOME") or around.home) / ".triton" / "cache"
    extensions = around.named("TORCH_EXTENSIONS_DIR") or around.caches / "torch_extensions"
    yield from _only_with(inductor, _INDUCTOR_NAMES, Kind.TORCH_CACHE, _COMPILED)
    yield from _only_with(triton, _TRITON_NAMES, Kind.TORCH_CACHE, _COMPILED)
    yield from _only_with(extensions, _EXTENSION_NAMES, Kind.TORCH_CACHE, _COMPILED)
    yield from _folder(home / "kernels", Kind.TORCH_CACHE, _COMPILED)
    yield from _folder(home / "hub", Kind.TORCH_HUB, _HUB)


def _torch_home(around: Surroundings) -> Path:
    return around.named("TORCH_HOME") or around.caches / "torch"


def _xet(around: Surroundings) -> Iterator[Candidate]:
    """``huggingface_hub/constants.py`` (``HF_XET_CACHE``)."""
    for place in _xet_places(around):
        yield from xet_caches(place)


def xet_caches(place: Path) -> Iterator[Candidate]:
    """The caches in Xet's folder ``place``, which has one folder per server. ``staging`` (uploads) stays."""
    for folder in (place, *_subfolders(place)):
        for name in _XET_FOLDERS:
            yield from _folder(folder / name, Kind.XET_CACHE, _XET)


def _xet_places(around: Surroundings) -> list[Path]:
    if named := around.named("HF_XET_CACHE"):
        return [named]
    return [(around.named("HF_HOME") or around.caches / "huggingface") / "xet"]


def _subfolders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _folder(place: Path, kind: Kind, reason: str) -> Iterator[Candidate]:
    """``place`` if it is a real folder with anything in it."""
    real = real_place(place)
    if os.path.isdir(real) and not os.path.islink(real) and _listed(real):
        yield Candidate(real, kind, reason)


def _only_with(
    place: Path,
    known: re.Pattern[str],
    kind: Kind,
    reason: str,
    *,
    needs: str | None = None,
    locks: tuple[str, ...] = (),
    keep: str | None = None,
) -> Iterator[Candidate]:
    """``place`` as a whole, if nothing but known names is in it, and ``needs`` is."""
    for candidate in _folder(place, kind, reason):
        names = _listed(candidate.path)
        strange = [name for name in names if known.fullmatch(name) is None]
        if strange:
            keep = f"It holds something else, too: {strange[0]}"
        elif needs is not None and needs not in names:
            keep = f"It does not look like what it should be: {needs} is missing."
        yield Candidate(candidate.path, kind, reason, locks=locks, keep=keep)


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
