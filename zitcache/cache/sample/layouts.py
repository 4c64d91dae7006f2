"""Where each SDK would have put the files of the sample. Pure: content in, entries out, no disk.

Sources: modelscope-hub 0.5 ``_download.py``, modelscope 1.40 ``hub/utils/caching.py``, huggingface_hub 2.4
``file_download.py``, ``_tree_cache.py`` and ``utils/_shared_blobs.py``. Lock files are left out: an SDK that
is not running leaves empty ones at most.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256

from zitcache.cache.sample.pipeline import MODEL_ID
from zitcache.cache.sample.shapes import DATA, read_folder

OWNER, NAME = MODEL_ID.split("/")
_HUB_FOLDER = f"models--{OWNER}--{NAME}"
# Upstream keeps these in git-lfs; their blobs are named by SHA-256, all others by git's own SHA-1.
_LFS_SUFFIXES = (".safetensors", "tokenizer.json")
_CACHEDIR_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag.\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (``content``) or a symlink (``target``) at ``path``.

    ``mode`` where it is not the default one. ``read_only``: readable by all who may enter the root, writable
    by none, as huggingface_hub keeps its shared blobs.
    """

    path: str
    content: bytes | None = None
    target: str | None = None
    mode: int | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class LaidOut:
    """``model_path``: what ``from_pretrained`` takes, relative to the root. ``entries``: in writing order."""

    model_path: str
    entries: tuple[Entry, ...]


Files = Mapping[str, bytes]
Layout = Callable[[Files], LaidOut]
"""From the model's files to what lies where."""


def plain(files: Files) -> LaidOut:
    """The files as they are."""
    return LaidOut(".", _below("", files))


def modelscope(files: Files) -> LaidOut:
    """modelscope-hub (SDK 1.38 and later): real files below ``snapshots/<revision>``, no manifest."""
    model_path = f"models/{OWNER}--{NAME}/snapshots/master"
    return LaidOut(model_path, _below(model_path + "/", files))


def modelscope_legacy(files: Files) -> LaidOut:
    """SDK up to 1.37 with ``MODELSCOPE_CACHE`` set."""
    return _legacy(f"models/{OWNER}/{NAME}", files)


def modelscope_legacy_hub(files: Files) -> LaidOut:
    """SDK up to 1.37 in its default root."""
    return _legacy(f"hub/models/{OWNER}/{NAME}", files)


def modelscope_legacy_plain(files: Files) -> LaidOut:
    """The oldest layout: owner and name directly below the root."""
    return _legacy(f"{OWNER}/{NAME}", files)


def huggingface(files: Files) -> LaidOut:
    """A huggingface_hub 2.x cache with shared blobs switched off; the root is ``HF_HUB_CACHE``."""
    hub = _HubRepo(files)
    entries = (Entry("CACHEDIR.TAG", _CACHEDIR_TAG), *hub.blobs(), hub.tree(), *hub.names())
    return LaidOut(hub.snapshot, entries)


def huggingface_shared(files: Files) -> LaidOut:
    """A huggingface_hub 2.x cache: large blobs in the store all repositories share, links in ours."""
    hub = _HubRepo(files)
    store = [Entry("blobs/.huggingface-shared-blobs", b"1\n", read_only=True)]
    own: list[Entry] = []
    for blob in hub.blobs():
        if len(posixpath.basename(blob.path)) != 64 or blob.content is None:
            own.append(blob)
            continue
        xet = _xet_stand_in(blob.content)
        shared = f"blobs/{xet[:2]}/{xet}"
        store.append(Entry(shared, blob.content, read_only=True))
        store.append(Entry(f"{shared}.refs", f"{blob.path}\n".encode(), mode=0o666))
        own.append(Entry(blob.path, target=posixpath.relpath(shared, posixpath.dirname(blob.path))))
    entries = (Entry("CACHEDIR.TAG", _CACHEDIR_TAG), *store, *own, hub.tree(), *hub.names())
    return LaidOut(hub.snapshot, entries)


def seed(files: Files) -> LaidOut:
    """The rented box: one directory is ``MODELSCOPE_CACHE`` and Hugging Face's, filled by an older hub.

    As :func:`huggingface`, without what huggingface_hub before 2.x did not write (file list, tag).
    """
    hub = _HubRepo(files)
    return LaidOut(hub.snapshot, (*hub.blobs(), *hub.names()))


class _HubRepo:
    """The parts of one ``models--owner--name`` folder."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._etags = {path: _etag(path, content) for path, content in files.items()}
        listing = "".join(f"{etag} {path}\n" for path, etag in self._etags.items())
        # Any 40 digits would do; these follow the content, as a commit's name does.
        self.commit = sha1(listing.encode()).hexdigest()
        self.snapshot = f"{_HUB_FOLDER}/snapshots/{self.commit}"

    def blobs(self) -> tuple[Entry, ...]:
        contents = {self._etags[path]: content for path, content in self._files.items()}
        return tuple(Entry(f"{_HUB_FOLDER}/blobs/{etag}", content) for etag, content in contents.items())

    def names(self) -> tuple[Entry, ...]:
        """The snapshot's links, then the ref that points to it."""
        links = [
            Entry(f"{self.snapshot}/{path}", target="../" * (path.count("/") + 2) + f"blobs/{etag}")
            for path, etag in self._etags.items()
        ]
        return (*links, Entry(f"{_HUB_FOLDER}/refs/main", self.commit.encode()))

    def tree(self) -> Entry:
        """``trees/<commit>.json``, by which the hub tells offline whether the snapshot is complete."""
        listing = {path: _tree_entry(path, content) for path, content in sorted(self._files.items())}
        text = json.dumps({"format_version": 1, "files": listing}, indent=1)
        return Entry(f"{_HUB_FOLDER}/trees/{self.commit}.json", text.encode())


def _below(prefix: str, files: Files) -> tuple[Entry, ...]:
    return tuple(Entry(prefix + path, content) for path, content in files.items())


def _legacy(model_path: str, files: Files) -> LaidOut:
    # .msc and .mdl are pickles; they are shipped as bytes and never loaded.
    markers = read_folder(DATA / "legacy")
    hidden = tuple(Entry(f"{model_path}/.{name}", markers[name]) for name in sorted(markers))
    return LaidOut(model_path, _below(model_path + "/", files) + hidden)


def _etag(path: str, content: bytes) -> str:
    return sha256(content).hexdigest() if path.endswith(_LFS_SUFFIXES) else _git_blob(content)


def _git_blob(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _tree_entry(path: str, content: bytes) -> dict[str, int | str]:
    if not path.endswith(_LFS_SUFFIXES):
        return {"size": len(content), "blob_id": _git_blob(content)}
    digest = sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    return {
        "size": len(content),
        "blob_id": _git_blob(pointer.encode()),
        "lfs_sha256": digest,
        "lfs_size": len(content),
        "xet_hash": _xet_stand_in(content),
    }


def _xet_stand_in(content: bytes) -> str:
    # A real one is a Merkle root over content-defined chunks; nobody can check it offline, so 64 digits that
    # follow the content will do.
    return sha256(b"zitcache sample xet\0" + content).hexdigest()
