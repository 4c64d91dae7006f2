"""`zitcache env` as people and scripts call it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cache.builders import MODEL, pipeline_files, write, write_huggingface
from tests.cli.harness import Result, run_program
from tests.environment.machine import Machine, shell
from zitcache.tasks.environment import installed

NEW = f"models/{MODEL.replace('/', '--')}/snapshots/master"
FILES = pipeline_files()
Env = Callable[..., Result]


@pytest.fixture
def env(machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Env:
    monkeypatch.setattr("zitcache.cache.environment._PLACES", ())
    monkeypatch.setattr("sys.argv", ["zitcache"])
    return lambda *arguments: run_program(capsys, "env", *arguments)


@pytest.fixture
def cache(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache in use, with the model as ModelScope has it."""
    place = machine.home.parent / "cache"
    write(place / NEW, FILES)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(place))
    return place


def test_the_first_look_is_a_table_with_the_next_command(env: Env, cache: Path) -> None:
    result = env()
    assert result.code == 0
    assert result.out.split("\n")[0].split("  ")[0] == "Variable"
    assert f"MODELSCOPE_CACHE  {cache}  process" in result.out
    assert "Set them everywhere: zitcache env --write" in result.out


def test_the_json_has_the_promised_fields(env: Env, cache: Path) -> None:
    data = env("--json").envelope["data"]
    (state,) = data["variables"]
    assert {"name", "value", "origin", "effective", "warning"} <= set(state)
    assert (state["name"], state["value"], state["effective"]) == ("MODELSCOPE_CACHE", str(cache), True)
    assert data["selected"] == {"MODELSCOPE_CACHE": str(cache), "HF_HOME": str(cache)}


