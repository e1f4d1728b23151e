"""The labelling that today's is measured against: of the latest earlier date whose clusters the gate did not refuse.

A refused labelling must not become the norm of the day after: codebooks start from the last accepted ones, and label churn
counts from them.
"""

import datetime as dt
import json

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake


def accepted_date(settings: PipelineSettings, table: str) -> dt.date | None:
    """The latest earlier date of `codebooks` or `clusters` that was not refused, or None.

    A date that its gate has not judged counts as accepted: jobs may be run by hand.
    """
    earlier = [date for date in Lake.of(settings).dates(table) if date < settings.date]
    return next((date for date in reversed(earlier) if not _refused(settings, date)), None)


def accepted_digests(settings: PipelineSettings, *tables: str) -> dict[str, str]:
    """The same date's digests of these tables by `<table>@<date>`, those published; the first table decides the date."""
    lake, date = Lake.of(settings), accepted_date(settings, tables[0])
    if date is None:
        return {}
    return {f"{table}@{date}": lake.manifest(table, date)["digest"] for table in tables if lake.exists(table, date)}


def _refused(settings: PipelineSettings, date: dt.date) -> bool:
    verdict = settings.model_copy(update={"date": date}).run_dir / "gates" / "clusters.json"
    return verdict.exists() and not json.loads(verdict.read_text())["success"]
