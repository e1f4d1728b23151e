"""Builds the training set: each user's events in time order, with the borders of training, validation and hold-out."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F

from esans_core.attributes import AttributeEncoder
from jobs.base.places import open_dataset
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.lake.attributes import by_attribute, columns_of
from jobs.lake.event_log import ParquetLog
from jobs.lake.spark_tables import read_table, write_table
from jobs.lake.tables import Lake
from jobs.lake.user_features import about_features, num_features

_ROW_GROUP_MB = 8  # what training reads at a time
_COUNTS = ("num_train", "num_validation", "num_holdout")


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `sequences`, with one row for each user. Users without a training event have a row too.

    So has a user who was forgotten since ingest. Its lists are empty, so that all other users keep their `user_index`.

    Columns: user_index int64, item_index list<int64>, timestamp list<int64>, num_train, num_validation, num_holdout int32.
    The first num_train entries of the lists are the training events. The validation events come next, then the hold-out.
    Within a split, events of one second stand in an order drawn by a hash, so that no model can read the next item from it.
    If the log has kinds of events: weight list<float> (0: history only), kind list<string>, num_history_only int32 (of the
    training events). If it has items that users do not want: unwanted list<int64>. If something is known of users: features
    list<float>, those of their attributes, NaN where one is missing, null for a user without any.
    """
    lake = Lake.of(settings)
    with spark_session(settings, "build_training_set") as spark:
        users = read_table(spark, settings, "users")
        counts = users.select("user_index", *(F.col(name).cast("int") for name in _COUNTS))
        about = lake.manifest("interactions", settings.date)["stats"]
        kinds = ("weight", "kind") if about.get("kinds") else ()
        types = {"item_index": "bigint", "timestamp": "bigint", "weight": "float", "kind": "string"}
        columns = [_column(name, types[name]) for name in ("item_index", "timestamp", *kinds)]
        if kinds:
            only = F.filter(F.slice("events.weight", 1, F.col("num_train")), lambda weight: weight <= 0)
            columns.append(F.coalesce(F.size(only), F.lit(0)).cast("int").alias("num_history_only"))
        sequences = (
            read_table(spark, settings, "interactions")
            .where("split != 'unwanted'")
            .withColumn("rank", F.expr("array_position(array('train', 'validation', 'holdout'), split)"))
            .withColumn("drawn", F.xxhash64("user_index", "item_index"))
            .groupBy("user_index")
            .agg(F.array_sort(F.collect_list(F.struct("timestamp", "rank", "drawn", "item_index", *kinds))).alias("events"))
            .join(counts, "user_index", "right")
            .select("user_index", *columns, *_COUNTS)
        )
        if about.get("unwanted"):
            listed = F.array_sort(F.collect_set("item_index")).alias("unwanted")
            pairs = read_table(spark, settings, "interactions").where("split = 'unwanted'")
            sequences = sequences.join(pairs.groupBy("user_index").agg(listed), "user_index", "left").withColumn(
                "unwanted", F.coalesce("unwanted", F.array().cast("array<bigint>"))
            )
        if "attributes" in users.columns:
            known = users.where("attributes is not null").select("user_index", "attributes")
            features = known.mapInArrow(_encoder(about["user_attributes"]), "user_index bigint, features array<float>")
            sequences = sequences.join(features, "user_index", "left")
        sequences = sequences.persist()
        with lake.write("sequences", settings, inputs=["interactions", "users"]) as pending:
            num_users = lake.manifest("users", settings.date)["rows"]
            write_table(sequences, pending, by=["user_index"], keys=num_users, row_group_mb=_ROW_GROUP_MB)
            tied = F.expr("size(filter(timestamp, (time, place) -> place > 0 AND time = timestamp[place - 1]))")
            row = sequences.agg(
                F.count(F.lit(1)).alias("users"),
                F.count_if((F.col("num_train") > 0) & (F.col("num_holdout") > 0)).alias("users_with_history_and_holdout"),
                *(F.sum(name).alias(name) for name in _COUNTS),
                F.max(F.size("item_index")).alias("longest"),
                F.try_divide(F.sum(tied), F.sum(F.greatest(F.size("item_index") - 1, F.lit(0)))).alias("tied_share"),
            ).first()
            pending.stats |= row.asDict() if row else {}
            pending.stats["again"] = about.get("repeats") == "again"
            if "user_attributes" in about:
                log = ParquetLog(open_dataset(pending.path), user_features=num_features(about["user_attributes"]))
                pending.stats["user_features"] = about_features(log, about["user_attributes"])
            sequences.unpersist()
            return dict(pending.stats)


def _encoder(fingerprint: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """From user_index and attributes to user_index and features, for `mapInArrow`."""
    encoder = AttributeEncoder.from_fingerprint(fingerprint)

    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                features = encoder.encode(columns_of(by_attribute(batch["attributes"])))
                lists = pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1]).cast(pa.list_(pa.float32()))
                yield pa.RecordBatch.from_arrays([batch["user_index"], lists], ["user_index", "features"])

    return encode


def _column(name: str, kind: str) -> Column:
    """One value of each event of a user, as a list; empty for a user without any event."""
    return F.coalesce(F.col(f"events.{name}"), F.array().cast(f"array<{kind}>")).alias(name)
