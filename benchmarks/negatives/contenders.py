"""The methods that are compared, each with at most 15 negatives for a positive, as in the paper's experiments.

ESANS draws 10 easy and 5 hard items and makes virtual ones of them. Every other method may draw, or encode, as many items.
"""

from dataclasses import dataclass, field
from typing import Any

from esans_core.defaults import SAMPLER, TRAINING

DRAWS = SAMPLER.num_easy_clusters * SAMPLER.items_per_cluster + SAMPLER.num_hard
ENCODED = DRAWS * TRAINING.batch_size  # items that draws for each positive make a step encode, at most
SEEDS = (1, 2, 3, 4, 5)
LOGS = ("tiktok", "movielens-posters", "s3rec_beauty")
_UNCORRECTED = {"negatives.log_q": 0.0}
_DRAWN = {"negatives.num_per_positive": DRAWS}
_CORRECTED = {
    "negatives.in_batch": False,
    "negatives.num_pool": 0,
    "negatives.share_draws": False,
    "negatives.virtual_weight": 1.0,
}
_ADDED = {"negatives.share_draws": False, "negatives.num_pool": 0, "negatives.virtual_weight": 1.0}  # on top of the batch
_NO_VIRTUAL = {"negatives.simple_interpolation": False, "negatives.hard_interpolation": False}
_RANDOM = {"clusters.random": True}


@dataclass(frozen=True)
class Contender:
    """One way to choose negatives.

    Attributes:
        title: its name in the table.
        method: name of the method in the library.
        settings: what differs from the library's defaults, as `benchmarks.published.trial.Trial` takes it.
        against: name of the contender that its gain is stated against, in `CONTENDERS`; None for none.
    """

    title: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    against: str | None = None


CONTENDERS: dict[str, Contender] = {
    "uniform": Contender("15 uniform", "uniform", _DRAWN | _UNCORRECTED),
    "uniform_logq": Contender("15 uniform, corrected", "uniform", _DRAWN),
    "popularity": Contender("15 popular", "popularity", _DRAWN | _UNCORRECTED, "uniform"),
    "popularity_logq": Contender("15 popular, corrected", "popularity", _DRAWN, "uniform_logq"),
    "dns": Contender("hardest 4 of 15 (DNS)", "dns", _DRAWN, "uniform"),
    "mixgcf": Contender("hardest 4 of 15, mixed (MixGCF)", "mixgcf", _DRAWN, "uniform"),
    "gbce": Contender("15 uniform, gBCE", "gbce", _DRAWN, "uniform"),
    "in_batch": Contender("in-batch", "in_batch", {}, "uniform"),
    "in_batch_logq": Contender("in-batch, corrected", "in_batch_logq", {}, "uniform_logq"),
    "esans": Contender("ESANS, as in the paper", "esans_paper", {}, "uniform"),
    "esans_draws": Contender("ESANS without virtual negatives", "esans_paper", _NO_VIRTUAL, "esans"),
    "esans_random": Contender("ESANS, clusters at random", "esans_paper", _RANDOM, "esans"),
    "esans_logq": Contender("ESANS, corrected", "esans", _CORRECTED, "uniform_logq"),
    "esans_logq_draws": Contender(
        "ESANS, corrected, without virtual negatives", "esans", _CORRECTED | _NO_VIRTUAL, "esans_logq"
    ),
    "esans_logq_random": Contender("ESANS, corrected, clusters at random", "esans", _CORRECTED | _RANDOM, "esans_logq"),
    "esans_in_batch": Contender("in-batch and ESANS, corrected", "esans", _ADDED, "debiased_mns"),
    "debiased_mns": Contender(
        "in-batch and a uniform pool that encodes as much, corrected", "debiased_mns", {"negatives.num_pool": ENCODED}
    ),
    "full_softmax": Contender("the whole catalogue", "full_softmax", {}, "debiased_mns"),
}
"""By the name that the command line and `against` know."""
