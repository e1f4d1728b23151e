"""Writes small input folders in the form of the data contract, for tests of the Spark jobs."""

import datetime as dt
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake

DATE = dt.date(2026, 1, 28)
DAY = 86_400
NOON = int(dt.datetime(2026, 1, 28, 12, tzinfo=dt.UTC).timestamp())
NUM_ITEMS, NUM_USERS, NUM_DAYS = 24, 12, 12


def interactions(num_users: int = NUM_USERS, num_items: int = NUM_ITEMS, num_days: int = NUM_DAYS) -> pd.DataFrame:
    """One event per user and day, the last on DATE. Each pair of user and item comes once; there are two tastes (odd, even)."""
    rows = [
        (f"u{user:02d}", f"i{2 * ((user + day) % (num_items // 2)) + user % 2:02d}", NOON - (num_days - 1 - day) * DAY + user)
        for user in range(num_users)
        for day in range(num_days)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def items(num_items: int = NUM_ITEMS) -> pd.DataFrame:
    """Items i00, i01, ... with a title and a text."""
    rows = [
        (f"i{row:02d}", f"Item {row}", f"Item {row}. {'Red cotton' if row % 2 else 'Blue steel'} thing")
        for row in range(num_items)
    ]
    return pd.DataFrame(rows, columns=["item_id", "title", "text"])


def picture(seed: int, form: str = "PNG", size: tuple[int, int] = (24, 32), **options: Any) -> bytes:
    """An encoded picture of random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(stream, form, **options)
    return stream.getvalue()


def write_source(folder: Path, **tables: pd.DataFrame) -> Path:
    """A folder with the two required tables, replaced or joined by those given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in ({"interactions": interactions(), "items": items()} | tables).items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


def tiny(settings: PipelineSettings, folder: Path | str, **sections: dict[str, Any]) -> PipelineSettings:
    """Settings for such a folder: at least two clusters, any share of rejects, and the values in `sections`."""
    values = settings.model_dump()
    values["date"] = DATE
    values["data"] |= {"source": str(folder), "max_rejected_fraction": 1.0}
    values["clusters"] |= {"num_primary": 2}
    values["features"] |= {"text_dim": 8, "behaviour_dim": 4}
    for section, changes in sections.items():
        values[section] |= changes
    return PipelineSettings(**values)


def publish(settings: PipelineSettings, table: str, rows: pd.DataFrame) -> None:
    """Put rows into the lake as one date of a table."""
    with Lake.of(settings).write(table, settings) as pending:
        pending.path.mkdir()
        rows.to_parquet(pending.path / "rows.parquet", index=False)


def publish_catalogue(settings: PipelineSettings, table: pd.DataFrame) -> None:
    """Put a catalogue (item_id, and title, text, num_train if given) into the lake as `items`."""
    rows = table.sort_values("item_id", ignore_index=True).reset_index(names="item_index")
    for column in ("title", "text", "image_path"):
        rows[column] = (rows[column] if column in rows else pd.Series(None, index=rows.index, dtype=object)).astype("string")
    rows["num_train"] = rows.get("num_train", 0)
    publish(settings, "items", rows[["item_index", "item_id", "title", "text", "image_path", "num_train"]])
