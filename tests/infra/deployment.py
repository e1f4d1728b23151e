"""Helpers for tests of the files for other machines: the repository's pins, and the names that the code really reads."""

import functools
import importlib.util
import re
from pathlib import Path

import yaml

from jobs.base.settings import PipelineSettings

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"


@functools.cache
def pins(name: str = "requirements.txt") -> dict[str, str]:
    """Package -> version, from a lock file."""
    lines = (ROOT / name).read_text().splitlines()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", "\n".join(lines), re.MULTILINE | re.IGNORECASE))


@functools.cache
def code() -> str:
    """All Python of the project that reads an environment."""
    return "\n".join(
        path.read_text() for room in ("dags", "jobs", "infra/local") for path in sorted((ROOT / room).rglob("*.py"))
    )


def unknown(names: set[str]) -> set[str]:
    """The `ESANS_...` names among these that are neither a setting nor read by any code."""
    settings = {f"ESANS_{name.replace('.', '__')}".upper() for name in PipelineSettings().flat()}
    return {name for name in names if name.startswith("ESANS_") and name not in settings and name not in code()}


@functools.cache
def airflow_options() -> dict[str, bool]:
    """Airflow's own options as `SECTION__NAME`, and whether they may be given as a command (`..._CMD`)."""
    spec = importlib.util.find_spec("airflow")
    assert spec and spec.submodule_search_locations
    template = Path(spec.submodule_search_locations[0]) / "config_templates" / "config.yml"
    sections = yaml.safe_load(template.read_text())
    return {
        f"{section}__{name}".upper(): bool(option.get("sensitive"))
        for section, about in sections.items()
        for name, option in about["options"].items()
    }


def unknown_options(names: set[str]) -> set[str]:
    """The `AIRFLOW__...` names among these that Airflow does not have, or does not take from a command."""
    wrong = set()
    for name in names:
        option = name.removeprefix("AIRFLOW__")
        by_command = option.endswith("_CMD")
        if (by_command and not airflow_options().get(option.removesuffix("_CMD"))) or (
            not by_command and option not in airflow_options()
        ):
            wrong.add(name)
    return wrong
