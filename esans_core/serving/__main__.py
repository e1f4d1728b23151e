"""Starts the HTTP server over published bundles.

python -m esans_core.serving --folder var/embedded/serving --token-file var/embedded/serve-token
"""

import argparse
import json
import logging
import os
import secrets
import sys
import tempfile
from pathlib import Path

import limits
import uvicorn
from starlette.types import ASGIApp

from esans_core.serving.http_app import Options, make_app

_OPTIONS, _TOKEN = "ESANS_SERVE_OPTIONS", "ESANS_SERVE_TOKEN"
_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m esans_core.serving", description="Answer queries over HTTP.")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the published bundles: <home>/serving")
    parser.add_argument("--token-file", type=Path, help=f"file with the password; made if missing (else: {_TOKEN})")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8085)
    parser.add_argument("--workers", type=int, default=1, help="processes; they share the bundle's memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="requests that a process computes at a time")
    parser.add_argument("--max-bytes", type=int, default=Options.max_bytes, help="longest body of a request")
    parser.add_argument("--rate", default="", help='what one client may send to a process, such as "100/second" (default: any)')
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="time between two looks for a new bundle")
    given = parser.parse_args()
    if given.rate:
        try:
            limits.parse(given.rate)
        except ValueError:
            parser.error(f'--rate {given.rate!r}: expected a number and a time, such as "100/second" or "5000/minute"')
    token = _token(parser, given.token_file)
    names = ("threads", "max_bytes", "rate", "seconds")
    os.environ[_OPTIONS] = json.dumps({name: getattr(given, name) for name in names} | {"folder": str(given.folder.resolve())})
    os.environ[_TOKEN] = token
    where = f"http://{given.host}:{given.port}/docs"
    sys.stdout.write(f"serving {given.folder} on {where}; the password is in {given.token_file or _TOKEN}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="esans-serve-") as folder:
        if given.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        uvicorn.run(
            "esans_core.serving.__main__:from_environment",
            factory=True,
            host=given.host,
            port=given.port,
            workers=given.workers,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_worker_healthcheck=60,  # a process that opens a large bundle on a busy machine is not dead
        )


def from_environment() -> ASGIApp:
    """The application of one process, with the options that the command was given."""
    logging.basicConfig(level=logging.INFO, format=_LINE)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells of every variant that it tries to load
    options = json.loads(os.environ[_OPTIONS])
    return make_app(Options(**options | {"folder": Path(options["folder"]), "token": os.environ[_TOKEN]}))


def _token(parser: argparse.ArgumentParser, file: Path | None) -> str:
    if file is None:
        token = os.environ.get(_TOKEN, "")
    else:
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            token = file.read_text().strip()
        except OSError as error:
            parser.error(f"--token-file {file}: {error.strerror}. Name a file in a folder that exists and may be written to.")
        else:
            token = secrets.token_urlsafe(32)
            with os.fdopen(handle, "w") as stream:
                stream.write(token + "\n")
    if len(token) < 16:
        parser.error(f"the password has {len(token)} characters: give --token-file, or {_TOKEN} with at least 16")
    return token


if __name__ == "__main__":
    main()
