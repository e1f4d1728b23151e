"""Behavioural view of every item: Spark MLlib learns from the training events which items are used together."""

from contextlib import ExitStack
from typing import Any

from pyspark.ml.feature import Word2Vec
from pyspark.ml.functions import vector_to_array
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.errors import DataError
from jobs.base.places import open_dataset
from jobs.base.scratch import scratch_in
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.features.behaviour_alignment import TABLE, align
from jobs.features.feature_tables import COLUMNS
from jobs.lake.spark_tables import read_table, write_table
from jobs.lake.tables import Lake

_SEED = 7
_WORD2VEC: dict[str, Any] = {"windowSize": 10, "maxIter": 10, "stepSize": 0.025, "seed": _SEED}
_ALS: dict[str, Any] = {"maxIter": 10, "regParam": 0.1, "alpha": 10.0, "implicitPrefs": True, "seed": _SEED}
_PARAMETERS = {"word2vec": _WORD2VEC, "als": _ALS}
_EVENTS_PER_BLOCK = 5_000_000  # if `features.behaviour_blocks` is 0; a task needs about 200 MB for so many
# Iterations between two checkpoints. Without checkpoints, a task carries the lineage of all iterations. Unpacking it is
# recursive, and can overflow a thread's stack.
_CHECKPOINT_INTERVAL = 2
_HISTORY = 0.1  # confidence of an event that is history only


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `behaviour_features`, learnt from training events alone. Items with too few of them get no vector.

    Raises:
        DataError: targets have different weights, and the method cannot weigh them.
    """
    lake, features = Lake.of(settings), settings.features
    method = features.behaviour_method
    with spark_session(settings, "behaviour_features") as spark, ExitStack() as stack:
        events = read_table(spark, settings, "interactions").where("split = 'train'")
        if method == "word2vec":
            _check_weights(events)
        items = read_table(spark, settings, "items", ["item_index", "item_id", "num_train"])
        enough = F.col("num_train") >= features.min_behaviour_events
        most, total = items.agg(F.max("num_train"), F.sum("num_train")).collect()[0]
        blocks = features.behaviour_blocks or -(-total // _EVENTS_PER_BLOCK) or 1
        frame = items.select("item_index", "item_id", F.lit(None).cast("array<float>").alias("vector"))
        if most >= features.min_behaviour_events:
            # In the home folder, because the executors of a cluster must reach it.
            checkpoints = stack.enter_context(scratch_in(settings.home))
            spark.sparkContext.setCheckpointDir(str(checkpoints))
            vectors = item_vectors(events, settings, blocks)
            frame = items.join(vectors, "item_index", "left").select(
                "item_index", "item_id", F.when(enough, F.col("vector")).alias("vector")
            )
        config = {"dim": features.behaviour_dim, "min_events": features.min_behaviour_events, **_PARAMETERS[method]}
        aligned = align(spark, settings, frame, f"behaviour-{method}", config)
        frame = aligned.vectors.select(
            "item_index",
            "item_id",
            "vector",
            F.when(F.col("vector").isNull(), "too_few_events").otherwise("ok").alias("status"),
            F.lit(None).cast("string").alias("content_hash"),
            F.lit(aligned.encoder).alias("encoder"),
        )
        with lake.write(TABLE, settings, inputs=["interactions", "items"], extra_inputs=aligned.inputs) as pending:
            write_table(frame.select(*COLUMNS), pending, by=["item_index"], keys=lake.manifest("items", settings.date)["rows"])
            counts = open_dataset(pending.path).to_table(columns=["status"]).to_pandas()["status"].value_counts()
            pending.stats |= {"method": method, "ok": int(counts.get("ok", 0)), "dim": features.behaviour_dim}
            pending.stats |= {"too_few_events": int(counts.get("too_few_events", 0)), "blocks": blocks}
            pending.stats["axes"] = aligned.report | {"dim": features.behaviour_dim}
            return dict(pending.stats)


def _check_weights(events: DataFrame) -> None:
    """Stop if targets have different weights: Spark's word2vec has none, and would read a purchase as a view without a word."""
    if "weight" not in events.columns:
        return
    least, most = events.where("weight > 0").agg(F.min("weight"), F.max("weight")).collect()[0]
    if least != most:
        raise DataError(
            f"kinds of events have weights from {least:g} to {most:g}, but word2vec reads every event alike.",
            column="features.behaviour_method",
            remedy="set features.behaviour_method to als, which weighs events, or give all kinds one weight in data.yaml.",
        )


def item_vectors(events: DataFrame, settings: PipelineSettings, blocks: int) -> DataFrame:
    """Item vectors by the method of `features.behaviour_method`.

    Args:
        events: user_index, item_index, timestamp, weight of training events. ALS takes the weight as its confidence; word2vec
            reads every event alike.
        settings: method, dimension and the events an item needs.
        blocks: number of parts that are fitted in parallel. With one, every run gives the same bytes. With several, vectors
            are equal up to the rounding of sums, because Spark adds up the tasks' results in the order in which they come.

    Returns:
        item_index int64, vector array<float> [behaviour_dim]; rows only for items that the method knows.
    """
    features = settings.features
    # The order of rows is fixed, because both methods add up floats in the order in which rows come.
    if features.behaviour_method == "word2vec":
        sequences = (
            events.groupBy("user_index")
            .agg(F.array_sort(F.collect_list(F.struct("timestamp", "item_index"))).alias("events"))
            .select("user_index", F.expr("transform(events, event -> string(event.item_index))").alias("words"))
            .repartition(blocks, "user_index")
            .sortWithinPartitions("user_index")
        )
        word2vec = Word2Vec(
            vectorSize=features.behaviour_dim,
            minCount=features.min_behaviour_events,
            inputCol="words",
            numPartitions=blocks,
            **_WORD2VEC,
        )
        found = word2vec.fit(sequences).getVectors()
        return found.select(
            F.col("word").cast("bigint").alias("item_index"), vector_to_array(F.col("vector"), "float32").alias("vector")
        )
    weight = F.greatest("weight", F.lit(_HISTORY)) if "weight" in events.columns else F.lit(1.0)
    ratings = events.select(
        F.col("user_index").cast("int"), F.col("item_index").cast("int"), weight.cast("float").alias("rating")
    )
    als = ALS(
        rank=features.behaviour_dim,
        userCol="user_index",
        itemCol="item_index",
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        checkpointInterval=_CHECKPOINT_INTERVAL,
        **_ALS,
    )
    ordered = ratings.repartition(blocks, "user_index").sortWithinPartitions("user_index", "item_index")
    found = als.fit(ordered).itemFactors
    return found.select(F.col("id").cast("bigint").alias("item_index"), F.col("features").alias("vector"))
