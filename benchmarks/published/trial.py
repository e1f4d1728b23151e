"""One training of some settings with a seed on a public log: what validation says, and what the test part says.

The towers, their options, the loop and the evaluation are the library's own. Every setting that a trial does not name is a
default of the library, and the key of a trial holds all values. So results of other defaults are never taken for its results.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.published.logs import KS, log_of
from benchmarks.quality.clusters import FOLDER, Clusters, fit_clusters, random_clusters
from benchmarks.quality.clusters import VERSION as CLUSTERS_VERSION
from benchmarks.quality.data import QualityData
from benchmarks.quality.trial import some_users
from benchmarks.trials import hashed, part
from esans_core.cluster_index import ClusterIndex
from esans_core.cooccurrence import cooccurrence_vectors
from esans_core.defaults import CLUSTERS, SAMPLER, TRAINING
from esans_core.evaluation import evaluate
from esans_core.loader import Loader
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.sampler import SemanticNegativeSampler
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower
from esans_core.training import DENSE_ITEMS, Position, build_optimizers, set_learning_rate, train_epoch
from esans_core.world import World

# Raise it when the same settings would give other results though no default has changed, above all when towers have changed.
PROTOCOL = 2
METHOD = "debiased_mns"
TUNING_SEED = 0
_OPTIONS = frozenset(asdict(TRAINING))
# What this module itself reads. All other options must be parameters of the library's towers, optimizers, schedule or loop.
_READ_HERE = {
    "batch_size",
    "max_history",
    "epochs",
    "patience",
    "precision",
    "temperature",
    "learn_temperature",
    "uniform_temperature",
    "start_ids",
}
_WATCHED_USERS = 20_000  # scored after each epoch, as many as the pipeline's training scores; all are scored in the end
_LOOK_AFTER = 1 / 3  # share of the epochs after which a tuning trial may be given up


class WithRepeats(Sequences):
    """A log whose users come back to items: what they have seen may be in the answer."""

    def seen(self, users: Tensor, split: str) -> tuple[Tensor, Tensor]:
        """No pair is left out."""
        return users.new_zeros(0), users.new_zeros(0)


@dataclass(frozen=True)
class Trial:
    """Everything that decides a result.

    Attributes:
        data: name of the data set: of a log, or of a log with its ties shuffled.
        digest: digest of its content.
        method: name of the method in the library.
        settings: changes to the defaults: fields of `TrainingDefaults`, and `negatives.*`, `sampler.*`, `clusters.random`.
        seed: seed of initialisation, order and draws. With `TUNING_SEED`, the test part is not looked at.
        refit: whether a second model is trained on training and validation events, and scored too.
        give_up_below: the main metric that the best trial so far had on validation after each epoch. A tuning trial that is far
            below it is given up. It decides how long a hopeless trial lasts and not its worth, so it is not part of the key.
    """

    data: str
    digest: str
    method: str
    settings: dict[str, Any]
    seed: int
    refit: bool = False
    give_up_below: tuple[float, ...] = field(default=(), compare=False)

    @property
    def options(self) -> dict[str, Any]:
        """Values of all fields of `TrainingDefaults`."""
        return asdict(TRAINING) | {name: value for name, value in self.settings.items() if name in _OPTIONS}

    @property
    def key(self) -> str:
        """16 hex digits that name the trial."""
        fields = {name: value for name, value in vars(negatives(self)).items() if isinstance(value, str | int | float)}
        clusters = [CLUSTERS_VERSION, asdict(CLUSTERS), asdict(SAMPLER)] if negatives(self).needs_sampler else []
        named = {name: value for name, value in self.settings.items() if name.startswith(("sampler.", "clusters."))}
        what = [self.data, self.digest, log_of(self.data).order]
        return hashed([PROTOCOL, what, self.method, self.options, fields, clusters, named, self.seed, self.refit])


def negatives(trial: Trial, num_items: int | None = None) -> NegativeConfig:
    """The negatives of a trial; a pool is never larger than the catalogue.

    Args:
        trial: the trial.
        num_items: size of the catalogue; without it, the pool is as the settings say.
    """
    config = NegativeConfig.for_method(trial.method, **part(trial.settings, "negatives."))
    return config if num_items is None else replace(config, num_pool=min(config.num_pool, num_items))


def run_trial(trial: Trial, data: QualityData, *, device: str = "cpu") -> dict[str, Any]:
    """Train with early stopping on validation; unless it is a tuning trial, score the test part too, and refit if it says so.

    The refit is a second model of all events before the test part, trained for as many epochs as validation found best, in the
    schedule that belongs to all epochs.

    Returns:
        JSON values: key, the trial, `epochs` (loss and main metric on validation), the best epoch, whether it was given up,
        seconds of training, and metrics by the name of what was scored: `validation`, `test`, `refit`, and those with
        `_repeats` after it, for which seen items were kept in the answer.
    """
    log, options = log_of(trial.data), trial.options
    fitted = _Fit(trial, data, data.sequences, device)
    watched, best = some_users(data.sequences, "validation", _WATCHED_USERS), (-1.0, 0, dict[str, Tensor]())
    epochs: list[dict[str, float]] = []
    given_up = False
    while len(epochs) < options["epochs"] and len(epochs) - best[1] < options["patience"] and not given_up:
        loss, reached = fitted.epoch(), metrics(fitted.model, watched, "validation")[log.main]
        epochs.append({"loss": loss, log.main: reached})
        if reached > best[0]:
            best = reached, len(epochs), {name: value.detach().clone() for name, value in fitted.model.named_parameters()}
        given_up = hopeless([epoch[log.main] for epoch in epochs], trial.give_up_below, options["epochs"])
    fitted.model.load_state_dict(best[2], strict=False)  # all else does not change, above all the content
    found: dict[str, Any] = {
        "key": trial.key,
        "data": trial.data,
        "method": trial.method,
        "settings": trial.settings,
        "options": options,
        "num_pool": negatives(trial, data.num_items).num_pool,
        "seed": trial.seed,
        "best_epoch": best[1],
        "given_up": given_up,
        "epochs": epochs,
        "seconds": fitted.seconds,
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu",
        "validation": metrics(fitted.model, data.sequences, "validation"),
    }
    if trial.seed == TUNING_SEED:
        return found
    scored = {"test": (fitted.model, data.sequences)}
    if trial.refit:
        everything = with_validation(data.sequences)
        again = _Fit(trial, data, everything, device)
        for _ in range(best[1]):
            again.epoch()
        scored["refit"], found["refit_seconds"] = (again.model, everything), again.seconds
    for name, (model, sequences) in scored.items():
        found[name] = metrics(model, sequences, "holdout")
        if log.repeats:
            found[f"{name}_repeats"] = metrics(model, WithRepeats(**vars(sequences)), "holdout")
    return found


def hopeless(reached: list[float], best: tuple[float, ...], epochs: int, least_share: float = 0.85) -> bool:
    """Whether a trial's main metric is too far below that of the best trial after as many epochs, a third of all at least."""
    done = len(reached)
    return done >= _LOOK_AFTER * epochs and done <= len(best) and max(reached) < least_share * best[done - 1]


