"""The command that publishes the champion's serving bundle."""

from jobs.registry.actions import run_action
from jobs.registry.publish_champion import publish_champion
from jobs.report.history import publish_history

if __name__ == "__main__":
    run_action(
        "publish_champion",
        publish_champion,
        description="Publish the champion as the serving bundle.",
        reason_needed=False,
        then=publish_history,
    )
