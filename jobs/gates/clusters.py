"""Gate on the clusters: each item has one label, the sampler can use the sizes, and labels stay from day to day."""

from collections.abc import Mapping
from typing import Any

import great_expectations.expectations as gxe
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.gates.checks import ROW, Judged, Suite, check, largest_cluster_share, parameter, true, zero
from jobs.lake.spark_tables import read_table
from jobs.lake.tables import Lake

_MIN_BALANCE = 0.5  # perplexity of the sizes as a share of K_p: 1 for equal sizes, 1/K_p for one cluster that holds all


def suites(settings: PipelineSettings) -> list[Suite]:
    """What must hold for `clusters`, for the sizes of the clusters, and for the labelling as a whole."""
    between, clusters, gate = gxe.ExpectColumnValuesToBeBetween, settings.clusters, settings.gate
    again = "run assign_clusters again for this date; if the failure stays, run fit_codebooks with clusters.force_refit."
    refit = "set clusters.force_refit, or change clusters.num_primary."
    views = "add a picture or a text for the items named, or raise gate.max_unclustered."
    labels = Suite.of(
        "clusters",
        check(gxe.ExpectColumnValuesToBeUnique, "item_index", "critical", "every item is labelled once", again),
        check(
            between,
            "item_index",
            "critical",
            "labels are about items of this date's catalogue",
            again,
            min_value=0,
            max_value=parameter("last_item"),
        ),
        check(gxe.ExpectColumnValuesToNotBeNull, "primary", "critical", "every row has a primary code", again),
        check(
            between,
            "primary",
            "critical",
            "primary codes lie in [-1, clusters.num_primary)",
            again,
            min_value=-1,
            max_value=clusters.num_primary - 1,
        ),
        check(gxe.ExpectColumnValuesToNotBeNull, "secondary", "critical", "every row has a secondary code", again),
        check(
            between,
            "secondary",
            "critical",
            "secondary codes lie in [-1, clusters.num_secondary)",
            again,
            min_value=-1,
            max_value=clusters.num_secondary - 1,
        ),
        true("label_agrees", "critical", "both codes are -1 exactly where the item has no view", again),
        zero("distance_not_finite", "critical", "distances to the primary code are finite and not negative", again),
        check(
            between,
            "primary",
            "critical",
            "items are in a cluster (a share of gate.max_unclustered may be in none)",
            views,
            min_value=0,
            mostly=1 - gate.max_unclustered,
        ),
        check(between, "primary", "warning", "every item is in a cluster", views, min_value=0),
    )
    sizes = Suite.of(
        "cluster_sizes",
        check(
            between,
            "items",
            "critical",
            "every cluster in use holds enough items to draw from (clusters.min_cluster_size, m_o)",
            f"{refit} The repair of clusters should have prevented this: see the step record of fit_codebooks.",
            min_value=clusters.min_cluster_size,
        ),
        check(
            between,
            "share",
            "critical",
            "no cluster holds too many of the items (gate.max_cluster_share, or 2 / clusters.num_primary if that is more)",
            f"{refit} One big cluster means that the views do not tell items apart.",
            max_value=largest_cluster_share(settings),
        ),
    )
    whole = Suite.of(
        "labelling",
        zero("unlabelled_items", "critical", "no item of the catalogue is left out", again),
        check(
            between,
            "balance",
            "warning",
            "sizes are balanced (perplexity / clusters.num_primary)",
            refit,
            min_value=_MIN_BALANCE,
        ),
        check(
            between,
            "empty_codes",
            "warning",
            "most primary codes hold items (gate.max_empty_codes)",
            "set clusters.force_refit, or lower clusters.num_primary: the repair retires codes that are near too few items.",
            max_value=gate.max_empty_codes,
        ),
        check(
            between,
            "distortion_growth",
            "warning",
            "items lie about as near to their code as on the last accepted date (gate.max_distortion_growth)",
            "look at what changed in the features; set clusters.force_refit if the change is real.",
            max_value=gate.max_distortion_growth,
        ),
        check(
            between,
            "label_churn",
            "critical",
            "unchanged items keep their primary code from the last accepted date if nobody asked for a refit "
            "(gate.max_label_churn)",
            "find out which features changed. If labels change too much, hard negatives, logs and models of two days cannot be "
            "compared. To accept the new labels, set clusters.force_refit for this run or raise gate.max_label_churn.",
            max_value=gate.max_label_churn,
        ),
        check(
            between,
            "label_churn_of_refit",
            "warning",
            "unchanged items keep their primary code from the last accepted date, although a setting or an encoder changed "
            "(gate.max_label_churn)",
            "this is expected after the change that the row names; look at the pictures of the clusters on the report.",
            max_value=gate.max_label_churn,
        ),
    )
    return [labels, sizes, whole]


