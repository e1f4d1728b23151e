"""The trigger form of the DAGs, made from the settings schema, and the way back from a run's conf to settings."""

import functools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from airflow.sdk import Param
from pydantic import ValidationError

from jobs.base.settings import PipelineSettings, Section, explain, flatten, nearest, nest

log = logging.getLogger(__name__)

# These settings belong to the deployment, not to one run: where Spark and MLflow are, and which of the DAGs it is. If the form
# took another address, the passwords that the environment holds for the real one would be sent there.
_DEPLOYMENT = frozenset({"spark.master", "spark.driver_host", "registry.tracking_uri", "run.records"})
_TUNING = "tuning"  # section of the search for settings, which only its own DAG offers

# The settings that a person who triggers a run most often wants to change. They get no section, because the form shows fields
# without a section first, under "Run Parameters", and open. Sections are closed at first.
COMMON = (
    "data.source",
    "sampling.method",
    "training.epochs",
    "training.sample_fraction",
    "clusters.force_refit",
    "registry.promotion",
)


def dag_params(sections: Collection[str] | None = None) -> dict[str, Param]:
    """One typed `Param` per setting, named `section.name` as on the command line, with the schema's bounds.

    The logical date, home folder and lake are left out: they come from the DAG run and the deployment. Airflow's form sends
    every field, changed or not. So each field starts with the value in force here, which may come from an `ESANS_...`
    variable of the environment, or from what a person agreed to after a search. A form that nobody has edited then changes
    nothing.

    Args:
        sections: only these sections of the settings, which the form shows open if it is a single one; unless given, all that
            a daily run reads.

    Raises:
        ValidationError: the environment holds a value that the schema refuses.
        DataError: so does the file of agreed settings.
    """
    defaults, wanted = PipelineSettings().flat(), sections or {section for _, section, _ in _fields()} - {_TUNING}
    fields = {key: (section, schema) for key, section, schema in _fields() if section in wanted}
    order = [*(key for key in COMMON if key in fields), *(key for key in fields if key not in COMMON)]
    is_open = fields.keys() if len(wanted) == 1 else COMMON
    return {key: _param(key, *fields[key], default=defaults[key], is_open=key in is_open) for key in order}


def reason_param(kept: str) -> Param:
    """The field in which a person who acts by hand says why.

    Args:
        kept: where the reason is kept, in the words of the field's help.
    """
    about: dict[str, Any] = {"minLength": 3, "maxLength": 1000, "pattern": r"\S", "title": "Reason"}
    return Param(type="string", description=f"Why? It is kept {kept}.", **about)


def choices(of: Callable[[PipelineSettings], list[str]]) -> list[str]:
    """The lines that a field offers; empty if they cannot be read, because a person in need of a rollback must get the form.

    The form has them anew some minutes after a change.

    Args:
        of: gives the lines; each begins with the name that is meant, and a blank.
    """
    try:
        return of(PipelineSettings())
    except Exception as error:
        log.error("the form has nothing to choose from: %s: %s", type(error).__name__, error)
        return []


def chosen(flag: str, name: str) -> str:
    """A flag with what was chosen in a field with `choices` or typed into it, which is the first word; a template.

    Args:
        flag: of the job. It is left out if the field was left empty.
        name: of the field.
    """
    return f"{{{{ '--{flag}=' ~ (params.{name} | string).split()[0] if params.{name} else '' }}}}"


def settings_flags(conf: Mapping[str, Any] | None) -> list[str]:
    """Command-line flags of a job for the settings that a DAG run was given.

    Only what the run's conf names becomes a flag, so that a setting of the environment (`ESANS_...`) still holds if the
    run says nothing about it.

    Args:
        conf: the run's conf: `section.name -> value`, or the same nested.

    Raises:
        ValueError: a name is unknown or a value is refused by the schema; the message says which and why.
    """
    refuse_unknown(conf, [key for key, _, _ in _fields()])
    given = {name: value for name, value in flatten(dict(conf or {})).items() if value is not None}
    try:
        PipelineSettings(**nest(given))
    except ValidationError as error:
        raise ValueError(explain(error)) from error
    return [_flag(name, value) for name, value in sorted(given.items())]


def refuse_unknown(conf: Mapping[str, Any] | None, known: Collection[str]) -> None:
    """Refuse a run whose conf has a name that its DAG does not have. Airflow itself accepts such a name and says nothing.

    Args:
        conf: the run's conf: `name -> value`, nested or not.
        known: names of the DAG's parameters.

    Raises:
        ValueError: the unknown names, each with the known one that is most like it.
    """
    unknown = sorted(set(_names(dict(conf or {}))) - set(known))
    if unknown:
        said = [f"{name!r}{_hint(name, known)}" for name in unknown]
        raise ValueError(
            f"the run was triggered with a name that its DAG does not have: there is no parameter named "
            f"{' and none named '.join(said)}. Remedy: trigger it again without it."
        )


def _names(conf: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """All names of a conf, with their parts joined by dots. An empty section counts as a name, so that it is not missed."""
    for name, value in conf.items():
        if isinstance(value, Mapping) and value:
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _hint(name: str, known: Collection[str]) -> str:
    if not known:
        return " (this DAG takes none)"
    near = nearest(name, known)
    return f" (the nearest is {near!r})" if near else " (nor one like it)"


def _fields() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each setting of a run: name, section and JSON schema."""
    for section, field in PipelineSettings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for name, schema in _properties(field.annotation).items():
                if (key := f"{section}.{name}") not in _DEPLOYMENT:
                    yield key, section, schema


@functools.cache
def _properties(section: type[Section]) -> dict[str, dict[str, Any]]:
    return section.model_json_schema()["properties"]


def _param(key: str, section: str, schema: Mapping[str, Any], *, default: Any, is_open: bool) -> Param:
    about = {name: value for name, value in schema.items() if name not in ("default", "description")}
    if schema["default"] == "":  # the form refuses to submit an empty text unless null is allowed
        about["type"] = ["null", "string"]
    if not is_open:
        about["section"] = section.capitalize()
    return Param(default, description=schema["description"], **(about | {"title": key}))


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"
