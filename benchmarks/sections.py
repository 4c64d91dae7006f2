"""What is measured, section by section. Tools take turns inside a round, so that noise hits all alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from cachemaker import MadeCache
from contenders import Tool, Zitcache, bare_read
from measure import Command, CommandError, Sample, disk_use, remove, run
from state import Bench, Series, say


def turn(tools: Sequence[Tool], number: int) -> list[Tool]:
    """The tools in the order of round ``number``: each round begins with another one."""
    first = number % len(tools) if tools else 0
    return [*tools[first:], *tools[:first]]


def backup(bench: Bench, tools: Sequence[Tool], keep: Callable[[Tool], bool]) -> None:
    """First backup into a fresh store, by every tool. Stores that ``keep`` asks for stay for later."""
    for number in range(bench.rounds):
        for tool in turn(tools, number):
            if number < bench.rounds_of(tool):
                _backup_once(bench, tool, number, keep)


def _backup_once(bench: Bench, tool: Tool, number: int, keep: Callable[[Tool], bool]) -> None:
    cache = bench.input_of(tool)
    store, tiny_store = bench.store_of(tool, cache), bench.store_of(tool, bench.tiny)
    name = f"backup/{tool.key}"
    remove(store)
    try:
        for command in tool.prepare(store):
            run(command, bench.scratch / "output.log")
    except CommandError as failure:
        bench.fail(name, tool.title, str(failure))
        return
    done = bench.measure(
        name,
        tool.title,
        tool.backup(cache.root, store),
        warm_up=lambda: bench.unmeasured_backup(tool, bench.tiny, tiny_store),
        cold=[cache.root],
        sync=True,
        scale=bench.scale_of(tool),
        measured_bytes=cache.size_bytes,
    )
    if done:
        bench.stored[tool.key] = disk_use(store) / cache.size_bytes
        if not tool.compresses:
            _fail_if(bench, name, bench.same_tree(cache, store, tool.title))
    last = number == bench.rounds_of(tool) - 1
    if not (done and last and keep(tool)):
        remove(store)


def _fail_if(bench: Bench, name: str, problem: str | None) -> None:
    if problem:
        bench.fail(name, bench.series[name].title, problem)


def nightly(bench: Bench, zitcache: Zitcache) -> None:
    """A second backup with nothing changed, the whole process: with cold data, and with warm data."""
    if not bench.ensure_store(zitcache, "nightly/cold", "nightly/warm"):
        return
    store, tiny_store = bench.store_of(zitcache, bench.cache), bench.store_of(zitcache, bench.tiny)
    again = zitcache.backup(bench.cache.root, store)
    tiny_again = zitcache.backup(bench.tiny.root, tiny_store)

    def warm_up() -> None:
        run(tiny_again, bench.scratch / "warm.log")

    for _ in range(bench.rounds):
        bench.measure("nightly/cold", "cold data", again, warm_up=warm_up, cold=[bench.cache.root, store])
        bench.measure("nightly/warm", "warm", again)


def restore(bench: Bench, tools: Sequence[Tool]) -> None:
    """Bring everything back into a place that does not exist yet."""
    able = [
        tool
        for tool in tools
        if tool.restore(Path("a"), Path("b")) and bench.ensure_store(tool, f"restore/{tool.key}")
    ]
    for number in range(bench.rounds):
        for tool in turn(able, number):
            if number < bench.rounds_of(tool):
                _restore_once(bench, tool, last=number == bench.rounds_of(tool) - 1)


def _restore_once(bench: Bench, tool: Tool, last: bool) -> None:
    cache = bench.input_of(tool)
    target, tiny_target = bench.scratch / "restored", bench.scratch / "restored-tiny"
    store, name = bench.store_of(tool, cache), f"restore/{tool.key}"
    command = tool.restore(store, target)
    tiny_command = tool.restore(bench.store_of(tool, bench.tiny), tiny_target)
    if command is None or tiny_command is None:
        return
    warm = tiny_command

    def warm_up() -> None:
        remove(tiny_target)
        run(warm, bench.scratch / "warm.log")
        remove(tiny_target)

    remove(target)
    title = tool.title if tool.key in ("cp", "zitcache") else f"{tool.key} && sync"
    done = bench.measure(
        name,
        title,
        command,
        warm_up=warm_up,
        cold=[store],
        sync=True,
        scale=bench.scale_of(tool),
        measured_bytes=cache.size_bytes,
    )
    if done:
        _fail_if(bench, name, bench.same_tree(cache, target, name))
        if bench.check and last and tool.key == "zitcache":
            _compare_contents(bench, name, cache.root, target)
    remove(target)


def _compare_contents(bench: Bench, name: str, cache: Path, target: Path) -> None:
    argv = ["diff", "-r", str(cache), str(target)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail_if(bench, name, f"{' '.join(argv)}: {(done.stdout or done.stderr)[:400]}")
    else:
        bench.checked.append("`diff -r` of the cache and what zitcache restored: no difference")


def verify(bench: Bench, zitcache: Zitcache) -> None:
    """Compare every file with the snapshot, against reading every file and doing nothing with it."""
    if not bench.ensure_store(zitcache, "verify/zitcache"):
        return
    store, tiny_store = bench.store_of(zitcache, bench.cache), bench.store_of(zitcache, bench.tiny)
    cold = [bench.cache.root, store]

    def warm_up() -> None:
        run(zitcache.verify(bench.tiny.root, tiny_store), bench.scratch / "warm.log")

    def by_zitcache() -> None:
        command = zitcache.verify(bench.cache.root, store)
        bench.measure("verify/zitcache", "zitcache verify", command, warm_up=warm_up, cold=cold)

    def by_cat() -> None:
        command, tiny = bare_read(bench.cache.root), bare_read(bench.tiny.root)
        log = bench.scratch / "warm.log"
        bench.measure("verify/cat", "cat FILES > /dev/null", command, lambda: _discard(run(tiny, log)), cold)

    for number in range(bench.rounds):
        for step in (by_zitcache, by_cat) if number % 2 == 0 else (by_cat, by_zitcache):
            step()


def _discard(_: Sample) -> None:
    """Nothing: the sample of a warm-up is not kept."""


def startup(bench: Bench, zitcache: Zitcache, python: str, runs: int) -> None:
    """How long the help takes to appear, against importing the library it is built on; all in memory."""
    typer = Command((python, "-c", "import typer"))
    for command, name, title in (
        (typer, "startup/typer", 'python -c "import typer"'),
        (zitcache.help(), "startup/zitcache", "zitcache --help"),
    ):
        bench.series[name] = Series(title)
        try:
            run(command, bench.scratch / "warm.log")
        except CommandError as failure:
            bench.fail(name, title, str(failure))
            return
    for _ in range(runs):
        for command, name in ((typer, "startup/typer"), (zitcache.help(), "startup/zitcache")):
            bench.series[name].samples.append(run(command, bench.scratch / "warm.log"))


def stored_per_kind(
    bench: Bench, tools: Sequence[Tool], caches: dict[str, MadeCache]
) -> dict[str, dict[str, float]]:
    """Stored share of the input per tool and kind of weights: ``{tool: {kind: share}}``; nothing is timed."""
    found: dict[str, dict[str, float]] = {}
    for tool in tools:
        for kind, cache in caches.items():
            store = bench.scratch / f"{tool.key}-{kind}"
            try:
                bench.unmeasured_backup(tool, cache, store)
            except CommandError as failure:
                say(f"stored/{tool.key}/{kind}: FAILED, {failure}")
                continue
            finally:
                used = disk_use(store) if store.exists() else 0
                remove(store)
            found.setdefault(tool.key, {})[kind] = used / cache.size_bytes
            say(f"stored/{tool.key}/{kind}: {used / cache.size_bytes:.1%}")
    return found
