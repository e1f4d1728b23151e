"""Temporal split of the log into training, validation and hold-out events.

Both splits are monotone in time: as days pass, the border between what is trained on and what is held out only moves
forward, so the hold-out of one day holds no event that an earlier day's model was trained on.
"""

from dataclasses import dataclass
from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.source.tables import DAY_SECONDS, day_start

Method = Literal["window", "per_user_tail"]
MIN_TAIL_EVENTS = 5  # a shorter history is not split: one held-out event of three says little and costs a third


@dataclass(frozen=True)
class SplitChoice:
    """Which split a run uses, and why."""

    method: Method
    reason: str


def choose_split(events: DataFrame, settings: PipelineSettings, previous: Method | None) -> SplitChoice:
    """The split that the settings name; for `auto` that of the previous date, or else the window if it has enough users.

    `auto` stays with what an earlier date chose. After a change, today's hold-out would have events in it that the champion
    was trained on, and the comparison would favour the champion.

    Args:
        events: user_id, timestamp of the events in use.
        settings: the ingest section decides.
        previous: method of the latest earlier date, if any.
    """
    ingest = settings.ingest
    if ingest.split != "auto":
        return SplitChoice(ingest.split, "named in ingest.split")
    if previous is not None:
        return SplitChoice(previous, "as on the previous date")
    is_train, is_holdout = (F.col("split") == name for name in ("train", "holdout"))
    users = (
        assign_split(events.withColumn("item_id", F.lit("")), "window", settings)
        .groupBy("user_id")
        .agg(F.max(is_train).alias("history"), F.max(is_holdout).alias("held"))
        .where("history and held")
        .count()
    )
    window = f"{users} users have a history and events in the last {ingest.holdout_days} days"
    if users >= ingest.min_holdout_users:
        return SplitChoice("window", f"{window}; at least {ingest.min_holdout_users} are needed")
    return SplitChoice("per_user_tail", f"only {window}; {ingest.min_holdout_users} are needed")


def assign_split(events: DataFrame, method: Method, settings: PipelineSettings) -> DataFrame:
    """Add the column `split`: train, validation or holdout.

    Args:
        events: user_id, item_id, timestamp, each pair once.
        method: `window` holds out the last `holdout_days` days up to the logical date and validates on the
            `validation_days` before; `per_user_tail` holds out the latest `ceil(holdout_fraction * n)` of a user's n
            events and validates on the `ceil(validation_fraction * n)` before, for users with `MIN_TAIL_EVENTS` or more. Of
            events of one second, a hash says which is later. Ids must not: they often grow with the age or rarity of items.
        settings: the ingest section gives the lengths and shares.
    """
    ingest = settings.ingest
    if method == "window":
        holdout_start = day_start(settings.date) + DAY_SECONDS - ingest.holdout_days * DAY_SECONDS
        validation_start = holdout_start - ingest.validation_days * DAY_SECONDS
        timestamp = F.col("timestamp")
        split = F.when(timestamp >= holdout_start, "holdout").when(timestamp >= validation_start, "validation")
        return events.withColumn("split", split.otherwise("train"))

    def share(fraction: float) -> str:
        # Rounded first, because 0.1 * 30 is a little more than 3 in floating point and must not become 4.
        return f"ceil(round({fraction} * n, 6))"

    user = Window.partitionBy("user_id")
    latest_first = (F.desc("timestamp"), F.xxhash64("user_id", "item_id"), "item_id")
    return (
        events.withColumn("n", F.count(F.lit(1)).over(user))
        .withColumn("from_end", F.row_number().over(user.orderBy(*latest_first)))
        .withColumn("held", F.expr(f"least({share(ingest.holdout_fraction)}, n - 1)"))
        .withColumn("checked", F.expr(f"least({share(ingest.validation_fraction)}, n - 1 - held)"))
        .withColumn(
            "split",
            F.when((F.col("n") >= MIN_TAIL_EVENTS) & (F.col("from_end") <= F.col("held")), "holdout")
            .when((F.col("n") >= MIN_TAIL_EVENTS) & (F.col("from_end") <= F.col("held") + F.col("checked")), "validation")
            .otherwise("train"),
        )
        .drop("n", "from_end", "held", "checked")
    )
