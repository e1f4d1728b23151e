"""Judges the tables of a stage with Great Expectations, and reads every result.

The context is a file context under `<home>/gx`. Names are fixed, and the run is named after the logical date. So a rerun of a
date replaces its results and its Data Docs page.
"""

import copy
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import great_expectations as gx
import pandas as pd
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context import FileDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import ExpectationSuiteIdentifier, ValidationResultIdentifier

from jobs.base.errors import DataError
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings
from jobs.gates.checks import ROW, Judged, Severity, Suite
from jobs.gates.data_docs import make_readable_offline

_BARE: dict[str, Any] = {"result_format": "BOOLEAN_ONLY"}
_DETAILED: dict[str, Any] = {
    "result_format": "SUMMARY",
    "partial_unexpected_count": 5,
    "unexpected_index_column_names": [ROW],
}


@dataclass(frozen=True)
class Failure:
    """One expectation that does not hold.

    Attributes:
        observed: the number or share seen, or why the expectation could not be evaluated.
        examples: a few of the rows that break it, each as `row name (value)`, or `row name` for true, false and no value.
    """

    table: str
    expectation: str
    column: str | None
    severity: Severity
    observed: str | float | None
    message: str
    remedy: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateResult:
    """What the gate of a stage found."""

    stage: str
    checked: int
    failures: tuple[Failure, ...]
    data_docs: str | None
    digests: Mapping[str, str]

    @property
    def success(self) -> bool:
        """Whether nothing critical failed."""
        return self.worst != "critical"

    @property
    def worst(self) -> Literal["warning", "critical"] | None:
        """The worst severity among the failures; None if there is no failure."""
        severities = {failure.severity for failure in self.failures}
        return "critical" if "critical" in severities else "warning" if severities else None

    def as_json(self) -> dict[str, Any]:
        """The content of `<run_dir>/gates/<stage>.json`."""
        failures = [asdict(failure) | {"examples": list(failure.examples)} for failure in self.failures]
        return {
            "stage": self.stage,
            "success": self.success,
            "worst": self.worst,
            "checked": self.checked,
            "failures": failures,
            "data_docs": self.data_docs,
            "digests": dict(self.digests),
        }


def run_checkpoint(settings: PipelineSettings, stage: str, suites: list[Suite], judged: Judged) -> GateResult:
    """Judge the tables of a stage.

    Args:
        settings: gives the home folder and the logical date.
        stage: name of the checkpoint.
        suites: what must hold. The table of each suite must be in `judged`.
        judged: the tables, and the bounds that are known only from the data.

    Returns:
        The result. A missing table, an expectation that was not evaluated and one that raised an error are critical failures.

    Raises:
        DataError: a table changed while it was judged.
    """
    with alone_in(settings.home / "gx"):  # gates may run at the same time, and they share the files of the context
        context = _context(settings)
        checked, failures = 0, []
        pages: list[Any] = []  # suites and results; by its types, `build_data_docs` takes one kind only
        for suite in suites:
            name = f"{stage}.{suite.table}"
            expectations = [copy.copy(expectation) for expectation in suite.expectations]
            stored = context.suites.add_or_update(gx.ExpectationSuite(name=name, expectations=expectations))
            outcomes: list[dict[str, Any]] = []
            if suite.table in judged.frames:
                frame = judged.frames[suite.table]
                batch = _batch_definition(context, name, frame)
                definition = context.validation_definitions.add_or_update(
                    gx.ValidationDefinition(name=name, data=batch, suite=stored)
                )
                outcomes, identifier = _validate(context, settings, definition, frame, judged.parameters)
                pages += [ExpectationSuiteIdentifier(name=name), identifier]
            checked += len(outcomes)
            failures += _failures(suite, outcomes)
        uncommitted = settings.home / "gx" / "uncommitted"
        site = uncommitted / "data_docs" / "local_site"
        if pages:
            context.build_data_docs(resource_identifiers=pages)
        make_readable_offline(site, uncommitted / "validations", settings.home)
        index = site / "index.html"
    return GateResult(stage, checked, tuple(failures), str(index) if index.exists() else None, judged.digests)


def unavailable(stage: str, problem: str, remedy: str, table: str, column: str | None = None) -> GateResult:
    """The result of a stage whose tables could not even be read."""
    failure = Failure(table, "table_is_available", column, "critical", None, problem, remedy)
    return GateResult(stage, 0, (failure,), None, {})


def _context(settings: PipelineSettings) -> FileDataContext:
    settings.home.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=settings.home)
    if context.variables.progress_bars is None or context.variables.config_variables_file_path:
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        # A file without variables, which would be parsed at every lookup.
        context.variables.config_variables_file_path = None  # type: ignore[assignment]
        context.variables.save()
        context = gx.get_context(mode="file", project_root_dir=settings.home)
    return context


