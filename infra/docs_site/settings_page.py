"""The page of all settings, made from their schema."""

from typing import Any

from jobs.base.settings import PipelineSettings

PAGE = "reference/settings.md"
_HEAD = """# Settings

All settings of the pipeline. This page is made from their one schema, `jobs/base/settings.py`. The schema also gives the
command line of every job (`--training.epochs=5`), the trigger form in Airflow and the parameters logged to MLflow.

A value is taken from the first of these places that has it:

1. the command line;
2. the values that a run was given (`make run SET="training.epochs=5"`, the trigger form, a settings file);
3. the environment: `ESANS_TRAINING__EPOCHS=5`;
4. what a person agreed to after [a search](../tuning.md), in `<home>/agreed_settings.json`;
5. the default below.
"""


def page() -> str:
    """The text of the page.

    Raises:
        ValueError: a setting has no description.
    """
    schema = PipelineSettings.model_json_schema()
    sections = schema["$defs"]
    alone, parts = [], []
    for name, field in schema["properties"].items():
        reference = field.get("$ref") or next((part["$ref"] for part in field.get("allOf", ()) if "$ref" in part), None)
        section = sections.get(str(reference).rpartition("/")[2])
        if section is None or "properties" not in section:
            alone.append(_row(name, field, sections))
        else:
            rows = [_row(f"{name}.{key}", value, sections) for key, value in section["properties"].items()]
            parts += [f"## {name}", section.get("description", ""), _table(rows)]
    return "\n\n".join([_HEAD.strip(), "## Of a run", _table(alone), *parts]) + "\n"


def _table(rows: list[str]) -> str:
    return "\n".join(["| setting | values | default | meaning |", "|---|---|---|---|", *rows])


def _row(name: str, field: dict[str, Any], sections: dict[str, Any]) -> str:
    if not field.get("description"):
        raise ValueError(f"the setting {name} has no description: add one to its field in jobs/base/settings.py")
    default = field.get("default")
    shown = "" if default is None or default == "" else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    cells = (f"`{name}`", _values(field, sections), shown, " ".join(field["description"].split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(field: dict[str, Any], sections: dict[str, Any]) -> str:
    """Type and bounds in a few words."""
    if "$ref" in field:
        field = {**sections[field["$ref"].rpartition("/")[2]], **field}
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_values(part, sections) for part in field["anyOf"])
    low = next(
        (f"{sign} {field[key]}" for key, sign in (("minimum", "at least"), ("exclusiveMinimum", "above")) if key in field), ""
    )
    high = next(
        (f"{sign} {field[key]}" for key, sign in (("maximum", "at most"), ("exclusiveMaximum", "below")) if key in field), ""
    )
    kind = {"boolean": "true or false", "integer": "whole number", "number": "number", "null": "nothing"}.get(
        field.get("type", ""), {"date": "date", "path": "folder"}.get(field.get("format", ""), "text")
    )
    return ", ".join(part for part in (kind, low, high) if part)
