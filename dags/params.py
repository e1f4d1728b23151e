"""The trigger form of the DAG, made from the settings schema, and the way back from a run's conf to settings."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param
from pydantic import ValidationError

from jobs.settings import PipelineSettings, Section, explain, flatten, nest

# Where Spark runs is the connection `spark_default` and `ESANS_SPARK__DRIVER_HOST`, not a property of one run.
_DEPLOYMENT = frozenset({"spark.master", "spark.driver_host"})


def dag_params() -> dict[str, Param]:
    """One typed `Param` per setting, named `section.name` as on the command line, with the schema's bounds and defaults.

    The logical date, home folder and lake are left out: they come from the DAG run and the deployment.
    """
    params: dict[str, Param] = {}
    for section, field in PipelineSettings.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
            continue
        for name, schema in field.annotation.model_json_schema()["properties"].items():
            if (key := f"{section}.{name}") not in _DEPLOYMENT:
                params[key] = _param(key, section, dict(schema))
    return params


def settings_flags(conf: Mapping[str, Any] | None) -> list[str]:
    """Command-line flags of a job for the settings that a DAG run was given.

    Only what the run's conf names becomes a flag, so that a setting of the environment (`ESANS_...`) holds where the
    run says nothing.

    Args:
        conf: the run's conf: `section.name -> value`, or the same nested.

    Raises:
        ValueError: a name is unknown or a value is refused by the schema; the message says which and why.
    """
    given = {name: value for name, value in flatten(dict(conf or {})).items() if value is not None}
    if unknown := sorted(given.keys() - dag_params().keys()):
        raise ValueError(f"a run has no setting named {', '.join(unknown)}")
    try:
        PipelineSettings(**nest(given))
    except ValidationError as error:
        raise ValueError(explain(error)) from error
    return [_flag(name, value) for name, value in sorted(given.items())]


def _param(key: str, section: str, schema: dict[str, Any]) -> Param:
    default, description = schema.pop("default"), schema.pop("description")
    if default == "":  # the form refuses to submit an empty text unless null is allowed
        schema["type"] = ["null", "string"]
    return Param(default, description=description, section=section.capitalize(), **(schema | {"title": key}))


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"
