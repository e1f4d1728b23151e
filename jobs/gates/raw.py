"""Gate on the source as the user provides it: it is large enough, most rows are usable, and the day has its usual volume."""

import datetime as dt
from dataclasses import replace

import great_expectations.expectations as gxe
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.gates.checks import ROW, Judged, Suite, check, parameter, tolerated, true
from jobs.source.forgotten import without_forgotten
from jobs.source.images import picture_paths
from jobs.source.picture_cache import PictureCache
from jobs.source.picture_fetching import fetch_pictures
from jobs.source.picture_files import find_picture, nearest_existing
from jobs.source.picture_hosts import is_url
from jobs.source.picture_words import in_words
from jobs.source.tables import DAY_SECONDS, Source, day_start, future_horizon, named_read_errors, read_source

_EARLIEST = dt.date(1990, 1, 1)
_WEEK = 7
_LOOKED_AT = 300  # picture files that are looked at, spread over the catalogue


def suites(settings: PipelineSettings) -> list[Suite]:
    """What must hold for `interactions`, for `items`, and for the volume of the logical date."""
    lost, gate = settings.data.max_rejected_fraction, settings.gate
    needed = settings.clusters.num_primary * settings.clusters.min_cluster_size
    export = "correct the export, or raise data.max_rejected_fraction if these rows may be lost."
    interactions = Suite.of(
        "interactions",
        *tolerated(gxe.ExpectColumnValuesToNotBeNull, "user_id", "every event names its user", export, lost),
        *tolerated(gxe.ExpectColumnValuesToNotBeNull, "item_id", "every event names its item", export, lost),
        *tolerated(gxe.ExpectColumnValuesToNotBeNull, "timestamp", "every event has a usable time", export, lost),
        *tolerated(
            gxe.ExpectColumnValuesToBeBetween,
            "timestamp",
            f"times lie between {_EARLIEST} and one day from now",
            f"check data.timestamp_unit; otherwise {export}",
            lost,
            min_value=day_start(_EARLIEST),
            max_value=parameter("future"),
        ),
        *tolerated(
            gxe.ExpectColumnValuesToBeInSet,
            "known_item",
            "events are about items of the catalogue",
            f"export the items and the log on the same day; otherwise {export}",
            lost,
            value_set=[True],
        ),
        check(
            gxe.ExpectColumnUniqueValueCountToBeBetween,
            "user_id",
            "critical",
            "there are users to learn from (at least gate.min_evaluated_users)",
            "provide a longer log, or lower gate.min_evaluated_users.",
            min_value=gate.min_evaluated_users,
        ),
    )
    items = Suite.of(
        "items",
        *tolerated(gxe.ExpectColumnValuesToNotBeNull, "item_id", "every item has an id", export, lost),
        # The first row of an id counts, as in the ingest, so a repeated id breaks this once and not twice.
        *tolerated(gxe.ExpectColumnValuesToBeInSet, "first_of_id", "item ids do not repeat", export, lost, value_set=[True]),
        check(
            gxe.ExpectColumnUniqueValueCountToBeBetween,
            "item_id",
            "critical",
            "there are enough items for every cluster (clusters.num_primary x clusters.min_cluster_size)",
            "lower clusters.num_primary or clusters.min_cluster_size, or provide the whole catalogue.",
            min_value=needed,
        ),
        true(
            "has_text",
            "warning",
            "items have a title or a text (gate.min_view_coverage)",
            "add titles or descriptions; items without them are known by their other views only.",
            mostly=gate.min_view_coverage,
        ),
        true(
            "has_image",
            "warning",
            "items have a picture (gate.min_view_coverage)",
            "add pictures (docs/data-contract.md says how); items without one are known by their other views only.",
            mostly=gate.min_view_coverage,
        ),
    )
    pictures = Suite.of(
        "pictures",
        true(
            "found",
            "critical",
            f"at least one of {_LOOKED_AT} picture files is where the catalogue says",
            "correct image_path: relative paths start at the folder of the source. A template in data.yaml can put another "
            "folder in front. For URLs, name their servers in pictures.hosts.",
            mostly=1 / (2 * _LOOKED_AT),
        ),
        true(
            "found",
            "warning",
            f"all of {_LOOKED_AT} picture files that were looked at can be read",
            "correct image_path of the items named, or bring the files; without them the items are known by their other views.",
        ),
    )
    volume = Suite.of(
        "daily_volume",
        check(
            gxe.ExpectColumnValuesToBeBetween,
            "events_on_date",
            "critical",
            "the logical date has events",
            "choose a date that has events, or wait for that day's data.",
            min_value=1,
        ),
        check(
            gxe.ExpectColumnValuesToBeBetween,
            "share_of_usual",
            "warning",
            f"the day has its usual volume (gate.min_volume_share of the mean of the {_WEEK} days before)",
            "check whether the export of that day is complete. If it was not, complete it and run the date again.",
            min_value=gate.min_volume_share,
        ),
    )
    return [interactions, items, pictures, volume]


