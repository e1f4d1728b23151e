"""A real HTTP server on this machine, which answers each path as a test says and counts what it was asked."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PictureServer(ThreadingHTTPServer):
    """Answers by path.

    Attributes:
        pages: path -> body of a 200, or a list of answers, (status, headers, body) each; the last one is given again and again.
        asked: (path, headers) of each request, in order.
        at_once: most requests that were under way at one time.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.lock, self.under_way, self.at_once = threading.Lock(), 0, 0

    @property
    def host(self) -> str:
        """Address and port."""
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        """URL of a path."""
        return f"http://{self.host}{path}"

    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [path for path, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: PictureServer

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.asked.append((self.path, dict(self.headers)))
            server.under_way += 1
            server.at_once = max(server.at_once, server.under_way)
            answers = server.pages.get(self.path, [(404, {}, b"")])
            answers = answers if isinstance(answers, list) else [(200, {}, answers)]
            status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        time.sleep(float(headers.get("X-Wait", 0)))
        with server.lock:  # before the answer, because whoever has it may ask again at once
            server.under_way -= 1
        try:
            etag = headers.get("ETag")
            if etag and self.headers.get("If-None-Match") == etag:
                status, body = 304, b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the other side has had enough
            pass

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def picture_server() -> Iterator[PictureServer]:
    """A server that ends with the block."""
    server = PictureServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
