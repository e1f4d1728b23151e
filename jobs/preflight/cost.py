"""A rough estimate of what a run will cost."""

import os

from jobs.base.settings import PipelineSettings

# Measured on two cores: a day of the embedded shop (3,000 items with pictures, 42,000 training events, ten epochs for each of
# two models and a refit) takes 7 minutes, of which starting Airflow's steps takes 4; 12 pictures of 256 pixels take a second.
_STARTS_MINUTES, _CORES = 4.0, 2
_EVENTS_PER_MINUTE, _ITEMS_PER_MINUTE = 600_000, 1_500
_BASE_GB, _GB_PER_MILLION_ITEMS, _GB_PER_MILLION_EVENTS = 3.5, 4.0, 0.1


def cost_sentence(settings: PipelineSettings, *, items: int, events: int) -> str:
    """Minutes and memory of a first run, in words. Later days encode new items only.

    Args:
        settings: epochs and width of the towers.
        items: items of the catalogue.
        events: training events.
    """
    training = settings.training
    speed = max(1.0, (os.cpu_count() or 1) / _CORES)
    passes = training.epochs * (3 if training.refit else 2) * max(1.0, training.embedding_dim / 64)
    minutes = _STARTS_MINUTES + (events * passes / _EVENTS_PER_MINUTE + items / _ITEMS_PER_MINUTE) / speed
    memory = _BASE_GB + items / 1e6 * _GB_PER_MILLION_ITEMS + events / 1e6 * _GB_PER_MILLION_EVENTS
    longer = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
    return f"A first run takes about {longer} and {memory:.0f} GB of memory on this machine. Later days are shorter. (Rough.)"
