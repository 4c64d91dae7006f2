"""Which lines of a shell's start-up file set a variable, found by reading them, never by running them.

Functions, loops and conditions are not understood: a line that may set a variable counts as one that does.
``source`` is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_HEREDOC = re.compile(r"<<(-?)\s*(?:'([^']+)'|\"([^\"]+)\"|\\?([A-Za-z0-9_.]+))")
_LEADING_WORDS = frozenset(
    {"then", "do", "else", "elif", "if", "while", "until", "time", "!", "{", "builtin", "command"}
)
_DECLARING = frozenset({"export", "declare", "typeset", "readonly"})
_LEAVING = frozenset({"return", "exit", "exec"})


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command without its quotes. ``literal``: nothing in it is expanded by the shell."""

    text: str
    literal: bool = True


@dataclass(frozen=True, slots=True)
class Assignment:
    """Line ``line`` (from 1) sets ``name``; ``value`` None: it unsets it. ``exported``: children see it.

    ``literal``: the value is written out; else the reader puts something in for ``$…`` or ``~``.
    ``at_top``: the line begins at its first column, so most likely nothing stands round it. ``end``: the
    last of its physical lines.
    """

    name: str
    value: str | None
    line: int
    literal: bool = True
    exported: bool = True
    at_top: bool = True
    end: int = 0


def shell_settings(text: str) -> list[Assignment]:
    """What a file for sh, bash or zsh sets, in order."""
    found: list[Assignment] = []
    exported: set[str] = set()
    for first, last, line in logical_lines(text):
        at_top = line[:1] not in {" ", "\t"}
        for words in commands(line):
            found += [
                replace(one, line=first, end=last, at_top=at_top) for one in _of_command(words, exported)
            ]
    return [replace(one, exported=one.exported or one.name in exported) for one in found]


def fish_settings(text: str) -> list[Assignment]:
    """What a file for fish sets, in order."""
    found: list[Assignment] = []
    for first, last, line in logical_lines(text, heredocs=False):
        at_top = line[:1] not in {" ", "\t"}
        for words in commands(line, fish=True):
            found += [replace(one, line=first, end=last, at_top=at_top) for one in _of_fish_command(words)]
    return found


def leaves_early(text: str) -> int | None:
    """The first line (from 1) that may end the file before its end: ``return``, ``exit``, ``exec``."""
    for number, _, line in logical_lines(text):
        for words in commands(line):
            rest = _without_leading(words)
            if rest and rest[0].text in _LEAVING:
                return number
    return None


def logical_lines(text: str, *, heredocs: bool = True) -> Iterator[tuple[int, int, str]]:
    """(number of the first line, of the last, text) of every logical line; here-documents are left out."""
    waiting: list[tuple[str, bool]] = []
    joined, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if waiting:
            end, indented = waiting[0]
            if (line.lstrip("\t") if indented else line) == end:
                waiting.pop(0)
            continue
        if not joined:
            first = number
        if _ends_in_backslash(line):
            joined += line[:-1]
            continue
        whole, joined = joined + line, ""
        if heredocs and not whole.lstrip().startswith("#"):
            waiting = [
                (match[2] or match[3] or match[4], bool(match[1])) for match in _HEREDOC.finditer(whole)
            ]
        yield first, number, whole
    if joined:
        yield first, first, joined


def commands(line: str, *, fish: bool = False) -> list[list[Word]]:
    """The simple commands of one line as words: split at ``; & |`` and parentheses, comments left out."""
    result: list[list[Word]] = [[]]
    text, started, literal = "", False, True
    place = 0

    def end_word() -> None:
        nonlocal text, started, literal
        if started:
            result[-1].append(Word(text, literal))
        text, started, literal = "", False, True

    while place < len(line):
        character = line[place]
        if character in " \t":
            end_word()
        elif character == "#" and not started:
            break
        elif character in ";&|" or (character in "()" and not started):
            end_word()
            result.append([])
        elif character == "'" or character == '"':
            started = True
            quoted, place, plain = _quoted(line, place, fish=fish)
            text += quoted
            literal = literal and plain
            continue
        elif character == "\\" and place + 1 < len(line):
            started = True
            place += 1
            text += line[place]
        else:
            if character in "$`" or (character == "~" and (not started or text.endswith("="))):
                literal = False
            started = True
            text += character
        place += 1
    end_word()
    return [words for words in result if words]


def _quoted(line: str, place: int, *, fish: bool) -> tuple[str, int, bool]:
    """The text of the quotes that begin at ``place``, the place after them, and whether it is literal."""
    quote, place = line[place], place + 1
    text, literal = "", True
    while place < len(line) and line[place] != quote:
        character = line[place]
        escaping = quote == '"' or fish
        if character == "\\" and escaping and place + 1 < len(line):
            following = line[place + 1]
            special = f"\\{quote}" if quote == "'" else '\\"$`'
            text += following if following in special else character + following
            place += 2
            continue
        if quote == '"' and character in "$`":
            literal = False
        text += character
        place += 1
    return text, place + 1, literal


def _of_command(words: list[Word], exported: set[str]) -> Iterator[Assignment]:
    words = _without_leading(words)
    if not words:
        return
    first = words[0].text
    if first == "unset":
        for word in words[1:]:
            if not word.text.startswith("-"):
                yield Assignment(word.text, None, 0)
        return
    if first in _DECLARING:
        exports = first == "export" or any(w.text.startswith("-") and "x" in w.text for w in words[1:])
        for word in words[1:]:
            match = _ASSIGNMENT.fullmatch(word.text)
            if match:
                yield Assignment(match[1], match[2], 0, word.literal, exports)
            elif exports and not word.text.startswith("-"):
                exported.add(word.text)
        return
    matches = [_ASSIGNMENT.fullmatch(word.text) for word in words]
    if not all(matches):  # "NAME=value command" sets it for that command alone
        return
    for word, match in zip(words, matches, strict=True):
        assert match is not None
        yield Assignment(match[1], match[2], 0, word.literal, exported=False)


def _without_leading(words: list[Word]) -> list[Word]:
    """The command itself: without ``then`` and the like, and without the head of a ``case``."""
    if words and words[0].text == "case" and any(word.text == "in" for word in words):
        words = words[[word.text for word in words].index("in") + 1 :]
    while words and (words[0].text in _LEADING_WORDS or words[0].text.endswith(")")):
        words = words[1:]
    return words


def _of_fish_command(words: list[Word]) -> Iterator[Assignment]:
    while words and words[0].text in {"and", "or", "not", "begin", "if", "else", "builtin"}:
        words = words[1:]
    if not words:
        return
    first, rest = words[0].text, words[1:]
    if first == "export":
        for word in rest:
            match = _ASSIGNMENT.fullmatch(word.text)
            if match:
                yield Assignment(match[1], match[2], 0, word.literal)
    elif first == "set":
        options = [word.text for word in rest if word.text.startswith("-")]
        values = [word for word in rest if not word.text.startswith("-")]
        short = "".join(option[1:] for option in options if not option.startswith("--"))
        if not values or "q" in short or "--query" in options:
            return
        name = values[0].text
        if "e" in short or "--erase" in options:
            yield Assignment(name, None, 0)
            return
        exports = "x" in short or "--export" in options
        value = " ".join(word.text for word in values[1:])
        literal = all(word.literal for word in values[1:])
        yield Assignment(name, value, 0, literal, exports)


def _ends_in_backslash(line: str) -> bool:
    stripped = line.rstrip("\\")
    return (len(line) - len(stripped)) % 2 == 1 and not line.lstrip().startswith("#")
