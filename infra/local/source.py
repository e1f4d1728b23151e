"""The last day of a user's log, which is the logical date when none is given."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import existing_folder, open_dataset
from jobs.source.contract import UNITS_PER_SECOND

_TABLE, _COLUMN = "interactions", "timestamp"


def last_event_date(source: str, timestamp_unit: str, *, today: dt.date) -> dt.date:
    """The UTC date of the latest event in the interactions table that is not in the future.

    Only the timestamp column is read, batch by batch.

    Args:
        source: folder or URI with the tables of the data contract.
        timestamp_unit: unit of a numeric timestamp: s, ms or us.
        today: events after this day (UTC) do not count; they will be quarantined.

    Raises:
        DataError: the table or its column is missing, has another type, or holds no event up to today.
    """
    folder = existing_folder(source)
    table = _open(folder)
    field = table.schema.field(_COLUMN)
    numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    if not numeric and not pa.types.is_timestamp(field.type):
        raise DataError(
            f"expected Unix time or a timestamp, found {field.type}.",
            file=folder / _TABLE,
            column=_COLUMN,
            remedy="convert the column (docs/data-contract.md), or pass DATE=YYYY-MM-DD and let the gate look at it.",
        )
    end = dt.datetime.combine(today + dt.timedelta(days=1), dt.time(), dt.UTC).timestamp()
    latest: float | None = None
    for batch in table.to_batches(columns=[_COLUMN]):
        values = batch.column(0)
        if not numeric:
            values = pc.divide(pc.cast(pc.cast(values, pa.timestamp("us")), pa.int64()), 1e6)
        else:
            values = pc.divide(pc.cast(values, pa.float64()), float(UNITS_PER_SECOND[timestamp_unit]))
        newest = pc.max(pc.filter(values, pc.less(values, end))).as_py()
        if newest is not None and (latest is None or newest > latest):
            latest = newest
    if latest is None:
        raise DataError(
            f"there is no event up to {today} if timestamps are read in the unit '{timestamp_unit}'.",
            file=folder / _TABLE,
            column=_COLUMN,
            remedy='state the unit, such as SET="data.timestamp_unit=ms", or pass DATE=YYYY-MM-DD.',
        )
    return dt.datetime.fromtimestamp(latest, dt.UTC).date()


def _open(folder: UPath) -> pads.Dataset:
    for path, kind in ((folder / f"{_TABLE}.parquet", "parquet"), (folder / f"{_TABLE}.csv", "csv")):
        if not path.exists():
            continue
        try:
            table = open_dataset(path, kind)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"cannot be read as {kind} ({error}).", file=path, remedy="write the file again, whole.") from error
        if _COLUMN not in table.schema.names:
            raise DataError(
                f"the table has no such column; it has {', '.join(table.schema.names)}.",
                file=path,
                column=_COLUMN,
                remedy="add or rename the column (docs/data-contract.md).",
            )
        return table
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"expected {_TABLE}.parquet or {_TABLE}.csv, found {found}.",
        file=folder,
        remedy="put the interactions table there (docs/data-contract.md).",
    )
