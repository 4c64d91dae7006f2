"""What can go wrong between a model folder and a picture."""

from __future__ import annotations

from zitcache.errors import Exit, UsageError, ZitcacheError

INSTALL = "pip install 'zitcache[generate]'"
UPGRADE = "pip install --upgrade 'zitcache[generate]'"


class PackagesMissing(UsageError):
    """The packages that draw are not installed."""

    code = "packages-missing"
    default_hint = f"Install them: {INSTALL}"


class NoGpu(UsageError):
    """There is no GPU to draw on."""

    code = "no-gpu"
    default_hint = "To draw on the CPU, which is slow, add: --device cpu"


class NotTrusted(UsageError):
    """This model would run code of its own."""

    code = "not-trusted"
    default_hint = "If you know where it comes from and trust it, add: --trust"


class ModelIncomplete(ZitcacheError):
    """The model is not complete."""

    exit_code = Exit.DAMAGE
    code = "model-incomplete"
    default_hint = "Bring the files back with: zitcache verify --repair"


class DrawingFailed(ZitcacheError):
    """The weights do not load or do not draw."""

    exit_code = Exit.PROOF_FAILED
    code = "drawing-failed"
    default_hint = "See which file is not what it should be with: zitcache verify"


class OutOfGpuMemory(DrawingFailed):
    """The GPU has too little free memory, even for the smallest picture with the weights kept outside."""

    code = "out-of-gpu-memory"
    default_hint = "See who uses it with `nvidia-smi`, free some, and try again."


class NetworkAttempted(DrawingFailed):
    """The proof tried to reach the network."""

    code = "network-attempted"
    default_hint = "Something that belongs to the model is not in its folder: zitcache verify --quick"


def error_of(code: str, message: str, hint: str | None) -> ZitcacheError:
    """The error that the drawing process named by its ``code``."""
    pending: list[type[ZitcacheError]] = [ZitcacheError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind(message, hint=hint)
        pending += kind.__subclasses__()
    return DrawingFailed(message, hint=hint)
