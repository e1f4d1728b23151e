"""The methods compared, the budget they share, and what each may tune.

In each step, every positive may send `PER_POSITIVE` real negatives through the item tower (methods that reuse items that are
encoded anyway need fewer). Every method is tuned with the same number of runs, only on validation: first the temperature, then
the learning rate, then what matters most to the method.
"""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.frozen import is_large_shop
from esans_core.defaults import SAMPLER, TRAINING
from esans_core.negatives import NegativeConfig

BATCH = TRAINING.batch_size
PER_POSITIVE = NegativeConfig.for_method("uniform").num_per_positive
TEMPERATURES = (0.05, 0.08, 0.13, 0.2, 0.3)
LOWER_TEMPERATURES = (0.03, 0.05, 0.08, 0.13, 0.2)  # for the large shops, on which .05 is better than .08 for uniform draws
LEARNING_RATES = (2e-3, 8e-3)  # tried besides the usual one
NUM_TRIALS = 10  # settings tried for each method

Settings = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A contender, which is one line of the tables.

    Attributes:
        method: name of the method in the library.
        title: its name in the tables.
        own: three settings to try last, together with the best temperature and learning rate.
        fixed: fields of `NegativeConfig` and of the sampler (`sampler.*`) that define it, or from which tuning starts.
        reference: whether it is only a reference for the others, because in practice it is too expensive.
    """

    method: str
    title: str
    own: tuple[Settings, Settings, Settings]
    fixed: Settings = field(default_factory=dict)
    reference: bool = False

    def rounds(self, data: str) -> tuple[list[Settings], ...]:
        """The rounds of settings that are tried together on a data set, as changes to the best settings so far."""
        temperatures = LOWER_TEMPERATURES if is_large_shop(data) else TEMPERATURES
        return (
            [{"temperature": temperature} for temperature in temperatures],
            [{"training.learning_rate": rate} for rate in LEARNING_RATES],
            list(self.own),
        )


# A trial's settings include values that are defaults, so that its key says which values it was run with.
_DRAWN = {"num_per_positive": PER_POSITIVE}
_HARDER = _DRAWN | {"num_hardest": NegativeConfig.for_method("dns").num_hardest}
_POOL = {"num_pool": BATCH * PER_POSITIVE}  # the same budget as the others; the default, 1,024, is as good on a large shop
_DEFAULT = NegativeConfig.for_method("esans")
_ESANS = {
    "num_pool": _DEFAULT.num_pool,
    "sampler.num_easy_clusters": SAMPLER.num_easy_clusters,
    "sampler.items_per_cluster": SAMPLER.items_per_cluster,
    "sampler.num_hard": SAMPLER.num_hard,
}
_DEBIASED = {name: getattr(_DEFAULT, name) for name in ("share_draws", "virtual_weight", "log_q", "same_group_weight")}
_REGULARISED = ({"training.weight_decay": 1e-2}, {"training.id_dropout": 0.3}, {"training.id_dropout": 0.0})
_CORRECTED = ({"log_q": 0.75}, {"log_q": 0.5}, {"log_q": 0.25})
_SHIFTED = ({"log_q": 0.5}, {"log_q": 0.0}, {"training.id_dropout": 0.3})
_HARDEST = ({"num_hardest": 2}, {"num_hardest": 8}, {"num_hardest": 12})
_CALIBRATED = ({"own.calibration": 0.9}, {"own.calibration": 0.5}, {"own.calibration": 0.0})
_BUCKETS = ({"own.bucket_items": 64}, {"own.bucket_items": 1024}, {"own.mix": True})
_ROUNDS = ({"own.rounds": 2}, {"own.rounds": 16}, {"own.neighbours": 3})

CONTENDERS: dict[str, Contender] = {
    "uniform": Contender("uniform", "uniform (UNS)", _SHIFTED, _DRAWN),
    "debiased_mns": Contender("debiased_mns", "debiased MNS", _CORRECTED, _POOL),
    "esans": Contender(
        "esans",
        "ESANS, debiased (ours)",
        ({"log_q": 0.75}, {"log_q": 0.5}, {"log_q": 0.75, "same_group_weight": 0.5}),
        _ESANS | _DEBIASED,
    ),
    "mns": Contender("mns", "mixed (MNS)", _REGULARISED, _POOL),
    "in_batch_logq": Contender("in_batch_logq", "in-batch + logQ", _CORRECTED),
    "esans_paper": Contender(
        "esans_paper",
        "ESANS, as in the paper",
        tuple({"lambda_low": at, "lambda_high": at} for at in (-0.3, 0.1, 0.3)),  # type: ignore[arg-type]
        _ESANS,
    ),
    "dns": Contender("dns", "dynamic (DNS)", _HARDEST, _HARDER),
    "popularity": Contender("popularity", "popularity (PNS)", _SHIFTED, _DRAWN),
    "mixgcf": Contender("mixgcf", "positive mixing (MixGCF)", _HARDEST, _HARDER),
    "fairneg": Contender("fairneg", "group-fair (FairNeg)", _REGULARISED, _DRAWN),
    "adap_tau": Contender("adap_tau", "adaptive temperature (Adap-tau)", _SHIFTED, _DRAWN),
    "gbce": Contender("gbce", "calibrated binary (gBCE)", _CALIBRATED, _DRAWN),
    "cross_batch": Contender(
        "cross_batch", "cross-batch cache", _CORRECTED, {"num_cached": NegativeConfig.for_method("cross_batch").num_cached}
    ),
    "in_batch": Contender("in_batch", "in-batch", _REGULARISED),
    # These two encode the whole catalogue in each step, which is far above the budget that the others share.
    "sce": Contender("sce", "in random buckets (SCE)", _BUCKETS, reference=True),
    "rece": Contender("rece", "by random hashing (RECE)", _ROUNDS, reference=True),
    "full_softmax": Contender("full_softmax", "full softmax", _REGULARISED, reference=True),
}


@dataclass(frozen=True)
class Sweep:
    """A sweep: one number of ESANS at several values, as in Figure 4 of the paper.

    Attributes:
        label: name of the number.
        usual: its value in the method itself; None if that has no single value.
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
    Sweep("m_c", SAMPLER.num_easy_clusters, {value: {"sampler.num_easy_clusters": value} for value in (1, 3)}),
    Sweep("m_o", SAMPLER.items_per_cluster, {value: {"sampler.items_per_cluster": value} for value in (4, 6)}),
    Sweep("virtual weight", _DEFAULT.virtual_weight, {value: {"virtual_weight": value} for value in (50, 500)}),
    # With the weight of our method, virtual negatives are too small a part of the softmax for lambda to matter.
    Sweep(
        "lambda, weight 50",
        None,
        {at: {"lambda_low": at, "lambda_high": at, "virtual_weight": 50} for at in (-0.5, -0.3, -0.1, 0.1, 0.3, 0.5)},
    ),
)

