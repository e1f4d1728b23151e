"""Trains the challenger once more on all events up to the date, and checks the result before it may serve.

The figures of a date come from a model that has not seen the latest days, because these are what it is judged by. Customers are
better served by a model that has seen them. So the same settings train a second model on all events, for as many epochs as
validation found best. It serves if it is sound and close enough to the model that was judged; otherwise that one serves.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from esans_core.evaluation import encode_catalogue, retrieve
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower
from jobs.lake.event_log import AllEvents, some_users
from jobs.training.data import TrainingData

log = logging.getLogger(__name__)

OVERLAP_AT = 50
# Two trainings with the same data and settings but other seeds share half of a user's best items or more. A model with less
# than this share of the judged model's items recommends something that nobody has judged.
LEAST_OVERLAP = 0.2
_LEAST_SPREAD = 0.5  # of the judged model's: below, the items have moved together
_USERS = 1000


def has_later_events(data: TrainingData) -> bool:
    """Whether a user with a history has events beyond the training events."""
    return bool(data.log.num_evaluated("validation") or data.log.num_evaluated("holdout"))


def with_all_events(data: TrainingData) -> TrainingData:
    """The same data, with all events of the log for training."""
    everything = AllEvents(data.log)
    counts = torch.zeros_like(data.num_train)
    for block in range(everything.num_blocks):
        counts += torch.bincount(everything.read(block).items, minlength=len(counts))
    return replace(data, log=everything, num_train=counts)


def checked(judged: TwoTower, refit: TwoTower, data: TrainingData) -> dict[str, Any]:
    """Whether the refit may serve in place of the judged model.

    Args:
        judged: the model that validation and hold-out know.
        refit: the model of all events.
        data: what the judged model was trained on.

    Returns:
        JSON values: `overlap`, the share of a user's best items that both have, over a sample of users; `problem`, why the
        refit must not serve, to stand after "but"; None if it may.
    """
    found: dict[str, Any] = {"overlap": None, "problem": None}
    with torch.no_grad():
        items = [encode_catalogue(model) for model in (judged, refit)]
        if not bool(items[1].isfinite().all()):
            return found | {"problem": "an item embedding is not finite"}
        spread = [float(each.std(dim=0).mean()) for each in items]
        if spread[1] < _LEAST_SPREAD * spread[0]:
            return found | {"problem": f"its items lie close together: a spread of {spread[1]:.4f} after {spread[0]:.4f}"}
        found["overlap"] = overlap = round(_overlap((judged, refit), items, data), 4)
    if overlap < LEAST_OVERLAP:
        found["problem"] = f"it has only {overlap:.0%} of a user's best items in common with the judged model"
    return found


def _overlap(models: tuple[TwoTower, TwoTower], items: list[torch.Tensor], data: TrainingData) -> float:
    split = "holdout" if data.log.num_evaluated("holdout") else "validation"
    some = some_users(data.log, split, _USERS)
    sequences = replace(Sequences.past(some.items, some.offsets), features=some.features)
    users, ends = torch.arange(sequences.num_users), sequences.offsets[1:]
    row, item = sequences.seen(users, "validation")
    # At most a twentieth of the catalogue, because in a small one even models that know nothing would share many of 50 items.
    k, device = min(OVERLAP_AT, max(1, len(items[0]) // 20)), items[0].device
    tops = []
    for model, items_ND in zip(models, items, strict=True):
        was_training = model.training
        users_BD = model.eval().encode_users_of(sequences, users, ends)
        model.train(was_training)
        tops.append(retrieve(users_BD, items_ND, (row.to(device), item.to(device)), k))
    return float((tops[0][:, :, None] == tops[1][:, None]).any(2).double().mean())


def refit(
    judged: TwoTower, data: TrainingData, train: Callable[[TrainingData], TwoTower]
) -> tuple[TwoTower | None, dict[str, Any]]:
    """The model that serves, if it is not the judged one, and what is known of it.

    Args:
        judged: the model of the training events.
        data: what it was trained on.
        train: makes a model of other data in the same way.

    Returns:
        The refit, or None if it must not serve; and the result of `checked`.
    """
    if not has_later_events(data):
        return None, {"overlap": None, "problem": None}  # nothing is left to learn from
    model = train(with_all_events(data))
    found = checked(judged, model, data)
    if found["problem"]:
        log.warning("the model of all events does not serve: %s; the judged one serves instead", found["problem"])
        return None, found
    log.info("the model of all events shares %.0f %% of a user's best items with the judged one", 100 * found["overlap"])
    return model, found
