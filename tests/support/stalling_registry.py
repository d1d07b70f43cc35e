"""A registry that stops in the middle of the layers of an image, for tests of pulls that do not come to their end."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from vc_core.testing.slowness import scaled

#: Bytes of a blob up to which it is passed on as a whole: the documents of an image, and no layer.
_SMALL = 64 * 1024


class StallingRegistry:
    """Passes on what another registry answers, but of large blobs the first half only, until :meth:`go_on`."""

    def __init__(self, behind: str) -> None:
        self.stalls, self._released = threading.Event(), threading.Event()
        stalling = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name that http.server calls
                request = urllib.request.Request(f"http://{behind}{self.path}")
                if accept := self.headers.get_all("Accept"):
                    request.add_header("Accept", ", ".join(accept))
                try:
                    with urllib.request.urlopen(request) as answer:
                        self._pass_on(answer.status, dict(answer.headers), answer.read())
                except urllib.error.HTTPError as error:
                    with error:
                        self._pass_on(error.code, dict(error.headers), error.read())

            def _pass_on(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() in ("content-type", "content-length", "docker-content-digest"):
                        self.send_header(name, value)
                self.end_headers()
                begun = len(data) if "/blobs/" not in self.path or len(data) < _SMALL else len(data) // 2
                try:
                    self.wfile.write(data[:begun])
                    self.wfile.flush()
                    if begun < len(data):
                        stalling.stalls.set()
                        stalling._released.wait(scaled(60))
                        self.wfile.write(data[begun:])
                except OSError:
                    pass  # the puller was killed

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="stalling registry")
        self._thread.start()

    def go_on(self) -> None:
        """Let all layers come to their end from now on."""
        self._released.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.go_on()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
