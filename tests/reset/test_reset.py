"""The system disk is wiped with mkfs; one line brings everything back, without network or installation."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time

import pytest

from tests.reset.machine import CACHE, Machine, Ran

pytestmark = pytest.mark.root

SET = f"HF_HOME={CACHE} MODELSCOPE_CACHE={CACHE}"
RECOVER = "sh /data/zitcache-recover.sh"
LOOK = (
    "cd {place} && find . -mindepth 1 -name '.zitcache-*' -prune -o -printf '%p %y %m %T@ %l\\n' | sort && "
    "find . -name '.zitcache-*' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"
)
COMPARE = """\
from PIL import Image
before, after = (Image.open(f"/data/{name}.png").tobytes() for name in ("before", "after"))
print(len(before) > 1000 and before == after)
"""


def contents(machine: Machine, place: str = CACHE) -> str:
    """Names, kinds, modes, times, link targets and the SHA-256 of every file."""
    ran = machine.run(LOOK.format(place=place + "/"))
    assert ran.code == 0 and ran.out.count("\n") > 20, ran.err
    return ran.out


def with_sample(machine: Machine) -> str:
    ran = machine.zitcache("sample", CACHE)
    assert ran.code == 0, ran.err
    return contents(machine)


def migrated(machine: Machine, to: str = "/data/model_cache") -> str:
    before = with_sample(machine)
    ran = machine.zitcache("migrate", to, "--yes", "--json", environment=SET)
    assert ran.code == 0, ran.err
    return before


def backed_up(machine: Machine, *options: str) -> str:
    before = with_sample(machine)
    ran = machine.zitcache("backup", "-r", "/data/zitcache", "--init", "--json", *options, environment=SET)
    assert ran.code == 0 and ran.data["kit"] == "made", ran.out + ran.err
    return before


def recovered(machine: Machine, line: str = RECOVER, **how: str | None) -> Ran:
    """Run the line that a frightened person types, and require that it worked."""
    ran = machine.run(f"{line} --json", **how)  # type: ignore[arg-type]
    assert ran.code == 0, ran.out + ran.err
    return ran


def variables(machine: Machine) -> dict[str, str]:
    """What a new login shell and a new interactive shell both see."""
    names = ["MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE"]
    shown = "; ".join(f'printf "%s\\n" "{name}=${name}"' for name in names)
    login = machine.run(f"sh -lc '{shown}'").out
    assert machine.run(f"bash -ic '{shown}' 2>/dev/null").out == login
    return dict(line.split("=", 1) for line in login.splitlines() if not line.endswith("="))


def test_a_migrated_cache_is_back_in_a_moment(machine: Machine) -> None:
    before = migrated(machine)
    machine.reset()
    assert machine.run(f"ls -A /root; test -e {CACHE} && echo there").out == ""
    started = time.monotonic()
    ran = recovered(machine)
    assert time.monotonic() - started < 20  # a second or two; the rest is this machine's other work
    assert ran.data["action"] == "relinked" and ran.data["target"] == "/data/model_cache"
    assert ran.data["bytes_written"] == 0 and ran.data["models"] == ["Tongyi-MAI/Z-Image-Turbo"]
    assert contents(machine) == before
    assert machine.run(f"readlink {CACHE}").out == "/data/model_cache\n"
    assert variables(machine) == {"MODELSCOPE_CACHE": "/data/model_cache", "HF_HOME": "/data/model_cache"}
    assert "MODELSCOPE_CACHE=/data/model_cache" in machine.run("cat /etc/environment").out
    again = recovered(machine)
    assert again.data["action"] == "nothing to do" and again.data["environment_files"] == []
    assert machine.run("zitcache models --json").data[0]["complete"] is True, "the command is back, too"
    assert machine.run("zitcache restore --json").data["action"] == "nothing to do"


def test_a_snapshot_is_back_where_it_was(machine: Machine) -> None:
    before = backed_up(machine)
    machine.reset()
    ran = recovered(machine)
    assert ran.data["action"] == "restored" and ran.data["target"] == CACHE
    assert contents(machine) == before
    assert variables(machine)["MODELSCOPE_CACHE"] == CACHE
    assert machine.run(f"test -L {CACHE}").code == 1, "it was no link before"
    again = recovered(machine)
    assert again.data["action"] == "nothing to do" and again.data["bytes_written"] == 0
    assert contents(machine) == before


def test_what_a_person_reads(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    ran = machine.run(RECOVER)
    first, *rest = ran.out.splitlines()
    assert re.fullmatch(r"Your models are back, in .*: they lie in /data/model_cache, untouched .*", first)
    assert "  Tongyi-MAI/Z-Image-Turbo" in rest
    assert f"Link: {CACHE} leads to /data/model_cache again." in rest
    assert rest[-1] == "Next, prove that the models load and draw: zitcache verify --generate"
    assert machine.run("command -v zitcache").code == 0, "and the next command can be typed"


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    for prepare in (migrated, backed_up):
        prepare(machine)
        machine.reset()
        everything = "find / -xdev -printf '%p %y %s %T@\\n' | grep -vE '^/(proc|dev) ' | sort"
        before = machine.run(everything).out
        ran = recovered(machine, RECOVER + " --dry-run")
        assert ran.data["dry_run"] and ran.data["environment_files"]
        assert ran.data["launcher"] == "/usr/local/bin/zitcache"
        assert machine.run(everything).out == before
        machine.reset()
        machine.run("rm -rf /data/*")


@pytest.mark.parametrize("home", [None, "", "/nonexistent", "/root"])
def test_any_home_will_do(machine: Machine, home: str | None) -> None:
    before = migrated(machine)
    machine.reset()
    ran = recovered(machine, home=home)
    assert ran.data["action"] == "relinked"
    assert contents(machine) == before
    assert machine.run("find / -xdev -name .bashrc -not -path '/etc/*' -not -path '/usr/*'").out in (
        "/root/.bashrc\n",
        "",
    )


@pytest.mark.parametrize("options", ["noexec", "ro", "ro,noexec"])
@pytest.mark.parametrize("prepare", [migrated, backed_up])
def test_a_data_disk_that_allows_little(machine: Machine, prepare, options: str) -> None:
    before = prepare(machine)
    machine.reset()
    machine.data_options = options
    recovered(machine)
    assert contents(machine) == before
    left = machine.run("ls -A /tmp /var/tmp").out
    assert "zitcache-kit-" not in left, "the copy of the libraries is gone"


@pytest.mark.parametrize("prepare", [migrated, backed_up])
def test_the_disk_may_be_mounted_somewhere_else(machine: Machine, prepare) -> None:
    before = prepare(machine)
    machine.reset()
    machine.data_at = "/mnt/new disk's place"
    ran = recovered(machine, 'sh "/mnt/new disk\'s place/zitcache-recover.sh"')
    assert contents(machine) == before
    if prepare is migrated:
        place = "/mnt/new disk's place/model_cache"
        assert machine.run(f"readlink {CACHE}").out == place + "\n"
        assert ran.data["variables"]["MODELSCOPE_CACHE"] == place


def test_without_the_kit_the_installed_program_does_the_same(machine: Machine) -> None:
    before = migrated(machine)
    machine.reset()
    ran = machine.zitcache("restore", "--json")
    assert ran.code == 0 and ran.data["action"] == "relinked", ran.err
    assert contents(machine) == before


def test_a_dead_migrated_cache_is_healed_from_the_snapshot(machine: Machine) -> None:
    before = migrated(machine)
    ran = machine.zitcache("backup", "-r", "/data/zitcache", "--init", "--json")
    assert ran.code == 0 and ran.data["cache"] == "/data/model_cache", ran.err
    machine.reset()
    victim = machine.run(
        "cd /data/model_cache && find . -name '*.safetensors' -size +1M | head -1"
    ).out.strip()
    machine.run(f"cd /data/model_cache && truncate -s -100 {shlex.quote(victim)}")
    ran = recovered(machine)
    assert "migrated-cache-dead" in ran.codes and ran.data["action"] == "restored"
    assert ran.data["target"] == "/data/model_cache" and ran.data["files"] == 1, "only what is broken"
    assert contents(machine) == before
    assert machine.run(f"readlink {CACHE}").out == "/data/model_cache\n"
    assert machine.run("ls -A /data/model_cache").out.split() == [
        ".zitcache-kit",
        ".zitcache-migrated.json",
        "models",
    ]
    assert recovered(machine).data["action"] == "nothing to do"


def test_a_dead_migrated_cache_without_a_snapshot_is_said(machine: Machine) -> None:
    migrated(machine)
    machine.reset()
    machine.run("find /data/model_cache -name '*.safetensors' -delete")
    ran = machine.run(f"{RECOVER} --json")
    error = json.loads(ran.out)["error"]
    assert ran.code == 6 and "/data/model_cache" in error["message"] and "not complete" in error["message"]
    assert error["hint"] == "See what is wrong: zitcache verify --quick --cache /data/model_cache"
    assert machine.run(f"test -e {CACHE}").code == 1


def test_several_candidates_the_newest_is_taken_and_the_rest_listed(machine: Machine) -> None:
    before = backed_up(machine)
    machine.run(f"cp -a {CACHE}/. /root/copy")
    assert machine.zitcache("migrate", "/data/first", "--yes", environment=SET).code == 0
    machine.reset()
    machine.run(f"mkdir -p /root/workspace && cp -a /data/first {CACHE} && rm -rf {CACHE}/.zitcache-*")
    time.sleep(1.1)
    assert machine.zitcache("migrate", "/data/second", "--yes", environment=SET).code == 0
    machine.reset()
    ran = recovered(machine)
    assert ran.data["target"] == "/data/second" and contents(machine) == before
    rows = [(row["kind"], row["place"], row["chosen"]) for row in ran.data["candidates"]]
    assert rows[0] == ("cache", "/data/second", True)
    assert sorted(rows[1:]) == [("cache", "/data/first", False), ("snapshot", "/data/zitcache", False)]
    notice = next(n for n in json.loads(ran.out)["warnings"] if n["code"] == "several-candidates")
    assert "/data/first" in notice["message"] and "/data/zitcache" in notice["message"]
    # Naming one takes that one.
    ran = recovered(machine, "zitcache restore --from /data/first")
    assert ran.data["target"] == "/data/first"
    assert machine.run(f"readlink {CACHE}").out == "/data/first\n"


def test_naming_a_repository_means_its_cache_and_not_another_one(machine: Machine) -> None:
    before = backed_up(machine)
    machine.zitcache("sample", "/root/.cache/modelscope", "--layout", "modelscope-legacy")
    other = machine.zitcache("migrate", "/data/two", "--cache", "/root/.cache/modelscope", "--yes")
    assert other.code == 0, other.err
    machine.reset()
    ran = recovered(machine, "sh /data/zitcache/kit/recover.sh")
    assert ran.data["action"] == "restored" and ran.data["repository"] == "/data/zitcache"
    assert contents(machine) == before
    rows = [(row["kind"], row["chosen"]) for row in ran.data["candidates"]]
    assert sorted(rows) == [("cache", False), ("snapshot", True)]
    assert machine.run("readlink /root/.cache/modelscope").out == "/data/two\n", "that one is linked, too"
    assert "migrated-cache-dead" not in ran.codes


def test_a_cache_that_is_alive_is_linked_whichever_kit_is_run(machine: Machine) -> None:
    before = backed_up(machine)
    assert machine.zitcache("migrate", "/data/moved", "--yes", environment=SET).code == 0
    machine.reset()
    ran = recovered(machine, "sh /data/zitcache/kit/recover.sh")
    assert ran.data["action"] == "relinked" and contents(machine) == before


def test_two_caches_of_one_machine_both_come_back(machine: Machine) -> None:
    with_sample(machine)
    machine.zitcache("sample", "/root/.cache/modelscope", "--layout", "modelscope-legacy")
    for source, to in ((CACHE, "/data/one"), ("/root/.cache/modelscope", "/data/two")):
        ran = machine.zitcache("migrate", to, "--cache", source, "--yes")
        assert ran.code == 0, ran.err
    machine.reset()
    ran = recovered(machine)
    assert sorted(link["path"] for link in ran.data["links"]) == ["/root/.cache/modelscope", CACHE]
    assert all(row["chosen"] for row in ran.data["candidates"])
    assert machine.run(f"readlink {CACHE} /root/.cache/modelscope").out == "/data/one\n/data/two\n"


def test_a_newer_good_snapshot_beats_an_older_one_elsewhere(machine: Machine) -> None:
    backed_up(machine)
    machine.run(f"echo changed > {CACHE}/models/notes.txt")
    before = contents(machine)
    ran = machine.zitcache("backup", "-r", "/data/other/snapshots", "--init", "--json")
    assert ran.code == 0
    machine.reset()
    # From the kit of the older one, without its place being meant.
    ran = recovered(machine, "sh /data/other/snapshots/kit/zitcache restore")
    assert ran.data["repository"] == "/data/other/snapshots"
    assert contents(machine) == before
    assert [row["chosen"] for row in ran.data["candidates"]] == [True, False]


def test_config_travels(machine: Machine) -> None:
    machine.run(
        "mkdir -p /root/.config/zitcache && "
        "printf 'repo = \"/data/zitcache\"\\n' > /root/.config/zitcache/config.toml"
    )
    with_sample(machine)
    machine.run("mkdir /data/zitcache")
    ran = machine.zitcache("backup", "--init", "--json", environment=SET)
    assert ran.code == 0, ran.err
    machine.reset()
    ran = recovered(machine)
    assert ran.data["config"] == "/root/.config/zitcache/config.toml"
    assert machine.run("zitcache snapshots --json").code == 0, "the repository is found through it"
    assert recovered(machine).data["action"] == "nothing to do"


def test_the_config_follows_the_disk(machine: Machine) -> None:
    machine.run(
        "mkdir -p /root/.config/zitcache && "
        "printf 'repo = \"/data/zitcache\"\\n' > /root/.config/zitcache/config.toml"
    )
    with_sample(machine)
    assert machine.zitcache("backup", "--init", environment=SET).code == 0
    machine.reset()
    machine.data_at = "/mnt/elsewhere"
    recovered(machine, "sh /mnt/elsewhere/zitcache/kit/recover.sh")
    found = machine.run("cat /root/.config/zitcache/config.toml").out
    assert found == 'repo = "/mnt/elsewhere/zitcache"\n'


@pytest.mark.models
def test_the_same_picture_is_drawn_before_and_after(machine: Machine) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    draw = (
        "generate",
        "--prompt",
        "a red circle",
        "--seed",
        "7",
        "--size",
        "128",
        "--device",
        "cpu",
        "--json",
    )
    for prepare in (migrated, backed_up):
        prepare(machine)
        picture = machine.zitcache(*draw, "--output", "/data/before.png", environment=SET)
        assert picture.code == 0, picture.out + picture.err
        machine.reset()
        recovered(machine)
        # The venv is mounted for the drawing alone; the cache is found as it was left by recover.sh.
        after = machine.zitcache(*draw, "--output", "/data/after.png", environment=". /etc/profile; ")
        assert after.code == 0, after.out + after.err
        same = machine.run(f"{sys.prefix}/bin/python -c {shlex.quote(COMPARE)}", tools=True)
        assert same.out == "True\n", same.out + same.err
        machine.reset()
        machine.run("rm -rf /data/*")