def metrics(model: TwoTower, sequences: Sequences, split: str) -> dict[str, float]:
    """Means over the users of a split: recall and NDCG at each K. With one target, recall is what others call hit rate."""
    result = evaluate(model, sequences, split, ks=KS)
    found = {f"{name}_{k}": float(values.mean()) for name in ("recall", "ndcg") for k, values in getattr(result, name).items()}
    return found | {"users": len(result.users)}


def with_validation(sequences: Sequences) -> Sequences:
    """The same events, with validation as a part of training; the test part stays what it was."""
    known = sequences.num_train + sequences.num_validation
    return replace(sequences, num_train=known, num_validation=torch.zeros_like(known))


class _Fit:
    """A training that goes on epoch by epoch.

    Attributes:
        model: the towers.
        seconds: time of the epochs done, without evaluation.
    """

    def __init__(self, trial: Trial, data: QualityData, sequences: Sequences, device: str) -> None:
        self._trial, options, order = trial, trial.options, log_of(trial.data).order
        torch.manual_seed(trial.seed)
        known = torch.bincount(sequences.items[_train_events(sequences)], minlength=data.num_items) > 0
        towers = {"order": order, "sparse_ids": data.num_items > DENSE_ITEMS} | _accepted(TwoTower, options)
        self.model = TwoTower(data.content, known, **towers)
        if order == "sequence" and options["start_ids"] == "cooccurrence":
            width = options["dim"] // options["members"]
            self.model.item_input.start_from(cooccurrence_vectors(sequences, data.num_items, width))
        self.model.to(device)
        self._loader = Loader(
            sequences, batch_size=options["batch_size"], max_history=options["max_history"], ordered=order == "sequence"
        )
        self._objective = objective_of(trial, data, self._loader, device)
        self._optimizers = build_optimizers(self.model, self._objective, **_accepted(build_optimizers, options))
        self._rate, self._loop = _accepted(set_learning_rate, options), _accepted(train_epoch, options)
        self._loop["precision"] = getattr(torch, options["precision"])
        if unused := options.keys() - _READ_HERE - _taken():
            raise ValueError(
                f"the benchmark would train without {', '.join(sorted(unused))} of the defaults: make _Fit pass them on, as "
                "jobs.training.train does"
            )
        self._steps = options["epochs"] * self._loader.epoch(0).num_batches
        self._done = self._epochs = 0
        self.seconds = 0.0

    def epoch(self) -> float:
        """Train one epoch; its mean loss."""
        self._epochs += 1
        started = time.perf_counter()
        self._set_rate()
        loss = train_epoch(
            self.model,
            self._objective,
            self._loader,
            self._optimizers,
            seed=self._trial.seed * 1000 + self._epochs,
            world=World(),  # ids are hidden for whole steps, as the pipeline's training does
            after_step=self._next,
            **self._loop,
        )
        self.seconds += time.perf_counter() - started
        return loss

    def _next(self, _: Position) -> None:
        self._done += 1
        self._set_rate()

    def _set_rate(self) -> None:
        set_learning_rate(self._optimizers, done=min(self._done, self._steps), total=self._steps, **self._rate)


