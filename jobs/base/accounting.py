"""What became of the rows of a source, in words. The check before a run, the summary and the report all tell it from here."""

from collections.abc import Mapping
from typing import Any


def accounting(ingest: Mapping[str, Any]) -> list[str]:
    """What became of the rows that were read: used, set aside and not used add up to all of them; and what was not read.

    Args:
        ingest: the summary of an ingest; nothing is said of what it does not hold.
    """
    total = (ingest.get("rows_read") or {}).get("interactions")
    if not total:
        return []
    unused = {name: number for name, number in (ingest.get("not_used") or {}).items() if number}
    later = unused.pop("later_than_date", 0)
    used, aside = sum((ingest.get("events") or {}).values()), sum((ingest["rejected"].get("interactions") or {}).values())
    named = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in unused.items())
    detail = f" ({named})" if named else ""
    found = [f"of {total:,} events read, {used:,} were used, {aside:,} set aside and {sum(unused.values()):,} not used{detail}"]
    targets = sum((ingest.get("targets") or ingest.get("events") or {}).values())
    if targets < used:
        found.append(f"{targets:,} of the {used:,} are what models learn to find, the others only describe users")
    found += [f"{later:,} events after the date were left for later runs"] if later else []
    if forgotten := ingest.get("forgotten"):
        found.append(f"{forgotten:,} events of users who were forgotten were left out before that")
    return found + _others(ingest) + _left_out(ingest)


def _others(ingest: Mapping[str, Any]) -> list[str]:
    """What became of the rows of the other tables."""
    found = []
    for table, total in ingest["rows_read"].items():
        if table == "interactions":
            continue
        aside = sum((ingest["rejected"].get(table) or {}).values())
        unused = (ingest.get("unused_rows") or {}).get(table, {})
        named = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in unused.items())
        used = total - aside - sum(unused.values())
        found.append(
            f"of {total:,} rows of {table}, {used:,} were used, {aside:,} set aside and {sum(unused.values()):,} not used"
            + (f" ({named})" if named else "")
        )
    return found


def _left_out(ingest: Mapping[str, Any]) -> list[str]:
    """The rows of the owner's tables that were never read as events, items or pictures, because `data.yaml` says so."""
    words = {"where": "by where", "empty_list": "with an empty list"}
    return [
        f"data.yaml left out {sum(reasons.values()):,} rows of {table} before that ("
        + ", ".join(f"{number:,} {words.get(reason, reason)}" for reason, number in reasons.items())
        + ")"
        for table, reasons in (ingest.get("left_out") or {}).items()
    ]


def set_aside(ingest: Mapping[str, Any]) -> list[str]:
    """How many rows of each table were set aside, for which reasons of the `quarantine`. Arguments as for `accounting`."""
    found, read = [], ingest.get("rows_read") or {}
    for table, reasons in (ingest.get("rejected") or {}).items():
        share = f" of {read[table]:,}" if read.get(table) else ""
        named = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
        detail = f" ({named})" if named else ""
        found.append(f"{table}: {sum(reasons.values()):,}{share} rows were set aside{detail}")
    return found


def splits(ingest: Mapping[str, Any]) -> list[str]:
    """The events of each split, and which split it is and why. Arguments as for `accounting`."""
    events = ingest.get("events") or {}
    parts = ", ".join(f"{name} {events[name]:,}" for name in ("train", "validation", "holdout") if name in events)
    return [f"events: {parts}", f"split '{ingest.get('split')}': {ingest.get('split_reason')}"]
