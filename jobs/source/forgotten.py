"""Leaves out the events of users who were forgotten, so that a source that still holds them does not bring them back."""

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.forgotten import ForgottenUsers
from jobs.base.settings import PipelineSettings


def without_forgotten(interactions: DataFrame, settings: PipelineSettings) -> tuple[DataFrame, int]:
    """The events without those of forgotten users, and how many were left out.

    Nothing is read as long as nobody was forgotten. Otherwise each id of the log is hashed once. The ids that are found stay
    inside Spark: no log, table or message names them.

    Args:
        interactions: the log, with the column user_id (string, null where an event has none).
        settings: gives the home folder, where the hashes lie.
    """
    forgotten = ForgottenUsers.of(settings)
    if not forgotten:
        return interactions, 0

    def found(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = [user_id for user_id in batch["user_id"].to_pylist() if forgotten.hold(user_id)]
            yield pa.RecordBatch.from_arrays([pa.array(ids, pa.string())], ["user_id"])

    there = interactions.where("user_id is not null").select("user_id").distinct().mapInArrow(found, "user_id string")
    there = there.persist()
    try:
        if there.isEmpty():
            return interactions, 0
        left_out = interactions.join(F.broadcast(there), "user_id", "left_semi").count()
    finally:
        there.unpersist()
    return interactions.join(F.broadcast(there), "user_id", "left_anti").select(interactions.columns), left_out
