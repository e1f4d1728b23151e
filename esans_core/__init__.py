"""Negative sampling, clusters, towers and losses of ESANS (WWW 2025), for anybody's training loop: torch and numpy only."""

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
