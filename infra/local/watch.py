"""Sends an alert when a component of the stack has ended for the third time within an hour. supervisord starts it."""

import logging
import sys
import time
from collections import defaultdict, deque
from pathlib import Path

from supervisor import childutils

from infra.local.processes import tail

log = logging.getLogger(__name__)

THIRD, HOUR = 3, 3600.0


class Ends:
    """Counts how often each component has ended within the last hour."""

    def __init__(self) -> None:
        self._ends: defaultdict[str, deque[float]] = defaultdict(deque)

    def third(self, name: str, now: float) -> bool:
        """Count an end at a time, in seconds. True if it is the third within an hour; then the count starts anew."""
        ends = self._ends[name]
        ends.append(now)
        while ends[0] <= now - HOUR:
            ends.popleft()
        if len(ends) < THIRD:
            return False
        ends.clear()
        return True


def main(home: Path) -> None:
    """Answer supervisord's events for as long as it runs."""
    protocol, sys.stdout = sys.stdout, sys.stderr  # supervisord reads answers there, and Airflow's log must not be among them
    from dags.alerts import component_alert, send

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    ends = Ends()
    while True:
        headers, payload = childutils.listener.wait(sys.stdin, protocol)
        name = childutils.get_headers(payload)["processname"]
        log.info("%s: %s", name, headers["eventname"])
        if ends.third(name, time.time()):
            said = tail(home / "airflow" / "logs" / "components" / f"{name}.log", lines=5)
            send(component_alert(name, str(home), said), log)
        childutils.listener.ok(protocol)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
