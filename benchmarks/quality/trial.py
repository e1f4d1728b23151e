"""One training run of a method's settings with a seed on a data set: its quality, and how hard and how wrong its negatives are.

It needs only torch and numpy, so that runs can be made on a bare GPU machine from files that another machine prepared.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.quality.clusters import SIZES, VERSION, Clusters
from benchmarks.quality.data import QualityData, slices
from benchmarks.trials import hashed, part
from esans_core.cluster_index import ClusterIndex
from esans_core.cooccurrence import cooccurrence_vectors
from esans_core.defaults import TRAINING as DEFAULTS
from esans_core.evaluation import RetrievalResult, evaluate
from esans_core.loader import Loader
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.sampler import SemanticNegativeSampler
from esans_core.sequences import Sequences
from esans_core.towers import Order, TwoTower
from esans_core.training import DENSE_ITEMS, Position, build_optimizers, set_learning_rate, train_epoch
from esans_core.world import World

# Raise it when the same settings would give other results, because results of another protocol are not used. Version 0.1 was
# measured with protocol 2. Since 3, logQ counts only training targets, and ids are hidden for whole steps. 4 has new towers.
PROTOCOL = 4
# Methods whose formula has changed since they were first measured. The number is part of the key. So results of the earlier
# formula are not taken for those of today's, while results of all other methods stay.
REVISIONS = {"adap_tau": 2, "mixgcf": 2}
# A trial trains with these values, unless its settings say `training.*`: the defaults of the library, and so of the pipeline.
# The learning rate falls by their schedule over all epochs of the trial (`EPOCHS`), and the best epoch is kept.
TRAINING: dict[str, Any] = {
    name: getattr(DEFAULTS, name)
    for name in (
        *(
            "dim",
            "num_heads",
            "num_layers",
            "max_history",
            "dropout",
            "item_network",
            "popularity",
            "id_dropout",
            "mask_known",
            "start_ids",
        ),
        *("batch_size", "learning_rate", "warm_up", "weight_decay", "precision"),
    )
}
TOWERS = ("dim", "num_heads", "num_layers", "max_history", "dropout", "item_network", "popularity", "id_dropout")
TUNING_SEED = 0
EPOCHS = {"quick": 4, "movielens": 8, "tiktok": 10, "shop-100k-low": 4, "shop-100k-mid": 4, "shop-100k-high": 4, "shop-1m": 3}
TUNING_EPOCHS = {"quick": 2, "movielens": 4, "shop-100k-mid": 2}  # tuning at full length would take too long here
_WATCHED_USERS = 4_000  # scored after each epoch
_SCORED_USERS = 20_000  # scored at the end, in either split; these are all users, except in the largest shop
_PROBED = 2048  # positives whose negatives are looked at after each epoch


@dataclass(frozen=True)
class Trial:
    """Everything that decides a result.

    Attributes:
        data: name of the data set.
        digest: digest of its content.
        method: name of the method in the library.
        settings: `temperature`, fields of `NegativeConfig`, `own.*` (of what the method brings along), `sampler.*`,
            `training.*`, `clusters.*`.
        seed: seed of initialisation, order and draws.
    """

    data: str
    digest: str
    method: str
    settings: dict[str, Any]
    seed: int

    @property
    def epochs(self) -> int:
        """Epochs that it trains for."""
        full = EPOCHS[self.data]
        return TUNING_EPOCHS.get(self.data, full) if self.seed == TUNING_SEED else full

    @property
    def key(self) -> str:
        """16 hex digits that name the trial."""
        parts = [
            PROTOCOL,
            TRAINING,
            self.epochs,
            VERSION,
            SIZES.get(self.data),
            self.data,
            self.digest,
            self.method,
            self.settings,
            self.seed,
            *([REVISIONS[self.method]] if self.method in REVISIONS else []),
        ]
        return hashed(parts)


def run_trial(
    trial: Trial, data: QualityData, clusters: Clusters, *, device: str = "cpu", holdout: bool = True
) -> dict[str, Any]:
    """Train for the data set's epochs, then score the epoch that is best on validation.

    Args:
        trial: what to run.
        data: its data set.
        clusters: its clusters.
        device: where to train.
        holdout: whether the hold-out is scored too; it is not while tuning.

    Returns:
        JSON values: key, the trial, `epochs` (loss, validation recall, false-negative rate, hardness), the best epoch,
        `validation` and `holdout` metrics, seconds of training, and the device trained on.
    """
    options: dict[str, Any] = TRAINING | part(trial.settings, "training.")
    torch.manual_seed(trial.seed)
    model = TwoTower(
        data.content,
        data.num_train > 0,
        order=order_of(data.name),
        **{name: options[name] for name in TOWERS},
        sparse_ids=data.num_items > DENSE_ITEMS,
    ).to(device)
    if order_of(data.name) == "sequence" and options["start_ids"] == "cooccurrence":
        model.item_input.start_from(cooccurrence_vectors(data.sequences, data.num_items, options["dim"]))
    objective = build_objective(trial, data, clusters, device).to(device)
    optimizers = build_optimizers(
        model, objective, learning_rate=options["learning_rate"], weight_decay=options["weight_decay"]
    )
    loader = make_loader(trial, data)
    steps = trial.epochs * loader.epoch(0).num_batches
    done = 0

    def next_rate(_: Position) -> None:
        nonlocal done
        done += 1
        set_learning_rate(optimizers, DEFAULTS.schedule, done=done, total=steps, warm_up=options["warm_up"])

    watched = some_users(data.sequences, "validation", _WATCHED_USERS)
    epochs: list[dict[str, float]] = []
    best: tuple[float, int, dict[str, Tensor]] = (-1.0, 0, {})
    seconds = 0.0
    for epoch in range(1, trial.epochs + 1):
        started = time.perf_counter()
        loss = train_epoch(
            model,
            objective,
            loader,
            optimizers,
            seed=trial.seed * 1000 + epoch,
            precision=getattr(torch, options["precision"]),
            mask_known=options["mask_known"],
            world=World(),  # dropout follows from the step, as the pipeline's training does
            after_step=next_rate,
        )
        seconds += time.perf_counter() - started
        recall = float(evaluate(model, watched, "validation").recall[50].mean())
        epochs.append({"loss": loss, "validation_recall_50": recall, **probe(model, objective, data, trial.seed)})
        if recall > best[0]:
            best = recall, epoch, {name: value.detach().clone() for name, value in model.named_parameters()}
    model.load_state_dict(best[2], strict=False)  # all else does not change, above all the content
    found: dict[str, Any] = {
        "key": trial.key,
        "data": trial.data,
        "method": trial.method,
        "settings": trial.settings,
        "seed": trial.seed,
        "best_epoch": best[1],
        "epochs": epochs,
        "seconds": seconds,
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu",
    }
    splits = {"validation": (50, 200), "holdout": (20, 50, 200)} if holdout else {"validation": (50, 200)}
    for split, ks in splits.items():
        users = some_users(data.sequences, split, _SCORED_USERS)
        found[split] = metrics(evaluate(model, users, split, ks=ks, slices=slices(data)))
    return found


def make_loader(trial: Trial, data: QualityData) -> Loader:
    """The batches of a trial."""
    options: dict[str, Any] = TRAINING | part(trial.settings, "training.")
    return Loader(
        data.sequences,
        batch_size=options["batch_size"],
        max_history=options["max_history"],
        ordered=order_of(data.name) == "sequence",
    )


def order_of(name: str) -> Order:
    """What a user's events are in a data set: TikTok's log has no times, so its order means nothing."""
    return "set" if name == "tiktok" else "sequence"


def build_objective(trial: Trial, data: QualityData, clusters: Clusters, device: str = "cpu") -> RetrievalObjective:
    """The loss of a trial, which draws on the device."""
    fields = {name: value for name, value in trial.settings.items() if "." not in name and name != "temperature"}
    if "num_pool" in fields:  # a pool larger than the catalogue would hold items more than once
        fields["num_pool"] = min(fields["num_pool"], data.num_items)
    index = ClusterIndex.from_labels(clusters.primary, clusters.secondary, len(clusters.centroids)).to(device)
    return RetrievalObjective(
        NegativeConfig.for_method(trial.method, own=part(trial.settings, "own."), **fields),
        make_loader(trial, data).target_frequency(data.num_items, device),
        temperature=trial.settings["temperature"],
        learn_temperature=False,  # it is one of the settings that are tuned
        sampler=SemanticNegativeSampler(index, clusters.centroids.to(device), **part(trial.settings, "sampler.")),
        item_groups=clusters.primary.to(device),
        num_users=data.sequences.num_users,
    )


def some_users(sequences: Sequences, split: str, most: int) -> Sequences:
    """Sequences of at most so many users of a split, spread evenly over all users; all sequences if there are no more."""
    users = sequences.evaluation_users(split)
    if len(users) <= most:
        return sequences
    return sequences.select(users[torch.linspace(0, len(users) - 1, most).long()])


def metrics(result: RetrievalResult) -> dict[str, float]:
    """Means over users: recall and NDCG at each K, and recall@(smallest K) in each slice."""
    found = {f"recall_{k}": float(values.mean()) for k, values in result.recall.items()}
    found |= {f"ndcg_{k}": float(values.mean()) for k, values in result.ndcg.items()}
    found |= {f"{name}_recall_{min(result.recall)}": float(values.nanmean()) for name, values in result.slice_recall.items()}
    return found | {"users": len(result.users)}


@torch.no_grad()
def probe(model: TwoTower, objective: RetrievalObjective, data: QualityData, seed: int) -> dict[str, float]:
    """How hard the negatives are (mean cosine of user and negative), and what share the user truly likes, if that is known.

    A method that looks at vectors before it chooses its negatives draws none here, so nothing is known of them.
    """
    device = model.item_input.content.device
    users, positions = data.sequences.training_targets()
    chosen = torch.randperm(len(users), generator=torch.Generator().manual_seed(seed))[:_PROBED]
    users, positions = users[chosen], positions[chosen]
    positives = data.sequences.items[positions].to(device)
    drawn = objective.sources.draw(positives, torch.Generator(device=device).manual_seed(seed))
    rows_BR = drawn.rows_BR(positives)
    if len(drawn.shared_S):
        shared = drawn.shared_S[torch.linspace(0, len(drawn.shared_S) - 1, min(64, len(drawn.shared_S))).long()]
        rows_BR = torch.cat([rows_BR, shared.expand(len(positives), -1)], dim=1)
    if not rows_BR.shape[1]:
        return {}
    was_training = model.training
    model.eval()
    users_BD = model.encode_users_of(data.sequences, users, positions)
    scores_BR = torch.einsum("bd,brd->br", users_BD, model.encode_items(rows_BR))
    model.train(was_training)
    counted_BR = rows_BR != positives[:, None]
    found = {"hardness": float(scores_BR[counted_BR].mean())}
    if data.leaf is not None and data.liked_leaves is not None:
        liked_BR = (data.leaf[rows_BR.cpu()][..., None] == data.liked_leaves[users][:, None]).any(-1)
        found["false_negatives"] = float(liked_BR[counted_BR.cpu()].float().mean())
    return found
