"""The command with which a person agrees to the settings that a search proposes, or takes back what was agreed to."""

from jobs.registry.actions import run_action
from jobs.report.history import publish_history
from jobs.tuning.agreement import adopt_settings

if __name__ == "__main__":
    run_action(
        "adopt_settings",
        adopt_settings,
        description="Put the settings that the search of a date proposes in force, or take back those that are.",
        options={
            "date": "logical date of the search, YYYY-MM-DD",
            "proposal": "name of the proposal that was looked at; if the date has another one by now, it is refused",
        },
        flags={"revoke": "take back what was agreed to"},
        then=publish_history,
    )
