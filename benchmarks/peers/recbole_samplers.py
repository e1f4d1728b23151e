"""RecBole's own samplers over a made-up log: `recbole.sampler.Sampler`, unmodified."""

import copy
import time
from typing import Any, NamedTuple

import numpy as np
import torch

_USERS, _EVENTS_PER_USER = 4096, 50


class _Log(NamedTuple):
    """The parts of a RecBole dataset that the sampler uses."""

    uid_field: str
    iid_field: str
    user_num: int
    item_num: int
    inter_feat: dict[str, torch.Tensor]


def recbole_samplers(popularity: np.ndarray) -> tuple[dict[str, Any], float]:
    """The uniform and the popularity sampler over a log in which every item occurs.

    Args:
        popularity: float [N], share of each item; item i is RecBole's item i + 1, because 0 is its padding.

    Returns:
        The samplers by name, and the seconds that the popularity sampler took to build its alias table.
    """
    from recbole.sampler import Sampler

    random = np.random.default_rng(0)
    share = popularity.astype(np.float64)
    drawn = random.choice(len(share), size=_USERS * _EVENTS_PER_USER, p=share / share.sum())
    items = torch.from_numpy(np.concatenate([np.arange(len(share)), drawn]) + 1)
    users = torch.from_numpy(random.integers(_USERS, size=len(items)))
    log = _Log("user", "item", _USERS, len(popularity) + 1, {"user": users, "item": items})
    uniform = Sampler(["train"], [log], distribution="uniform").set_phase("train")
    by_popularity = copy.copy(uniform)
    start = time.perf_counter()
    by_popularity.set_distribution("popularity")
    return {"uniform": uniform, "popularity": by_popularity}, time.perf_counter() - start
