"""The generators of the embedded shop, by the names of the setting `shop.generator`: a world, and how its days are drawn.

A snapshot, a benchmark or a test gets both from here, and need not know which generator was asked for.
"""

from jobs.base.settings import ShopSettings
from jobs.shop.events import Events, day_events
from jobs.shop.intent_world import IntentWorld
from jobs.shop.visits import visit_events
from jobs.shop.world import World


def world_of(shop: ShopSettings) -> World:
    """The hidden world of the generator that the settings name."""
    return {"v1": World, "v2": IntentWorld}[shop.generator](shop)


def events_of(world: World, day: int) -> Events:
    """All events of one day, by the world's own generator. They depend on the world and the day alone."""
    return visit_events(world, day) if isinstance(world, IntentWorld) else day_events(world, day)
