"""What a fresh image puts where the cache was, and what cannot be replaced: nothing is ever destroyed."""

from __future__ import annotations

import pytest

from tests.reset.machine import CACHE, Machine
from tests.reset.test_reset import RECOVER, contents, migrated, recovered, variables

pytestmark = pytest.mark.root


def test_an_empty_folder_makes_room(machine: Machine) -> None:
    before = migrated(machine)
    machine.reset()
    machine.run(f"mkdir -p {CACHE}")
    ran = recovered(machine)
    assert ran.data["links"][0]["moved_aside"] is None
    assert contents(machine) == before
    assert machine.run("ls -A /root/workspace").out == "model_cache\n"


def test_a_stub_steps_aside(machine: Machine) -> None:
    before = migrated(machine)
    machine.reset()
    machine.run(f"mkdir -p {CACHE}/models/Tongyi-MAI--Z-Image-Turbo && echo x > {CACHE}/models/readme")
    dry = recovered(machine, RECOVER + " --dry-run")
    assert dry.data["links"][0]["moved_aside"] is not None
    ran = recovered(machine)
    link = ran.data["links"][0]
    assert link["state"] == "made" and link["moved_aside"].startswith(CACHE + ".before-restore-")
    assert "moved-aside" in ran.codes
    assert machine.run(f"cat {link['moved_aside']}/models/readme").out == "x\n"
    assert contents(machine) == before


def test_the_preloaded_cache_of_the_image_is_left_alone(machine: Machine) -> None:
    before = migrated(machine)
    machine.reset()
    machine.run(f"mkdir -p /root/workspace && cp -a /data/model_cache {CACHE} && rm -rf {CACHE}/.zitcache-*")
    ran = recovered(machine)
    assert ran.data["links"][0]["state"] == "kept" and "source-kept" in ran.codes
    assert machine.run(f"test -L {CACHE}").code == 1 and contents(machine) == before
    assert variables(machine)["MODELSCOPE_CACHE"] == "/data/model_cache"


def test_half_a_cache_of_the_image_steps_aside(machine: Machine) -> None:
    before = migrated(machine)
    machine.reset()
    machine.run(f"mkdir -p /root/workspace && cp -a /data/model_cache {CACHE} && rm -rf {CACHE}/.zitcache-*")
    machine.run(f"find {CACHE} -name '*.safetensors' | head -1 | xargs rm")
    ran = recovered(machine)
    aside = ran.data["links"][0]["moved_aside"]
    assert machine.run(f"find {aside} -name '*.safetensors'").out
    assert contents(machine) == before


@pytest.mark.parametrize("there", ["file", "dangling", "elsewhere"])
def test_files_and_links_in_the_way(machine: Machine, there: str) -> None:
    before = migrated(machine)
    machine.reset()
    made = {
        "file": f"echo precious > {CACHE}",
        "dangling": f"ln -s /gone {CACHE}",
        "elsewhere": f"ln -s /opt {CACHE}",
    }
    machine.run(f"mkdir -p /root/workspace && {made[there]}")
    aside = recovered(machine).data["links"][0]["moved_aside"]
    assert contents(machine) == before
    if there == "file":
        assert machine.run(f"cat {aside}").out == "precious\n"
    elif there == "elsewhere":
        assert machine.run(f"readlink {aside}").out == "/opt\n"
    else:
        assert aside is None and machine.run("ls -A /root/workspace").out == "model_cache\n"


def test_a_mount_point_stays_and_the_variables_do(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    machine.more = [f"mkdir -p root{CACHE}", f"mount -t tmpfs none root{CACHE}"]
    ran = recovered(machine)
    link = ran.data["links"][0]
    assert link["state"] == "impossible" and "another disk is mounted there" in link["reason"]
    assert "no-link" in ran.codes
    assert variables(machine)["MODELSCOPE_CACHE"] == "/data/model_cache"


def test_a_lower_layer_of_an_overlay_stays_as_it_is(machine: Machine) -> None:
    """In a container, the image's folder cannot be renamed: EXDEV."""
    migrated(machine)
    machine.reset()
    machine.more = [
        "mkdir -p root/lower/model_cache root/upper root/work root/root/workspace",
        "echo image > root/lower/model_cache/of-the-image",
        "mount -t overlay -o redirect_dir=off,lowerdir=root/lower,upperdir=root/upper,workdir=root/work none "
        "root/root/workspace",
    ]
    ran = recovered(machine)
    assert ran.data["links"][0]["state"] == "impossible", ran.data["links"]
    assert machine.run(f"cat {CACHE}/of-the-image").out == "image\n"
    assert machine.run("ls -A /root/workspace").out == "model_cache\n", "no temporary link is left"
    assert variables(machine)["MODELSCOPE_CACHE"] == "/data/model_cache"


def test_parts_can_be_declined(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    ran = recovered(machine, RECOVER + " --no-relink --no-env --no-schedule")
    assert ran.data["action"] == "nothing to do" and ran.data["links"] == []
    found = machine.run(f"test -e {CACHE} || ls -A /root /usr/local/bin")
    assert found.out.split() == ["/root:", "/usr/local/bin:"]
