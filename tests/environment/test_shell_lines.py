"""Lines that set a variable are found without running anything: judged by what the shells do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.environment.machine import DEBIAN_BASHRC, shell
from zitcache.tasks.environment.shell_lines import fish_settings, leaves_early, shell_settings


def last(text: str, name: str = "HF_HOME") -> tuple[str | None, int, bool] | None:
    found = [one for one in shell_settings(text) if one.name == name]
    return (found[-1].value, found[-1].line, found[-1].exported) if found else None


# Values without expansion, so that bash itself is the judge.
SET = [
    "export HF_HOME=/x",
    "HF_HOME=/x; export HF_HOME",
    "export A=1 HF_HOME=/x B=2",
    "export HF_HOME='/x y'",
    'export HF_HOME="/x y"',
    'export HF_HOME="/x \\"y\\" \\$z"',
    "export HF_HOME=/x\\ y",
    "export HF_HOME=/x'y'\"z\"",
    "  export   HF_HOME=/x   # why",
    "export HF_HOME=/x#y",
    "true && export HF_HOME=/x",
    "if true; then export HF_HOME=/x; fi",
    "if true\nthen\n  export HF_HOME=/x\nfi",
    "for a in 1; do export HF_HOME=/x; done",
    "{ export HF_HOME=/x; }",
    "declare -x HF_HOME=/x",
    "export HF_HOME=/x &> /dev/null",
    "case a in a) export HF_HOME=/x;; esac",
    "export HF_HOME=/long\\\n/path",
    "export HF_HOME=/x\nexport HF_HOME=/y",
    "cat <<EOF > /dev/null\nexport HF_HOME=/no\nEOF\nexport HF_HOME=/x",
    "cat <<-'END' > /dev/null\n\texport HF_HOME=/no\n\tEND\nexport HF_HOME=/x",
    "export HF_HOME=",
    "export HF_HOME=a=b",
    "export HF_HOME=/x;echo",
]
NOT_SET = [
    "# export HF_HOME=/x",
    "HF_HOME=/x true",
    "echo export HF_HOME=/x",
    "export XHF_HOME=/x",
    "export HF_HOME_X=/x",
    "echo 'export HF_HOME=/x'",
    'A="HF_HOME=/x"',
    "cat <<EOF > /dev/null\nexport HF_HOME=/no\nEOF",
    "true # export HF_HOME=/x",
]


@pytest.mark.parametrize("text", SET)
def test_what_bash_sets_is_found_with_its_value(tmp_path: Path, text: str) -> None:
    script = f'{text}\nprintf "<%s>" "$HF_HOME"'
    truth = shell("bash", "-c", script, home=tmp_path).stdout.rpartition("<")[2].removesuffix(">")
    found = last(text)
    assert found is not None
    assert (found[0], found[2]) == (truth, True)


@pytest.mark.parametrize("text", NOT_SET)
def test_what_sets_nothing_is_not_taken_for_a_setting(tmp_path: Path, text: str) -> None:
    script = f'{text}\nprintf "<%s>" "${{HF_HOME-unset}}"'
    assert shell("bash", "-c", script, home=tmp_path).stdout.endswith("<unset>")
    assert last(text) is None


def test_lines_are_counted_through_continuations_and_here_documents() -> None:
    text = "cat <<EOF\nx\nEOF\nexport A=1 \\\n  HF_HOME=/x\n\nexport HF_HOME=/y\n"
    assert [(one.line, one.end) for one in shell_settings(text) if one.name == "HF_HOME"] == [(4, 5), (7, 7)]


def test_a_variable_that_is_not_exported_is_told_apart() -> None:
    assert last("HF_HOME=/x") == ("/x", 1, False)
    assert last("HF_HOME=/x\nexport HF_HOME") == ("/x", 1, True)


def test_unset_counts() -> None:
    assert last("export HF_HOME=/x\nunset -v HF_HOME") == (None, 2, True)


@pytest.mark.parametrize("value", ["$HOME/x", '"$HOME/x"', "~/x", "`pwd`", "${X:-/x}", '"$(pwd)"'])
def test_what_the_shell_would_expand_is_not_literal(value: str) -> None:
    (one,) = shell_settings(f"export HF_HOME={value}")
    assert not one.literal


@pytest.mark.parametrize("value", ["'$HOME/x'", "\\$HOME", "/a~b", "'~/x'"])
def test_what_the_shell_would_not_expand_is_literal(value: str) -> None:
    (one,) = shell_settings(f"export HF_HOME={value}")
    assert one.literal


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (DEBIAN_BASHRC.decode(), 6),
        ('[ -z "$PS1" ] && return\n', 1),
        ("a=1\n[[ $- != *i* ]] && return", 2),
        ("if [ -t 1 ]; then exec fish; fi", 1),
        ("case $- in *i*) ;; *) return;; esac", 1),
        ("exit 0", 1),
        ("# return\necho return\nreturned=1\nreturn_code=2", None),
        ("", None),
    ],
)
def test_the_line_that_may_leave_the_file_is_found(text: str, line: int | None) -> None:
    assert leaves_early(text) == line


@pytest.mark.parametrize(
    "text",
    [
        "set -gx HF_HOME /x",
        "set -x -g HF_HOME '/x y'",
        'set --global --export HF_HOME "/x y"',
        "set -gx HF_HOME /it\\'s",
        "set -gx HF_HOME 'a\\'b\\\\c'",
        "export HF_HOME=/x",
        "if true; set -gx HF_HOME /x; end",
        "set -gx HF_HOME /x # why",
    ],
)
def test_what_fish_sets_is_found_with_its_value(tmp_path: Path, text: str) -> None:
    truth = shell("fish", "-c", f'{text}\nprintf "<%s>" "$HF_HOME"', home=tmp_path).stdout
    (one,) = [one for one in fish_settings(text) if one.name == "HF_HOME"]
    assert (f"<{one.value}>", one.exported) == (truth, True)


def test_fish_queries_and_erasures_are_no_values() -> None:
    found = fish_settings("set -q HF_HOME; or set -gx HF_HOME /x\nset -e HF_HOME\nset -g A 1\n")
    assert [(one.name, one.value, one.exported) for one in found] == [
        ("HF_HOME", "/x", True), ("HF_HOME", None, True), ("A", "1", False)
    ]  # fmt: skip
