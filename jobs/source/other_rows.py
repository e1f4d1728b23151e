"""What became of the rows of the tables beside the log that are neither used nor set aside as damaged, by reason."""

from pyspark.sql import DataFrame

from jobs.landing.records import LandedTable
from jobs.source.tables import Source

# Why rows are not used. An id is repeated, or missing, without damage only where `repeated_ids: first` expects that.
REPEATED_ID, MISSING_ID, UNKNOWN_ITEM = "repeated_id", "missing_id", "unknown_item"
WITHOUT_ATTRIBUTE, FORGOTTEN = "without_attribute", "forgotten"


def rows_of_others(source: Source) -> dict[str, int]:
    """Rows that were read of each table beside the log."""
    return {name: table.rows for name, table in source.landing.tables.items() if name != "interactions"}


def not_used(
    source: Source, items: DataFrame, num_items: int, users: DataFrame | None, forgotten: int, rejected: int
) -> dict[str, dict[str, int]]:
    """Table -> reason -> rows that were not used; only reasons that there are.

    Args:
        source: the input tables, as they were read.
        items: item_id of the catalogue.
        num_items: its number of items.
        users: those that are used; None if nothing is known of users beside the log.
        forgotten: rows of users who were forgotten.
        rejected: rows of users that were set aside.
    """
    tables, found = source.landing.tables, {}
    if source.mapping.items.repeated_ids == "first":
        found["items"] = _of_first(tables["items"], "item_id", num_items)
    if source.images is not None:
        named = source.images.where("item_id is not null").select("item_id")
        found["images"] = {UNKNOWN_ITEM: named.join(items.select("item_id"), "item_id", "left_anti").count()}
    if source.users is not None and users is not None:
        first = source.mapping.users.repeated_ids == "first"
        found["users"] = _of_first(tables["users"], "user_id", source.users.count()) if first else {}
        found["users"][FORGOTTEN] = forgotten
        gone = sum(found["users"].values()) + rejected
        found["users"][WITHOUT_ATTRIBUTE] = tables["users"].rows - gone - users.count()
    return {table: some for table, reasons in found.items() if (some := {why: rows for why, rows in reasons.items() if rows})}


def _of_first(table: LandedTable, key: str, ids: int) -> dict[str, int]:
    """Rows without an id, and all but the first of each of `ids` ids."""
    missing = sum(part.missing.get(key, 0) for part in table.parts)
    return {REPEATED_ID: table.rows - missing - ids, MISSING_ID: missing}
