"""Negative sampling, clusters, towers and losses of ESANS (WWW 2025), for anybody's training loop: torch and numpy only.

Each name below is loaded when it is first used, so that `import esans_core` costs nothing. A name that is not here is private.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esans_core.cluster_index import ClusterIndex
    from esans_core.clusters.alignment import AlignmentHeads, fit_alignment
    from esans_core.clusters.codebooks import Codebooks, fit_codebooks
    from esans_core.cooccurrence import cooccurrence_vectors
    from esans_core.evaluation import RetrievalResult, evaluate, retrieve
    from esans_core.interpolation import hard_lambdas, hard_virtual_logits, simple_virtual_logits, simple_weights
    from esans_core.loader import Batch, EventLog, Loader
    from esans_core.losses import sampled_softmax_loss
    from esans_core.negatives import METHODS, NegativeConfig
    from esans_core.objective import BatchPart, RetrievalObjective
    from esans_core.partition_variance import PoolNoise, SamplingNoise, sampling_noise
    from esans_core.parts import Catalogue, Excerpts, Part, StepOutcome
    from esans_core.proposals import ItemProposal
    from esans_core.recipes import RowLoss, RowMixing, StepLoss
    from esans_core.sampler import SemanticNegativeSampler
    from esans_core.sampling_verdict import SamplingVerdict, sampling_verdict
    from esans_core.semantic_negatives import SemanticNegatives
    from esans_core.sequences import Sequences
    from esans_core.serving.bundle import ServingBundle
    from esans_core.serving.bundle_writer import write_bundle
    from esans_core.serving.retriever import Retriever
    from esans_core.shared_softmax import summed_log_partition
    from esans_core.sources import Drawn, Source
    from esans_core.towers import TwoTower
    from esans_core.training import Position, build_optimizers, set_learning_rate, train_epoch
    from esans_core.unscored_step import UnscoredStep
    from esans_core.world import World

__all__ = [
    "METHODS",
    "AlignmentHeads",
    "Batch",
    "BatchPart",
    "Catalogue",
    "ClusterIndex",
    "Codebooks",
    "Drawn",
    "EventLog",
    "Excerpts",
    "ItemProposal",
    "Loader",
    "NegativeConfig",
    "Part",
    "PoolNoise",
    "Position",
    "RetrievalObjective",
    "RetrievalResult",
    "Retriever",
    "RowLoss",
    "RowMixing",
    "SamplingNoise",
    "SamplingVerdict",
    "SemanticNegativeSampler",
    "SemanticNegatives",
    "Sequences",
    "ServingBundle",
    "Source",
    "StepLoss",
    "StepOutcome",
    "TwoTower",
    "UnscoredStep",
    "World",
    "build_optimizers",
    "cooccurrence_vectors",
    "evaluate",
    "fit_alignment",
    "fit_codebooks",
    "hard_lambdas",
    "hard_virtual_logits",
    "retrieve",
    "sampled_softmax_loss",
    "sampling_noise",
    "sampling_verdict",
    "set_learning_rate",
    "simple_virtual_logits",
    "simple_weights",
    "summed_log_partition",
    "train_epoch",
    "write_bundle",
]

_MODULES = {
    "clusters.alignment": (
        "AlignmentHeads",
        "fit_alignment",
    ),
    "serving.bundle_writer": ("write_bundle",),
    "cluster_index": ("ClusterIndex",),
    "clusters.codebooks": (
        "Codebooks",
        "fit_codebooks",
    ),
    "cooccurrence": ("cooccurrence_vectors",),
    "evaluation": (
        "RetrievalResult",
        "evaluate",
        "retrieve",
    ),
    "interpolation": (
        "hard_lambdas",
        "hard_virtual_logits",
        "simple_virtual_logits",
        "simple_weights",
    ),
    "loader": (
        "Batch",
        "EventLog",
        "Loader",
    ),
    "losses": ("sampled_softmax_loss",),
    "negatives": (
        "METHODS",
        "NegativeConfig",
    ),
    "objective": (
        "BatchPart",
        "RetrievalObjective",
    ),
    "parts": (
        "Catalogue",
        "Excerpts",
        "Part",
        "StepOutcome",
    ),
    "partition_variance": (
        "PoolNoise",
        "SamplingNoise",
        "sampling_noise",
    ),
    "proposals": ("ItemProposal",),
    "recipes": (
        "RowLoss",
        "RowMixing",
        "StepLoss",
    ),
    "serving.retriever": ("Retriever",),
    "sampler": ("SemanticNegativeSampler",),
    "sampling_verdict": (
        "SamplingVerdict",
        "sampling_verdict",
    ),
    "semantic_negatives": ("SemanticNegatives",),
    "sequences": ("Sequences",),
    "serving.bundle": ("ServingBundle",),
    "shared_softmax": ("summed_log_partition",),
    "sources": (
        "Drawn",
        "Source",
    ),
    "towers": ("TwoTower",),
    "training": (
        "Position",
        "build_optimizers",
        "set_learning_rate",
        "train_epoch",
    ),
    "unscored_step": ("UnscoredStep",),
    "world": ("World",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name from its module, loaded now."""
    if name not in _HOMES:
        raise AttributeError(f"module 'esans_core' has no attribute {name!r}")
    value = getattr(import_module(f"esans_core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
