"""A PostgreSQL cluster of one home folder, on loopback and with a password. It uses the PostgreSQL that the machine has."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from psycopg2 import sql

from infra.local.environment import write_private
from infra.local.processes import StackError, free_port, tail

ROLE = "esans"
_ACCOUNT = "postgres"  # PostgreSQL refuses to run as root; this is the account that its packages make
_DEBIAN = Path("/usr/lib/postgresql")
_SECONDS = "60"  # to start or to stop: a second on an idle machine
_CONFIGURATION = """
# Reached over loopback alone, by whoever knows the password.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
"""


class Postgres:
    """The cluster in one folder. It is made once, and then started and stopped as often as one likes.

    Its processes do not carry the stack's marker, because a signal from outside is no good way to end a database.

    Args:
        folder: where its data lie; if we are root, the account `postgres` must be able to reach it.
        password: password of the role `esans`, which owns everything in it.
        log: file that its messages are written to.

    Raises:
        StackError: no PostgreSQL that fits the cluster is installed, or it cannot run here.
    """

    def __init__(self, folder: Path, password: str, log: Path) -> None:
        self._folder, self._password, self._log = folder, password, log
        self._bin = _binaries_for(folder)
        self._account = _account()

    @property
    def process(self) -> psutil.Process | None:
        """The running server, or None. The file of a killed server does not count, even if its number is in use again."""
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
            found = psutil.Process(int(lines[0]))
            # It works in its data folder, wherever that has been moved to. A copied folder holds the number of another server.
            return found if found.name() == "postgres" and self._folder.samefile(found.cwd()) else None
        except (OSError, ValueError, IndexError, psutil.Error):
            return None

    def prepare(self, wanted: int | None) -> int:
        """Make the cluster if there is none, stop a server that is left, and return the port for the next one.

        Args:
            wanted: port that it had before; another one is taken if this one is not free.
        """
        if not self._folder.exists():
            self._create()
        self.stop()
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        return _free_port(wanted)

    def command(self, port: int) -> tuple[list[str], str | None, dict[str, str]]:
        """How to run the server in the foreground: its command, the account (None for our own), and its environment."""
        return [str(self._bin / "postgres"), "-D", str(self._folder), "-p", str(port)], self._account, _environment()

    def stop(self) -> bool:
        """Stop the server: open transactions are rolled back, everything else is on disk. False if it did not run."""
        if not self.process:
            return False
        self._run("pg_ctl", "stop", "-D", str(self._folder), "-m", "fast", "-w", "-t", _SECONDS)
        return True

    def answers(self, port: int) -> bool:
        """Whether it takes connections."""
        command = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.run(command, env=_environment(), check=False).returncode == 0

    def ensure_databases(self, port: int, names: Sequence[str]) -> None:
        """Make the databases that are not there yet."""
        try:
            connection = psycopg2.connect(host="127.0.0.1", port=port, user=ROLE, password=self._password, dbname="postgres")
        except psycopg2.OperationalError as error:
            raise StackError(
                f"PostgreSQL in {self._folder} does not let us in ({str(error).strip()}). Its password is the one that "
                "airflow/secrets.json of this home had when the cluster was made: put that file back."
            ) from error
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            there = {row[0] for row in cursor.fetchall()}
            for name in names:
                if name not in there:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        connection.close()

    def uri(self, port: int, database: str) -> str:
        """Address of a database for SQLAlchemy, with the password."""
        return f"postgresql+psycopg2://{ROLE}:{self._password}@127.0.0.1:{port}/{database}"

    def _create(self) -> None:
        """Make the cluster next to its place and then move it there, so that a half-made one is never used."""
        workshop = self._folder.with_name(f".{self._folder.name}-new")
        shutil.rmtree(workshop, ignore_errors=True)
        workshop.mkdir(mode=0o700, parents=True)
        write_private(workshop / "password", self._password)
        if self._account:
            for path in (workshop, workshop / "password"):
                shutil.chown(path, self._account, self._account)
            self._check_reachable(workshop)
        data = workshop / "data"
        given = ["--username", ROLE, "--pwfile", str(workshop / "password"), "--auth", "scram-sha-256"]
        self._run("initdb", "-D", str(data), *given, "--encoding", "UTF8", "--locale", "C", "--no-instructions")
        with (data / "postgresql.conf").open("a") as stream:
            stream.write(_CONFIGURATION)
        data.rename(self._folder)
        shutil.rmtree(workshop)

    def _check_reachable(self, folder: Path) -> None:
        if subprocess.run(["test", "-x", str(folder)], check=False, **self._identity()).returncode:
            closed = [str(parent) for parent in folder.parents if not parent.stat().st_mode & 0o001]
            raise StackError(
                f"PostgreSQL does not run as root, and its account '{self._account}' cannot reach {folder.parent}: it may not "
                f"enter {', '.join(closed)}. Use another home (HOME_FOLDER=), or open the way with `chmod o+x` on these."
            )

    def _run(self, tool: str, *arguments: str) -> None:
        with self._log.open("ab") as log:  # the server keeps it open
            done = subprocess.run(
                [str(self._bin / tool), *arguments],
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the prompt is not meant for the server
                check=False,
                **self._identity(),
            )
        if done.returncode:
            raise StackError(f"{tool} of PostgreSQL failed; see {self._log}\n{tail(self._log)}")

    def _identity(self) -> dict[str, Any]:
        return {"user": self._account, "group": self._account, "extra_groups": []} if self._account else {}


def installed() -> bool:
    """Whether this machine has PostgreSQL."""
    return bool(_candidates())


def _candidates() -> dict[str, Path]:
    """Folders of binaries by major version, the newest last. Of two with the same version, the one on PATH counts."""
    found = [path.parent for path in _DEBIAN.glob("*/bin/pg_ctl")]
    if on_path := shutil.which("pg_ctl"):
        found.append(Path(on_path).resolve().parent)
    versions = {}
    for folder in found:
        said = subprocess.run([str(folder / "pg_ctl"), "--version"], capture_output=True, text=True, check=False).stdout
        if (match := re.search(r"\) (\d+)", said)) and (folder / "initdb").exists():
            versions[match[1]] = folder
    return dict(sorted(versions.items(), key=lambda pair: int(pair[0])))


def _binaries_for(folder: Path) -> Path:
    found, mark = _candidates(), folder / "PG_VERSION"
    wanted = mark.read_text().strip() if mark.exists() else next(reversed(found), None)
    if wanted in found:
        return found[wanted]
    raise StackError(
        f"the data in {folder} need PostgreSQL {wanted or '(any version)'}, and this machine has "
        f"{', '.join(found) or 'none'}. Type:  sudo apt-get install -y postgresql{f'-{wanted}' if wanted else ''}"
    )


def _account() -> str | None:
    """The account to run under, or None for our own."""
    if os.geteuid():
        return None
    try:
        return pwd.getpwnam(_ACCOUNT).pw_name
    except KeyError:
        raise StackError(
            f"PostgreSQL does not run as root, and there is no account '{_ACCOUNT}'. Type:  sudo useradd --system {_ACCOUNT}"
        ) from None


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _free_port(wanted: int | None) -> int:
    try:
        return free_port(wanted or 0)
    except StackError:
        return free_port()
