"""A real PostgreSQL server of a test's own."""

import subprocess
import time

from infra.local.postgres import Postgres


def started(server: Postgres, wanted: int | None) -> int:
    """Start the server as the launcher does; returns its port as soon as it answers."""
    port = server.prepare(wanted)
    command, account, environment = server.command(port)
    subprocess.Popen(command, user=account, group=account, extra_groups=[] if account else None, env=environment, cwd="/")
    deadline = time.monotonic() + 60
    while not server.answers(port):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return port