def _validate(
    context: FileDataContext,
    settings: PipelineSettings,
    definition: gx.ValidationDefinition,
    frame: Any,
    parameters: Mapping[str, int | float],
) -> tuple[list[dict[str, Any]], ValidationResultIdentifier]:
    """Outcome of each expectation of one table, and the name of the stored result.

    Details cost two Spark jobs for each expectation, and bare outcomes cost one job for all of them. So a Spark table is judged
    in detail only if something does not hold. The second result then replaces the first.

    Raises:
        DataError: all holds at the second look. So the table is not the one that was judged first.
    """
    midnight = dt.datetime.combine(settings.date, dt.time(), dt.UTC)
    in_spark = not isinstance(frame, pd.DataFrame)
    for result_format in [_BARE, _DETAILED] if in_spark else [_DETAILED]:
        if in_spark and result_format is _DETAILED:
            frame.persist()  # the gate gives it back
        checkpoint = context.checkpoints.add_or_update(
            gx.Checkpoint(
                name=definition.name,
                validation_definitions=[definition],
                result_format=result_format,
            )
        )
        result = checkpoint.run(
            batch_parameters={"dataframe": frame},
            expectation_parameters=dict(parameters),
            run_id=RunIdentifier(run_name=settings.ds, run_time=midnight),
        )
        ((identifier, validated),) = result.run_results.items()
        outcomes = [outcome.to_json_dict() for outcome in validated.results]
        if all(_holds(outcome) for outcome in outcomes):
            if in_spark and result_format is _DETAILED:
                raise DataError(
                    "the table changed while the gate read it.",
                    file=f"gate {definition.name}",
                    remedy="run the date again when nothing writes to the source.",
                )
            break
    return outcomes, identifier


def _batch_definition(context: FileDataContext, name: str, frame: Any) -> BatchDefinition:
    """The stored batch definition. It is made only once, because each new one would get another id."""
    kind = "pandas" if isinstance(frame, pd.DataFrame) else "spark"
    try:
        source: Any = context.data_sources.get(kind)
    except KeyError:
        source = (
            context.data_sources.add_pandas(kind) if kind == "pandas" else context.data_sources.add_spark(kind, persist=False)
        )
    try:
        asset = source.get_asset(name)
    except LookupError:
        asset = source.add_dataframe_asset(name=name)
    try:
        return asset.get_batch_definition("whole")
    except KeyError:
        return asset.add_batch_definition_whole_dataframe("whole")


def _failures(suite: Suite, outcomes: list[dict[str, Any]]) -> list[Failure]:
    found = [_failure(suite.table, outcome) for outcome in outcomes if not _holds(outcome)]
    if len(outcomes) != len(suite.expectations):
        found.append(
            Failure(
                suite.table,
                "all_expectations_are_evaluated",
                None,
                "critical",
                len(outcomes),
                f"{suite.table}: {len(outcomes)} of {len(suite.expectations)} expectations were evaluated",
                "the gate itself has a fault: read its log.",
            )
        )
    return sorted(found, key=lambda failure: failure.severity)


def _failure(table: str, outcome: dict[str, Any]) -> Failure:
    config, result = outcome["expectation_config"], outcome.get("result") or {}
    column, meta = config["kwargs"].get("column"), config["meta"]
    raised = _raised(outcome)
    observed = f"could not be evaluated: {raised}" if raised else _observed(result)
    examples = tuple(_example(row, column) for row in result.get("partial_unexpected_index_list") or ())
    where = f"{table}.{column}" if column else table
    if raised or "unexpected_count" not in result:
        found = f"observed {observed}"
    elif examples and result["element_count"] == 1:  # a table of one row, which has a name
        found = f"this does not hold for {examples[0]}"
    else:
        found = f"this does not hold for {observed}" + (f", such as {'; '.join(examples)}" if examples else "")
    message = f"{where}: expected that {meta['says']}{_bound(config['kwargs'])}; {found}"
    return Failure(
        table,
        config["type"],
        column,
        # An expectation that raised an error says nothing about the data, so that is critical whatever its own severity is.
        "critical" if raised or config.get("severity") != "warning" else "warning",
        observed,
        message,
        meta["remedy"],
        examples,
    )


def _bound(kwargs: Mapping[str, Any]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    parts = [f"{word} {value:.10g}" for word, value in (("at least", low), ("at most", high)) if value is not None]
    return f" ({' and '.join(parts)})" if parts else ""


def _observed(result: dict[str, Any]) -> str | float | None:
    if "unexpected_count" in result:
        judged = result["element_count"] - (result.get("missing_count") or 0)
        return f"{result['unexpected_count']:,} of {judged:,} rows ({result['unexpected_count'] / max(judged, 1):.2%})"
    value = result.get("observed_value")
    return str(value) if isinstance(value, list | dict) or (isinstance(value, float) and not math.isfinite(value)) else value


def _example(row: dict[str, Any], column: str | None) -> str:
    """The name of a row, and its value if that says more than that the expectation does not hold."""
    value = row.get(column) if column else None
    if value is None or isinstance(value, bool):
        return str(row[ROW])
    return f"{row[ROW]} ({value:.4g})" if isinstance(value, float) else f"{row[ROW]} ({value})"


def _holds(outcome: dict[str, Any]) -> bool:
    return outcome.get("success") is True and _raised(outcome) is None


def _raised(outcome: dict[str, Any]) -> str | None:
    """Message of the error that an expectation raised. Great Expectations gives one record, or one for each metric id."""
    information = outcome.get("exception_info") or {}
    records = [information] if "raised_exception" in information else list(information.values())
    for record in records:
        if record.get("raised_exception"):
            return str(record.get("exception_message") or "exception").strip().splitlines()[0][:300]
    return None
