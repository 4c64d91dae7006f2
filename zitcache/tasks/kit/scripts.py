"""The small files that a kit's Pythons share, and the pointer in the root of the disk."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

from zitcache.machine.files import write_durably
from zitcache.machine.mounts import mount_of
from zitcache.tasks.kit.layout import LAUNCHER, RECOVER, RUNNER, SCRIPTS, is_kit

POINTER = "zitcache-recover.sh"
_POINTER_MARK = "# zitcache: this file points to what brings the models back."
_POINTER = """\
#!/bin/sh
{mark}
# After a reset of the system disk: sh {name}
set -u
case $0 in
*/*) here=${{0%/*}} ;;
*) here=. ;;
esac
here=$(CDPATH='' cd -- "${{here:-/}}" && pwd -P) || exit 70
# The newest first.
for kit in \\
{kits}; do
    if [ -f "$here/$kit/recover.sh" ]; then
        exec /bin/sh "$here/$kit/recover.sh" "$@"
    fi
done
echo "error: the kits that were on this disk are gone. Look for others: find / -name recover.sh" >&2
exit 6
"""
_KIT_LINE = re.compile(r"^    (\S.*?) ?\\?(?:; do)?$")
_MAX_POINTER_BYTES = 1 << 16
_MAX_KITS = 20


def shared_files() -> dict[str, bytes]:
    """Name and content of every file that comes with zitcache for its kits, ``run.py`` included."""
    folder = Path(__file__).parent / "data"
    return {name: (folder / name).read_bytes() for name in (*SCRIPTS, RUNNER)}


def write_shared(kit: Path, files: dict[str, bytes]) -> list[str]:
    """Put what differs into the top folder of a kit, and say what that was. Raises ``OSError``."""
    changed = []
    for name in SCRIPTS:
        mode = 0o755 if name in (RECOVER, LAUNCHER) else 0o644
        if _content(kit / name, len(files[name])) != files[name]:
            write_durably(kit / name, files[name], mode=mode)
            changed.append(name)
    return changed


def keep_pointer(kit: Path) -> Path | None:
    """Have ``zitcache-recover.sh`` in the root of the kit's disk lead to it; where that is, if it does.

    None on the disk of ``/``, in memory, where nothing may be written, and where a file of somebody else has
    the name. Raises ``OSError`` for what should have worked.
    """
    real = Path(os.path.realpath(kit))
    mount = mount_of(real)
    root = Path(mount.mount_point)
    if root == Path("/") or mount.is_memory or real == root or root not in real.parents:
        return None
    pointer = root / POINTER
    if not os.access(root, os.W_OK | os.X_OK, effective_ids=True):
        return None
    name = str(real.relative_to(root))
    if "\n" in name or not name.isprintable():
        return None
    known = _pointed_at(pointer)
    if known is None:
        return None
    if name in known:
        return pointer
    alive = [other for other in known if is_kit(root / other)]
    kits = [name, *alive][:_MAX_KITS]
    text = _POINTER.format(
        mark=_POINTER_MARK, name=POINTER, kits=" \\\n".join(f"    {shlex.quote(each)}" for each in kits)
    )
    write_durably(pointer, text.encode(), mode=0o755)
    return pointer


def _pointed_at(pointer: Path) -> list[str] | None:
    """The kits that a pointer names; None when what is there is not one of ours."""
    try:
        status = os.lstat(pointer)
    except FileNotFoundError:
        return []
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_POINTER_BYTES:
        return None
    text = pointer.read_text(errors="replace")
    if _POINTER_MARK not in text.splitlines()[:3]:
        return None
    _, _, listed = text.partition("for kit in \\\n")
    found: list[str] = []
    for line in listed.partition("\ndo")[0].splitlines():
        match = _KIT_LINE.match(line)
        if not match:
            break
        try:
            found += shlex.split(match[1])
        except ValueError:
            break
        if line.endswith("; do"):
            break
    return found


def _content(path: Path, size: int) -> bytes | None:
    """A small file, as far as it can be as wanted; None for anything else than a plain file of that size."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return None
        return path.read_bytes()
    except OSError:
        return None
