"""Decides which rows of the input are used and which are set aside. Each rejected row gets one reason.

A quarantine frame has the columns table, key (`file:row`), column, reason and value, all strings.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.source.kinds import with_fates, with_roles
from jobs.source.tables import DAY_SECONDS, Source, day_start, future_horizon

# What happens to an event that is not rejected.
KEPT, LATER, BEFORE_LOOKBACK = "kept", "later_than_date", "before_lookback"
TOLD_AGAIN, REPEATED_PAIR = "told_again", "repeated_pair"
IGNORED = "ignored_kind"


def clean_items(source: Source, settings: PipelineSettings) -> tuple[DataFrame, DataFrame]:
    """The catalogue with one row for each id, and the rows that were set aside.

    Returns:
        items: item_id, title, text, image_path (of the first picture), available (bool, never null: whether the item can be had
            when the date ends), and a struct `attributes` if the mapping names any.
        quarantine: rows without an id (`missing_id`), and all but the first row of an id (`repeated_item_id`).
    """
    one_path = F.col("image_paths").isNull() | (F.trim("image_path") != "")
    path = F.when(one_path, F.col("image_path")).otherwise(F.get("image_paths", F.lit(0)))
    columns: list[Column | str] = ["item_id", "title", "text", path.alias("image_path")]
    columns.append(_available(settings).alias("available"))
    if names := sorted(source.mapping.items.attributes):
        columns.append(F.struct(*names).alias("attributes"))
    rows = source.items.select([*columns, "source_row"]).withColumn("reason", _key_reason())
    items = rows.where("reason is null").drop("source_row", "reason")
    return items, _quarantine(rows, "items", F.lit("item_id"), F.col("item_id"))


def clean_users(source: Source) -> tuple[DataFrame, DataFrame] | None:
    """What is known of users beside events, and the rows that were set aside; None if the source says nothing of them.

    Returns:
        users: user_id, and a struct `attributes`; users without any attribute are left out.
        quarantine: rows without an id (`missing_id`), and all but the first row of an id (`repeated_user_id`).
    """
    if source.users is None:
        return None
    names = sorted(source.mapping.users.attributes)
    some = reduce(Column.__or__, (F.col(name).isNotNull() for name in names))
    order = F.row_number().over(Window.partitionBy("user_id").orderBy("source_row"))
    reason = F.when(F.col("user_id").isNull(), "missing_id").when(order > 1, "repeated_user_id")
    rows = source.users.select("user_id", F.struct(*names).alias("attributes"), some.alias("some"), "source_row")
    rows = rows.withColumn("reason", reason)
    users = rows.where("reason is null and some").select("user_id", "attributes")
    return users, _quarantine(rows, "users", F.lit("user_id"), F.col("user_id"))


def image_quarantine(source: Source) -> DataFrame | None:
    """Rows of the images table without an id (`missing_id`); None if there is no such table."""
    if source.images is None:
        return None
    rows = source.images.where("item_id is null").withColumn("reason", F.lit("missing_id"))
    return _quarantine(rows, "images", F.lit("item_id"), F.col("item_id"))


def clean_events(source: Source, items: DataFrame, settings: PipelineSettings) -> DataFrame:
    """Every event of the log with its item_index, and either the reason why it is rejected or its fate.

    Reasons, of which the first that applies counts: `missing_id`, `unusable_timestamp` (no time, or before 1970),
    `future_timestamp` (more than a day past the clock), `unknown_item`, `bot_user` (all events of a user with more than
    `max_events_per_user_day` on one day, if the log knows days). Fates: an event that is told several times (same user, item
    and second) is kept once, as its strongest kind. Events after the logical date are left for later runs. None of these rules
    judges them, so a run never sees the future. What kinds of events do to each other is said in `jobs.source.kinds`. A pair of
    user and item is used once, at the first time of its strongest kind in the whole log, so a repeat can never be a positive of
    the hold-out that was trained on; unless `repeats` of the mapping is `again`.

    Args:
        source: the input tables.
        items: item_index and item_id of the catalogue.
        settings: logical date, look-back and limits.

    Returns:
        user_id, item_id, item_index, timestamp, source_row, kind, weight (0 for an event that is history only), reason (null
        if not rejected), fate (null if rejected).
    """
    timestamp, end = F.col("timestamp"), day_start(settings.date) + DAY_SECONDS
    row_reason = (
        F.when(F.col("user_id").isNull() | F.col("item_id").isNull(), "missing_id")
        .when(timestamp.isNull() | (timestamp < 0), "unusable_timestamp")
        .when(timestamp > future_horizon(settings), "future_timestamp")
    )
    judged = with_roles(source.interactions, source.mapping).withColumn("reason", row_reason)
    judged = judged.withColumn("later", timestamp >= end)
    apart = F.when(F.col("reason").isNull(), F.when(F.col("later"), LATER).when(F.col("role") == "ignored", IGNORED))
    aside = judged.where("reason is not null or later or role = 'ignored'").select(
        *_EVENT, F.lit(None).cast("bigint").alias("item_index"), "reason", apart.alias("fate")
    )

    rows = judged.where("reason is null and not later and role != 'ignored'")
    events = _known_and_told(rows.repartition("user_id"), items)
    if source.mapping.days_are_real and _may_have_bots(rows, settings):
        events = events.join(_bots(events, settings), "user_id", "left").withColumn("reason", F.coalesce("reason", "bot"))
    events = with_fates(events, source.mapping)
    # The least of a pair's rows by this order is the one that counts; a pair is sorted once only.
    out = F.col("fate").isNotNull() | F.col("reason").isNotNull()
    strength = F.struct(out.alias("out"), -F.col("rank"), -F.col("weight"), "timestamp", "source_row")
    repeated = (strength != F.min(strength).over(Window.partitionBy(*_PAIR))) & F.lit(source.mapping.repeats == "once")
    first_used = end - settings.data.lookback_days * DAY_SECONDS if settings.data.lookback_days else 0
    fate = F.when(repeated, REPEATED_PAIR).when(timestamp < first_used, BEFORE_LOOKBACK).otherwise(KEPT)
    used = events.withColumn("fate", F.when(F.col("reason").isNull(), F.coalesce("fate", fate)))
    return used.select(*_EVENT, "item_index", "reason", "fate").unionByName(aside)


def _known_and_told(rows: DataFrame, items: DataFrame) -> DataFrame:
    """Add item_index, `reason` of events about unknown items, and `fate` of those that were told before.

    Args:
        rows: events that can be used, all of a user in one partition.
        items: item_index and item_id of the catalogue.
    """
    timestamp, cancels = F.col("timestamp"), F.col("role") == "cancels"
    same_second = Window.partitionBy(*_PAIR).orderBy("timestamp", F.desc("rank"), F.desc("weight"), "source_row")
    told_before = (F.lag("timestamp").over(same_second) == timestamp) & (F.lag(cancels).over(same_second) == cancels)
    return (
        rows.withColumn("pair", F.xxhash64("user_id", "item_id"))
        .withColumn("fate", F.when(F.coalesce(told_before, F.lit(False)), TOLD_AGAIN))
        .join(items.select("item_id", "item_index"), "item_id", "left")
        .withColumn("reason", F.when(F.col("item_index").isNull(), "unknown_item"))
    )


def _may_have_bots(rows: DataFrame, settings: PipelineSettings) -> bool:
    """Whether any user has so many events at all; most logs have none, and need not be counted by days."""
    most = rows.groupBy("user_id").count().agg(F.max("count")).collect()[0][0]
    return (most or 0) > settings.ingest.max_events_per_user_day


def _bots(events: DataFrame, settings: PipelineSettings) -> DataFrame:
    """user_id of those with too many events on one day, and `bot`, their reason."""
    days = (
        events.where("reason is null and fate is null")
        .groupBy("user_id", F.expr(f"timestamp div {DAY_SECONDS}").alias("day"))
        .count()
        .where(F.col("count") > settings.ingest.max_events_per_user_day)
    )
    return days.select("user_id", F.lit("bot_user").alias("bot")).distinct()


def event_quarantine(events: DataFrame) -> DataFrame:
    """Quarantine of the log, from `clean_events`."""
    reason = F.col("reason")
    column = (
        F.when((reason == "bot_user") | ((reason == "missing_id") & F.col("user_id").isNull()), "user_id")
        .when(reason.isin("unknown_item", "missing_id"), "item_id")
        .otherwise("timestamp")
    )
    value = F.when(column == "user_id", F.col("user_id")).when(column == "item_id", F.col("item_id"))
    return _quarantine(events, "interactions", column, F.coalesce(value, F.col("timestamp").cast("string")))


# A pair's hash comes first, because a number sorts faster than two texts.
_PAIR = ("pair", "user_id", "item_id")
_EVENT = ("user_id", "item_id", "timestamp", "source_row", "kind", "weight")


def _available(settings: PipelineSettings) -> Column:
    end = day_start(settings.date) + DAY_SECONDS
    begun = F.coalesce(F.col("available_from") <= end, F.lit(True))
    lasts = F.coalesce(F.col("available_until") > end, F.lit(True))
    return F.coalesce("available", F.lit(True)) & begun & lasts


def _key_reason() -> Column:
    order = F.row_number().over(Window.partitionBy("item_id").orderBy("source_row"))
    return F.when(F.col("item_id").isNull(), "missing_id").when(order > 1, "repeated_item_id")


def _quarantine(rows: DataFrame, table: str, column: Column, value: Column) -> DataFrame:
    file = F.regexp_extract("source_row.file", r"[^/]+$", 0)
    return rows.where("reason is not null").select(
        F.lit(table).alias("table"),
        F.concat_ws(":", file, F.col("source_row.row").cast("string")).alias("key"),
        column.alias("column"),
        "reason",
        value.alias("value"),
    )
