"""Finds the latest earlier date whose clusters the gate did not refuse: the labels that today's are compared with.

Refused clusters must not become the starting point of the next day. So codebooks start from the last accepted ones, and label
churn is counted from them.
"""

import datetime as dt
import json

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake


def accepted_date(settings: PipelineSettings, table: str) -> dt.date | None:
    """The latest earlier date of `codebooks` or `clusters` that was not refused, or None.

    A date that the gate has not judged counts as accepted, because jobs may be run by hand.
    """
    earlier = [date for date in Lake.of(settings).dates(table) if date < settings.date]
    return next((date for date in reversed(earlier) if not _refused(settings, date)), None)


def accepted_digests(settings: PipelineSettings, *tables: str) -> dict[str, str]:
    """Digests of the published ones of these tables, by `<table>@<date>`, on the accepted date of the first table."""
    lake, date = Lake.of(settings), accepted_date(settings, tables[0])
    if date is None:
        return {}
    return {f"{table}@{date}": lake.manifest(table, date)["digest"] for table in tables if lake.exists(table, date)}


def _refused(settings: PipelineSettings, date: dt.date) -> bool:
    verdict = settings.model_copy(update={"date": date}).run_dir / "gates" / "clusters.json"
    return verdict.exists() and not json.loads(verdict.read_text())["success"]
