"""A proxy before a Hub on the loopback: weights stop in the middle, until the download is killed."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def stalling(hub: str, after_bytes: int) -> Iterator[tuple[str, threading.Event]]:
    """Yields the URL of the proxy for ``hub``, and an event that is set once a body has stalled."""
    stalled, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._pass_on("HEAD")

        def do_GET(self) -> None:
            self._pass_on("GET")

        def _pass_on(self, method: str) -> None:
            request = urllib.request.Request(hub + self.path, method=method)
            if "Range" in self.headers:
                request.add_header("Range", self.headers["Range"])
            try:
                answer = urllib.request.urlopen(request)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in {"date", "server", "connection"}:
                        self.send_header(name, value)
                self.end_headers()
            if method == "HEAD":
                return
            if ".safetensors" in self.path and len(body) > after_bytes:
                self.wfile.write(body[:after_bytes])
                self.wfile.flush()
                stalled.set()
                over.wait(60)
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", stalled
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
