"""What the summary and the report's page both say in sentences: of pictures, and of what is known of users."""

from collections.abc import Mapping
from typing import Any


def picture_sentences(stats: Mapping[str, Any]) -> list[str]:
    """Which pictures are not used though their items have others, and what was done about pictures by URL.

    Args:
        stats: of the visual view, from the summary.
    """
    found = []
    if lost := stats.get("lost_pictures"):
        total = f"{stats['pictures']:,} pictures, {sum(lost.values()):,}"
        found.append(f"of {total} are not used ({_counted(lost)}); their items have others")
    if fetched := stats.get("fetched"):
        found.append(f"pictures by URL: {_counted(fetched)}")
    return found


def user_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Which share of the users has each attribute, and how far it has moved since the date before."""
    told = (
        f"{name} {found['known']:.1%}" + ("" if found["drift"] is None else f" (moved by {found['drift']:.2f} deviations)")
        for name, found in (summary.get("user_attributes") or {}).items()
    )
    joined = ", ".join(told)
    return [f"known of users: {joined}"] if joined else []


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