def tables(settings: PipelineSettings, spark: SparkSession) -> Judged:
    """The labels, the size of each cluster in use, and one row about the labelling as a whole.

    Raises:
        DataError: a table is not published for the date.
    """
    lake = Lake.of(settings)
    num_items = lake.manifest("items", settings.date)["rows"]
    manifest, clusters = lake.manifest("clusters", settings.date), read_table(spark, settings, "clusters")
    fit = lake.manifest("codebooks", settings.date)
    labelled = clusters.where("primary >= 0")
    sizes = labelled.groupBy("primary").agg(F.count(F.lit(1)).alias("items"))
    sizes = sizes.withColumn("share", F.col("items") / labelled.count())
    entropy = sizes.agg(F.sum(-F.col("share") * F.log("share")).alias("entropy"))
    whole = entropy.select(
        F.lit(_story(settings.ds, manifest["stats"], fit["stats"])).alias(ROW),
        F.lit(num_items - clusters.select("item_index").distinct().count()).alias("unlabelled_items"),
        (F.exp("entropy") / settings.clusters.num_primary).alias("balance"),
        *(F.lit(value).cast("double").alias(name) for name, value in _since(manifest["stats"], fit["stats"]).items()),
    )
    frames = {
        "clusters": _flat(clusters),
        "cluster_sizes": sizes.select(
            F.concat(F.lit("cluster "), F.col("primary").cast("string")).alias(ROW), "items", "share"
        ),
        "labelling": whole,
    }
    return Judged(frames, {"last_item": num_items - 1}, {"clusters": manifest["digest"], "codebooks": fit["digest"]})


def _since(stats: Mapping[str, Any], fit: Mapping[str, Any]) -> dict[str, float | None]:
    """What assign_clusters measured. None passes: there was nothing to compare with, or the other kind of churn applies."""
    churn = stats["churn"]["primary"] if stats["churn"] else None
    asked = fit["refit_asked_by"] is not None
    return {
        "empty_codes": stats["primary"]["empty"] / stats["primary"]["num_codes"],
        "distortion_growth": stats["distortion_growth"],
        "label_churn": None if asked else churn,
        "label_churn_of_refit": churn if asked else None,
    }


def _story(date: str, stats: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    """The name that messages give to the one row about the labelling."""
    churn, parts = stats["churn"], [date]
    if churn:
        parts.append(
            f"{churn['moved_items']} of {churn['labelled_items']} items with the picture and text of {churn['since']} moved"
        )
    start = fit["refit_asked_by"] or fit["cold_because"] or (f"warm from {fit['previous_date']}" if fit["warm"] else None)
    return ", ".join(filter(None, [*parts, start]))


def _flat(clusters: DataFrame) -> DataFrame:
    has_view = F.col("has_visual") | F.col("has_text") | F.col("has_behaviour")
    distance = F.col("distance")
    broken = distance.isNull() | F.isnan(distance) | (distance < 0) | (distance == float("inf"))
    return clusters.select(
        F.concat(F.lit("item "), F.coalesce("item_id", F.lit("(none)"))).alias(ROW),
        "item_index",
        "primary",
        "secondary",
        (((F.col("primary") >= 0) == has_view) & ((F.col("secondary") >= 0) == has_view)).alias("label_agrees"),
        F.when(F.col("primary") >= 0, broken.cast("int")).alias("distance_not_finite"),
    )
