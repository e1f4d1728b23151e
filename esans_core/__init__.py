"""Negative sampling, clusters, towers and losses of ESANS (WWW 2025), for anybody's training loop: torch and numpy only.

A name is loaded when it is first asked for, so that who needs the defaults alone does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esans_core.cluster_index import ClusterIndex
    from esans_core.evaluation import evaluate, retrieve
    from esans_core.interpolation import hard_lambdas, hard_virtual_logits, simple_virtual_logits, simple_weights
    from esans_core.losses import sampled_softmax_loss
    from esans_core.negatives import METHODS, NegativeConfig
    from esans_core.objective import RetrievalObjective
    from esans_core.sampler import SemanticNegatives, SemanticNegativeSampler
    from esans_core.sequences import Sequences
    from esans_core.shared_softmax import summed_log_partition
    from esans_core.towers import TwoTower
    from esans_core.training import build_optimizers, train_epoch

_MODULES = {
    "METHODS": "negatives",
    "ClusterIndex": "cluster_index",
    "NegativeConfig": "negatives",
    "RetrievalObjective": "objective",
    "SemanticNegativeSampler": "sampler",
    "SemanticNegatives": "sampler",
    "Sequences": "sequences",
    "TwoTower": "towers",
    "build_optimizers": "training",
    "evaluate": "evaluation",
    "hard_lambdas": "interpolation",
    "hard_virtual_logits": "interpolation",
    "retrieve": "evaluation",
    "sampled_softmax_loss": "losses",
    "simple_virtual_logits": "interpolation",
    "simple_weights": "interpolation",
    "summed_log_partition": "shared_softmax",
    "train_epoch": "training",
}

__all__ = [
    "METHODS",
    "ClusterIndex",
    "NegativeConfig",
    "RetrievalObjective",
    "SemanticNegativeSampler",
    "SemanticNegatives",
    "Sequences",
    "TwoTower",
    "build_optimizers",
    "evaluate",
    "hard_lambdas",
    "hard_virtual_logits",
    "retrieve",
    "sampled_softmax_loss",
    "simple_virtual_logits",
    "simple_weights",
    "summed_log_partition",
    "train_epoch",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'esans_core' has no attribute {name!r}")
    return getattr(import_module(f"esans_core.{_MODULES[name]}"), name)
