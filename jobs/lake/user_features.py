"""What a date's `sequences` know of users beside events: how many lack it, and how far it has moved since another date."""

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from esans_core.attributes import AttributeEncoder
from jobs.lake.tables import Lake

if TYPE_CHECKING:
    from esans_core.user_input import Blocks


def num_features(fingerprint: str) -> int:
    """G, the number of features that an encoder gives."""
    return sum(width for _, width in AttributeEncoder.from_fingerprint(fingerprint).layout.values())


def about_features(log: "Blocks", fingerprint: str) -> dict[str, Any]:
    """The statistics of the features, as JSON values for a manifest.

    Args:
        log: its sequences have features.
        fingerprint: of the encoder that made them.

    Returns:
        `encoder`; `users`, their number; and `attributes`: name -> `known`, the number of users who have it, and `mean` and
        `std` of its features over these users (std 0 for a constant one).
    """
    from esans_core.user_input import user_statistics  # imported here, because pages need the rest without torch

    found = user_statistics(log)
    assert found is not None, "the sequences have features"
    mean_G, std_G, count_G = (values.tolist() for values in found)
    attributes, first = {}, 0
    for name, (_, width) in AttributeEncoder.from_fingerprint(fingerprint).layout.items():
        end = first + width
        deviations = [0.0 if math.isinf(value) else round(value, 6) for value in std_G[first:end]]
        means = [round(value, 6) for value in mean_G[first:end]]
        attributes[name] = {"known": count_G[first] if width else 0, "mean": means, "std": deviations}
        first = end
    users = sum(log.read(block).num_users for block in range(log.num_blocks))
    return {"encoder": fingerprint, "users": users, "attributes": attributes}


@dataclass(frozen=True)
class AttributeHealth:
    """An attribute of users: its name, the share of users who have it, and its `drift` (None if there is nothing before)."""

    name: str
    known: float
    drift: float | None


def attribute_health(lake: Lake, date: dt.date) -> list[AttributeHealth]:
    """What a date's users' attributes look like beside those of the latest earlier date; empty if there are none."""
    today = lake.manifest("sequences", date)["stats"].get("user_features")
    if not today:
        return []
    earlier = lake.previous_date("sequences", date)
    before = (lake.manifest("sequences", earlier)["stats"].get("user_features") if earlier else None) or {"attributes": {}}
    return [
        AttributeHealth(
            name,
            found["known"] / max(1, today["users"]),
            drift(found, before["attributes"][name]) if name in before["attributes"] else None,
        )
        for name, found in today["attributes"].items()
    ]


def drift(today: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
    """How far the mean of an attribute's features has moved, in deviations: the root of the mean square over the features.

    Args:
        today: what `about_features` says of the attribute.
        before: the same of another date.

    Returns:
        None if the attribute has other features than before, or if it varied for nobody.
    """
    if len(today["mean"]) != len(before["mean"]):
        return None
    moved = [
        ((now - then) / deviation) ** 2
        for now, then, deviation in zip(today["mean"], before["mean"], before["std"], strict=True)
        if deviation > 0
    ]
    return math.sqrt(sum(moved) / len(moved)) if moved else None
