"""The how-to pages for places: every command works as it is written, and what they promise comes true."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.backup.world import describe, make_sample
from tests.clean.world import require_complete
from tests.containers.box import Box, own
from tests.docs.machine import Machine
from tests.docs.pages import NOTES, PAGES, blocks, code_under
from tests.storage.disks import ext4
from zitcache.cli.catalog import COMMANDS
from zitcache.tasks.sample import SampleLayout

MIB = 1 << 20
PLACES = [*sorted(path.name for path in PAGES.glob("use-*.md")), "free-space.md"]
CACHE = "/root/workspace/model_cache"


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    """With an ext4 disk at every place that the test names."""
    with ExitStack() as stack:
        disks = {
            place: stack.enter_context(ext4(tmp_path / f"disk{number}", size=512 * MIB))
            for number, place in enumerate(request.param)
        }
        yield Machine(tmp_path / "machine", disks)


def fine(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# -- the machines that are rented --------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("machine", [("/root/autodl-tmp", "/root/autodl-fs")], indirect=True)
def test_autodl(machine: Machine) -> None:
    make_sample(machine.at(CACHE))
    before = describe(machine.at(CACHE))
    settings = {"MODELSCOPE_CACHE": CACHE, "HF_HOME": CACHE}
    fine(machine.run(code_under("use-on-autodl.md", "While the model still works"), settings))
    assert machine.at(CACHE).is_symlink()
    assert not machine.at("/root/workspace/.zitcache-old-model_cache").exists(), "the system disk is small"
    lines = code_under("use-on-autodl.md", "After the reset").splitlines()
    machine.reset()
    fine(machine.run(lines[0]))
    assert machine.at(CACHE).is_symlink() and sums_of(machine, CACHE) == sums(before)
    assert "=/root/autodl-tmp/modelscope_cache\n" in machine.at("/etc/environment").read_text()
    machine.reset()
    del machine.disks["/root/autodl-tmp"]  # another machine of the same user
    fine(machine.run(lines[1]))
    assert sums_of(machine, CACHE) == sums(before)


def sums(tree: dict[str, tuple[object, ...]]) -> dict[str, object]:
    """SHA-256 of every file of a tree that ``describe`` looked at."""
    return {f"./{name}": facts[0] for name, facts in tree.items() if facts[0] != "directory"}


def sums_of(machine: Machine, path: str) -> dict[str, object]:
    """The same of a folder on the machine, as a program there sees it."""
    command = "find . -type f ! -path '*/.zitcache-*' -exec sha256sum {} +"
    done = fine(machine.run(f"cd {path} && {command}"))
    return {name: digest for digest, name in (line.split(None, 1) for line in done.stdout.splitlines())}


@pytest.mark.root
@pytest.mark.parametrize("machine", [("/root/autodl-tmp", "/root/autodl-fs")], indirect=True)
def test_autodl_every_night(machine: Machine) -> None:
    make_sample(machine.at(CACHE))
    fine(machine.run("zitcache init /root/autodl-fs/zitcache"))
    fine(machine.run(code_under("use-on-autodl.md", "Every night") + "sleep 3\n"))
    done = fine(
        machine.run(
            "cat /root/autodl-tmp/zitcache.log; zitcache snapshots -r /root/autodl-fs/zitcache --json"
        )
    )
    assert done.stdout.count('"id"') == 2, "the line and the loop have each made one"


@pytest.mark.root
@pytest.mark.parametrize("machine", [("/workspace",)], indirect=True)
def test_runpod(machine: Machine) -> None:
    make_sample(machine.at("/root/.cache/huggingface/hub"), SampleLayout.HUGGINGFACE)
    fine(machine.run(code_under("use-on-runpod.md", "While the model still works")))
    done = fine(machine.run(code_under("use-on-runpod.md", "Serverless workers")))
    assert re.search(r"^HF_H(OME|UB_CACHE)=/workspace/model_cache", done.stdout, re.MULTILINE)
    machine.reset()
    done = fine(machine.run(code_under("use-on-runpod.md", "After the reset")))
    link = machine.at("/root/.cache/huggingface/hub")
    assert link.is_symlink() and str(link.readlink()) == "/workspace/model_cache"
    fine(machine.run("test -f /root/.cache/huggingface/hub/models--*/snapshots/*/model_index.json"))


@pytest.mark.root
@pytest.mark.parametrize("machine", [("/data",)], indirect=True)
def test_a_bare_server(machine: Machine) -> None:
    page = "use-on-a-bare-server.md"
    make_sample(machine.at(CACHE))
    fine(machine.run(code_under(page, "Save the cache"), {"MODELSCOPE_CACHE": CACHE}))
    fine(machine.run(code_under(page, "Every night, with cron")))
    settings, command = crontab(machine.at("/etc/cron.d/zitcache"))
    assert set(settings) == {"SHELL", "PATH", "HOME"}, "cron has nothing else"
    done = fine(machine.run(command, settings, shell=settings["SHELL"]))
    assert done.stdout + done.stderr.replace("hint:", "") == "" or "same disk" in done.stderr
    ids = fine(machine.run("zitcache snapshots -r /data/zitcache --json")).stdout
    assert ids.count('"id"') == 2
    machine.reset()
    fine(machine.run(code_under(page, "After the reset")))
    fine(machine.run(f"test -f {CACHE}/models/*/snapshots/master/model_index.json"))
    assert machine.at("/etc/cron.d/zitcache").read_text().count("zitcache backup") == 1, (
        "the schedule is back"
    )


@pytest.mark.root
@pytest.mark.parametrize("machine", [("/data",)], indirect=True)
def test_two_nights_do_not_run_at_once(machine: Machine) -> None:
    fine(machine.run(code_under("use-on-a-bare-server.md", "Every night, with cron")))
    settings, command = crontab(machine.at("/etc/cron.d/zitcache"))
    held = f"flock /run/zitcache.lock sh -c {command!r}"
    assert machine.run(held, settings, shell=settings["SHELL"]).returncode == 1


def crontab(path: Path) -> tuple[dict[str, str], str]:
    """Settings and the one command of a file in ``/etc/cron.d``."""
    text = path.read_text()
    assert text.endswith("\n") and path.stat().st_mode & 0o777 == 0o644
    *settings, entry = text.splitlines()
    *times, user, command = entry.split(None, 6)[:7]
    assert len(times) == 5 and user == "root" and "%" not in command.replace("\\%", "")
    assert all(word.startswith("/") for word in command.split() if "bin/" in word)
    return dict(line.partition("=")[::2] for line in settings), command


def test_the_units_are_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (package systemd)")
    code = code_under("use-on-a-bare-server.md", "Every night, with systemd")
    script = code.replace("/etc/systemd/system", str(tmp_path)).replace(
        "/usr/local/bin/zitcache", "/bin/true"
    )
    subprocess.run(["sh", "-eu", "-c", script], check=True)
    for unit in ("zitcache-backup.service", "zitcache-backup.timer"):
        done = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / unit)], capture_output=True, text=True
        )
        assert done.returncode == 0 and "zitcache" not in done.stderr, done.stderr
    done = subprocess.run(
        ["systemd-analyze", "calendar", "*-*-* 03:00:00"], capture_output=True, text=True, check=True
    )
    assert "Next elapse" in done.stdout


# -- containers --------------------------------------------------------------------------------------


@pytest.mark.root
def test_docker(tmp_path: Path) -> None:
    volumes = {"cache": make_sample(tmp_path / "cache"), "repository": tmp_path / "repository"}
    volumes["repository"].mkdir()
    box = Box(tmp_path / "box", volumes)
    for folder in volumes.values():
        own(folder)
    lines = [
        line
        for block in blocks("use-with-docker.md")
        if block.note == "run as docker"
        for line in block.lines
    ]
    assert len(lines) >= 6
    for line in lines:
        match = re.fullmatch(
            r"docker (?:compose run --rm zitcache|run --rm -v model_cache:/cache "
            r"-v zitcache_repository:/repository zitcache:[0-9.]+) (.*)",
            line,
        )
        assert match is not None, line
        fine(box.run("zitcache", *match[1].split()))


def test_the_files_that_the_pages_name_exist() -> None:
    for page in PLACES:
        text = (PAGES / page).read_text()
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (PAGES / target).exists(), (page, target)
        for path in re.findall(r"\bdeploy/[\w./-]+\w", text):
            place = PAGES.parents[1] / path
            assert place.exists() or place.with_name(place.name + ".example").exists(), (page, path)


# -- free space --------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("machine", [("/data",)], indirect=True)
def test_free_space(machine: Machine) -> None:
    make_sample(machine.at(CACHE))
    leftover = machine.at(CACHE) / "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master/x.bin.incomplete"
    leftover.write_bytes(b"x" * 100_000)
    done = fine(machine.run("".join(block.code for block in blocks("free-space.md"))))
    assert "left alone" in done.stdout and leftover.exists(), "it is not an hour old"
    assert '"bytes_freed":0' in machine.at("/tmp/clean.json").read_text()
    fine(machine.run("zitcache clean --delete --min-age 0"))
    assert not leftover.exists()
    require_complete(machine.at(CACHE))


def test_the_page_lists_every_kind() -> None:
    from zitcache.tasks.clean import Kind

    text = (PAGES / "free-space.md").read_text()
    assert all(f"`{kind.value}`" in text for kind in Kind)


# -- all pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PLACES)
def test_every_block_is_run_here_or_says_why_not(page: str) -> None:
    notes = {block.note for block in blocks(page)}
    assert notes <= NOTES, notes - NOTES
    assert blocks(page), "a page without a command"


@pytest.mark.parametrize("page", PLACES)
def test_every_command_of_zitcache_exists(page: str) -> None:
    text = (PAGES / page).read_text()
    named = set(re.findall(r"(?:^|[`'\s/])zitcache ([a-z]+)\b", "\n".join(b.code for b in blocks(page))))
    named |= set(re.findall(r"`zitcache ([a-z]+)", text))
    assert named <= set(COMMANDS), named - set(COMMANDS)
