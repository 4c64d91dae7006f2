"""``sample``: make a small real cache, a pipeline of the Z-Image classes with a few MB of weights."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path

import msgspec

from zitcache.cache.sample import layouts
from zitcache.cache.sample.layouts import Entry
from zitcache.cache.sample.pipeline import MODEL_ID, pipeline_files
from zitcache.cache.sample.writer import write_entries
from zitcache.errors import UsageError, from_os_error
from zitcache.events import Outcome, Session


class SampleLayout(str, Enum):
    """In which layout the sample is laid down."""

    MODELSCOPE = "modelscope"
    MODELSCOPE_LEGACY = "modelscope-legacy"
    MODELSCOPE_LEGACY_HUB = "modelscope-legacy-hub"
    MODELSCOPE_LEGACY_PLAIN = "modelscope-legacy-plain"
    HUGGINGFACE = "huggingface"
    HUGGINGFACE_SHARED = "huggingface-shared"
    SEED = "seed"
    PLAIN = "plain"


_LAYOUTS: dict[SampleLayout, layouts.Layout] = {
    SampleLayout.MODELSCOPE: layouts.modelscope,
    SampleLayout.MODELSCOPE_LEGACY: layouts.modelscope_legacy,
    SampleLayout.MODELSCOPE_LEGACY_HUB: layouts.modelscope_legacy_hub,
    SampleLayout.MODELSCOPE_LEGACY_PLAIN: layouts.modelscope_legacy_plain,
    SampleLayout.HUGGINGFACE: layouts.huggingface,
    SampleLayout.HUGGINGFACE_SHARED: layouts.huggingface_shared,
    SampleLayout.SEED: layouts.seed,
    SampleLayout.PLAIN: layouts.plain,
}


class SampleReport(msgspec.Struct, kw_only=True):
    """``model_path``: what to give to ``from_pretrained``, absolute like ``cache``.

    ``files`` and ``size_bytes`` are those of the model, without what its layout adds (markers, refs, links).
    """

    cache: str
    layout: str
    model: str
    model_path: str
    files: int
    size_bytes: int


def sample(directory: Path, layout: SampleLayout, session: Session) -> Outcome[SampleReport]:
    """Make a sample cache in ``directory``, which must be missing or empty. The same bytes every time.

    Raises ``UsageError`` where the directory is a file or holds something; ``NoSpace``, ``CredentialsError``
    and the like from writing. Then, and when interrupted, nothing of the sample is left behind.
    """
    root = directory.absolute()
    files = pipeline_files()
    laid_out = _LAYOUTS[layout](files)
    try:
        _refuse_unless_vacant(root)
        session.progress.stage(
            "Writing the sample", sum(len(entry.content or b"") for entry in laid_out.entries)
        )
        write_entries(root, laid_out.entries, lambda entry: _announce(entry, session))
    except OSError as error:
        raise from_os_error(error, f"writing the sample to {root}") from error
    report = SampleReport(
        cache=str(root),
        layout=layout.value,
        model=MODEL_ID,
        model_path=str(root / laid_out.model_path),
        files=len(files),
        size_bytes=sum(map(len, files.values())),
    )
    return Outcome(data=report)


def _refuse_unless_vacant(root: Path) -> None:
    try:
        found = next(root.iterdir(), None)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(
            f"{root} is not a directory, so no sample can be made in it.",
            hint="Name a new or an empty directory.",
        ) from None
    if found is not None:
        raise UsageError(
            f"{root} is not empty (it holds {found.name!r}); a sample needs a new or an empty directory.",
            hint=f"Name a new directory: zitcache sample {shlex.quote(str(root / 'sample'))}",
        )


def _announce(entry: Entry, session: Session) -> None:
    session.cancel.check()
    session.progress.file(entry.path)
    session.progress.advance(len(entry.content or b""))