def test_without_any_cache_the_survey_is_shown_all_the_same(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_CACHE", "/x")
    result = env()
    assert result.code == 0 and "HF_CACHE" in result.out
    assert "No model cache was found" in result.err


@pytest.mark.parametrize("option", ["--write", "--format=sh"])
def test_without_any_cache_there_is_nothing_to_set(env: Env, option: str) -> None:
    result = env(option)
    assert (result.code, result.out) == (6, "")


@pytest.mark.parametrize("name", ["sh", "bash", "zsh", "fish"])
def test_the_line_of_the_manual_works(env: Env, cache: Path, tmp_path: Path, name: str) -> None:
    odd = tmp_path / "it's a $place & more"
    shutil.move(cache, odd)
    result = env("--cache", str(odd), "--format", "fish" if name == "fish" else "sh")
    assert result.code == 0 and result.err == ""
    if name == "fish":
        done = shell("fish", "-c", "source; echo $MODELSCOPE_CACHE", home=tmp_path, stdin=result.out)
    else:
        done = shell(name, "-c", 'eval "$ZIT"; echo "$MODELSCOPE_CACHE"', home=tmp_path, ZIT=result.out)
    assert done.stdout == f"{odd}\n"


def test_formats_print_nothing_but_the_variables(env: Env, cache: Path) -> None:
    assert env("--format", "dotenv").out == f"HF_HOME={cache}\nMODELSCOPE_CACHE={cache}\n"
    assert env("--format", "systemd").out == f'HF_HOME="{cache}"\nMODELSCOPE_CACHE="{cache}"\n'
    assert json.loads(env("--format", "json").out) == {"HF_HOME": str(cache), "MODELSCOPE_CACHE": str(cache)}
    assert env("--format", "sh", "-q").out.startswith("export HF_HOME=")
    assert env("--format", "sh", "--json").envelope["data"]["text"].startswith("export HF_HOME=")


def test_a_value_that_compose_reads_otherwise_is_said(env: Env, cache: Path, tmp_path: Path) -> None:
    assert env("--format", "dotenv").err == ""
    shutil.move(cache, tmp_path / "with space")
    result = env("--cache", str(tmp_path / "with space"), "--format", "dotenv")
    assert f"MODELSCOPE_CACHE={tmp_path}/with space\n" in result.out
    assert "docker compose may read it otherwise" in result.err


def test_write_show_remove(env: Env, cache: Path, machine: Machine) -> None:
    machine.write(".bashrc", b"a=1")
    before = machine.files()
    dry = env("--write", "--dry-run")
    assert machine.files() == before, "a dry run changes nothing"
    assert f"{machine.home}/.bashrc (change)" in dry.out
    assert f"  + export MODELSCOPE_CACHE={cache}" in dry.out
    written = env("--write", "--json").envelope
    assert f"{machine.home}/.bashrc" in written["data"]["written"]
    assert written["data"]["installed"] == {"MODELSCOPE_CACHE": str(cache), "HF_HOME": str(cache)}
    assert "restart-needed" in [warning["code"] for warning in written["warnings"]]
    assert env("--write", "--json").envelope["data"]["written"] == []
    assert "Everything is set already" in env("--write").out
    dry = env("--remove", "--dry-run")
    assert f"  - export MODELSCOPE_CACHE={cache}" in dry.out and installed()
    assert f"  {machine.home}/.bashrc" in env("--remove").out
    assert machine.files() == before
    assert "Nothing of zitcache is set" in env("--remove").out


def test_a_named_cache_may_be_empty_but_must_be_there(env: Env, machine: Machine, tmp_path: Path) -> None:
    assert env("--cache", str(tmp_path / "gone"), "--write").code == 6
    (tmp_path / "empty").mkdir()
    assert env("--cache", str(tmp_path / "empty"), "--write").code == 0
    assert installed()["MODELSCOPE_CACHE"] == str(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--write", "--remove"), "--write and --remove exclude each other"),
        (("--write", "--format", "sh"), "exclude each other"),
        (("--dry-run",), "neither is given"),
        (("--format", "csh"), "no format 'csh'"),
        (("--format", "pam"), "no format 'pam'"),
        (("--format", ""), "no format ''"),
        (("--remove", "--cache", "/x"), "needs no cache"),
        (("--own", ""), "--own is empty"),
        (("--own", "x", "--dry-run", "--write"), "--own has no dry run"),
        (("--model", "Z-Image-Turbo"), "is no model"),
        (("--model", "a/b/c"), "is no model"),
        (("--model", ""), "is no model"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    env: Env, cache: Path, machine: Machine, options: tuple[str, ...], said: str
) -> None:
    before = machine.files()
    result = env(*options)
    assert result.code == 2 and said in result.err and "hint:" in result.err
    assert machine.files() == before


def test_a_cache_whose_path_cannot_be_written_is_refused_but_shown(
    env: Env, cache: Path, tmp_path: Path, machine: Machine
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    shutil.move(cache, odd)
    before = machine.files()
    for options in (("--write",), ("--format", "sh"), ("--format", "json")):
        result = env("--cache", str(odd), *options)
        assert (result.code, result.out) == (2, "") and "not UTF-8" in result.err
    assert machine.files() == before
    assert env("--cache", str(odd)).code == 0


def test_a_dollar_that_hugging_face_would_expand_is_refused(
    env: Env, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "$USERNAME"
    shutil.move(cache, odd)
    monkeypatch.setenv("USERNAME", "me")
    result = env("--cache", str(odd), "--write")
    assert result.code == 2 and "puts something else in" in result.err


def test_the_cache_with_the_model_is_chosen_a_complete_one_first(
    env: Env, cache: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / NEW / "transformer/diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    hub = machine.home / ".cache/huggingface/hub"
    snapshot = write_huggingface(hub, FILES)
    result = env("--model", MODEL, "--json").envelope["data"]
    assert result["cache"] == str(hub) and result["model_path"] == str(snapshot)
    assert result["selected"]["HF_HOME"] == str(hub.parent)
    text = env("--model", MODEL.lower(), "--format", "sh").out
    assert f"export ZITCACHE_MODEL_PATH={snapshot}\n" in text
    env("--model", MODEL, "--write")
    assert "ZITCACHE_MODEL_PATH" not in installed(), "a path of one model is no setting for all"
    shutil.rmtree(hub)
    incomplete = env("--model", MODEL, "--json").envelope
    assert incomplete["data"]["model_path"] == str(cache / NEW)
    assert "model-incomplete" in [warning["code"] for warning in incomplete["warnings"]]


def test_a_revision_can_be_asked_for(env: Env, cache: Path) -> None:
    write(cache / NEW.replace("master", "v2"), FILES)
    assert env("--model", f"{MODEL}@v2", "--json").envelope["data"]["model_path"].endswith("/v2")
    assert env("--model", MODEL, "--json").envelope["data"]["model_path"].endswith("/master")
    result = env("--model", f"{MODEL}@v3")
    assert result.code == 6 and str(cache) in result.err


def test_a_cache_of_ones_own_is_made_set_and_kept_up_to_date(
    env: Env, cache: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = machine.home / "own"
    result = env("--own", "~/own", "--write")
    assert result.code == 0, result.err
    assert f"Shared {MODEL} of {cache} with {own}" in result.out
    assert installed() == {"MODELSCOPE_CACHE": str(own), "HF_HOME": str(own)}
    # Later, with the own cache in use, the shared one is still the one to update from.
    monkeypatch.setenv("MODELSCOPE_CACHE", str(own))
    write(cache / NEW, {"extra.json": b"{}"})
    data = env("--own", "~/own", "--json").envelope["data"]
    assert (data["own"]["shared"], data["own"]["links"]) == (str(cache), 1)
    text = env("--own", "~/own", "--model", MODEL, "--format", "sh").out
    assert f"export ZITCACHE_MODEL_PATH={own / NEW}\n" in text


def test_two_hugging_face_trees_in_one_cache_are_said(env: Env, cache: Path) -> None:
    write_huggingface(cache, FILES)
    write_huggingface(cache / "hub", FILES)
    result = env("--write")
    assert "two-hugging-face-trees" in [warning["code"] for warning in env("--json").envelope["warnings"]]
    assert f"its models in {cache} are not found by name" in result.err


def test_names_that_only_files_use_are_changed_as_well(env: Env, cache: Path, machine: Machine) -> None:
    """As from ``sudo`` or cron, which do not read them."""
    machine.write(".bashrc", 'export HF_HUB_CACHE="$HOME/old/hub"\n')
    write_huggingface(cache / "hub", FILES)
    assert env("--write").code == 0
    assert installed()["HF_HUB_CACHE"] == f"{cache}/hub"
    done = shell("bash", "-ic", 'printf %s "$HF_HUB_CACHE"', home=machine.home)
    assert done.stdout == f"{cache}/hub"


def test_a_login_that_will_not_be_found_any_more_is_said(
    env: Env, cache: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write("hf/token", "hf_x")
    monkeypatch.setenv("HF_HOME", str(machine.home / "hf"))
    write_huggingface(cache / "hub", FILES)
    result = env("--write")
    assert f"hint: cp -p {machine.home}/hf/token {cache}/token" in result.err


def test_it_starts_light_enough_for_a_start_up_file(cache: Path) -> None:
    code = "import sys, zitcache.tasks.environment; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {"numpy", "psutil", "zstandard", "blake3", "boto3", "rich", "torch"}
