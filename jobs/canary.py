"""The command that tries a version on a share of the users, before it is in force for all."""

from jobs.registry.actions import run_action
from jobs.registry.canary import canary

if __name__ == "__main__":
    run_action(
        "canary",
        canary,
        description="Let a share of the users get the bundle of another version. Without --version, end that.",
        options={
            "version": "number of a version that passed its gates",
            "share": "share of the users, above 0 and at most 0.5, such as 0.1",
        },
    )
