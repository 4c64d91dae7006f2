"""A Hub on the loopback with one model in it, so that the real SDKs fill real caches without a network."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

COMMIT = "5d3f1c0a9e8b7d6c5f4e3d2c1b0a99887766554e"


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def huggingface_hub(model: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Serves ``files`` as ``model``; ``*.safetensors`` as LFS files. Yields the endpoint's URL."""
    hub = _Hub(model, files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            status, headers, body = hub.answer(self.path)
            first, last = 0, len(body) - 1
            if with_body and "Range" in self.headers and status == 200:
                begin, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
                first, last = int(begin), min(int(end or last), last)
                status = 206
                headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            if with_body:
                self.wfile.write(body[first : last + 1])

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Hub:
    def __init__(self, model: str, files: Mapping[str, bytes]) -> None:
        self.model = model
        self.files = files

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        url = urlparse(path)
        if url.path.startswith(f"/api/models/{self.model}/tree/"):
            return self._json([self._tree_entry(name) for name in self.files])
        if url.path.startswith(f"/api/models/{self.model}"):
            siblings = [{"rfilename": name} for name in self.files]
            return self._json(
                {"id": self.model, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            )
        if url.path.startswith(f"/api/v1/models/{self.model}/repo/files"):
            return self._json({"Code": 200, "Success": True, "Data": {"Files": self._modelscope_files()}})
        if url.path.startswith(f"/api/v1/models/{self.model}/revisions"):
            revisions = {"RevisionMap": {"Branches": [{"Revision": "master"}], "Tags": []}}
            return self._json({"Code": 200, "Success": True, "Data": revisions})
        if url.path.startswith((f"/api/v1/models/{self.model}/repo", f"/models/{self.model}/resolve/")):
            query = parse_qs(url.query)
            name = (
                query["FilePath"][0]
                if "FilePath" in query
                else url.path.split("/resolve/")[1].partition("/")[2]
            )
            return self._file(name)
        if url.path.startswith(f"/{self.model}/resolve/"):
            return self._file(url.path.split("/resolve/")[1].partition("/")[2])
        return 404, {"Content-Type": "application/json"}, b'{"Code": 404, "error": "not found"}'

    def _file(self, name: str) -> tuple[int, dict[str, str], bytes]:
        content = self.files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_sha1(content)}"', "Accept-Ranges": "bytes"}
        if name.endswith(".safetensors"):
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
        return 200, headers, content

    def _tree_entry(self, name: str) -> dict[str, object]:
        content = self.files[name]
        entry: dict[str, object] = {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": git_sha1(content),
        }
        if name.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return entry

    def _modelscope_files(self) -> list[dict[str, object]]:
        return [
            {
                "Name": name.rpartition("/")[2],
                "Path": name,
                "Type": "blob",
                "Size": len(content),
                "Sha256": hashlib.sha256(content).hexdigest(),
                "Revision": COMMIT,
                "IsLFS": name.endswith(".safetensors"),
                "CommittedDate": 1700000000,
            }
            for name, content in self.files.items()
        ]

    @staticmethod
    def _json(value: object) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()
