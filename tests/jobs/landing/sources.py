"""Small sources of any shape for tests of landing, and the rows that landing leaves of them."""

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.base.settings import PipelineSettings
from jobs.landing.dates import last_event_date
from jobs.landing.land import land
from jobs.landing.records import LandedTable, Landing

DAY = 86_400
LAST_DAY = dt.date(2026, 1, 28)
NOON = int(dt.datetime(2026, 1, 28, 12, tzinfo=dt.UTC).timestamp())


def log(num_users: int = 40, num_days: int = 14) -> pd.DataFrame:
    """One event per user and day, the last on 2026-01-28: user_id and item_id int64, timestamp in seconds."""
    rows = [
        (user, 100 + (user * 7 + day * 3) % 60, NOON - (num_days - 1 - day) * DAY + 60 * user)
        for user in range(num_users)
        for day in range(num_days)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def catalogue(num_items: int = 60) -> pd.DataFrame:
    """Items 100, 101, ... with a title and a text that holds a comma."""
    rows = [
        (100 + row, f"{'Red' if row % 2 else 'Blue'} thing number {row}", f"An object of kind {row % 7}, for {row} people")
        for row in range(num_items)
    ]
    return pd.DataFrame(rows, columns=["item_id", "title", "text"])


def csv_source(folder: Path, events: pd.DataFrame | str | bytes | None = None, items: pd.DataFrame | None = None) -> Path:
    """A folder with interactions.csv (a frame, or the text itself) and items.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    given = log() if events is None else events
    if isinstance(given, pd.DataFrame):
        given.to_csv(folder / "interactions.csv", index=False)
    else:
        (folder / "interactions.csv").write_bytes(given.encode() if isinstance(given, str) else given)
    (catalogue() if items is None else items).to_csv(folder / "items.csv", index=False)
    return folder


def table_source(folder: Path, events: pa.Table | None = None, items: pa.Table | None = None, **options: Any) -> Path:
    """A folder with interactions.parquet and items.parquet; the options are those of `write_table` for the log."""
    folder.mkdir(parents=True, exist_ok=True)
    given = pa.Table.from_pandas(log(), preserve_index=False) if events is None else events
    pq.write_table(given, folder / "interactions.parquet", **options)
    whole = pa.Table.from_pandas(catalogue(), preserve_index=False) if items is None else items
    pq.write_table(whole, folder / "items.parquet")
    return folder


def with_mapping(folder: Path, text: str | dict[str, Any]) -> Path:
    """Write `data.yaml`."""
    (folder / "data.yaml").write_text(text if isinstance(text, str) else yaml.safe_dump(text, allow_unicode=True))
    return folder


def landing(settings: PipelineSettings, folder: Path) -> Landing:
    """The source as it is landed in the home of the settings."""
    return land(place(folder), settings, settings.home / "landing")


def refusal(settings: PipelineSettings, folder: Path) -> DataError:
    """The message with which landing refuses a source. It always names the file and says what to do."""
    with pytest.raises(DataError) as caught:
        landing(settings, folder)
    assert caught.value.remedy and caught.value.file
    return caught.value


def last_day(settings: PipelineSettings, folder: Path) -> dt.date:
    """The logical date if none is given."""
    chosen = settings.model_copy(update={"data": settings.data.model_copy(update={"source": str(folder)})})
    return last_event_date(landing(settings, folder), chosen, today=dt.date(2026, 7, 1))


def rows(table: LandedTable) -> list[dict[str, Any]]:
    """The rows of a table as landing leaves them, and for a part that is read as it is, those of the file."""
    found: list[dict[str, Any]] = []
    for part in table.parts:
        assert part.rows_in == part.rows + part.left_out.get("where", 0)
        of_part = pq.read_table(place(part.uri), partitioning=None).to_pylist()
        assert len(of_part) == part.rows
        found += of_part
    return found


def events(settings: PipelineSettings, folder: Path) -> list[tuple[Any, Any, Any]]:
    """User, item and time of each event, in order."""
    return [
        (row["user_id"], row["item_id"], row["timestamp"]) for row in rows(landing(settings, folder).tables["interactions"])
    ]


def times(settings: PipelineSettings, folder: Path) -> list[int | None]:
    """The time of each event, in order."""
    return [row["timestamp"] for row in rows(landing(settings, folder).tables["interactions"])]


EXPECTED = [(str(user), str(item), time) for user, item, time in log().itertuples(index=False)]
