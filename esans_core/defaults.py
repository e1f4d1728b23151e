"""The defaults of a training: those that the benchmarks measured as best for the method `esans`.

They stand only here. The towers, the sampler and `NegativeConfig` take them from here. The fields of `NegativeConfig` are the
defaults of every method's negatives. The pipeline's settings take theirs from both places, and the quality benchmark starts
from them and names each one that it changes. `docs/decisions/README.md`, 2026-11-28, says where they come from.
"""

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "linear", "constant"]

HEAD_SHARE = 0.2  # this share of the items, those with the most training events, is the head; others with any event the tail


@dataclass(frozen=True)
class TrainingDefaults:
    """The two towers and how they are trained.

    Attributes:
        dim: D, dimension of both towers' embeddings.
        num_heads: attention heads of the user tower.
        num_layers: layers of the user tower.
        max_history: how many of a user's latest events the user tower sees.
        dropout: dropout rate of the user tower.
        item_network: whether the item tower has a network of its own, or is the item input alone.
        popularity: whether items have a popularity, which every score contains. None: only items of a log without order. There
            it is worth 6 % of the recall; logs with an order lost 3 to 6 % with it.
        id_dropout: chance that a training step hides an item's id.
        history_dropout: chance that a training step hides a user's events, if users have attributes.
        start_ids: where the ids of a sequence tower start: `cooccurrence` (`esans_core.cooccurrence`) or `random`.
        mask_known: whether a user's other items are left out of the negatives of each of the user's targets.
        temperature: tau of the softmax over cosines, or where it starts if it is learnt.
        learn_temperature: whether training learns tau. Logs want different ones: it went from .1 to .05 on the Beauty log, and
            to .08 on TikTok, which are about the best fixed ones on either.
        uniform_temperature: the same for the method with uniform negatives, which is the baseline of the pipeline.
        batch_size: positives in a step.
        epochs: passes over the training events. The best one on validation is kept.
        patience: training stops after this many epochs without a better one; with as many as `epochs` it never stops early.
            A stop while the rate still falls is too early: on TikTok, a patience of three lost up to 7 % of the recall.
        learning_rate: highest learning rate.
        warm_up: share of all steps in which the learning rate rises to that.
        schedule: how the learning rate goes on from there (`esans_core.training.set_learning_rate`).
        weight_decay: decoupled weight decay.
        precision: number type of the matrix products.
    """

    dim: int = 64
    num_heads: int = 2
    num_layers: int = 2
    max_history: int = 50
    dropout: float = 0.5
    item_network: bool = False
    popularity: bool | None = None
    id_dropout: float = 0.1
    history_dropout: float = 0.1
    start_ids: Literal["cooccurrence", "random"] = "cooccurrence"
    mask_known: bool = True
    temperature: float = 0.1
    learn_temperature: bool = True
    uniform_temperature: float = 0.1
    batch_size: int = 512
    epochs: int = 10
    patience: int = 10
    learning_rate: float = 2e-3
    warm_up: float = 0.05
    schedule: Schedule = "cosine"
    weight_decay: float = 1e-4
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class SamplerDefaults:
    """The semantic-aware sampler's draws for one positive.

    Attributes:
        num_easy_clusters: m_c, other primary clusters.
        items_per_cluster: m_o, items in each of them.
        num_hard: items of the positive's own primary cluster and another secondary cluster.
        easy_temperature: temperature of the softmax over distances by which the easy clusters are drawn.
    """

    num_easy_clusters: int = 2
    items_per_cluster: int = 5
    num_hard: int = 5
    easy_temperature: float = 1.0


@dataclass(frozen=True)
class ClusterDefaults:
    """The clusters of the items.

    Attributes:
        dim: d, dimension of the aligned space.
        num_primary: K_p.
        num_secondary: K_s.
        min_cluster_size: fewest items in a primary cluster.
        alignment_epochs: passes over the items when the heads of the views are trained.
        alignment_temperature: temperature of the contrastive loss between views.
        max_train_items: largest number of items that heads and codebooks are fitted on.
    """

    dim: int = 64
    num_primary: int = 32
    num_secondary: int = 16
    min_cluster_size: int = 5
    alignment_epochs: int = 20
    alignment_temperature: float = 0.1
    max_train_items: int = 200_000


CLUSTERS = ClusterDefaults()
TRAINING = TrainingDefaults()
SAMPLER = SamplerDefaults()
