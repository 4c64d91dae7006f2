"""Where in a file our block goes, so that it is reached and has the last word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.expansion import expand
from zitcache.tasks.environment.blocks import find_blocks, with_block, with_content, without_blocks
from zitcache.tasks.environment.other_files import environment_d_settings, pam_settings, system_conf_settings
from zitcache.tasks.environment.shell_lines import Assignment, fish_settings, leaves_early, shell_settings
from zitcache.tasks.environment.syntax import Syntax, write_lines

READERS: dict[Syntax, Callable[[str], list[Assignment]]] = {
    Syntax.SH: shell_settings,
    Syntax.FISH: fish_settings,
    Syntax.PAM: pam_settings,
    Syntax.ENVIRONMENT_D: environment_d_settings,
    Syntax.SYSTEM_CONF: system_conf_settings,
}
"""What reads the files that are written."""

_Contradicting = Callable[[str], list[Assignment]]


@dataclass(frozen=True, slots=True)
class Rival:
    """A line of the same file that sets one of the variables to something else.

    ``line``: its number in the new file. ``wins``: in some cases it is what counts, because the file may be
    left between it and the next block.
    """

    name: str
    value: str | None
    line: int
    wins: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """The new content of a file, and the lines in it that say something else."""

    data: bytes
    rivals: tuple[Rival, ...]


def place_block(
    data: bytes,
    variables: Mapping[str, str],
    syntax: Syntax,
    *,
    home: Path = Path("/"),
    made: bool = False,
) -> Placed:
    """``data`` with blocks that set ``variables``: where they are, if that does, else where they must be.

    A file that may be left early (``.bashrc`` when no person is there) has the block before that point; one
    that sets the same variables later on has it at the end as well. Raises
    :class:`~zitcache.tasks.environment.blocks.BrokenBlock`.
    """
    content = write_lines(variables, syntax)

    def contradicting(text: str) -> list[Assignment]:
        return [
            one
            for one in settings_of(text, syntax)
            if one.name in variables and expanded(one, home) != variables[one.name]
        ]

    updated = with_content(data, content) if find_blocks(data) else None
    if updated is not None and _sound(updated, contradicting, syntax):
        return Placed(updated, _rivals(updated, contradicting, syntax))
    bare = without_blocks(data)
    new = _placed_anew(bare, contradicting, content, syntax, made)
    return Placed(new, _rivals(new, contradicting, syntax))


def expanded(one: Assignment, home: Path) -> str | None:
    """The value with the home directory put in; other variables stay as they are written."""
    if one.literal or one.value is None:
        return one.value
    return expand(one.value, {"HOME": str(home)}, home)


def settings_of(text: str, syntax: Syntax) -> list[Assignment]:
    """What the lines of a file of that syntax set."""
    return READERS[syntax](text)


def settings_in(data: bytes, syntax: Syntax) -> list[Assignment]:
    """What the lines of a file outside our blocks set; line numbers are those of the whole file."""
    return settings_of(_blanked(data), syntax)


def _placed_anew(
    data: bytes, contradicting: _Contradicting, content: Sequence[str], syntax: Syntax, made: bool
) -> bytes:
    text = data.decode(errors="surrogateescape")
    others = contradicting(text)
    early = leaves_early(text) if syntax is Syntax.SH else None
    if early is None:
        return with_block(data, content, len(data), made=made)
    before = [setting for setting in others if setting.line < early and setting.at_top]
    first = max((setting.end for setting in before), default=1 if data.startswith(b"#!") else 0)
    if any(setting.line > first for setting in others):
        data = with_block(data, content, len(data))
    return with_block(data, content, _offset_after(data, first))


def _sound(data: bytes, contradicting: _Contradicting, syntax: Syntax) -> bool:
    """Whether the blocks of ``data`` are reached and come last."""
    blocks = find_blocks(data)
    first, last = (data.count(b"\n", 0, block.start) + 1 for block in (blocks[0], blocks[-1]))
    text = _blanked(data)
    if any(setting.line > last for setting in contradicting(text)):
        return False
    early = leaves_early(text) if syntax is Syntax.SH else None
    return early is None or first < early


def _rivals(data: bytes, contradicting: _Contradicting, syntax: Syntax) -> tuple[Rival, ...]:
    text = _blanked(data)
    early = leaves_early(text) if syntax is Syntax.SH else None
    starts = [data.count(b"\n", 0, block.start) + 1 for block in find_blocks(data)]

    def wins(line: int) -> bool:
        following = min((start for start in starts if start > line), default=None)
        return following is None or (early is not None and line < early < following)

    return tuple(
        Rival(setting.name, setting.value, setting.line, wins(setting.line))
        for setting in contradicting(text)
    )


def _blanked(data: bytes) -> str:
    """The text with our blocks emptied, so that lines keep their numbers."""
    for block in reversed(find_blocks(data)):
        count = data.count(b"\n", block.start, block.end)
        data = data[: block.start] + b"\n" * count + data[block.end :]
    return data.decode(errors="surrogateescape")


def _offset_after(data: bytes, line: int) -> int:
    """The byte after line ``line`` (1 is the first; 0: the beginning)."""
    offset = 0
    for _ in range(line):
        end = data.find(b"\n", offset)
        if end < 0:
            return len(data)
        offset = end + 1
    return offset
