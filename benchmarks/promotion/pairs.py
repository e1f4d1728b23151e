"""Pairs of real models on one hold-out. The more alike their recall is, user by user, the more a comparison can tell.

It trains two-tower models on the embedded shop: two of one day with different seeds, and one of each of some earlier days, like
a champion from that day. All rank the same users of the last day's hold-out.

python -m benchmarks.promotion pairs
"""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.data import sequences_from_events
from benchmarks.quality.prepare import text_view
from esans_core.evaluation import evaluate
from esans_core.loader import Loader
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower
from esans_core.training import build_optimizers, train_epoch
from jobs.base.settings import IngestSettings, ShopSettings
from jobs.shop.events import day_events
from jobs.shop.texts import describe
from jobs.shop.world import World

K = 50
AGES = (0, 1, 7)  # days that the champion is older than the challenger; 0: another seed of the same day
_EPOCHS, _LEARNING_RATE, _TEMPERATURE = 6, 4e-3, 0.1
_CHALLENGER_SEED, _CHAMPION_SEED = 1, 2


def measure(shop: ShopSettings | None = None, epochs: int = _EPOCHS) -> dict[str, list[list[int]]]:
    """Train the models and count users.

    Args:
        shop: the shop whose users are ranked, drawn by generator v1; the one of the default size unless given.
        epochs: passes over the training events.

    Returns:
        Name of a pair, `age <days>` -> rows [relevant items, hits of the challenger, hits of the champion, users].
    """
    world = World(shop or ShopSettings(generator="v1"))
    content = _content(world)
    today = _sequences(world, 0)
    challenger = _hits(_trained(world, content, 0, _CHALLENGER_SEED, epochs), today)
    found = {}
    for age in AGES:
        champion = _hits(_trained(world, content, age, _CHAMPION_SEED, epochs), today)
        counts = Counter(zip(*(part.tolist() for part in (*challenger, champion[1])), strict=True))
        found[f"age {age}"] = [[*cell, users] for cell, users in sorted(counts.items())]
    return found


def _content(world: World) -> Tensor:
    """float32 [N, F], texts of the whole catalogue, NaN where an item has none."""
    leaves = world.item_leaf(np.arange(world.num_items(0)))
    texts = [describe(world, item, world.look(item, leaf)) for item, leaf in enumerate(leaves.tolist())]
    return torch.from_numpy(text_view([text.title for text in texts], [text.text for text in texts]))


def _sequences(world: World, age: int) -> Sequences:
    """The log as it was some days ago, split by time as in ingestion. Users and items have the numbers of today."""
    ingest = IngestSettings()
    days = np.arange(1 - world.shop.num_days, 1) - age
    events = [day_events(world, int(day)) for day in days]
    user, item = np.concatenate([day.user for day in events]), np.concatenate([day.item for day in events])
    when = np.repeat(days, [len(day.user) for day in events]) + age
    _, first = np.unique(user * world.num_items(0) + item, return_index=True)
    first.sort()
    split = (when > -ingest.holdout_days - ingest.validation_days).astype(np.int64) + (when > -ingest.holdout_days)
    return sequences_from_events(user[first], item[first], split[first], world.num_users(0))


def _trained(world: World, content: Tensor, age: int, seed: int, epochs: int) -> TwoTower:
    sequences = _sequences(world, age)
    users, positions = sequences.training_targets()
    frequency = torch.bincount(sequences.items[positions], minlength=len(content)).float()
    torch.manual_seed(seed)
    model = TwoTower(content, frequency > 0, dim=64, max_history=50, id_dropout=0.1)
    objective = RetrievalObjective(
        NegativeConfig.for_method("debiased_mns", num_pool=1024),
        frequency / frequency.sum(),
        temperature=_TEMPERATURE,
        learn_temperature=False,
    )
    optimizers = build_optimizers(model, objective, learning_rate=_LEARNING_RATE, weight_decay=1e-4)
    loader = Loader(sequences, batch_size=1024, max_history=50)
    for epoch in range(epochs):
        train_epoch(model, objective, loader, optimizers, seed=1000 * seed + epoch)
    return model


def _hits(model: TwoTower, log: Sequences) -> tuple[Tensor, Tensor]:
    """int64 [B] each: relevant items of every hold-out user, and how many of them are among the first K."""
    found = evaluate(model, log, "holdout", ks=(K,))
    return found.num_relevant, (found.recall[K] * found.num_relevant).round().long()
