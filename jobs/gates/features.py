"""Gate on the three views: one row for each item, and vectors that are finite, of one dimension, and tell items apart."""

from functools import reduce
from operator import add

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.gates.checks import ROW, Judged, Suite, check, parameter, true, zero
from jobs.lake.spark_tables import read_table
from jobs.lake.tables import Lake

STATUSES = {
    "visual": ("ok", "missing", "unreadable"),
    "text": ("ok", "missing"),
    "behaviour": ("ok", "too_few_events"),
}
_CONTENT = {"visual": "picture", "text": "text"}  # views that are made of something that the source gives
COLLAPSED = 0.9  # above this share of identical vectors, the encoder does not tell items apart
REPEATED = 0.1  # above this, a placeholder picture or a boilerplate text is likely


def suites(settings: PipelineSettings) -> list[Suite]:
    """What must hold for each feature table, and for the three views of each item together."""
    between = gxe.ExpectColumnValuesToBeBetween
    views = Suite.of(
        "views",
        zero(
            "num_missing_rows",
            "critical",
            "every item has a row in each feature table",
            "run visual_features, text_features and behaviour_features again for this date.",
        ),
        check(
            gxe.ExpectColumnMaxToBeBetween,
            "num_views",
            "critical",
            "at least one item has at least one view",
            "add pictures, texts or a longer log: without any view nothing can be clustered.",
            min_value=1,
        ),
        check(
            between,
            "num_views",
            "warning",
            "every item has at least one view",
            "add a picture or a text for the items named; until then they stay outside the clusters.",
            min_value=1,
        ),
    )
    return [*(_view_suite(view, settings) for view in STATUSES), views]


def _view_suite(view: str, settings: PipelineSettings) -> Suite:
    between, job = gxe.ExpectColumnValuesToBeBetween, f"{view}_features"
    again = f"run {job} again for this date; if the failure stays, look at the encoder."
    bad_input = "look at the input of the items named (picture, text, events) and at the encoder, then run the job again."
    return Suite.of(
        job,
        check(gxe.ExpectColumnValuesToBeUnique, "item_index", "critical", "one row for each item", again),
        check(
            between,
            "item_index",
            "critical",
            "rows are about items of this date's catalogue",
            again,
            min_value=0,
            max_value=parameter("last_item"),
        ),
        zero("num_not_finite", "critical", "all numbers are finite (no NaN, no infinity)", bad_input),
        check(
            between,
            "vector_length",
            "critical",
            "all vectors have one dimension",
            f"{again} Vectors of an earlier encoder must not be reused.",
            min_value=parameter(f"{view}_dimension"),
            max_value=parameter(f"{view}_dimension"),
        ),
        check(between, "norm", "critical", "vectors are not zero (at most half are)", bad_input, min_value=1e-12, mostly=0.5),
        check(between, "norm", "warning", "no vector is zero", bad_input, min_value=1e-12),
        *(_contents_differ(view) if view in _CONTENT else ()),
        check(
            between,
            "identical_share",
            "critical",
            f"vectors tell items apart (no vector is shared by more than {COLLAPSED:.0%} of the items)",
            "look at the encoder: it gives nearly every item the same vector.",
            max_value=COLLAPSED,
        ),
        check(
            between,
            "identical_share",
            "warning",
            f"no vector is shared by more than {REPEATED:.0%} of the items",
            "look at the encoder, or at what the contents of the items named have in common.",
            max_value=REPEATED,
        ),
        check(
            gxe.ExpectColumnValuesToBeInSet,
            "status",
            "critical",
            "the status is a known word",
            again,
            value_set=list(STATUSES[view]),
        ),
        check(gxe.ExpectColumnValuesToNotBeNull, "status", "critical", "every row has a status", again),
        true("status_agrees", "critical", "the status is ok exactly where there is a vector", again),
        check(
            gxe.ExpectColumnUniqueValueCountToBeBetween,
            "encoder",
            "critical",
            "one encoder made all vectors",
            f"delete the table's date folder and run {job} again, so that every item is encoded anew.",
            min_value=0,
            max_value=1,
        ),
        true("has_encoder", "critical", "every vector names its encoder", again),
        check(
            gxe.ExpectColumnValuesToNotBeNull,
            "vector_length",
            "warning",
            f"items have a {view} view (gate.min_view_coverage)",
            "this is expected if the source has no such data; otherwise look at the quarantine table.",
            mostly=settings.gate.min_view_coverage,
        ),
    )


