"""What kinds of events mean, and what they do to each other: a refund cancels a purchase, a dislike outlives a view."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.landing.mapping import DataMapping, KindRule

CANCELLED, CANCELS = "cancelled", "cancels_another"
NEGATIVE, UNWANTED, OVERRULED = "known_negative", "of_a_known_negative", "negative_overruled"

# Which of two events of one second counts, and which event of a pair: the higher rank.
_RANKS = {"ignored": 0, "history": 1, "target": 2, "negative": 3, "cancels": 4}
_PLAIN = KindRule()


def with_roles(events: DataFrame, mapping: DataMapping) -> DataFrame:
    """Add `role`, its `rank`, and `weight`: that of the kind for a target, else 0.

    Args:
        events: with kind and rating, null where they are not known.
        mapping: what kinds and ratings mean.
    """
    role, weight = F.lit(_PLAIN.role), F.lit(_PLAIN.weight)
    for kind, rule in mapping.kinds.items():
        here = F.col("kind") == kind
        role, weight = F.when(here, rule.role).otherwise(role), F.when(here, rule.weight).otherwise(weight)
    if mapping.rating is not None:
        low = (role == "target") & (F.col("rating") < mapping.rating.at_least)
        role = F.when(low, mapping.rating.below).otherwise(role)
    rank = F.lit(0)
    for name, number in _RANKS.items():
        rank = F.when(F.col("role") == name, number).otherwise(rank)
    return (
        events.withColumn("role", role)
        .withColumn("rank", rank)
        .withColumn("weight", F.when(F.col("role") == "target", weight).otherwise(0.0).cast("float"))
    )


def with_fates(events: DataFrame, mapping: DataMapping) -> DataFrame:
    """Fill `fate` where one event decides what another counts for.

    A kind that cancels takes back the latest earlier event of the same user and item (of the kind that it names) which is not
    taken back yet. A pair of user and item is a known negative if its latest negative event is not older than its latest
    target: the user does not want the item, and none of the pair's events is a positive.

    Args:
        events: with role, and with `fate` and `reason` null where nothing is decided.
        mapping: what the kinds mean.
    """
    pair = Window.partitionBy("user_id", "item_id")
    for kind, rule in mapping.kinds.items():
        if rule.role == "cancels":
            events = _cancel(events, kind, rule.cancels)
    if any(rule.role == "negative" for rule in mapping.kinds.values()) or (
        mapping.rating and mapping.rating.below == "negative"
    ):
        counts = _undecided()
        latest = {
            name: F.max(F.when(counts & (F.col("role") == name), F.col("timestamp"))).over(pair)
            for name in ("negative", "target")
        }
        unwanted = latest["negative"] >= F.coalesce(latest["target"], F.lit(-1))
        is_negative = F.col("role") == "negative"
        fate = F.when(is_negative, F.when(unwanted, NEGATIVE).otherwise(OVERRULED)).when(
            F.coalesce(unwanted, F.lit(False)), UNWANTED
        )
        events = events.withColumn("fate", F.when(counts, fate).otherwise(F.col("fate")))
    return events


def _cancel(events: DataFrame, kind: str, cancels: str) -> DataFrame:
    """Match each cancelling event with the latest earlier event that it can take back, like brackets.

    With S the number of cancelling events minus that of events which can be taken back, counted from the pair's first event on,
    an event is taken back if some later S exceeds the one at the event itself.
    """
    order = Window.partitionBy("user_id", "item_id").orderBy("timestamp", "rank", "source_row")
    counts = _undecided()
    cancelling = counts & (F.col("kind") == kind)
    able = counts & (F.col("role") != "cancels") & (F.col("kind") == cancels if cancels else F.lit(True))
    step = F.when(cancelling, 1).when(able, -1).otherwise(0)
    events = events.withColumn("_sum", F.sum(step).over(order.rowsBetween(Window.unboundedPreceding, 0)))
    highest = F.max("_sum").over(order.rowsBetween(1, Window.unboundedFollowing))
    fate = F.when(cancelling, CANCELS).when(able & (highest > F.col("_sum")), CANCELLED)
    return events.withColumn("fate", F.coalesce("fate", fate)).drop("_sum")


def _undecided() -> Column:
    return F.col("fate").isNull() & F.col("reason").isNull()
