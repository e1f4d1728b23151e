"""The page `docs/gates.md`, made from the suites: `python -m jobs.gates.page > docs/gates.md`."""

import importlib
import sys
from typing import Any

from great_expectations.expectations.expectation import Expectation

from jobs.base.settings import PipelineSettings
from jobs.gates.stages import STAGES

_HEAD = """# Quality gates

Five gates judge the tables of a run with Great Expectations. Each gate stands between the step that writes the tables and the
first step that reads them (`python -m jobs.gate <stage>`). A **critical** failure ends the run there with exit status 65. Then
nothing after the gate runs, and the champion stays. A **warning** is shown on the report. Three things are critical whatever
their row below says: an expectation that raises an error, a table that is missing or empty, and an expectation that was not
evaluated.

The results are in `<home>/runs/<date>/gates/<stage>.json`, with the digests of the tables that were judged. `judge` reads them
again. It rules a promotion out if a gate was not run, failed, or judged other tables than those in use. Great Expectations also
writes its Data Docs, which can be read without a network: `<home>/gx/uncommitted/data_docs/local_site/index.html`.

The gate `model` asks whether the numbers can be true. Whether a model is good enough is decided at promotion
([how](promotion.md#when-a-challenger-passes)): by the absolute floors `gate.min_recall`, `min_head_recall`, `min_tail_recall`,
`min_coverage` and `min_embedding_spread`, by the uniform-negatives baseline of the same night, and, where there is a champion,
by what it may lose to the champion and to the best version ever in force (`gate.max_relative_loss`).

The names of the metrics of the gate `model` contain the depth at which they were measured: 50 and 200, each at most a tenth of
the catalogue (`jobs/base/cutoffs.py`). The names below are those of a catalogue of 2,000 items or more.

The bounds below are those of the default settings. A name in brackets is the setting that a bound comes from. "At least 95 %"
means that at least so many of the rows that have a value must comply. This page is generated from `jobs/gates/`.
"""


def page() -> str:
    """The text of `docs/gates.md`."""
    settings = PipelineSettings.model_construct()
    lines = [_HEAD]
    for stage in STAGES:
        lines += [f"\n## {stage}\n", "| table | column | what holds | severity | bound |", "|---|---|---|---|---|"]
        for suite in importlib.import_module(f"jobs.gates.{stage}").suites(settings):
            for expectation in suite.expectations:
                column = getattr(expectation, "column", None)
                lines.append(
                    f"| `{suite.table}` | {f'`{column}`' if column else ''} | {expectation.meta['says']} "
                    f"| {expectation.severity.value} | {_bound(expectation)} |"
                )
    return "\n".join(lines) + "\n"


def _bound(expectation: Expectation) -> str:
    low, high = (_value(getattr(expectation, name, None)) for name in ("min_value", "max_value"))
    values = getattr(expectation, "value_set", None)
    if values is not None:
        text = "true" if values == [True] else "one of " + ", ".join(str(value) for value in values)
    elif low and high:
        text = low if low == high else f"{low} to {high}"
    else:
        text = f"at least {low}" if low else f"at most {high}" if high else ""
    mostly = getattr(expectation, "mostly", 1)
    share = "" if mostly == 1 else f"at least {mostly:.0%}".replace("%", " %")
    return "; ".join(part for part in (text, share) if part)


def _value(value: Any) -> str:
    """A bound as text. A bound that is known only from the data is given by its name, in words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"the {value['$PARAMETER'].replace('_', ' ')}"
    return f"{value:,.10g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(page())
