"""The methods compared, the budget they share, and what each may tune.

Every positive has a budget of 16 real negatives through the item tower in each step (methods that reuse what is encoded anyway
need fewer). Every method is tuned over the same number of settings, on validation alone.
"""

from dataclasses import dataclass, field
from typing import Any

from esans_core.negatives import Method

BATCH = 1024
PER_POSITIVE = 16
NUM_TRIALS = 10  # settings tried for each method
TEMPERATURES = (0.05, 0.07, 0.1, 0.14, 0.2)


@dataclass(frozen=True)
class Contender:
    """One line of the tables.

    Attributes:
        method: the library's method.
        title: what a table calls it.
        fixed: fields of `NegativeConfig` and of the sampler (`sampler.*`) that make it what it is.
        grid: settings to choose between at each temperature; two, so that every method tries `NUM_TRIALS` settings.
        reference: not a sampler that one could afford, but the line that others are held against.
    """

    method: Method
    title: str
    fixed: dict[str, Any] = field(default_factory=dict)
    grid: tuple[dict[str, Any], dict[str, Any]] = ({}, {"training.learning_rate": 4e-3})
    reference: bool = False

    def settings(self) -> list[dict[str, Any]]:
        """The settings tried, as changes to `fixed`: every temperature with every entry of the grid."""
        return [{"temperature": temperature, **choice} for choice in self.grid for temperature in TEMPERATURES]


_DRAWN = {"num_per_positive": PER_POSITIVE}
_POOL = {"num_pool": BATCH * PER_POSITIVE}
_ESANS = {"num_pool": BATCH, "sampler.num_easy_clusters": 2, "sampler.items_per_cluster": 5, "sampler.num_hard": 5}
_HARDEST = ({"num_hardest": 4}, {"num_hardest": 8})

CONTENDERS: dict[str, Contender] = {
    "uniform": Contender("uniform", "uniform (UNS)", _DRAWN, ({"log_q": True}, {"log_q": False})),
    "popularity": Contender("popularity", "popularity (PNS)", _DRAWN, ({"log_q": True}, {"log_q": False})),
    "in_batch": Contender("in_batch", "in-batch"),
    "in_batch_logq": Contender("in_batch_logq", "in-batch + logQ"),
    "mns": Contender("mns", "mixed (MNS)", _POOL),
    "debiased_mns": Contender("debiased_mns", "debiased MNS", _POOL),
    "cross_batch": Contender("cross_batch", "cross-batch cache", {"num_cached": BATCH * PER_POSITIVE}),
    "dns": Contender("dns", "dynamic (DNS)", _DRAWN, _HARDEST),
    "mixgcf": Contender("mixgcf", "positive mixing (MixGCF)", _DRAWN, _HARDEST),
    "fairneg": Contender("fairneg", "group-fair (FairNeg)", _DRAWN),
    "adap_tau": Contender("adap_tau", "adaptive temperature (Adap-tau)", _DRAWN, ({"log_q": True}, {"log_q": False})),
    "esans_paper": Contender(
        "esans_paper",
        "ESANS, as in the paper",
        _ESANS,
        ({"lambda_low": -0.3, "lambda_high": -0.3}, {"lambda_low": 0.1, "lambda_high": 0.1}),
    ),
    "esans": Contender(
        "esans", "ESANS, debiased (ours)", _ESANS | {"share_draws": True}, ({"virtual_weight": 0.02}, {"virtual_weight": 0.2})
    ),
    "full_softmax": Contender("full_softmax", "full softmax", reference=True),
}


@dataclass(frozen=True)
class Sweep:
    """One number of ESANS at several values, as in Figure 4 of the paper.

    Attributes:
        label: what is varied.
        usual: its value in the method itself; None where that is no single one.
        changes: value -> changes to the tuned settings.
    """

    label: str
    usual: float | None
    changes: dict[float, dict[str, Any]]

    def name(self, value: float) -> str:
        """Name of the ablation at one value."""
        return f"{self.label} = {value:g}"


SWEEPS = (
    Sweep("K_p, relative", 1.0, {value: {"clusters.primary_factor": value} for value in (0.5, 2.0)}),
    Sweep("K_s, relative", 1.0, {value: {"clusters.secondary_factor": value} for value in (0.5, 2.0)}),
    Sweep("m_c", 2, {value: {"sampler.num_easy_clusters": value} for value in (1, 3)}),
    Sweep("m_o", 5, {value: {"sampler.items_per_cluster": value} for value in (4, 6)}),
    Sweep("lambda", None, {at: {"lambda_low": at, "lambda_high": at} for at in (-0.5, -0.3, -0.1, 0.1, 0.3, 0.5)}),
)

# Changes to the tuned ESANS, one at a time: `clusters.*` are arguments of the clusters, the others fields as above.
ABLATIONS: dict[str, dict[str, Any]] = {
    "no simple interpolation": {"simple_interpolation": False},
    "no hard interpolation": {"hard_interpolation": False},
    "no interpolation": {"simple_interpolation": False, "hard_interpolation": False},
    "draws not shared": {"share_draws": False},
    "no logQ": {"log_q": False},
    "own cluster out of the pool": {"same_group_weight": 0.0},
    "own cluster at half weight": {"same_group_weight": 0.5},
    "no visual view": {"clusters.without": "visual"},
    "no text view": {"clusters.without": "text"},
    "no behavioural view": {"clusters.without": "behaviour"},
    "secondary codes on the mean residual": {"clusters.mean_residual": True},
    "no alignment": {"clusters.alignment": False},
    "random clusters": {"clusters.random": True},
    **{sweep.name(value): changes for sweep in SWEEPS for value, changes in sweep.changes.items()},
}
