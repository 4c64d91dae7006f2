"""A scan lists every name of a real directory, and says what it leaves out and why."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.cache.builders import HF_FOLDER, pipeline_files, write, write_huggingface, write_legacy
from zitcache.cache.tree import Kind, Tree
from zitcache.cache.walk import scan_tree
from zitcache.errors import NotFound, UsageError


def kinds(tree: Tree) -> dict[str, Kind]:
    return {item.path: item.kind for item in tree.items}


def left_out(tree: Tree) -> dict[str, str]:
    return {entry.path: entry.code for entry in tree.left_out}


def problems(tree: Tree) -> set[str]:
    return {entry.path for entry in tree.left_out if entry.is_problem}


def test_files_directories_and_links_are_listed_with_their_facts(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c.bin": b"12345"})
    (tmp_path / "a/link").symlink_to("b/c.bin")
    (tmp_path / "empty").mkdir(mode=0o700)
    (tmp_path / "a/b/c.bin").chmod(0o640)
    os.utime(tmp_path / "a/b/c.bin", ns=(1, 1_700_000_000_123_456_789))
    tree = scan_tree(tmp_path)
    assert kinds(tree) == {
        "a": Kind.DIRECTORY,
        "a/b": Kind.DIRECTORY,
        "a/b/c.bin": Kind.FILE,
        "a/link": Kind.SYMLINK,
        "empty": Kind.DIRECTORY,
    }
    item = next(item for item in tree.items if item.path == "a/b/c.bin")
    status = (tmp_path / "a/b/c.bin").stat()
    assert (item.size, item.mode, item.mtime_ns) == (5, 0o640, 1_700_000_000_123_456_789)
    assert (item.ctime_ns, item.inode) == (status.st_ctime_ns, status.st_ino)
    assert [item.size for item in tree.items if item.kind is not Kind.FILE] == [0, 0, 0, 0]


def test_items_are_sorted_by_bytes_with_parents_first(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("a/z", "a.b", "a-b", "B", "ä", "\udcff", "a/é/x"), b""))
    paths = [os.fsencode(item.path) for item in scan_tree(tmp_path).items]
    assert paths == sorted(paths)
    assert paths.index(b"a") < paths.index(b"a/z")


def test_hard_links_are_told_from_files(tmp_path: Path) -> None:
    write(tmp_path, {"m/first": b"weights"})
    (tmp_path / "a").mkdir()
    os.link(tmp_path / "m/first", tmp_path / "z")
    os.link(tmp_path / "m/first", tmp_path / "a/earlier")
    items = {item.path: item for item in scan_tree(tmp_path).items}
    assert items["a/earlier"].kind is Kind.FILE
    assert items["a/earlier"].size == 7
    for name in ("m/first", "z"):
        assert (items[name].kind, items[name].target, items[name].size) == (Kind.HARDLINK, "a/earlier", 0)


def test_a_file_linked_from_outside_the_cache_is_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"outside": b"x"})
    (tmp_path / "cache").mkdir()
    os.link(tmp_path / "outside", tmp_path / "cache/inside")
    assert kinds(scan_tree(tmp_path / "cache")) == {"inside": Kind.FILE}


@pytest.mark.parametrize(
    "name",
    [b"new\nline", b"\xff\xfe not utf-8", b"x" * 255, b"back\\slash", b" space ", b"\r", b"--flag", b"a:b*?"],
)
def test_odd_names_come_back_as_they_are(tmp_path: Path, name: bytes) -> None:
    write(tmp_path, {os.fsdecode(name + b"/" + name): b"x"})
    assert [os.fsencode(item.path) for item in scan_tree(tmp_path).items] == [name, name + b"/" + name]


def test_symlinks_keep_their_exact_text(tmp_path: Path) -> None:
    write(tmp_path, {"b/x": b""})
    (tmp_path / "link").symlink_to("./b//x")
    (tmp_path / "raw").symlink_to("\udcff")
    targets = {item.path: item.target for item in scan_tree(tmp_path).items if item.kind is Kind.SYMLINK}
    assert targets == {"link": "./b//x", "raw": "\udcff"}


def test_dangling_links_inside_the_cache_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/dangling").symlink_to("../gone/file")
    (tmp_path / "loop").symlink_to("loop")
    tree = scan_tree(tmp_path)
    assert {item.path for item in tree.items} == {"a", "a/dangling", "loop"}
    assert tree.left_out == ()


def test_absolute_links_inside_the_cache_are_kept(tmp_path: Path) -> None:
    write(tmp_path, {"b/x": b""})
    (tmp_path / "link").symlink_to(tmp_path / "b/x")
    assert kinds(scan_tree(tmp_path))["link"] is Kind.SYMLINK


def test_absolute_links_through_another_name_of_the_root_are_kept(tmp_path: Path) -> None:
    write(tmp_path, {"real/b/x": b""})
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "real/link").symlink_to(tmp_path / "real/b/x")
    (tmp_path / "real/other").symlink_to(tmp_path / "alias/b/x")
    tree = scan_tree(tmp_path / "alias")
    assert {"link", "other"} <= set(kinds(tree))


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../secret", "a/../../secret", "../../../../../../etc/passwd", ".."]
)
def test_links_out_of_the_cache_are_left_out_as_a_problem(tmp_path: Path, target: str) -> None:
    write(tmp_path, {"secret": b"s", "cache/a/x": b""})
    (tmp_path / "cache/evil").symlink_to(target)
    tree = scan_tree(tmp_path / "cache")
    assert left_out(tree) == {"evil": "escaping-symlink"}
    assert problems(tree) == {"evil"}
    assert target in tree.left_out[0].reason


def test_a_link_that_looks_inside_but_ends_outside_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, {"outside/deep/x": b"", "cache/sub/y": b""})
    (tmp_path / "cache/door").symlink_to("../outside/deep")
    (tmp_path / "cache/through").symlink_to("door/x")
    # As text "door/../y" is the cache's own y; the kernel goes to outside/y.
    (tmp_path / "cache/trick").symlink_to("door/../y")
    assert problems(scan_tree(tmp_path / "cache")) == {"door", "through", "trick"}


def test_a_link_whose_text_leaves_the_cache_is_a_problem_even_if_it_comes_back(tmp_path: Path) -> None:
    write(tmp_path, {"cache/x": b""})
    (tmp_path / "cache/roundabout").symlink_to("../cache/../elsewhere")
    assert problems(scan_tree(tmp_path / "cache")) == {"roundabout"}


def test_a_sibling_whose_name_begins_like_the_root_is_outside(tmp_path: Path) -> None:
    write(tmp_path, {"cache/x": b"", "cache-old/x": b""})
    (tmp_path / "cache/link").symlink_to("../cache-old/x")
    assert problems(scan_tree(tmp_path / "cache")) == {"link"}


def test_sockets_and_pipes_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        tree = scan_tree(tmp_path)
    assert left_out(tree) == {"pipe": "special-file", "sock": "special-file"}
    assert problems(tree) == {"pipe", "sock"}


@pytest.mark.root
def test_devices_are_problems(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs root to make a device")
    assert left_out(scan_tree(tmp_path)) == {"null": "special-file"}


def test_unreadable_files_and_folders_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"closed/x": b"", "secret": b"", "open": b""})
    if os.geteuid() == 0:
        refused = {os.fspath(tmp_path / "closed"), os.fspath(tmp_path / "secret")}
        scandir, access = os.scandir, os.access

        def guarded_scandir(path: str) -> object:
            if os.fspath(path) in refused:
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded_scandir)
        monkeypatch.setattr(
            os, "access", lambda path, mode, **k: path not in refused and access(path, mode, **k)
        )
    else:
        (tmp_path / "closed").chmod(0)
        (tmp_path / "secret").chmod(0)
    tree = scan_tree(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert set(kinds(tree)) == {"open"}
    assert left_out(tree) == {"closed": "unreadable", "secret": "unreadable"}
    assert problems(tree) == {"closed", "secret"}


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        scan_tree(tmp_path / "gone")


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"file": b""})
    with pytest.raises(UsageError):
        scan_tree(tmp_path / "file")


def test_tokens_at_the_root_and_beside_hub_are_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "token": b"hf_secret",
            "stored_tokens": b"[default]",
            "credentials/cookies": b"pickle",
            "huggingface/token": b"hf_secret",
            "huggingface/hub/version.txt": b"1",
            ".modelscope/credentials/git_token": b"secret",
            "hub/models--a--b/snapshots/c/token": b"a file of a model",
            "models/a--b/snapshots/master/credentials/x": b"a folder of a model",
        },
    )
    tree = scan_tree(tmp_path)
    assert left_out(tree) == {
        ".modelscope/credentials": "token",
        "credentials": "token",
        "huggingface/token": "token",
        "stored_tokens": "token",
        "token": "token",
    }
    assert problems(tree) == set()
    assert {"hub/models--a--b/snapshots/c/token", "models/a--b/snapshots/master/credentials/x"} <= set(
        kinds(tree)
    )


def test_locks_are_left_out_but_lock_files_of_a_project_stay(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".lock/repo_1.lock": b"",
            ".locks/models--a--b/x.lock": b"",
            "blobs/ab/abcd.lock": b"",
            "soft.lock": b"12345\nhost\n",
            "models/m/uv.lock": b"version = 1\n" * 200,
        },
    )
    (tmp_path / "linked.lock").symlink_to("models/m/uv.lock")
    tree = scan_tree(tmp_path)
    assert left_out(tree) == {
        ".lock": "lock",
        ".locks": "lock",
        "blobs/ab/abcd.lock": "lock",
        "soft.lock": "lock",
    }
    assert {"models/m/uv.lock", "linked.lock"} <= set(kinds(tree))


def test_unfinished_downloads_are_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "m/a.safetensors.incomplete": b"x",
            "m/a.safetensors.parallel_tmp": b"x",
            "m/a.safetensors_0_167772159": b"part",
            "m/a.safetensors_167772160_335544319": b"part",
            "m/data.json": b"{}",
            "m/data.json_0_9": b"part",
            "m/odd_0_9": b"0123456789",
            "m/odd_10_19": b"0123456789",
            "._____temp/owner/name/a.bin": b"x",
            "blobs/0123.77aa.incomplete": b"x",
        },
    )
    tree = scan_tree(tmp_path)
    assert set(kinds(tree)) == {"m", "m/data.json", "blobs"}
    assert set(left_out(tree).values()) == {"unfinished-download"}
    assert problems(tree) == set()


def test_names_that_only_resemble_parts_stay(tmp_path: Path) -> None:
    names = {
        "layer_10_20": b"nobody vouches for it",
        "grid_3_2": b"ends before it starts",
        "a.safetensors_0_9": b"larger than ten bytes",
        "v_1_x.bin": b"x",
        "frame_0_9.safetensors": b"x",
    }
    write(tmp_path, names)
    assert set(kinds(scan_tree(tmp_path))) == set(names)


def test_a_folder_with_a_parts_name_stays(tmp_path: Path) -> None:
    write(tmp_path, {"a.safetensors": b"x", "a.safetensors_0_9/x": b""})
    assert "a.safetensors_0_9/x" in kinds(scan_tree(tmp_path))


def test_our_own_staging_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {".zitcache-restore-1/models/x": b"", "m/.zitcache-x.part": b"", "m/y": b""})
    tree = scan_tree(tmp_path)
    assert left_out(tree) == {".zitcache-restore-1": "own-files", "m/.zitcache-x.part": "own-files"}
    assert set(kinds(tree)) == {"m", "m/y"}


def test_the_cache_directory_tag_is_an_ordinary_file(tmp_path: Path) -> None:
    write(tmp_path, {"CACHEDIR.TAG": b"Signature: 8a477f597d28d172789f06886806bc55", "m/x": b""})
    assert set(kinds(scan_tree(tmp_path))) == {"CACHEDIR.TAG", "m", "m/x"}


@pytest.mark.parametrize("shared", [False, True])
def test_a_hugging_face_cache_is_listed_whole(tmp_path: Path, shared: bool) -> None:
    write_huggingface(tmp_path, pipeline_files(), shared=shared)
    tree = scan_tree(tmp_path)
    on_disk = {os.fspath(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {item.path for item in tree.items} == on_disk
    assert tree.left_out == ()


def test_a_model_folder_alone_reports_links_into_the_shared_blobs(tmp_path: Path) -> None:
    write_huggingface(tmp_path, {"a.safetensors": b"w" * 99}, shared=True)
    codes = {entry.code for entry in scan_tree(tmp_path / HF_FOLDER).left_out}
    assert codes == {"escaping-symlink"}


def test_bookkeeping_of_modelscope_is_kept(tmp_path: Path) -> None:
    write_legacy(tmp_path / "models/a/b", {"config.json": b"{}"})
    assert {"models/a/b/.msc", "models/a/b/.mdl", "models/a/b/.mv"} <= set(kinds(scan_tree(tmp_path)))