def tables(settings: PipelineSettings, spark: SparkSession) -> Judged:
    """The source in the form that the suites judge.

    Raises:
        DataError: the source cannot be read, as in `jobs.source.tables.read_source`.
    """
    source = read_source(spark, settings)
    with named_read_errors(source.folder):
        source = replace(source, interactions=without_forgotten(source.interactions, settings)[0])
        frames = {
            "interactions": _interactions(source),
            "items": _items(source),
            "pictures": _pictures(source, settings),
            "daily_volume": _daily_volume(source.interactions, settings).toPandas(),
        }
    return Judged(frames, {"future": future_horizon(settings)}, source.digests(), frozenset({"interactions"}))


def _row_label(*names: str) -> Column:
    ids = [part for name in names for part in (F.lit(f", {name} "), F.coalesce(name, F.lit("(none)")))]
    return F.concat(F.lit("row "), F.col("source_row.row").cast("string"), *ids)


def _interactions(source: Source) -> DataFrame:
    catalogue = source.items.select("item_id", F.lit(True).alias("listed")).where("item_id is not null").distinct()
    known = F.when(F.col("item_id").isNotNull(), F.coalesce("listed", F.lit(False)))
    return source.interactions.join(catalogue, "item_id", "left").select(
        _row_label("user_id", "item_id").alias(ROW), "user_id", "item_id", "timestamp", known.alias("known_item")
    )


def _items(source: Source) -> DataFrame:
    def filled(name: str) -> Column:
        return F.coalesce(F.length(F.trim(name)) > 0, F.lit(False))

    first = Window.partitionBy("item_id").orderBy("source_row")
    has_image = filled("image_path") | F.coalesce(F.octet_length("image") > 0, F.lit(False))
    has_image = has_image | F.coalesce(F.size("image_paths") > 0, F.lit(False))
    items = source.items
    if source.images is not None:
        pictured = source.images.where("octet_length(image) > 0 or trim(image_path) != ''").select("item_id").distinct()
        items = items.join(pictured.withColumn("pictured", F.lit(True)), "item_id", "left")
        has_image = has_image | F.coalesce("pictured", F.lit(False))
    return items.select(
        _row_label("item_id").alias(ROW),
        "item_id",
        F.when(F.col("item_id").isNotNull(), F.row_number().over(first) == 1).alias("first_of_id"),
        (filled("title") | filled("text")).alias("has_text"),
        has_image.alias("has_image"),
    )


def _pictures(source: Source, settings: PipelineSettings) -> pd.DataFrame:
    """Whether some pictures in files or by URL are there, with the place that was tried in the name of the row.

    A catalogue without picture files has one row, which is found.
    """
    paths = picture_paths(source, settings.pictures.per_item)
    chosen = paths.orderBy(F.xxhash64("item_id"), "image_path").limit(_LOOKED_AT).collect()
    fetch_pictures({row["image_path"].strip() for row in chosen if is_url(row["image_path"])}, settings)
    rows, nearest = [], ""
    for row in chosen:
        found = find_picture(source.folder, row["image_path"], PictureCache.of(settings))
        name = f"item {row['item_id']}"
        if found.why:
            near = "" if nearest else nearest_existing(found)  # once, because to look costs time, and the others are much alike
            nearest = nearest or near
            name += f" ({in_words(found.why)}: {found.tried}" + (f"; what exists is {near}" if near else "") + ")"
        rows.append((name, not found.why))
    return pd.DataFrame(rows or [("no picture files", True)], columns=[ROW, "found"])


def _daily_volume(interactions: DataFrame, settings: PipelineSettings) -> DataFrame:
    """One row: events of the logical date, and their share of the mean over the days before (null if there are none)."""
    start, timestamp = day_start(settings.date), F.col("timestamp")
    on_date = (timestamp >= start) & (timestamp < start + DAY_SECONDS)
    before = (timestamp >= start - _WEEK * DAY_SECONDS) & (timestamp < start)
    sane = F.when(timestamp >= day_start(_EARLIEST), timestamp)
    # A log that begins less than a week ago is averaged over the days it has.
    days = F.least(F.lit(_WEEK), F.ceil((F.lit(start) - F.min(sane)) / DAY_SECONDS))
    totals = interactions.agg(
        F.count_if(on_date).alias("events_on_date"), F.count_if(before).alias("before"), days.alias("days")
    )
    usual = F.when((F.col("days") > 0) & (F.col("before") > 0), F.col("before") / F.col("days"))
    return totals.select(
        F.lit(settings.ds).alias(ROW), "events_on_date", (F.col("events_on_date") / usual).alias("share_of_usual")
    )
