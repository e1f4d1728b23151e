"""An estimate of what a run will cost, from what days of several sources have taken."""

import os

from jobs.base.settings import PipelineSettings

# Fitted to whole days on two cores, which tests/jobs/preflight/test_cost.py names.
_STARTS_MINUTES, _CORES = 3.0, 2
_EVENTS_PER_MINUTE, _ITEMS_PER_MINUTE, _PICTURES_PER_MINUTE = 500_000, 10_000, 3_000
_BASE_GB, _GB_PER_MILLION_ITEMS, _GB_PER_MILLION_EVENTS = 4.0, 4.0, 0.1


def cost_sentence(settings: PipelineSettings, *, items: int, pictures: int, events: int) -> str:
    """Minutes and memory of a first run, in words. Later days encode new items only.

    Args:
        settings: epochs and width of the towers.
        items: items of the catalogue.
        pictures: how many of them have a picture.
        events: training events.
    """
    minutes = cost_minutes(settings, items=items, pictures=pictures, events=events)
    memory = _BASE_GB + items / 1e6 * _GB_PER_MILLION_ITEMS + events / 1e6 * _GB_PER_MILLION_EVENTS
    longer = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
    return f"A first run takes about {longer} and {memory:.0f} GB of memory on this machine. Later days are shorter. (Rough.)"


def cost_minutes(settings: PipelineSettings, *, items: int, pictures: int, events: int) -> float:
    """Minutes of a first run. Arguments as for `cost_sentence`."""
    training = settings.training
    speed = max(1.0, (os.cpu_count() or 1) / _CORES)
    passes = training.epochs * (3 if training.refit else 2) * max(1.0, training.embedding_dim / 64)
    work = events * passes / _EVENTS_PER_MINUTE + items / _ITEMS_PER_MINUTE + pictures / _PICTURES_PER_MINUTE
    return _STARTS_MINUTES + work / speed
