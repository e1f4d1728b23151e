"""Behavioural view of every item: what is bought or watched together, learnt from the training events by Spark MLlib."""

from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

from pyspark.ml.feature import Word2Vec
from pyspark.ml.functions import vector_to_array
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.encoders.model_folder import config_fingerprint
from jobs.feature_tables import COLUMNS
from jobs.lake import Lake
from jobs.places import open_dataset
from jobs.reuse import Recipe
from jobs.runtime import run_job
from jobs.settings import PipelineSettings
from jobs.spark import spark_session
from jobs.spark_tables import read_table, write_table

_SEED = 7
_WORD2VEC: dict[str, Any] = {"windowSize": 10, "maxIter": 10, "stepSize": 0.025, "numPartitions": 1, "seed": _SEED}
_ALS: dict[str, Any] = {"maxIter": 10, "regParam": 0.1, "alpha": 10.0, "implicitPrefs": True, "seed": _SEED}
# Iterations between two checkpoints. Without any, a task carries the lineage of all iterations, and unpacking it, call within
# call, can overflow a thread's stack.
_CHECKPOINT_INTERVAL = 2


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `behaviour_features`, learnt from training events alone; items with too few of them get no vector."""
    lake, method = Lake.of(settings), settings.features.behaviour_method
    with spark_session(settings, "behaviour_features") as spark, ExitStack() as stack:
        events = read_table(spark, settings, "interactions").where("split = 'train'")
        items = read_table(spark, settings, "items", ["item_index", "item_id", "num_train"])
        enough = F.col("num_train") >= settings.features.min_behaviour_events
        config = {"method": method, **(_WORD2VEC if method == "word2vec" else _ALS), **settings.features.model_dump()}
        # The axes are new with every fit, so vectors of two dates compare only if the events were the same.
        config["interactions"] = lake.manifest("interactions", settings.date)["digest"]
        frame = items.withColumn("vector", F.lit(None).cast("array<float>"))
        if not items.where(enough).isEmpty():
            # In the home folder, since the executors of a cluster must reach it.
            checkpoints = stack.enter_context(TemporaryDirectory(prefix=".spark-checkpoints-", dir=settings.home))
            spark.sparkContext.setCheckpointDir(checkpoints)
            vectors = item_vectors(events, settings)
            frame = items.join(vectors, "item_index", "left").withColumn("vector", F.when(enough, F.col("vector")))
        frame = frame.select(
            "item_index",
            "item_id",
            "vector",
            F.when(F.col("vector").isNull(), "too_few_events").otherwise("ok").alias("status"),
            F.lit(None).cast("string").alias("content_hash"),
            F.lit(config_fingerprint(f"behaviour-{method}", config)).alias("encoder"),
        )
        with lake.write("behaviour_features", settings, inputs=["interactions", "items"]) as pending:
            num_items = lake.manifest("items", settings.date)["rows"]
            write_table(frame.select(*COLUMNS), pending, by=["item_index"], keys=num_items)
            counts = open_dataset(pending.path).to_table(columns=["status"]).to_pandas()["status"].value_counts()
            pending.stats |= {"method": method, "ok": int(counts.get("ok", 0)), "dim": settings.features.behaviour_dim}
            pending.stats["too_few_events"] = int(counts.get("too_few_events", 0))
            return dict(pending.stats)


def item_vectors(events: DataFrame, settings: PipelineSettings) -> DataFrame:
    """Item vectors by the method of `features.behaviour_method`.

    Args:
        events: user_index, item_index, timestamp of training events.
        settings: method, dimension and the events an item needs.

    Returns:
        item_index int64, vector array<float> [behaviour_dim]; rows only for items the method knows.
    """
    features = settings.features
    # One partition in a fixed order: both methods add up floats in the order the rows come.
    if features.behaviour_method == "word2vec":
        sequences = (
            events.groupBy("user_index")
            .agg(F.array_sort(F.collect_list(F.struct("timestamp", "item_index"))).alias("events"))
            .select("user_index", F.expr("transform(events, event -> string(event.item_index))").alias("words"))
            .repartition(1)
            .sortWithinPartitions("user_index")
        )
        word2vec = Word2Vec(
            vectorSize=features.behaviour_dim, minCount=features.min_behaviour_events, inputCol="words", **_WORD2VEC
        )
        found = word2vec.fit(sequences).getVectors()
        return found.select(
            F.col("word").cast("bigint").alias("item_index"), vector_to_array(F.col("vector"), "float32").alias("vector")
        )
    ratings = events.select(
        F.col("user_index").cast("int"), F.col("item_index").cast("int"), F.lit(1.0).cast("float").alias("rating")
    )
    als = ALS(
        rank=features.behaviour_dim,
        userCol="user_index",
        itemCol="item_index",
        numUserBlocks=1,
        numItemBlocks=1,
        checkpointInterval=_CHECKPOINT_INTERVAL,
        **_ALS,
    )
    found = als.fit(ratings.repartition(1).sortWithinPartitions("user_index", "item_index")).itemFactors
    return found.select(F.col("id").cast("bigint").alias("item_index"), F.col("features").alias("vector"))


if __name__ == "__main__":
    recipe = Recipe(sections=("features",), reads=("interactions", "items"), writes=("behaviour_features",))
    run_job("behaviour_features", run, recipe=recipe)
