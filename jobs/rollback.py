"""The command that goes back to an earlier serving bundle."""

from jobs.registry.actions import run_action
from jobs.registry.rollback import rollback
from jobs.report.history import publish_history

if __name__ == "__main__":
    run_action(
        "rollback",
        rollback,
        description="Go back to an earlier serving bundle.",
        options={"to": "name of the bundle; by default the one before the bundle in force"},
        then=publish_history,
    )
