"""Measure zitcache against the tools people use, on one cache of weights, and say what the targets were.

    python benchmarks/bench.py --size 2G --per-dtype --check      the table of the README
    python benchmarks/bench.py --size 64M --rounds 1              does everything run at all
    python benchmarks/bench.py --only nightly,verify              some sections
    python benchmarks/bench.py --peers all --size 512M            the slow tools at full size too

Caches are cold and everything must be on the disk before the clock stops. Tools take turns inside a round.
Results go to stdout, what happens meanwhile to stderr. See benchmarks/README.md for how to read them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import report
import sections
from cachemaker import KINDS, MIX_ORDER, MadeCache, Recipe, make, parse_shares, parse_size
from contenders import Tool, Zitcache, peers
from describe import file_system, machine_line
from measure import can_drop_caches, remove
from state import Bench, say

SECTIONS = ("backup", "nightly", "restore", "verify", "startup")
_TINY_BYTES = 1_000_000
_CHECKOUT = Path(__file__).resolve().parent.parent


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ends the process with code 2 and a message for those that make no sense."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--size", type=parse_size, default=parse_size("2G"), help="of the cache: 2G = 2e9 bytes, 1GiB (2G)")
    add("--kind", choices=KINDS, default="mix", help="of the weights (mix)")
    add("--shares", type=parse_shares, default=(60, 30, 10), help="of a mix: upcast, bf16, fp32 (60,30,10)")
    add("--seed", type=int, default=1, help="of the weights (1)")
    add("--rounds", type=int, default=3, help="how many times each is measured (3)")
    add("--only", default=",".join(SECTIONS), help=f"sections, from {','.join(SECTIONS)} (all)")
    add(
        "--peers",
        default="sampled",
        help="fast: cp and rsync. sampled: the slow ones as well, once, on --slow-size, scaled. all: all at "
        "full size. Or a list such as cp,borg, at full size (sampled)",
    )
    add("--slow-size", type=parse_size, default=parse_size("256M"), help="for sampled slow tools (256M)")
    add("--per-dtype", action="store_true", help="also the stored size for each kind of weights alone")
    add("--per-dtype-size", type=parse_size, default=parse_size("256M"), help="of each of those (256M)")
    add("--cold", choices=("data", "everything"), default="data", help="everything: programs as well (data)")
    add("--check", action="store_true", help="compare what zitcache restored by diff -r")
    add("--zitcache", default=f"{shlex.quote(sys.executable)} -m zitcache", help="how to start it")
    add("--startup-runs", type=int, default=30, help="for the start-up section (30)")
    add("--work", type=Path, default=Path("/var/tmp/zitcache-bench"), help="caches live here, and are reused")
    add("--dest", type=Path, help="where backups and restores go, if not below --work (another disk)")
    add("--keep", action="store_true", help="leave what was written in place")
    add("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args(words)
    options.only = [word for word in options.only.split(",") if word]
    if unknown := set(options.only) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.rounds < 1 or options.startup_runs < 1:
        parser.error("--rounds and --startup-runs must be at least 1")
    known = [tool.key for tool in peers(Path())]
    wanted = set(options.peers.split(",")) - {"fast", "sampled", "all"}
    if unknown := wanted - set(known):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return options


def choose(options: argparse.Namespace, home: Path) -> tuple[list[Tool], frozenset[str], Zitcache | None]:
    """The tools that run here, which of them at full size, and zitcache itself if it starts."""
    zitcache = Zitcache(shlex.split(options.zitcache), _CHECKOUT, home)
    candidates: list[Tool] = [zitcache, *peers(home)]
    if options.peers not in {"fast", "sampled", "all"}:
        named = {"zitcache", *options.peers.split(",")}
        candidates = [tool for tool in candidates if tool.key in named]
    elif options.peers == "fast":
        candidates = [tool for tool in candidates if not tool.slow]
    tools = []
    for tool in candidates:
        reason = tool.missing()
        if reason:
            say(f"{tool.key}: skipped, {reason}")
        else:
            tools.append(tool)
            say(f"{tool.key}: {tool.version()}")
    sampled = options.peers == "sampled" and options.slow_size < options.size
    full = frozenset(tool.key for tool in tools if not (sampled and tool.slow))
    return tools, full, zitcache if zitcache in tools else None


def check_space(
    options: argparse.Namespace, destination: Path, tools: Sequence[Tool], full: frozenset[str]
) -> None:
    """End with a message when what is about to be written would not fit.

    Kept at once: the stores that restore reads, the one being written, and one restored tree.
    """
    stores = options.size + sum(options.size if tool.key in full else options.slow_size for tool in tools)
    caches = options.size + options.slow_size + (3 * options.per_dtype_size if options.per_dtype else 0)
    one_disk = destination.stat().st_dev == options.work.stat().st_dev
    needs = {destination: stores + (caches if one_disk else 0), options.work: caches}
    for place, needed in needs.items():
        free = shutil.disk_usage(place).free
        if free < needed * 1.02:
            sys.exit(
                f"{place} has {free / 1e9:.1f} GB free, and this may need {needed / 1e9:.1f} GB. "
                "Take a smaller --size, fewer --peers, or another place with --work and --dest."
            )
    if file_system(destination)[0] in {"tmpfs", "ramfs"}:
        sys.exit(
            f"{destination} lies in memory: cold caches and fsync mean nothing there. Use --dest or --work."
        )


def measure(options: argparse.Namespace, scratch: Path) -> int:
    """Make the caches, run the sections, print the tables. Returns the exit code."""
    (scratch / "home").mkdir()
    tools, full, zitcache = choose(options, scratch / "home")
    check_space(options, scratch, tools, full)
    recipe = Recipe(options.size, options.kind, options.shares, options.seed)
    caches = options.work / "caches"

    def cache_of(size: int, kind: str = options.kind) -> MadeCache:
        say(f"making or finding a cache of {size / 1e6:.0f} MB of {kind} in {caches}")
        return make(Recipe(size, kind, options.shares, options.seed), caches)

    cache = cache_of(options.size)
    small = cache if full >= {tool.key for tool in tools} else cache_of(options.slow_size)
    drop = can_drop_caches()
    bench = Bench(
        scratch=scratch,
        cache=cache,
        small=small,
        tiny=cache_of(_TINY_BYTES),
        rounds=options.rounds,
        drop=drop,
        warm_programs=options.cold == "data",
        check=options.check,
        full_size=full,
    )
    run_sections(options, bench, tools, zitcache)
    per_kind = {}
    if options.per_dtype:
        compressing = [tool for tool in tools if tool.compresses]
        per_kind_caches = {kind: cache_of(options.per_dtype_size, kind) for kind in MIX_ORDER}
        per_kind = sections.stored_per_kind(bench, compressing, per_kind_caches)
    found = report.rows(bench, recipe, per_kind)
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine_line(scratch),
        "method": method(options, drop),
        "versions": {tool.key: tool.version() for tool in tools},
        "cache": {"bytes": cache.size_bytes, "files": cache.files, "parts": recipe.parts},
        "stored_per_kind": per_kind,
    }
    show(bench, found, [tool.key for tool in tools], per_kind, facts)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(bench, found, facts), indent=1) + "\n")
    failed = [name for name, series in bench.series.items() if series.failure]
    return 1 if failed or zitcache is None else 0


def run_sections(
    options: argparse.Namespace, bench: Bench, tools: Sequence[Tool], zitcache: Zitcache | None
) -> None:
    """Run what ``--only`` asks for, and drop each store as soon as no section needs it any more."""

    def needed_later(tool: Tool) -> bool:
        if "restore" in options.only and tool.restore(Path("store"), Path("target")):
            return True
        return tool is zitcache and bool({"nightly", "verify"} & set(options.only))

    own: dict[str, Callable[[Zitcache], None]] = {
        "nightly": lambda ours: sections.nightly(bench, ours),
        "verify": lambda ours: sections.verify(bench, ours),
        "startup": lambda ours: sections.startup(bench, ours, python_of(ours.command), options.startup_runs),
    }
    for name in SECTIONS:
        if name not in options.only:
            continue
        say(f"== {name}")
        if name == "backup":
            sections.backup(bench, tools, needed_later)
        elif name == "restore":
            sections.restore(bench, tools)
        elif zitcache is not None:
            own[name](zitcache)


def python_of(command: Sequence[str]) -> str:
    """The interpreter that runs zitcache: named in its command, or in the first line of its script."""
    if Path(command[0]).name.startswith("python"):
        return command[0]
    script = shutil.which(command[0])
    first = Path(script).open("rb").readline() if script else b""  # noqa: SIM115
    if first.startswith(b"#!") and b"python" in first:
        return first[2:].decode().split()[0]
    return sys.executable


def method(options: argparse.Namespace, drop: bool) -> str:
    """How it was measured, in one sentence."""
    how = "all kernel caches dropped" if drop else "files dropped from the page cache one by one (not root)"
    programs = "programs warmed up on a tiny cache" if options.cold == "data" else "programs cold as well"
    return (
        f"Cold data before every run: {how}; {programs}. Each backup and restore includes a last sync of the "
        f"file system. Median of {options.rounds}, tools in turn."
    )


def show(
    bench: Bench,
    found: Sequence[report.Row],
    keys: Sequence[str],
    per_kind: dict[str, dict[str, float]],
    facts: Mapping[str, object],
) -> None:
    """Print the tables, how they came about, and what failed."""
    print(f"\n{report.target_table(found)}\n" if found else "\nNothing of zitcache was measured.\n")
    if any(name.startswith(("backup/", "restore/")) for name in bench.series):
        print(f"{report.tool_table(bench, keys, per_kind)}\n")
    scaled = sorted({series.measured_bytes for series in bench.series.values() if series.scale != 1})
    if scaled:
        print(f"~ measured once on {scaled[0] / 1e6:.0f} MB of the same weights and scaled by size.\n")
    print(f"Machine: {facts['machine']}.\n\n{facts['method']}\n\nCommand: `{facts['command']}`")
    for line in bench.checked:
        print(f"\nChecked: {line}.")
    for name, series in bench.series.items():
        if series.failure:
            print(f"\nFAILED {name}: {series.failure}")


def main() -> int:
    """Measure, and clean up whatever happens."""
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    destination = (options.dest or options.work).resolve()
    destination.mkdir(parents=True, exist_ok=True)
    options.work = options.work.resolve()
    scratch = destination / "zitcache-bench-scratch"
    marker = scratch / "this-is-removed-by-the-benchmark"
    if scratch.exists():
        if not marker.exists():
            sys.exit(f"{scratch} exists and was not made by this program; use another --dest.")
        say(f"removing {scratch} of an earlier run")
        remove(scratch)
    scratch.mkdir()
    marker.touch()
    try:
        return measure(options, scratch)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        if options.keep:
            say(f"kept: {scratch}")
        else:
            remove(scratch)
            say(f"the caches stay for the next run; remove them with: rm -r {options.work / 'caches'}")


if __name__ == "__main__":
    sys.exit(main())
