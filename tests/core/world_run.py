"""Trains towers with the methods named on the command line; prints losses and sums of weights. Runs alone or under torchrun."""

import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed

from esans_core import (
    ClusterIndex,
    NegativeConfig,
    RetrievalObjective,
    SemanticNegativeSampler,
    Sequences,
    TwoTower,
    build_optimizers,
    train_epoch,
)
from esans_core.loader import Loader
from esans_core.towers import Order
from esans_core.world import World

N, USERS = 60, 70


def main() -> None:
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    world = World.current()
    found = {method: losses(method, world) for method in sys.argv[2:]}
    Path(f"{sys.argv[1]}-{world.rank}.json").write_text(json.dumps(found))
    if distributed.is_initialized():
        distributed.destroy_process_group()


def losses(method: str, world: World) -> dict[str, list[float]]:
    """Losses of some epochs, and the sum of absolute weights of each parameter after them."""
    generator = torch.Generator().manual_seed(0)
    length = torch.randint(6, 20, (USERS,), generator=generator) + (14 if method.endswith(":large_sets") else 0)
    items = torch.randint(N, (int(length.sum()),), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), length.cumsum(0)])
    log = Sequences(items, offsets, length - 4, torch.ones(USERS, dtype=torch.long))
    order: Order = "set" if method.endswith(":large_sets") else "sequence"
    loader = Loader(log, batch_size=63, max_history=8 if order == "sequence" else 30, ordered=order == "sequence", world=world)
    assert loader.large_sets == (order == "set")
    frequency = loader.target_frequency(N)
    torch.manual_seed(1)
    index = ClusterIndex.from_labels(torch.arange(N) % 4, torch.arange(N) // 4 % 3)
    objective = RetrievalObjective(
        NegativeConfig.for_method(method.split(":")[0], num_pool=16, num_cached=90, share_draws=method.endswith(":shared")),
        frequency,
        temperature=0.1,
        sampler=SemanticNegativeSampler(index, torch.randn(4, 5), items_per_cluster=3),
        item_groups=torch.arange(N) % 4,
        num_users=USERS,
    )
    sparse = method.endswith(":sparse")
    model = TwoTower(torch.randn(N, 6), torch.arange(N) < 55, order=order, dim=16, max_history=30, sparse_ids=sparse)
    optimizers = build_optimizers(model, objective, learning_rate=1e-2, weight_decay=1e-2)
    means = [
        train_epoch(model, objective, loader, optimizers, seed=seed, world=world)
        for seed in range(2 if order == "sequence" else 8)
    ]
    return {"losses": means, "weights": [float(value.detach().abs().sum()) for value in model.parameters()]}


if __name__ == "__main__":
    main()
