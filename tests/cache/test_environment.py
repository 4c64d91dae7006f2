"""zitcache looks where the SDKs would: every variable, empty and relative values, and the known places."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache.builders import MODEL, pipeline_files, write, write_huggingface
from zitcache.cache.environment import (
    CacheRoot,
    LocatedCache,
    candidate_roots,
    ignored_variables,
    locate_cache,
)
from zitcache.errors import CacheNotFound, Exit, UsageError

HOME = Path("/home/u")
CWD = Path("/work/dir")


def first(environ: dict[str, str]) -> str:
    return str(candidate_roots(environ, HOME, CWD)[0].path)


def huggingface(environ: dict[str, str]) -> str:
    return next(str(root.path) for root in candidate_roots(environ, HOME, CWD) if root.sdk == "huggingface")


def put_model(root: Path) -> Path:
    write(root / f"models/{MODEL.replace('/', '--')}/snapshots/master", {"config.json": b"{}"})
    return root


def locate(tmp_path: Path, explicit: str | None = None, **environ: str) -> LocatedCache:
    return locate_cache(explicit, environ, tmp_path / "home", tmp_path)


def test_without_settings_the_defaults_of_both_sdks_come_first() -> None:
    paths = [str(root.path) for root in candidate_roots({}, HOME, CWD)]
    assert paths[:2] == ["/home/u/.cache/modelscope", "/home/u/.cache/huggingface/hub"]
    assert "/root/workspace/model_cache" in paths
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/data/ms", "/data/ms"),
        ("~/ms", "/home/u/ms"),
        ("~", "/home/u"),
        ("$HOME/ms", "/work/dir/$HOME/ms"),
        ("ms/cache", "/work/dir/ms/cache"),
        ("../ms", "/work/ms"),
        ("", "/home/u/.cache/modelscope"),
        ("'/data/ms'", "/work/dir/'/data/ms'"),
    ],
)
def test_modelscope_cache_is_taken_as_the_sdk_takes_it(value: str, path: str) -> None:
    assert first({"MODELSCOPE_CACHE": value}) == path


def test_our_own_variable_wins_over_all() -> None:
    environ = {"ZITCACHE_CACHE": "~/z", "MODELSCOPE_CACHE": "/m", "HF_HOME": "/h", "HF_HUB_CACHE": "/c"}
    assert [str(root.path) for root in candidate_roots(environ, HOME, CWD)[:2]] == ["/home/u/z", "/m"]


def test_an_empty_own_variable_counts_as_unset() -> None:
    assert first({"ZITCACHE_CACHE": "", "MODELSCOPE_CACHE": "/m"}) == "/m"


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c", "XDG_CACHE_HOME": "/x"}, "/b"),
        ({"HF_HOME": "/c", "XDG_CACHE_HOME": "/x"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({}, "/home/u/.cache/huggingface/hub"),
        ({"HF_HOME": ""}, "/work/dir/hub"),
        ({"XDG_CACHE_HOME": ""}, "/work/dir/huggingface/hub"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/c"}, "/work/dir"),
        ({"HF_HOME": "rel"}, "/work/dir/rel/hub"),
        ({"HF_HOME": "~/hf"}, "/home/u/hf/hub"),
        ({"HF_HOME": "$DISK/hf", "DISK": "/d"}, "/d/hf/hub"),
        ({"HF_HOME": "${DISK}/hf", "DISK": "/d"}, "/d/hf/hub"),
        ({"HF_HOME": "$MISSING/hf"}, "/work/dir/$MISSING/hf/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "~/$X", "X": "y"}, "/home/u/y"),
    ],
)
def test_hugging_face_precedence(environ: dict[str, str], path: str) -> None:
    assert huggingface(environ) == path


def test_lower_places_stay_candidates() -> None:
    environ = {"HF_HUB_CACHE": "/a", "HF_HOME": "/c"}
    paths = [str(root.path) for root in candidate_roots(environ, HOME, CWD)]
    assert paths.index("/a") < paths.index("/c/hub") < paths.index("/home/u/.cache/huggingface/hub")


def test_one_directory_for_both_sdks_is_the_root() -> None:
    roots = candidate_roots({"MODELSCOPE_CACHE": "/x/c", "HF_HOME": "/x/c/"}, HOME, CWD)
    assert roots[0] == CacheRoot(Path("/x/c"), "MODELSCOPE_CACHE and HF_HOME", "any")


def test_hf_home_around_the_modelscope_cache_is_the_root() -> None:
    assert first({"MODELSCOPE_CACHE": "/x/c/modelscope", "HF_HOME": "/x/c"}) == "/x/c"


@pytest.mark.parametrize("wide", ["/", "/home/u"])
def test_a_whole_disk_or_home_is_never_the_common_root(wide: str) -> None:
    assert first({"MODELSCOPE_CACHE": "/home/u/ms", "HF_HOME": wide}) == "/home/u/ms"


def test_variables_that_the_sdks_ignore_are_named() -> None:
    environ = {"MS_CACHE_HOME": "/x", "TRANSFORMERS_CACHE": "/y", "HF_CACHE": "", "MODELSCOPE_CACHE": "/z"}
    assert ignored_variables(environ) == ["MS_CACHE_HOME", "TRANSFORMERS_CACHE"]


def test_the_first_place_with_a_model_is_taken_and_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "home/.cache/modelscope").mkdir(parents=True)
    write_huggingface(tmp_path / "hf/hub", pipeline_files())
    write_huggingface(tmp_path / "home/.cache/huggingface/hub", pipeline_files())
    located = locate(tmp_path, HF_HOME=str(tmp_path / "hf"))
    assert (located.path, located.origin, located.sdk) == (tmp_path / "hf/hub", "HF_HOME", "huggingface")
    assert [root.path for root in located.others] == [tmp_path / "home/.cache/huggingface/hub"]
    assert not located.is_empty


def test_the_path_has_no_links_in_it(tmp_path: Path) -> None:
    put_model(tmp_path / "real")
    (tmp_path / "alias").symlink_to("real")
    assert locate(tmp_path, MODELSCOPE_CACHE=str(tmp_path / "alias")).path == tmp_path / "real"
    assert locate(tmp_path, str(tmp_path / "alias")).path == tmp_path / "real"


def test_the_same_cache_under_two_names_is_not_another_one(tmp_path: Path) -> None:
    put_model(tmp_path / "real")
    (tmp_path / "home/.cache").mkdir(parents=True)
    (tmp_path / "home/.cache/modelscope").symlink_to(tmp_path / "real")
    assert locate(tmp_path, MODELSCOPE_CACHE=str(tmp_path / "real")).others == ()


def test_a_cache_inside_the_chosen_one_is_not_another_one(tmp_path: Path) -> None:
    put_model(tmp_path / "c")
    write_huggingface(tmp_path / "c/hub", pipeline_files())
    located = locate(tmp_path, MODELSCOPE_CACHE=str(tmp_path / "c"), HF_HOME=str(tmp_path / "c"))
    assert (located.path, located.others) == (tmp_path / "c", ())


def test_a_variable_whose_place_is_empty_is_said_when_another_place_is_used(tmp_path: Path) -> None:
    put_model(tmp_path / "home/.cache/modelscope")
    located = locate(tmp_path, MODELSCOPE_CACHE=str(tmp_path / "wiped"))
    assert located.path == tmp_path / "home/.cache/modelscope"
    assert [notice.code for notice in located.warnings] == ["empty-cache"]
    assert str(tmp_path / "wiped") in located.warnings[0].message


def test_nothing_found_says_every_place_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zitcache.cache.environment._PLACES", (str(tmp_path / "nowhere"),))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CacheNotFound) as caught:
        locate(tmp_path, MODELSCOPE_CACHE=str(tmp_path / "empty"), HF_HOME=str(tmp_path / "gone"))
    assert caught.value.exit_code == Exit.NOT_FOUND
    message = caught.value.message
    assert f"{tmp_path}/empty (MODELSCOPE_CACHE)\n" in message
    assert f"{tmp_path}/gone/hub (HF_HOME): does not exist" in message
    assert f"{tmp_path}/home/.cache/huggingface/hub" in message
    assert f"{tmp_path}/nowhere" in message
    assert "zitcache models --cache" in (caught.value.hint or "")


def test_a_known_place_is_found_without_any_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zitcache.cache.environment._PLACES", (str(tmp_path / "workspace"),))
    write_huggingface(tmp_path / "workspace/model_cache", pipeline_files())
    assert locate(tmp_path).path == tmp_path / "workspace/model_cache"


def test_a_named_place_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CacheNotFound, match=r"gone \(named by --cache\)"):
        locate(tmp_path, "gone")
    with pytest.raises(CacheNotFound, match="named by ZITCACHE_CACHE"):
        locate(tmp_path, ZITCACHE_CACHE="gone")


def test_a_named_file_is_a_usage_error(tmp_path: Path) -> None:
    write(tmp_path, {"file": b""})
    with pytest.raises(UsageError, match="is a file"):
        locate(tmp_path, "file")


def test_an_empty_name_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cache is empty"):
        locate(tmp_path, "")


def test_a_named_directory_without_models_is_accepted_and_flagged(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put_model(tmp_path / "home/.cache/modelscope")
    located = locate(tmp_path, "empty")
    assert located.is_empty
    assert [root.path for root in located.others] == [tmp_path / "home/.cache/modelscope"]


def test_quotes_in_a_name_are_explained(tmp_path: Path) -> None:
    put_model(tmp_path / "c")
    with pytest.raises(CacheNotFound, match="quotes are part of the name"):
        locate(tmp_path, f"'{tmp_path}/c'")


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"MODELSCOPE_CACHE": ""}, "empty-variable"),
        ({"HF_HOME": ""}, "empty-variable"),
        ({"ZITCACHE_CACHE": ""}, "empty-variable"),
        ({"HF_HOME": '"/x"'}, "quoted-variable"),
        ({"TRANSFORMERS_CACHE": "/x"}, "ignored-variable"),
    ],
)
def test_odd_settings_are_said_with_what_to_do(tmp_path: Path, environ: dict[str, str], code: str) -> None:
    put_model(tmp_path / "home/.cache/modelscope")
    located = locate(tmp_path, **environ)
    notice = next(notice for notice in located.warnings if notice.code == code)
    assert next(iter(environ)) in notice.message
    assert notice.hint


def test_a_dollar_in_modelscope_cache_is_said(tmp_path: Path) -> None:
    put_model(tmp_path / "home/.cache/modelscope")
    located = locate(tmp_path, MODELSCOPE_CACHE="$HOME/c")
    assert "unexpanded-variable" in [notice.code for notice in located.warnings]


def test_no_warning_for_ordinary_settings(tmp_path: Path) -> None:
    put_model(tmp_path / "c")
    assert locate(tmp_path, MODELSCOPE_CACHE=str(tmp_path / "c")).warnings == ()
