"""The kit in a bucket brings a bare machine back with nothing but Python and curl."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backup.world import back_up, make_sample, require_same
from tests.s3.fixtures import S3Server
from tests.s3.server import APPENDER, BUCKET, OWNER, READER, SECRETS
from zitcache.events import Session
from zitcache.storage.opening import open_storage
from zitcache.tasks.kit import bucket
from zitcache.tasks.kit.bucket import keep_bucket_kit
from zitcache.tasks.kit.layout import python_tag

TAR = f"kit/{python_tag()}.tar"


@pytest.fixture(autouse=True)
def still_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of the code stays the same while somebody edits it."""
    code = bucket._code()
    monkeypatch.setattr(bucket, "_code", lambda: code)


def prefix_of(place: str) -> str:
    return place.partition("?")[0].partition(BUCKET + "/")[2]


def text_of(server: S3Server, place: str, name: str) -> str:
    found = server.client().get_object(Bucket=BUCKET, Key=f"{prefix_of(place)}/{name}")
    return str(found["Body"].read().decode())


@pytest.mark.slow
def test_the_kit_is_made_once_kept_up_to_date_and_brings_a_bare_machine_back(
    s3_server: S3Server, s3_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_sample(tmp_path / "cache")
    first = back_up(s3_location, cache, kit=True)  # type: ignore[arg-type]
    assert first.data.kit == "made", first.warnings
    objects = s3_server.objects(prefix_of(s3_location))
    assert {name for name in objects if name.startswith("kit/")} == {
        "kit/recover.sh",
        "kit/restore.md",
        TAR,
        TAR.replace(".tar", ".sha256"),
        TAR.replace(".tar", ".json"),
    }
    assert back_up(s3_location, cache, kit=True).data.kit == "up to date"  # type: ignore[arg-type]

    script = text_of(s3_server, s3_location, "kit/recover.sh")
    readme = text_of(s3_server, s3_location, "kit/restore.md")
    for text in (script, readme):
        assert "@" not in text.replace('"$@"', "").replace('"$*"', "")
        assert not any(secret in text for secret in SECRETS)
    line = next(line for line in readme.splitlines() if "aws s3 cp" in line)
    assert f"s3://{BUCKET}/{prefix_of(s3_location)}/kit/recover.sh -" in line
    assert s3_server.endpoint in line

    # A bare machine: no zitcache, no settings, a PATH without S3 clients, keys in the environment.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "curl", "mktemp", "rm", "cp", "cat", "uname", "sed"):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"needs {name}")
        (tools / name).symlink_to(found)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "PATH": str(tools),
        "HOME": str(home),
        "TMPDIR": str(home),
        "ZITCACHE_PYTHON": sys.executable,
        **READER.environment(),
    }
    arguments = ["sh", "-s", "--", "--to", str(tmp_path / "back")]
    done = subprocess.run(
        arguments, input=script, env=environment, capture_output=True, text=True, cwd=home, timeout=120
    )
    assert done.returncode == 0, done.stderr
    require_same(cache, tmp_path / "back")
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)

    # With the files fetched by hand beside it, from presigned URLs say, no client is asked.
    folder = tmp_path / "fetched"
    folder.mkdir()
    for name in ("kit/recover.sh", TAR, TAR.replace(".tar", ".sha256")):
        (folder / name.removeprefix("kit/")).write_bytes(
            s3_server.client()
            .get_object(Bucket=BUCKET, Key=f"{prefix_of(s3_location)}/{name}")["Body"]
            .read()
        )
    (tools / "curl").unlink()
    done = subprocess.run(
        ["sh", str(folder / "recover.sh"), "--to", str(tmp_path / "back2"), "--dry-run"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=home,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Would restore" in done.stdout and not (tmp_path / "back2").exists()
    # A damaged one is not started.
    with (folder / TAR.removeprefix("kit/")).open("r+b") as tar:
        tar.seek(5000)
        tar.write(b"damage")
    done = subprocess.run(
        ["sh", str(folder / "recover.sh")], env=environment, capture_output=True, text=True, cwd=home
    )
    assert done.returncode == 1 and "damaged" in done.stderr

    # Another version of zitcache renews it, also with keys that may not delete.
    for name, value in APPENDER.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "__version__", "99.0.0")
    session = Session()
    assert keep_bucket_kit(open_storage(s3_location), session) == "updated"
    assert '"program":"99.0.0"' in text_of(s3_server, s3_location, TAR.replace(".tar", ".json"))
    assert keep_bucket_kit(open_storage(s3_location), session) == "up to date"
    # An older zitcache leaves it alone.
    monkeypatch.setattr(bucket, "__version__", "0.1.0")
    assert keep_bucket_kit(open_storage(s3_location), session) == "up to date"
    # Keys that may only read: a warning, the backup is whole without it.
    for name, value in READER.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "__version__", "100.0.0")
    assert keep_bucket_kit(open_storage(s3_location), session) == "failed"
    assert [warning.code for warning in session.warnings] == ["kit-not-kept"]
    assert OWNER.secret not in session.warnings[0].message


def test_the_texts_are_shell_that_sh_accepts_whatever_the_place_is_called() -> None:
    for place in (
        "s3://bucket",
        "s3://bucket/a b/it's",
        "s3://bucket/$(touch x)/`id`?endpoint_url=https://host:9000&region=eu-1",
        "s3://b-u/models?endpoint_url=https://oss-cn-beijing.aliyuncs.com&region=cn-beijing",
    ):
        texts = bucket._scripts(place)
        script = texts[bucket.RECOVER]
        checked = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr
        # What stands in front of the first command is assignments alone: nothing is run by filling in.
        head = script.partition("case $0 in")[0]
        done = subprocess.run(
            ["sh", "-c", head + 'printf "%s" "$repository"'], capture_output=True, text=True
        )
        assert done.stdout == place
    assert "https://b-u.oss-cn-beijing.aliyuncs.com" in script
