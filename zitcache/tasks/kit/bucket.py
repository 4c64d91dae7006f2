"""The kit of a repository in a bucket: a few objects in ``kit/``, to be fetched with any S3 client.

``recover.sh`` does the rest on a bare machine; ``restore.md`` explains; ``<tag>.tar`` is a kit for one
Python, ``<tag>.sha256`` its digest, and ``<tag>.json`` says what it was made of. Settings of the machine are
not among them: a configuration and a crontab may hold secrets, and a bucket has many readers.
"""

from __future__ import annotations

import shlex
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from zitcache import __version__
from zitcache.errors import IntegrityError, Interrupted, ObjectNotFound, ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.repository.records import decode_record
from zitcache.storage.protocol import Storage
from zitcache.storage.traits import innermost
from zitcache.tasks.kit.layout import KIT_FOLDER, LAUNCHER, READER, RUNNER, python_tag
from zitcache.tasks.kit.sources import package_folder

RECOVER = f"{KIT_FOLDER}/recover.sh"
README = f"{KIT_FOLDER}/restore.md"
_MAX_RECORD_BYTES = 1 << 20
_TAR_BLOCK = 512
_AWS_ENDPOINT = "https://s3.{region}.amazonaws.com"


class BucketKit(msgspec.Struct, frozen=True, kw_only=True):
    """What ``<tag>.json`` says. ``code``: a digest of zitcache's own files; ``size``: bytes of the tar."""

    format: Literal["zitcache-bucket-kit"] = "zitcache-bucket-kit"
    version: Literal[1] = 1
    program: Annotated[str, msgspec.Meta(max_length=100)]
    tag: Annotated[str, msgspec.Meta(max_length=100)]
    code: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: int
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


def keep_bucket_kit(storage: Storage, session: Session) -> str:
    """Have a kit for this Python in the bucket, as new as this zitcache; the action, as for a kit on a disk.

    What goes wrong is a warning: the backup before it is whole. Raises :class:`Interrupted` only.
    """
    try:
        return _keep(storage, session)
    except Interrupted:
        raise
    except (ZitcacheError, OSError) as error:
        problem = error if isinstance(error, ZitcacheError) else from_os_error(error, "making the kit")
        session.warn(
            "kit-not-kept",
            f"The kit that brings a bare machine back could not be written: {problem.message}",
            problem.hint,
        )
        return "failed"


def _keep(storage: Storage, session: Session) -> str:
    tag, code = python_tag().lower(), _code()
    present = {info.name: info.size for info in storage.list(KIT_FOLDER)}
    tar_name = f"{KIT_FOLDER}/{tag}.tar"
    known = _known(storage, f"{KIT_FOLDER}/{tag}.json") if tar_name in present else None
    scripts = {name: text.encode() for name, text in _scripts(storage.location).items()}
    is_current = known is not None and present[tar_name] == known.size and not _is_newer(known, code)
    if is_current and all(name in present for name in scripts):
        return "up to date"
    if not is_current:
        session.progress.stage("Putting a kit into the bucket")
        close = getattr(innermost(storage), "close", None)
        if close is not None:
            close()  # gives memory of the backup back
        data = _tar(session)
        data = _replace(storage, tar_name, data, lambda data: data + bytes(_TAR_BLOCK))
        digest = sha256(data).hexdigest()
        _replace(storage, f"{KIT_FOLDER}/{tag}.sha256", f"{digest}  {tag}.tar\n".encode(), _add_line)
        record = BucketKit(program=__version__, tag=tag, code=code, size=len(data), sha256=digest)
        _replace(storage, f"{KIT_FOLDER}/{tag}.json", msgspec.json.encode(record) + b"\n", _add_line)
    for name, text in scripts.items():
        _replace(storage, name, text, _add_line)
    return "updated" if known is not None or RECOVER in present else "made"


def _is_newer(known: BucketKit, code: str) -> bool:
    """Whether this zitcache is newer than the kit, or another state of the same version."""
    theirs, ours = _version(known.program), _version(__version__)
    return ours > theirs or (ours == theirs and known.code != code)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _known(storage: Storage, name: str) -> BucketKit | None:
    try:
        data = storage.load(name, 0, _MAX_RECORD_BYTES)
        return decode_record(data, BucketKit, f"note about the kit {name}")
    except (ObjectNotFound, IntegrityError):
        return None


