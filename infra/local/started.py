"""How the stack of a home was last started. `make up` without arguments starts the same one, also after a crash or a reboot.

Options and environment variables are kept in `<home>/airflow/started.json`, which only its owner can read: some are secrets.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from infra.local.environment import MARKER, write_private

NONE = "none"  # the value that takes back an option
_KEPT = ("ESANS_", "AIRFLOW_CONN_", "AIRFLOW__METRICS__", "OTEL_", "AWS_", "GOOGLE_", "HADOOP_", "JDK_JAVA_OPTIONS")
# The stack sets these itself.
_OWN = (
    "ESANS_HOME",
    "ESANS_SCHEDULE",
    "ESANS_REGISTRY__TRACKING_URI",
    "ESANS_MLFLOW_UI",
    "ESANS_AIRFLOW_UI",
    "ESANS_REPORTS_UI",
    "ESANS_DATA__SOURCE",
    MARKER,
)
_SECRET = ("KEY", "SECRET", "TOKEN", "PASSWORD")


@dataclass(frozen=True)
class Started:
    """What decides how a stack works.

    Attributes:
        options: options of `make up` by their names there; those that were never given are left out.
        variables: environment variables that reach the components and the jobs.
    """

    options: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(home: Path) -> "Started | None":
        """How the stack of a home was last started, or None if that is not known."""
        path = _path(home)
        return Started(**json.loads(path.read_text())) if path.exists() else None

    def keep(self, home: Path) -> None:
        """Remember this for the home."""
        write_private(_path(home), json.dumps(asdict(self), indent=2))

    def with_given(self, options: Mapping[str, str | None], environment: Mapping[str, str]) -> "Started":
        """The same with what is given now. An option `none` and an empty variable take back what was given before.

        Args:
            options: options of `make up`; None for one that is not given.
            environment: the environment of the caller. Variables that are no matter of the stack are left out.
        """
        given = {name: value for name, value in environment.items() if name.startswith(_KEPT) and name not in _OWN}
        chosen = {name: value for name, value in options.items() if value is not None}
        return Started(
            {name: value for name, value in (self.options | chosen).items() if value != NONE or name == "SCHEDULE"},
            {name: value for name, value in (self.variables | given).items() if value},
        )

    def inherited(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The caller's environment with the variables that are kept."""
        return {name: value for name, value in environment.items() if not name.startswith(_KEPT)} | self.variables


def differences(before: Started, now: Started) -> list[str]:
    """A line for each option and variable that has another value than last time. No line shows a secret."""
    lines = []
    for was, new in ((before.options, now.options), (before.variables, now.variables)):
        for name in sorted(was.keys() | new.keys()):
            if was.get(name) != new.get(name):
                lines.append(f"{name}: {_shown(name, new.get(name))} (last time: {_shown(name, was.get(name))})")
    return lines


def _shown(name: str, value: str | None) -> str:
    if value is None:
        return "not set"
    open_to_all = not name.startswith(("AIRFLOW_CONN_", "AWS_", "GOOGLE_")) and not any(word in name for word in _SECRET)
    return value if open_to_all and "@" not in value.split("//")[-1] else "another value that is not shown"


def _path(home: Path) -> Path:
    return home / "airflow" / "started.json"
