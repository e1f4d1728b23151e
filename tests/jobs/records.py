"""Single tables and records of a date, as earlier steps leave them in lake and run folder, for the tests of later steps."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake


def publish_frame(
    settings: PipelineSettings,
    table: str,
    frame: pd.DataFrame,
    schema: pa.Schema | None = None,
    *,
    inputs: tuple[str, ...] = (),
    **stats: object,
) -> None:
    """Publish a frame as a table of the date, with its inputs and stats in the manifest."""
    with Lake.of(settings).write(table, settings, inputs=inputs) as pending:
        pending.path.mkdir()
        pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), pending.path / "part-0.parquet")
        pending.stats |= stats


def metrics(**changes: object) -> dict[str, object]:
    """A good model's entry in `metrics.json`."""
    return {
        "recall_50": 0.2,
        "recall_200": 0.4,
        "ndcg_50": 0.1,
        "head_recall_50": 0.2,
        "tail_recall_50": 0.1,
        "new_item_recall_50": None,
        "coverage_50": 0.5,
        "embedding_norm_mean": 1.0,
        "embedding_std": 0.2,
        "finite": True,
    } | changes
