"""What a run has made anew: the events of its assets, and the step that says whether there are any new features."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException


def tell_events(operator: Any, context: Context) -> None:
    """Give what a step's record says to the events of the assets that it writes.

    The extra of an event is the step's summary (verdict, recall, intervals, counts), whether an earlier result was `reused`,
    and `why`; for a table also its `rows`, and whether these are `new`. Airflow makes an event even if nothing is new.
    """
    path = Path(operator.record)
    if not operator.outlets or not path.exists():
        return
    record = json.loads(path.read_text())
    about = (record.get("summary") or {}) | {name: record[name] for name in ("reused", "why") if name in record}
    tables = {use["table"]: {"rows": use["rows"], "new": use["new"]} for use in record.get("writes", ())}
    for asset in operator.outlets:
        context["outlet_events"][asset].extra = about | tables.get(asset.name.rpartition("/")[2], {})


class WhatIsNewOperator(BaseOperator):
    """Says which tables of a run have new rows. If the gate kept its earlier verdict, nothing is new, and the task is skipped.

    A gate keeps its verdict only if the tables that it judges, its settings and its code are as at its last success. So a run
    that follows a failed one counts as new, though its own steps may have found everything done.

    Args:
        record: the record of the gate behind the tables (templated).
        steps: names of the steps that made the tables; their records lie beside that of the gate.
    """

    template_fields: Sequence[str] = ("record",)
    ui_color = "#e6e6f5"

    def __init__(self, *, record: str, steps: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.record, self.steps = record, list(steps)

    def execute(self, context: Context) -> list[str]:
        """Look into the records of the run.

        Returns:
            Names of the tables with new rows.

        Raises:
            AirflowSkipException: nothing is new.
        """
        gate, new = json.loads(Path(self.record).read_text()), []
        for step in self.steps:
            made = json.loads(Path(self.record).with_name(f"{step}.json").read_text())
            for table in made["writes"]:
                self.log.info("%s: %s rows, %s", table["table"], table["rows"], "new" if table["new"] else "the same as before")
                new += [table["table"]] if table["new"] else []
        if gate["reused"]:
            raise AirflowSkipException("nothing new: the features of this date are as they were when the gate last passed them")
        self.log.info("the gate %s", gate["why"].removeprefix("it "))
        return new
