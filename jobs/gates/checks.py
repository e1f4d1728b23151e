"""How a stage says what must hold: suites of expectations, each of which has a severity, a sentence and a remedy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from jobs.base.settings import PipelineSettings

Severity = Literal["critical", "warning"]
ROW = "row"  # the column in which every judged table names its rows, for messages


@dataclass(frozen=True)
class Suite:
    """What must hold for one table.

    Attributes:
        table: name of the judged table, unique within its stage.
        expectations: in the order in which pages show them. The first one is always that the table has rows.
    """

    table: str
    expectations: tuple[Expectation, ...]

    @classmethod
    def of(cls, table: str, *expectations: Expectation) -> "Suite":
        """A suite that also demands at least one row, because most expectations hold for an empty table."""
        rows = gxe.ExpectTableRowCountToBeBetween(
            min_value=1, **_described("critical", "the table has rows", "run the step that writes it, and read its log.")
        )
        return cls(table, (rows, *expectations))


@dataclass(frozen=True)
class Judged:
    """The tables a stage hands to Great Expectations.

    Attributes:
        frames: Spark or pandas frame by table name, each with a string column `row`.
        parameters: bounds known only from the data, by the name used in `{"$PARAMETER": name}`.
        digests: digest of each lake table that the frames were made from.
        read_again: Spark frames that cost less to read again than to keep. They are kept only if something does not hold.
    """

    frames: dict[str, Any]
    parameters: Mapping[str, int | float] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    read_again: frozenset[str] = frozenset()


def check(
    kind: Callable[..., Expectation], column: str, severity: Severity, says: str, remedy: str, **bounds: Any
) -> Expectation:
    """One expectation about a column.

    Args:
        kind: class of `great_expectations.expectations`.
        column: the column.
        severity: a critical failure stops the run, a warning goes on the report.
        says: what holds, as a short clause for messages, Data Docs and docs/gates.md.
        remedy: what to do when it does not, as an imperative sentence.
        **bounds: further arguments of the expectation.
    """
    return kind(column=column, **bounds, **_described(severity, says, remedy))


def tolerated(
    kind: Callable[..., Expectation], column: str, says: str, remedy: str, fraction: float, **bounds: Any
) -> tuple[Expectation, Expectation]:
    """The same expectation twice: critical when more than `fraction` of the rows break it, a warning when any does."""
    return (
        check(kind, column, "critical", says, remedy, mostly=1 - fraction, **bounds),
        check(kind, column, "warning", f"{says}, without exception", remedy, **bounds),
    )


def zero(column: str, severity: Severity, says: str, remedy: str) -> Expectation:
    """A count, or a difference, that must be 0 in every row."""
    return check(gxe.ExpectColumnValuesToBeBetween, column, severity, says, remedy, min_value=0, max_value=0)


def true(column: str, severity: Severity, says: str, remedy: str, **bounds: Any) -> Expectation:
    """A boolean column that must be true in every row, or in most with `mostly`."""
    return check(gxe.ExpectColumnValuesToBeInSet, column, severity, says, remedy, value_set=[True], **bounds)


def parameter(name: str) -> dict[str, str]:
    """A bound that the stage computes from the data (`Judged.parameters`)."""
    return {"$PARAMETER": name}


def largest_cluster_share(settings: PipelineSettings) -> float:
    """`gate.max_cluster_share`, but at least twice an even share. A smaller bound would be too strict for few clusters."""
    return max(settings.gate.max_cluster_share, min(1.0, 2 / settings.clusters.num_primary))


def _described(severity: Severity, says: str, remedy: str) -> dict[str, Any]:
    return {"severity": severity, "notes": says, "meta": {"says": says, "remedy": remedy}}
