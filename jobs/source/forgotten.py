"""Leaves out the events of users who were forgotten, so that a source that still holds them does not bring them back."""

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.forgotten import ForgottenUsers
from jobs.base.settings import PipelineSettings


def without_forgotten(interactions: DataFrame, settings: PipelineSettings) -> tuple[DataFrame, int]:
    """The events without those of forgotten users, and how many were left out.

    Nothing is read as long as nobody was forgotten. Otherwise each id of the log is hashed once. No log, table or message names
    the ids that are found.

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

    ids = interactions.where("user_id is not null").select("user_id").distinct()
    there = ids.mapInArrow(found, "user_id string").collect()  # at most as many as were ever forgotten
    if not there:
        return interactions, 0
    gone = F.broadcast(interactions.sparkSession.createDataFrame(there, "user_id string"))
    left_out = interactions.join(gone, "user_id", "left_semi").count()
    return interactions.join(gone, "user_id", "left_anti").select(interactions.columns), left_out
