"""Finds and ends the processes of a stack; also the lock that keeps two stacks of one home apart, ports and logs."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import requests

from infra.local.environment import MARKER
from jobs.base.scratch import sweep

_GRACE_SECONDS = 8.0
_KERNEL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")  # first and last port that the kernel gives by itself
_LOWEST_PORT, _TRIES = 10_000, 100


class StackError(RuntimeError):
    """The local stack cannot start or go on; the message says why and what to do."""


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Hold the lock of a home. The kernel drops it when the process ends, so a killed run leaves nothing to clean up.

    Raises:
        StackError: another process holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            owner = stream.read().strip() or "unknown"
            raise StackError(
                f"another run (process {owner}) is working in {home}. Wait for it, stop it with `kill {owner}`, "
                "or use another home (--home)."
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def stack_processes(home: Path) -> list[psutil.Process]:
    """Every process started by a stack of this home, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # gone meanwhile, or another user's
            continue
    return found


def end_processes(home: Path) -> int:
    """End every process of the stacks of this home: ask first, then kill. Returns how many there were.

    Temporary files of Spark's drivers that were killed, now or earlier, are removed (`jobs.base.scratch`).
    """
    first = alive = stack_processes(home)
    for process in alive:
        _send(process, kill=False)
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline and (alive := stack_processes(home)):
        # Look again often: a process that has ended stays in the table until its parent has asked for its status.
        psutil.wait_procs(alive, timeout=0.2)
    while alive := stack_processes(home):  # a process may have been forked while its parent was told to end
        for process in alive:
            _send(process, kill=True)
        psutil.wait_procs(alive, timeout=1)
    psutil.wait_procs(first, timeout=0)  # ask for the status of our own children
    sweep()
    return len(first)


def exit_on_signals() -> None:
    """Leave on SIGTERM and SIGHUP as on Ctrl-C: every block is left in good order, and the status is 128+n."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def free_port(wanted: int = 0) -> int:
    """A loopback port to listen on: the wanted one, or any free one for 0.

    A server takes seconds before it listens. So a free port is looked for below the ports that the kernel gives to whoever asks
    for any: one of those may be somebody else's by then.

    Raises:
        StackError: something else listens there.
    """
    if wanted:
        try:
            return _bound(wanted)
        except OSError as error:
            raise StackError(f"port {wanted} of 127.0.0.1 is not free ({error.strerror}); choose another one.") from error
    first = int(_KERNEL_PORTS.read_text().split()[0]) if _KERNEL_PORTS.exists() else 0
    for _ in range(_TRIES if first > _LOWEST_PORT else 0):
        with suppress(OSError):
            return _bound(random.SystemRandom().randrange(_LOWEST_PORT, first))
    return _bound(0)


def _bound(port: int) -> int:
    """The port, if it can be listened on."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return int(listener.getsockname()[1])


def await_answer(process: "subprocess.Popen[Any]", url: str, *, seconds: float = 300, log: Path | None = None) -> None:
    """Wait until a server that was just started answers a GET of `url` with success.

    Raises:
        StackError: its process has ended, or it does not answer in time; with the end of its log, if that is given.
    """
    deadline = time.monotonic() + seconds
    while True:
        with suppress(requests.RequestException):
            if requests.get(url, timeout=5).ok:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            said = f":\n{tail(log)}" if log else ""
            raise StackError(f"{process.args!r} does not answer at {url} (exit status {process.returncode}){said}")
        time.sleep(0.2)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _leave(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _send(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        pass
