"""Keeps the components of `make up` alive with supervisord: one that ends is started again, with its log kept and rotated."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from infra.local.components import Components
from infra.local.environment import COMPONENT, MARKER, REPOSITORY, write_private
from infra.local.processes import StackError, free_port, tail

_START_SECONDS = 60.0
_WATCH = "watch"
# The last to start is the first to stop. The scheduler's tasks need all others, and the database stops last.
_ORDER = ("postgres", "mlflow", "reports", "api-server", "dag-processor", "triggerer", "scheduler")
_PATIENCE = 60  # seconds to stop; the scheduler waits for its tasks, and the database for its transactions
_FAILED = ("BACKOFF", "EXITED", "FATAL", "UNKNOWN")

_CONFIGURATION = """\
[supervisord]
nodaemon = true
logfile = {logs}/supervisor.log
logfile_maxbytes = 5MB
logfile_backups = 3
pidfile = {folder}/supervisor.pid
childlogdir = {logs}

[inet_http_server]
port = 127.0.0.1:{port}
username = supervisor
password = {password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = {folder}/programs/*.conf
"""
# A component that ends is started at once, and one that ends within half a minute of its start after one second more each time.
_PROGRAM = """\
[{kind}:{name}]
command = {python} -m infra.local.launch {folder} {name}
directory = {repository}
autorestart = true
startsecs = 30
startretries = 1000000
stopsignal = {signal}
stopwaitsecs = {patience}
priority = {priority}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 5
"""
_LOGGED = "stdout_logfile = {log}\nredirect_stderr = true\n"
_LISTENS = "events = PROCESS_STATE_EXITED,PROCESS_STATE_BACKOFF\nstdout_logfile = NONE\nstderr_logfile = {log}\n"


class Supervised(Components):
    """Components of a home under a supervisord of their own, which runs until the stack is stopped.

    Args:
        folder: `<home>/airflow`.
        home: the home folder.

    Raises:
        StackError: supervisord does not start.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        super().__init__(folder, {})
        self._folder, self._home, self._names = folder, home, list[str]()
        shutil.rmtree(folder / "programs", ignore_errors=True)
        (folder / "programs").mkdir(mode=0o700)
        port, password = free_port(), secrets.token_urlsafe(18)
        about = {"folder": folder, "logs": self.logs, "port": port, "password": password}
        self._configure("supervisor.conf", _CONFIGURATION, about)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(folder / "supervisor.conf")],
            env=kept | {MARKER: str(home), COMPONENT: "supervisor", "PYTHONPATH": str(REPOSITORY)},
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._server: Any = xmlrpc.client.ServerProxy(f"http://supervisor:{password}@127.0.0.1:{port}/RPC2").supervisor
        self._until_it_answers()

    def use(self, environment: Mapping[str, str]) -> None:
        """Give components this environment from now on, unless `spawn` gets another; also start to watch them."""
        self._environment = dict(environment)
        # This lets Airflow's library read connections from its database too, where a person may have made that of the alerts.
        listener = self._environment | {"_AIRFLOW_PROCESS_CONTEXT": "server"}
        self._add(_WATCH, [sys.executable, "-m", "infra.local.watch", str(self._home)], listener)

    @property
    def pid(self) -> int:
        """Number of supervisord's process."""
        return self._process.pid

    def spawn(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a Python module and keep it running under a name."""
        given = self._environment if environment is None else dict(environment)
        self._add(name, [sys.executable, "-m", *command], given)

    def spawn_database(self, command: list[str], account: str | None, environment: Mapping[str, str]) -> None:
        """Start PostgreSQL and keep it running. It stops in good order on SIGINT. Without an account it runs under ours."""
        self._add("postgres", command, dict(environment), account=account, directory="/", signal="INT")

    def check(self) -> None:
        """Raise `StackError` if a component has ended, with the end of its log."""
        for name in self._names:
            about = self._server.getProcessInfo(name)
            if about["statename"] in _FAILED:
                log = self.log(name)
                raise StackError(f"the {name} ended ({about['spawnerr'] or about['description']}); see {log}\n{tail(log)}")

    def _add(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        *,
        account: str | None = None,
        directory: str = str(REPOSITORY),
        signal: str = "TERM",
    ) -> None:
        marked = environment | ({COMPONENT: name} if MARKER in environment else {})
        about: dict[str, Any] = {"command": command, "environment": marked, "account": account, "directory": directory}
        write_private(self._folder / "programs" / f"{name}.json", json.dumps(about))
        listens = name == _WATCH
        values = {
            "kind": "eventlistener" if listens else "program",
            "name": name,
            "python": sys.executable,
            "folder": self._folder,
            "repository": REPOSITORY,
            "signal": signal,
            "patience": _PATIENCE if name in ("scheduler", "postgres") else _PATIENCE // 3,
            "priority": -1 if listens else 10 * (1 + _ORDER.index(name)),
            "log": self.log(name),
        }
        self._configure(f"programs/{name}.conf", _PROGRAM + (_LISTENS if listens else _LOGGED), values)
        self._server.reloadConfig()
        self._server.addProcessGroup(name)
        if not listens:
            self._names.append(name)

    def _configure(self, name: str, pattern: str, values: Mapping[str, Any]) -> None:
        """Write a part of supervisord's configuration, in which a per cent sign begins the name of a variable."""
        write_private(
            self._folder / name, pattern.format_map({key: str(value).replace("%", "%%") for key, value in values.items()})
        )

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._server.getState()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise StackError(f"supervisord does not answer ({error}); see {self.logs / 'supervisor.log'}") from error
                time.sleep(0.2)


def supervised_processes(supervisor: psutil.Process) -> dict[str, psutil.Process]:
    """The components that a supervisord keeps running now, by name; PostgreSQL, which carries no mark, is left out."""
    return {name: process for name, process in _kept_by(supervisor).items() if name != _WATCH}


def watch_of(supervisor: psutil.Process) -> psutil.Process | None:
    """The process that sends an alert when a component ends again and again; None if it does not run."""
    return _kept_by(supervisor).get(_WATCH)


def _kept_by(supervisor: psutil.Process) -> dict[str, psutil.Process]:
    found = {}
    for process in supervisor.children():
        try:
            name = process.environ().get(COMPONENT)
        except psutil.Error:  # it has ended meanwhile, or runs under another account
            continue
        if name and process.status() != psutil.STATUS_ZOMBIE:
            found[name] = process
    return found
