"""The command with which a person makes a version the champion."""

from jobs.registry.actions import run_action
from jobs.registry.promote_version import promote_version
from jobs.report.history import publish_history

if __name__ == "__main__":
    run_action(
        "promote_version",
        promote_version,
        description="Make a version the champion by hand.",
        options={"version": "number of the version"},
        needed=frozenset({"version"}),
        then=publish_history,
    )