# Changes to the tuned ESANS, one at a time. `clusters.*` are arguments of the clusters; the others are fields as above.
ABLATIONS: dict[str, Settings] = {
    "no simple interpolation": {"simple_interpolation": False},
    "no hard interpolation": {"hard_interpolation": False},
    "no interpolation": {"simple_interpolation": False, "hard_interpolation": False},
    # The weight is raised until virtual negatives are a tenth of the sum, and they are harder than the items they are made of.
    "hard interpolation that counts": {
        "simple_interpolation": False,
        "virtual_weight": 50,
        "lambda_low": 0.3,
        "lambda_high": 0.3,
    },
    "draws not shared": {"share_draws": False},
    "no logQ": {"log_q": 0.0},
    "whole logQ": {"log_q": 1.0},
    "own cluster out of the pool": {"same_group_weight": 0.0},
    "own cluster at half weight": {"same_group_weight": 0.5},
    "no visual view": {"clusters.without": "visual"},
    "no text view": {"clusters.without": "text"},
    "no acoustic view": {"clusters.without": "acoustic"},
    "no behavioural view": {"clusters.without": "behaviour"},
    "secondary codes on the mean residual": {"clusters.mean_residual": True},
    "no alignment": {"clusters.alignment": False},
    "clusters started warm": {"clusters.warm_start": True},
    "random clusters": {"clusters.random": True},
    **{sweep.name(value): changes for sweep in SWEEPS for value, changes in sweep.changes.items()},
}

# Changes to the tuned debiased MNS on a large shop, to see how small a part of the catalogue the shared negatives may be.
POOLS: dict[str, Settings] = {f"pool of {size:,}": {"num_pool": size} for size in (256, 1024, 4096)}
