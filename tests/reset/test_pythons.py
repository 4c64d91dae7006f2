"""Which Python recover.sh takes, and what it says when there is none that fits."""

from __future__ import annotations

import sys

import pytest

from tests.reset.machine import CACHE, Machine
from tests.reset.test_reset import RECOVER, backed_up, contents, migrated, recovered
from zitcache.tasks.kit.layout import python_tag

pytestmark = pytest.mark.root

HIDE = [
    "for f in root/usr/bin/python* ; do mount --bind /dev/null $f; done",
    "umount root/opt/python3/lib/python*/site-packages; umount root/opt/python3",
]


@pytest.fixture
def without_python(machine: Machine) -> Machine:
    if sys.base_prefix == "/usr":
        pytest.skip("needs a Python that is not the system's own")
    return machine


def test_without_any_python_it_says_what_is_needed(without_python: Machine) -> None:
    machine = without_python
    backed_up(machine)
    machine.reset()
    machine.more = HIDE
    ran = machine.run(RECOVER)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert ran.code == 6 and ran.out == ""
    assert "error: no Python on this machine fits the kit in /data/zitcache/kit." in ran.err
    assert f"  Python {version} on " in ran.err and f"apt-get install python{version}" in ran.err
    assert "python3 '/data/zitcache/kit/read_repository.py' '/data/zitcache' latest" in ran.err
    assert "there is no python3 here" in ran.err and "RESTORE.md" in ran.err


def test_a_migrated_cache_is_linked_by_hand_then(without_python: Machine) -> None:
    machine = without_python
    before = migrated(machine)
    machine.reset()
    machine.more = HIDE
    ran = machine.run(RECOVER)
    line = next(line for line in ran.err.splitlines() if line.startswith("  ln -s "))
    assert line == f"  ln -s '/data/model_cache' '{CACHE}'"
    assert machine.run(f"mkdir -p /root/workspace && {line}").code == 0
    assert contents(machine) == before


def test_another_python_is_passed_over_and_named(machine: Machine) -> None:
    backed_up(machine)
    machine.run(f"mv /data/zitcache/kit/{python_tag()} /data/zitcache/kit/cp37-x86_64")
    machine.reset()
    ran = machine.run(RECOVER)
    assert ran.code == 6 and "Python 3.7 on x86_64" in ran.err and f"({python_tag()})" in ran.err


def test_one_that_is_named_is_taken(machine: Machine) -> None:
    before = migrated(machine)
    machine.reset()
    machine.run(
        "mkdir -p '/srv/odd place' && ln -s $(command -v python3 || echo /opt/python3/bin/python3) "
        "'/srv/odd place/python'"
    )
    found = machine.run("sh /data/model_cache/.zitcache-kit/zitcache --version")
    assert found.code == 0
    recovered(machine, f"ZITCACHE_PYTHON='/srv/odd place/python' {RECOVER}")
    assert contents(machine) == before


def test_a_python_that_cannot_load_the_kit_is_passed_over(machine: Machine) -> None:
    """The compiled modules of the kit are broken for it: the reason is said, and there is no endless loop."""
    backed_up(machine)
    part = f"/data/zitcache/kit/{python_tag()}/lib"
    machine.run(f"find {part}/msgspec -name '*.so' -exec truncate -s 100 {{}} +")
    machine.reset()
    ran = machine.run(RECOVER)
    assert ran.code == 6 and "cannot load the kit" in ran.err


def test_the_last_resort_needs_no_zitcache_at_all(machine: Machine) -> None:
    before = backed_up(machine)
    machine.run(f"rm -rf /data/zitcache/kit/{python_tag()}")
    machine.reset()
    python = "$(command -v python3 || echo /opt/python3/bin/python3)"
    ran = machine.run(f"{python} -I -S /data/zitcache/kit/read_repository.py /data/zitcache latest {CACHE}")
    assert ran.code == 0, ran.err
    assert contents(machine) == before
