"""Becomes one component of a stack: supervisord starts `infra.local.launch <folder> <name>`, and watches what it becomes.

A component's command and environment are in `<folder>/programs/<name>.json`, which only its owner can read. So no secret stands
on a command line or in supervisord's configuration.
"""

import json
import os
import pwd
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from infra.local.environment import COMPONENT, MARKER

# If the scheduler is killed, the tasks at work go on without it, and the next scheduler takes them over. Of all others, a
# process that is left would keep the port, so that the next one could never start.
_GOES_ON = frozenset({"scheduler"})


def main(folder: Path, name: str) -> None:
    """End what is left of an earlier process of this component, and become the new one."""
    about = json.loads((folder / "programs" / f"{name}.json").read_text())
    environment = about["environment"]
    if name not in _GOES_ON:
        _end_leftovers(environment.get(MARKER), name)
    if account := about["account"]:
        found = pwd.getpwnam(account)
        os.setgroups([])
        os.setgid(found.pw_gid)
        os.setuid(found.pw_uid)
    os.chdir(about["directory"])
    os.execve(about["command"][0], about["command"], environment)


def _end_leftovers(home: str | None, name: str) -> None:
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            said = process.environ()
            if home and (said.get(MARKER), said.get(COMPONENT)) == (home, name) and process.pid != os.getpid():
                process.send_signal(signal.SIGKILL)
                left.append(process)
    psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
