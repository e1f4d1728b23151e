"""What the summary and the report's page both say in sentences: of pictures, and of what is known of users."""

from collections.abc import Mapping
from typing import Any

from jobs.source.picture_words import counted


def picture_sentences(stats: Mapping[str, Any]) -> list[str]:
    """Which pictures are not used though their items have others, and what was done about pictures by URL.

    Args:
        stats: of the visual view, from the summary.
    """
    found = []
    if lost := stats.get("lost_pictures"):
        total = f"{stats['pictures']:,} pictures, {sum(lost.values()):,}"
        found.append(f"of {total} cannot be used, but their items have others ({counted(lost)})")
    if fetched := stats.get("fetched"):
        found.append(f"pictures by URL: {counted(fetched)}")
    return found


def trait_sentences(stats: Mapping[str, Any]) -> list[str]:
    """What was found in the items' pictures, and why some items have none. Arguments as for `picture_sentences`."""
    traits = counted(stats.get("traits") or {})
    return [f"pictures of the items: {traits}"] if traits else []


def user_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Which share of the users has each attribute, and how far it has moved since the date before."""
    told = (
        f"{name} {found['known']:.1%}" + ("" if found["drift"] is None else f" (moved by {found['drift']:.2f} deviations)")
        for name, found in (summary.get("user_attributes") or {}).items()
    )
    joined = ", ".join(told)
    return [f"known of users: {joined}"] if joined else []