def objective_of(trial: Trial, data: QualityData, loader: Loader, device: str) -> RetrievalObjective:
    """The loss of a trial. Clusters are fitted only for a method that needs them, as the pipeline fits them."""
    config, sampler = negatives(trial, data.num_items), None
    clusters = clusters_of(trial, data) if config.needs_sampler or config.proposal == "fair" else None
    if clusters is not None:
        index = ClusterIndex.from_labels(clusters.primary, clusters.secondary, len(clusters.centroids)).to(device)
        sampler = SemanticNegativeSampler(index, clusters.centroids.to(device), **part(trial.settings, "sampler."))
    return RetrievalObjective(
        config,
        loader.target_frequency(data.num_items, device),
        temperature=trial.options["temperature"],
        learn_temperature=trial.options["learn_temperature"],
        sampler=sampler,
        item_groups=None if clusters is None else clusters.primary.to(device),
        num_users=data.sequences.num_users,
        members=trial.options["members"],
    ).to(device)


def clusters_of(trial: Trial, data: QualityData) -> Clusters:
    """The clusters of a log's items; with `clusters.random`, the items are shuffled among them."""
    kept = FOLDER.parents[1] / "published" / "clusters"
    clusters = fit_clusters(
        replace(data, name=data.name.replace("/", "-")),
        num_primary=CLUSTERS.num_primary,
        num_secondary=CLUSTERS.num_secondary,
        folder=kept,
    )
    return random_clusters(clusters) if trial.settings.get("clusters.random") else clusters


def _taken() -> set[str]:
    """Options that go to the library by their names."""
    takers = (TwoTower, build_optimizers, set_learning_rate, train_epoch)
    return {name for taker in takers for name in inspect.signature(taker).parameters}


def _train_events(sequences: Sequences) -> Tensor:
    """bool [E], True for training events."""
    lengths = sequences.offsets.diff()
    rank = torch.arange(len(sequences.items)) - torch.repeat_interleave(sequences.offsets[:-1], lengths)
    return rank < torch.repeat_interleave(sequences.num_train, lengths)


def _accepted(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a function of the library has a parameter for, so that a new one needs no change here."""
    return {name: options[name] for name in inspect.signature(function).parameters if name in options}
