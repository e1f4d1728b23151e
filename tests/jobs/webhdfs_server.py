"""A small WebHDFS server over a folder: enough of the protocol for Spark's client and fsspec's.

https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html, with one process as name node and data
node. As in the real protocol, data is read and written in two steps, with a redirect.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_ROOT = "/webhdfs/v1"


@contextmanager
def webhdfs_server(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback inside the block; gives its URI, `webhdfs://127.0.0.1:PORT`."""

    class Handler(_Handler):
        root = folder

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"webhdfs://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {name.lower(): values[0] for name, values in parse_qs(parts.query).items()}
        chunked = "Transfer-Encoding" in self.headers
        body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.root / unquote(parts.path.removeprefix(_ROOT)).strip("/")
        operation = query["op"].upper()
        if operation in ("OPEN", "CREATE", "APPEND") and "datanode" not in query:
            if operation == "OPEN" and not path.is_file():
                return self._missing(path)
            return self._send(307, b"", Location=f"http://127.0.0.1:{self.server.server_port}{self.path}&datanode=true")
        try:
            return getattr(self, f"_{operation.lower()}")(path, query, body)
        except FileNotFoundError:
            return self._missing(path)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _open(self, path: Path, query: dict[str, str], body: bytes) -> None:
        with path.open("rb") as stream:
            stream.seek(int(query.get("offset", 0)))
            self._send(200, stream.read(int(query.get("length", -1))))

    def _create(self, path: Path, query: dict[str, str], body: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        self._send(201)

    def _append(self, path: Path, query: dict[str, str], body: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(body)
        self._send(200)

    def _mkdirs(self, path: Path, query: dict[str, str], body: bytes) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._json(boolean=True)

    def _rename(self, path: Path, query: dict[str, str], body: bytes) -> None:
        target = self.root / query["destination"].strip("/")
        overwrite = query.get("renameoptions") == "OVERWRITE"
        if target.exists() and not overwrite:
            return self._json(boolean=False)
        path.rename(target)
        return self._send(200) if overwrite else self._json(boolean=True)

    def _delete(self, path: Path, query: dict[str, str], body: bytes) -> None:
        if existed := path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._json(boolean=existed)

    def _getfilestatus(self, path: Path, query: dict[str, str], body: bytes) -> None:
        self._json(FileStatus=_status(path, ""))

    def _liststatus(self, path: Path, query: dict[str, str], body: bytes) -> None:
        found = [_status(path, "")] if path.is_file() else [_status(child, child.name) for child in sorted(path.iterdir())]
        self._json(FileStatuses={"FileStatus": found})

    def _getfileblocklocations(self, path: Path, query: dict[str, str], body: bytes) -> None:
        self._json(BlockLocations={"BlockLocation": []})

    _get_block_locations = _getfileblocklocations

    def _missing(self, path: Path) -> None:
        error = {"exception": "FileNotFoundException", "javaClassName": "java.io.FileNotFoundException", "message": str(path)}
        self._send(404, json.dumps({"RemoteException": error}).encode())

    def _json(self, **value: Any) -> None:
        self._send(200, json.dumps(value).encode())

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        # No Content-Type: to read one, the Hadoop client in PySpark's wheel wants a class that the wheel leaves out.
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _status(path: Path, suffix: str) -> dict[str, Any]:
    found = path.stat()
    return {
        "accessTime": 0,
        "blockSize": 0 if path.is_dir() else 2**27,
        "childrenNum": 0,
        "fileId": found.st_ino,
        "group": "group",
        "length": 0 if path.is_dir() else found.st_size,
        "modificationTime": int(found.st_mtime * 1000),
        "owner": "owner",
        "pathSuffix": suffix,
        "permission": "755",
        "replication": 0 if path.is_dir() else 1,
        "storagePolicy": 0,
        "type": "DIRECTORY" if path.is_dir() else "FILE",
    }
