"""The defaults of a training: those that the benchmarks measured as best for the method `esans`.

They stand here once. The towers, the sampler and `NegativeConfig` (whose own fields are the defaults of every method's
negatives) take them from here, the pipeline's settings take them from both, and the quality benchmark starts from them and
states by name what it changes. Where they come from: `docs/decisions/README.md`, 2026-11-28.
"""

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["linear", "constant"]

HEAD_SHARE = 0.2  # of the catalogue's items, by training events: these are its head, the others with any event its tail


@dataclass(frozen=True)
class TrainingDefaults:
    """The two towers and how they are trained.

    Attributes:
        dim: D, dimension of both towers' embeddings.
        num_heads: attention heads of the user tower.
        max_history: latest events of a user that the user tower sees.
        id_dropout: chance that a training step hides an item's id.
        temperature: tau of the softmax over cosines.
        uniform_temperature: the same where uniform negatives are the method: the baseline of the pipeline.
        batch_size: positives a step.
        epochs: passes over the training events. The best one on validation is kept.
        patience: epochs without a better one after which training stops; as many as `epochs` never stop it. While the rate
            still falls a stop comes too early: on TikTok, a patience of three lost up to 7 % of the recall.
        learning_rate: of the first step.
        schedule: how it goes on from there (`esans_core.training.set_learning_rate`).
        weight_decay: decoupled.
        precision: of the matrix products.
    """

    dim: int = 64
    num_heads: int = 4
    max_history: int = 50
    id_dropout: float = 0.1
    temperature: float = 0.13
    uniform_temperature: float = 0.05
    batch_size: int = 1024
    epochs: int = 10
    patience: int = 10
    learning_rate: float = 4e-3
    schedule: Schedule = "linear"
    weight_decay: float = 1e-4
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class SamplerDefaults:
    """The semantic-aware sampler's draws for one positive.

    Attributes:
        num_easy_clusters: m_c, other primary clusters.
        items_per_cluster: m_o, items in each of them.
        num_hard: items of the positive's own primary and another secondary cluster.
        easy_temperature: of the softmax over distances by which the easy clusters are drawn.
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
        min_cluster_size: items of the smallest primary cluster.
        alignment_epochs: passes over the items when the heads of the views are trained.
        alignment_temperature: of the contrastive loss between views.
        max_train_items: most items that heads and codebooks are fitted on.
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
