"""Compare with a file: a fingerprint that ``zitcache checksum`` wrote, or one of ``sha256sum``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from zitcache.cache.fingerprint import Fingerprint
from zitcache.cache.fingerprint_set import fingerprints_from_json
from zitcache.cache.inventory import Model
from zitcache.cache.layouts import BOOKKEEPING_FILES
from zitcache.cache.sha256sums import parse_sha256sums
from zitcache.errors import NotFound, UsageError, from_os_error
from zitcache.events import Session
from zitcache.tasks.verify.claims import Claim, Origin
from zitcache.tasks.verify.findings import Findings
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.names import Claims

_MAX_BYTES = 256 << 20


def compare_with_file(
    file: Path, live: Live, claims: Claims, findings: Findings, session: Session
) -> set[str]:
    """Add what ``file`` says to ``claims``, and what it names in vain to ``findings``; returns its names.

    Raises ``UsageError`` if it is neither kind of file, ``NotFound`` if it is about something else.
    """
    data = _load(file)
    if data.lstrip()[:1] in (b"{", b"["):
        source = f"the fingerprint {file}"
        said = list(_from_fingerprints(fingerprints_from_json(data), source, live, findings, session))
    else:
        source = f"the SHA-256 sums {file}"
        said = list(_from_sums(parse_sha256sums(data), source, file, live))
    if not said:
        raise NotFound(
            f"{file} names nothing that lies in {live.scope.path}.",
            hint="Name the cache or model that it was made of: zitcache verify PATH --against FILE",
        )
    findings.used(source)
    for claim in said:
        content = live.content_of(claim.path)
        if content is not None:
            claims[content.path].append(claim)
        elif live.left_out_above(claim.path) is not None:
            findings.unverified.add(claim.path)
        elif os.path.basename(claim.path) not in BOOKKEEPING_FILES:
            # Those are about one download by one tool, not about the model.
            findings.missing.add(claim.path)
    return {claim.path for claim in said}


def _load(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise from_os_error(error, f"reading {file}") from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"{file} is too large to be a fingerprint or a list of checksums.")
    return data


# -- fingerprints ---------------------------------------------------------------------------------------


def _from_fingerprints(
    fingerprints: Sequence[Fingerprint], source: str, live: Live, findings: Findings, session: Session
) -> Iterator[Claim]:
    for fingerprint in fingerprints:
        models = _models_for(fingerprint, fingerprints, live)
        name = f"{fingerprint.model}@{fingerprint.revision}"
        if not models and not live.scope.inside:
            session.warn(
                "model-not-here",
                f"{source} has {name}, which is not in {live.scope.root}.",
                "Bring it back: zitcache restore",
            )
            findings.missing.add(name)
        for model in models:
            folder = live.relative(model.path)
            for entry in fingerprint.files:
                path = f"{folder}/{entry.path}" if folder else entry.path
                if live.scope.covers(path):
                    yield Claim(
                        Origin.AGAINST,
                        source,
                        path,
                        size=entry.size,
                        blake3=entry.blake3,
                        sha256=entry.sha256,
                    )


def _models_for(fingerprint: Fingerprint, all_of_them: Sequence[Fingerprint], live: Live) -> list[Model]:
    """The models that a fingerprint is about: of its id and revision, else of its id, else the only ones."""
    same_id = [model for model in live.models if model.id.lower() == fingerprint.model.lower()]
    exact = [model for model in same_id if model.revision == fingerprint.revision]
    if exact or same_id:
        return exact or same_id
    return list(live.models) if len(all_of_them) == 1 and len(live.models) == 1 else []


# -- sha256sum ------------------------------------------------------------------------------------------


def _from_sums(sums: dict[str, str], source: str, file: Path, live: Live) -> Iterator[Claim]:
    base = _base_of(sums, file, live)
    if base is None:
        return
    for name, sha256 in sums.items():
        path = live.relative(os.path.normpath(os.path.join(base, name)))
        if path and path.split("/")[0] != ".." and live.scope.covers(path):
            yield Claim(Origin.AGAINST, source, path, sha256=sha256)


def _base_of(sums: dict[str, str], file: Path, live: Live) -> Path | None:
    """The directory that the names start from, which the file does not say: where most of them exist."""
    folder = Path(os.path.realpath(file.absolute().parent))
    places = [live.scope.root, live.scope.path, folder, *(model.path for model in live.models)]
    hits = [sum(os.path.lexists(os.path.join(place, name)) for name in sums) for place in places]
    return places[hits.index(max(hits))] if any(hits) else None
