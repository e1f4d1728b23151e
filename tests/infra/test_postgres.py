"""A PostgreSQL cluster of a home: made whole or anew, started after a kill, and closed to whom it should be."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.postgres import Postgres
from infra.local.processes import StackError
from tests.postgres_server import started


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that PostgreSQL's account can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="esans-up-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.slow
def test_a_cluster_that_was_cut_short_is_made_anew_and_a_killed_one_starts_again(reachable: Path) -> None:
    folder = reachable / "alone" / "postgres"
    (folder.parent / ".postgres-new" / "data").mkdir(parents=True)
    server = Postgres(folder, "a-password", folder.parent / "log")
    port = started(server, None)
    try:
        server.ensure_databases(port, ["one"])
        process = server.process
        assert process is not None
        process.kill()
        process.wait(30)
        assert started(server, port) == port
        assert started(server, port) == port, "a server that is left is stopped first"
        server.ensure_databases(port, ["one", "two"])
        with pytest.raises(StackError, match="does not let us in"):
            Postgres(folder, "another", folder.parent / "log").ensure_databases(port, ["one"])
        assert {
            connection.laddr.ip for connection in server.process.net_connections("all") if connection.status == "LISTEN"
        } == {"127.0.0.1"}
    finally:
        assert server.stop() is True
    assert server.stop() is False and not server.answers(port)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert server.prepare(port) != port, "nobody knows its port by heart"


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as ourselves")
def test_a_home_that_is_closed_to_the_account_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StackError, match=f"may not enter .*{closed}.*chmod o\\+x"):
        Postgres(closed / "postgres", "x", tmp_path / "log").prepare(None)
