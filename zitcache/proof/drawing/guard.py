"""Keep this process off the network, so that a proof cannot pass with files that it downloaded.

An audit hook sees every Python socket before it connects, whoever made it, and cannot be taken off again
(https://docs.python.org/3/library/audit_events.html). Where the kernel permits it, the process also moves
to a network namespace of its own without any interface, which holds for compiled code, too.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

_CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_RESOLVING = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_CLONE_NEWNET = 0x40000000


class NetworkRefused(OSError):
    """The proof tried to reach the network."""


def stay_offline(on_attempt: Callable[[str], None]) -> None:
    """From now on every attempt raises :class:`NetworkRefused`, after ``on_attempt`` was told its target."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _CONNECTING:
            connection, target = arguments[0], arguments[-1]
            if getattr(connection, "family", None) == socket.AF_UNIX:
                return
        elif event in _RESOLVING:
            target = arguments[0]
        else:
            return
        name = _name(target)
        on_attempt(name)
        raise NetworkRefused(f"the proof tried to reach the network: {name}")

    sys.addaudithook(hook)
    _leave_network()


def _name(target: object) -> str:
    if isinstance(target, tuple) and target:
        return ":".join(str(part) for part in target[:2])
    return target.decode(errors="replace") if isinstance(target, bytes) else str(target)


def _leave_network() -> None:
    """``unshare(CLONE_NEWNET)`` for this thread and those it will start.

    It needs CAP_SYS_ADMIN, which containers often lack; then the hook must do.
    """
    import ctypes

    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if unshare is not None:
        unshare(ctypes.c_int(_CLONE_NEWNET))
