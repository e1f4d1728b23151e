"""Counts what a feature table holds: for its manifest, the report and the gates."""

from collections import Counter
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_LISTED = 20  # number of ids listed for each bad status


def counts_of_items(table: DataFrame) -> dict[str, Any]:
    """What a table of `publish_view` holds.

    Returns:
        Numbers of items that are ok, missing and unreadable; `missing_items` and `unreadable_items`, the first ids of such;
        `traits`, the number of items that have each; and `dim`, the length of the vectors. If items may have several pictures,
        also `pictures`, the number of all of theirs, and `lost_pictures`: cause -> number of pictures that are not used, though
        their item has others that are.
    """
    groups = table.groupBy("status", "traits").count().collect()
    traits: Counter[str] = Counter()
    for row in groups:
        traits.update(dict.fromkeys(row["traits"] or [], row["count"]))
    counts: dict[str, Any] = {"ok": sum(row["count"] for row in groups if row["status"] == "ok")}
    counts["traits"] = dict(sorted(traits.items()))
    for status in ("missing", "unreadable"):
        counts[status] = sum(row["count"] for row in groups if row["status"] == status)
        first = table.where(F.col("status") == status).orderBy("item_index").limit(_LISTED) if counts[status] else None
        counts[f"{status}_items"] = [row["item_id"] for row in first.select("item_id").collect()] if first is not None else []
    vector = table.where("vector is not null").select(F.size("vector")).first()
    counts["dim"] = vector[0] if vector else 0
    return counts | (_of_pictures(table) if "pictures" in table.columns else {})


def _of_pictures(table: DataFrame) -> dict[str, Any]:
    pictures = table.where("pictures is not null").select(F.col("status").alias("of_item"), F.inline("pictures"))
    cause = F.coalesce(F.get("traits", F.lit(0)), F.col("status"))
    lost = pictures.where("of_item = 'ok' and status != 'ok'").groupBy(cause.alias("cause")).count().collect()
    alone = table.where("pictures is null and status != 'missing'").count()
    return {
        "pictures": alone + pictures.count(),
        "lost_pictures": {row["cause"]: row["count"] for row in sorted(lost)},
    }
