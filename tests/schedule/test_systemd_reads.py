"""systemd itself shows how it understands the units: ``systemd --test`` prints every setting."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from zitcache.schedule.jobs import Installation, example
from zitcache.schedule.systemd import unit_files

SYSTEMD = Path("/usr/lib/systemd/systemd")
NOBODY = 65534
ODD = [
    "/data/a b",
    "/data/50%",
    "/data/$HOME/${x}",
    "/data/\"a\" and 'b'",
    "/数据/模型",
    "/data/a\\b",
    "/d/%h;%%",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that an ordinary user can read: systemd refuses to test as root."""
    path = Path(tempfile.mkdtemp(prefix="zitcache-units-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def understood(folder: Path, installation: Installation, unit: str) -> dict[str, list[str]]:
    """Every setting of ``unit`` as systemd understands it; a command has one entry for each word."""
    if not SYSTEMD.exists():
        pytest.skip("needs systemd (package systemd)")
    for name, text in unit_files(installation).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    done = subprocess.run(
        [SYSTEMD, "--test", "--system", f"--unit={unit}"],
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",
            "XDG_RUNTIME_DIR": str(folder),
            "SYSTEMD_UNIT_PATH": f"{folder}:/usr/lib/systemd/system",
        },
        **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
    )
    text = done.stdout + done.stderr
    found = re.search(rf"-> Unit {re.escape(unit)}:\n(.*?)(?=\t-> Unit |\Z)", text, re.DOTALL)
    if found is None:
        pytest.skip(f"this systemd does not test here: {text.strip()[-200:]}")
    settings: dict[str, list[str]] = defaultdict(list)
    for line in found[1].splitlines():
        name, _, value = line.strip().partition(": ")
        settings[name].append(value.removesuffix(" (origin-file)"))
    return settings


@pytest.mark.parametrize("place", ODD)
def test_odd_paths_arrive_as_they_are(folder: Path, place: str) -> None:
    odd = Installation(
        program=("/bin/true",),
        repository=place,
        options=("--repo", place),
        cache=f"{place}/cache",
        scratch=f"{place}-drill",
        writable=(f"{place}-proofs",),
        environment=(("ZITCACHE_CONFIG", f"{place}/config.toml"),),
    )
    found = understood(folder, odd, "zitcache-backup.service")
    assert {place, f"{place}/cache", f"{place}-drill"} <= set(found["RequiresMountsFor"])
    assert f"ZITCACHE_CONFIG={place}/config.toml" in found["Environment"]
    assert set(writable(found)) >= {place, f"{place}-drill", f"{place}-proofs"}
    command = next(line for line in found["Command Line"] if "night" in line)
    # The words are printed between quotes, as C does; variables are replaced when it is started.
    assert place.replace("$", "$$") in unquoted(command)


def writable(found: dict[str, list[str]]) -> list[str]:
    """The places of ``ReadWritePaths``; systemd prints the whole list on a line, "-" before each."""
    return re.split(r"(?:^| )-(?=/)", found["ReadWritePaths"][0])[1:]


def unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def test_a_night_waits_for_its_disks_and_runs_when_it_can(folder: Path) -> None:
    found = understood(folder, example(), "zitcache-backup.service")
    assert found["Unit Load State"] == ["loaded"]
    assert {"/data/zitcache", "/root/workspace/model_cache"} <= set(found["RequiresMountsFor"])
    assert (found["Type"], found["Nice"], found["ProtectSystem"]) == (["oneshot"], ["19"], ["strict"])
    assert writable(found) == ["/data/zitcache", "/data/zitcache-drill", "/data/zitcache-proofs"]
    timer = understood(folder, example(), "zitcache-backup.timer")
    assert timer["Persistent"] == ["yes"] and timer["Unit"][-1:] == ["zitcache-backup.service"]


def test_the_drawing_unit_sees_devices(folder: Path) -> None:
    found = understood(folder, example(), "zitcache-proof.service")
    assert (found["PrivateDevices"], found["MemoryDenyWriteExecute"]) == (["no"], ["no"])