def _contents_differ(view: str) -> tuple[Expectation, Expectation]:
    """That items have pictures or texts of their own, which no encoder can make up for."""
    what = _CONTENT[view]
    remedy = f"look at the data: the items named have the same {what}, such as a placeholder. Leave it out of the source."
    between, says = gxe.ExpectColumnValuesToBeBetween, f"no {what} is shared by more than {{:.0%}} of the items"
    return (
        check(between, "identical_content", "critical", says.format(COLLAPSED), remedy, max_value=COLLAPSED),
        check(between, "identical_content", "warning", says.format(REPEATED), remedy, max_value=REPEATED),
    )


def tables(settings: PipelineSettings, spark: SparkSession) -> Judged:
    """The feature tables with flat columns in place of vectors.

    Raises:
        DataError: a table is not published for the date.
    """
    lake = Lake.of(settings)
    items = read_table(spark, settings, "items", ["item_index", "item_id"])
    frames: dict[str, DataFrame] = {}
    parameters, digests = {"last_item": lake.manifest("items", settings.date)["rows"] - 1}, {}
    for view in STATUSES:
        name = f"{view}_features"
        table = read_table(spark, settings, name)
        digests[name] = lake.manifest(name, settings.date)["digest"]
        vectors = table.agg(F.count("vector").alias("count"), F.mode(F.size("vector")).alias("dimension")).collect()[0]
        parameters[f"{view}_dimension"] = vectors["dimension"] or 0
        frames[name] = _flat(table, vectors["count"])
        present = table.groupBy("item_index").agg((F.count("vector") > 0).cast("int").alias(view))
        items = items.join(present, "item_index", "left")
    frames["views"] = items.select(
        F.concat(F.lit("item "), "item_id").alias(ROW),
        reduce(add, (F.coalesce(view, F.lit(0)) for view in STATUSES)).alias("num_views"),
        reduce(add, (F.isnull(view).cast("int") for view in STATUSES)).alias("num_missing_rows"),
    )
    return Judged(frames, parameters, digests)


def _flat(table: DataFrame, num_vectors: int) -> DataFrame:
    """The rows of a feature table, with plain columns that describe the vector (null if there is no vector)."""
    has_vector = F.col("vector").isNotNull()
    same = F.count("vector").over(Window.partitionBy("fingerprint"))
    content = F.lit(0.0)
    if "content_hash" in table.columns:
        alike = F.count("vector").over(Window.partitionBy(F.coalesce("content_hash", F.col("item_index").cast("string"))))
        content = (alike - 1) / max(num_vectors - 1, 1)
    not_finite = F.expr("size(filter(vector, x -> x is null or isnan(x) or abs(x) = double('infinity')))")
    return table.withColumn("fingerprint", F.xxhash64("vector")).select(
        F.concat(F.lit("item "), F.coalesce("item_id", F.lit("(none)"))).alias(ROW),
        "item_index",
        "status",
        "encoder",
        F.when(has_vector, F.size("vector")).alias("vector_length"),
        F.when(has_vector, not_finite).alias("num_not_finite"),
        F.expr("sqrt(aggregate(vector, 0d, (total, x) -> total + double(x) * double(x)))").alias("norm"),
        F.when(has_vector, content).alias("identical_content"),
        # Items of one content must have one vector; only beyond that is it the encoder's fault.
        F.when(has_vector, (same - 1) / max(num_vectors - 1, 1) - content).alias("identical_share"),
        ((F.col("status") == "ok") == has_vector).alias("status_agrees"),
        F.when(has_vector, F.col("encoder").isNotNull()).alias("has_encoder"),
    )