def _replace(storage: Storage, name: str, data: bytes, grow: Callable[[bytes], bytes]) -> bytes:
    """Write ``name``, whatever is there, also with keys that may not delete; the bytes that are there now.

    A storage keeps an object that has the right size: so other bytes get another size, by ``grow``.
    """
    try:
        size = storage.info(name).size
    except ObjectNotFound:
        size = -1
    if size == len(data):
        if storage.load(name) == data:
            return data
        data = grow(data)
    storage.store(name, data)
    return data


def _add_line(data: bytes) -> bytes:
    return data + b"\n"


def _tar(session: Session) -> bytes:
    """A kit for this Python as one file, without what belongs to a machine."""
    from zitcache.tasks.kit.build import build_part
    from zitcache.tasks.kit.scripts import shared_files
    from zitcache.tasks.kit.sources import collect

    scripts = shared_files()
    with tempfile.TemporaryDirectory(prefix="zitcache-kit-") as folder:
        kit, whole = Path(folder, "kit"), Path(folder, "kit.tar")
        kit.mkdir()
        build_part(kit, collect(), scripts, session)
        for name, data in scripts.items():
            # What brings back a disk is of no use here: recover.sh of the bucket is another one.
            if name in (LAUNCHER, READER):
                (kit / name).write_bytes(data)
        with tarfile.open(whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(kit.rglob("*")):
                session.cancel.check()
                tar.add(path, str(path.relative_to(kit)), recursive=False, filter=_plain)
        return whole.read_bytes()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same file everywhere: no owner, plain modes, and its time in whole seconds."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() or info.name in (LAUNCHER, RUNNER) else 0o644
    info.mtime = int(info.mtime)
    return info


def _code() -> str:
    """A digest of the content of zitcache's own files, the same on every machine that has this version."""
    package = package_folder()
    digest = sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix not in {".pyc", ".pyo"}:
            digest.update(f"{path.relative_to(package)}\0".encode())
            digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Place:
    """A bucket as S3 clients call it."""

    bucket: str
    prefix: str
    endpoint: str
    region: str
    addressing: str

    @classmethod
    def of(cls, location: str) -> _Place:
        parts = urlsplit(location)
        given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return cls(
            parts.netloc,
            parts.path.strip("/"),
            given.get("endpoint_url", ""),
            given.get("region", ""),
            given.get("addressing", ""),
        )


def _scripts(location: str) -> dict[str, str]:
    """The two texts, filled in for this repository. The location holds no secret."""
    place = _Place.of(location)
    folder = f"{place.prefix}/{KIT_FOLDER}".lstrip("/")
    base = place.endpoint or _AWS_ENDPOINT.format(region=place.region or "us-east-1")
    scheme, _, host = base.rstrip("/").partition("://")
    is_virtual = place.addressing == "virtual" or "aliyuncs.com" in host or not place.endpoint
    option = f" --endpoint-url {shlex.quote(place.endpoint)}" if place.endpoint else ""
    key = f"{place.bucket}/{folder}/recover.sh"
    values = {
        "@WORDS@": f"{option} {shlex.quote(f's3://{key}')} -".strip(),
        "@KEY@": key,
        "@ENDPOINT_OPTION@": option,
        "@BUCKET@": shlex.quote(place.bucket),
        "@FOLDER@": shlex.quote(folder),
        "@ENDPOINT@": shlex.quote(place.endpoint),
        "@REGION@": shlex.quote(place.region),
        "@HOST@": shlex.quote(f"{scheme}://{place.bucket}.{host}" if is_virtual else f"{scheme}://{host}"),
        "@PATH@": shlex.quote("" if is_virtual else f"/{place.bucket}"),
        "@REPOSITORY@": location if "'" not in location else "",
    }
    data = Path(__file__).parent / "data"
    texts = {RECOVER: (data / "bucket.sh").read_text(), README: (data / "bucket.md").read_text()}
    for name, value in values.items():
        for path, text in texts.items():
            quoted = shlex.quote(location) if name == "@REPOSITORY@" and path == RECOVER else value
            texts[path] = text.replace(name, quoted)
    return texts
