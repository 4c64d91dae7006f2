"""Claims that need no snapshot: a Hugging Face cache's own names, and published fingerprints."""

from __future__ import annotations

from zitcache.cache.published import huggingface_digests, published_fingerprint
from zitcache.tasks.verify.claims import Claim, Origin
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.names import Claims

NAMES_SOURCE = "digests in the names of the Hugging Face cache"


def published_source(model_id: str) -> str:
    """How a person calls the published fingerprint of a model."""
    return f"the published fingerprint of {model_id}"


def claim_names(live: Live, wanted: set[str], claims: Claims) -> None:
    """What blob names and tree listings say about the contents ``wanted``."""
    for model in live.models:
        for path, (kind, digest) in huggingface_digests(model.location).items():
            if path not in wanted or any(claim.origin is Origin.NAME for claim in claims[path]):
                continue
            claims[path].append(
                Claim(
                    Origin.NAME,
                    NAMES_SOURCE,
                    path,
                    sha256=digest if kind == "sha256" else None,
                    git_sha1=digest if kind == "git-sha1" else None,
                )
            )


def claim_published(live: Live, wanted: set[str], claims: Claims) -> None:
    """What the authors of a model published about its files."""
    for model in live.models:
        folder = live.relative(model.path)
        for name, (size, sha256) in (published_fingerprint(model.id) or {}).items():
            path = f"{folder}/{name}" if folder else name
            content = live.content_of(path)
            if content is not None and content.path in wanted:
                source = published_source(model.id)
                claims[content.path].append(Claim(Origin.PUBLISHED, source, path, size=size, sha256=sha256))
