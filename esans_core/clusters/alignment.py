"""Multimodal alignment: one projection for each modality into a common space, trained with a contrastive loss.

Source: ESANS (WWW 2025, arXiv 2502.16077), section on MSAC, figure 2a.
Shapes: N items, M modalities, F features of one modality, D aligned dimensions, V items that have both views.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import cast

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from esans_core.standardisation import MAX_DEVIATIONS, standardise, usable_deviations

_SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize


class _Head(nn.Module):
    """Standardise within bounds (`esans_core.standardisation`), then project; centred inputs need no bias."""

    mean: Tensor
    std: Tensor

    def __init__(self, input_dim: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, input_dim))
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("std", torch.ones(input_dim))

    def forward(self, x_NF: Tensor) -> Tensor:
        return functional.linear(standardise(x_NF, self.mean, self.std), self.weight)


class AlignmentHeads(nn.Module):
    """A linear projection of each modality into one space of unit vectors.

    Untrained, the heads are a fixed random projection.

    Args:
        input_dims: name of each modality -> F, its number of features. The order of M is this order everywhere.
        dim: D.
        seed: seed of the random weights, N(0, 1/F).
    """

    def __init__(self, input_dims: Mapping[str, int], dim: int, *, seed: int = 0) -> None:
        super().__init__()
        if not input_dims:
            raise ValueError("at least one modality is needed")
        self.dim = dim
        self.heads = nn.ModuleDict({name: _Head(size, dim) for name, size in input_dims.items()})
        generator = torch.Generator().manual_seed(seed)
        for _, head in self._named():
            nn.init.normal_(head.weight, std=head.weight.shape[1] ** -0.5, generator=generator)

    def _named(self) -> list[tuple[str, _Head]]:
        return [(name, cast(_Head, head)) for name, head in self.heads.items()]

    @property
    def input_dims(self) -> dict[str, int]:
        """Name of each modality -> its number of features."""
        return {name: head.weight.shape[1] for name, head in self._named()}

    def forward(self, views: Mapping[str, Tensor], present_NM: Tensor) -> Tensor:
        """Aligned views, L2-normalised, [N, M, D]; exactly zero where a view is absent.

        Args:
            views: for each modality, [N, F]; rows of absent views may hold anything, NaN too.
            present_NM: bool [N, M].
        """
        aligned = []
        for column, (name, head) in enumerate(self._named()):
            here = present_NM[:, column, None]
            projected_ND = head(torch.where(here, views[name], 0.0))
            aligned.append(torch.where(here, functional.normalize(projected_ND, dim=-1), 0.0))
        return torch.stack(aligned, dim=1)

    def align(self, views: Mapping[str, np.ndarray], present_NM: np.ndarray, *, block_rows: int = 2048) -> np.ndarray:
        """The forward pass for arrays of any length, float32 [N, M, D].

        It is computed in float64 and rounded once. So the block size and the number of threads, which change the order of
        sums, do not show in the result. The statistics are folded into the weights, and a block stays in the cache. Instead
        of standardised values, the raw ones are cut at matching bounds, which costs one pass.
        """
        out = np.zeros((len(present_NM), len(self.heads), self.dim), np.float32)
        for column, (name, head) in enumerate(self._named()):
            weight_DF, mean_F, std_F = (value.detach().double().numpy() for value in (head.weight, head.mean, head.std))
            scaled_FD = np.ascontiguousarray((weight_DF / std_F).T)
            shift_D = mean_F @ scaled_FD
            low_F, high_F = (np.float32(mean_F + side * MAX_DEVIATIONS * std_F) for side in (-1, 1))
            for start in range(0, len(out), block_rows):
                rows = start + np.flatnonzero(present_NM[start : start + block_rows, column])
                block_BF = views[name][start : start + block_rows]
                if len(rows) < len(block_BF):
                    block_BF = block_BF[rows - start]
                bounded_BF = np.minimum(np.maximum(block_BF, low_F), high_F)  # twice as fast as np.clip
                projected_BD = bounded_BF.astype(np.float64) @ scaled_FD - shift_D
                norm_B = np.sqrt(np.einsum("bd,bd->b", projected_BD, projected_BD))
                out[rows, column] = projected_BD / np.maximum(norm_B, _SMALLEST_NORM)[:, None]
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All weights and statistics by name, for saving."""
        return {name: value.numpy().copy() for name, value in self.state_dict().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> "AlignmentHeads":
        """Heads saved by `to_arrays`; `names` gives the modalities wanted and their order."""
        weights = {name: arrays[f"heads.{name}.weight"] for name in names}
        heads = cls({name: weight.shape[1] for name, weight in weights.items()}, next(iter(weights.values())).shape[0])
        heads.load_state_dict({name: torch.from_numpy(np.array(arrays[name])) for name in heads.state_dict()})
        return heads


def alignment_loss(aligned_NMD: Tensor, present_NM: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE, averaged over the pairs of modalities.

    For a pair of modalities, the positive of an item's view is its own other view, and the negatives are the other views of
    the other items; this is done in both directions. Items that lack a view are left out. If no item has both views of a
    pair, the pair counts as 0.

    Args:
        aligned_NMD: float [N, M, D], unit vectors.
        present_NM: bool [N, M].
        temperature: divides the cosine.

    Returns:
        Scalar; 0 (with a gradient of zeros) when no pair has an item.
    """
    total = aligned_NMD.sum() * 0.0
    pairs = list(combinations(range(aligned_NMD.shape[1]), 2))
    for first, second in pairs:
        both_N = present_NM[:, first] & present_NM[:, second]
        if not both_N.any():
            continue
        logit_VV = aligned_NMD[both_N, first] @ aligned_NMD[both_N, second].T / temperature
        target_V = torch.arange(len(logit_VV), device=logit_VV.device)
        total = total + functional.cross_entropy(logit_VV, target_V) / 2 + functional.cross_entropy(logit_VV.T, target_V) / 2
    return total / max(len(pairs), 1)


def fit_alignment(
    views: Mapping[str, np.ndarray],
    present: np.ndarray,
    *,
    dim: int,
    epochs: int,
    temperature: float,
    seed: int,
    initial: AlignmentHeads | None = None,
    batch_size: int = 512,
    learning_rate: float = 2e-3,
    kept_rate: float = 0.1,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[AlignmentHeads, list[float]]:
    """Train heads on items with their views; the same arguments give the same heads.

    Args:
        views: name of each modality -> float32 [N, F], rows of absent views ignored. The order is that of `present`.
        present: bool [N, M].
        dim: D.
        epochs: passes over the items; 0 gives the starting heads with their statistics.
        temperature: that of `alignment_loss`.
        seed: seed of weights and shuffling.
        initial: earlier heads. A modality of the same name and sizes starts from its earlier weights and statistics
            and then moves slowly, so that the space, and the labels that rest on it, stay comparable from day to day.
        batch_size: items in a step; each is a negative of the others.
        learning_rate: that of AdamW.
        kept_rate: factor on the learning rate of heads taken from `initial`.
        progress: called with (epoch from 1, mean loss) after each epoch.

    Returns:
        The heads, and the mean loss of each epoch.

    Raises:
        ValueError: there are no items, shapes do not fit each other, or a present view has a value that is not finite.
    """
    tensors, present_NM = _checked(views, present)
    heads = AlignmentHeads({name: tensor.shape[1] for name, tensor in tensors.items()}, dim, seed=seed)
    earlier = dict(initial._named()) if initial is not None else {}
    kept, fresh = [], []
    for column, (name, head) in enumerate(heads._named()):
        if name in earlier and earlier[name].weight.shape == head.weight.shape:
            head.load_state_dict(earlier[name].state_dict())
            kept.append(head.weight)
        else:
            _standardise(head, tensors[name][present_NM[:, column]])
            fresh.append(head.weight)
    optimiser = torch.optim.AdamW(
        [
            {"params": fresh, "lr": learning_rate},
            {"params": kept, "lr": learning_rate * kept_rate},
        ]
    )
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(present_NM) // batch_size)
    losses: list[float] = []
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(present_NM), generator=generator).tensor_split(batches):
            batch = {name: tensor[rows] for name, tensor in tensors.items()}
            loss = alignment_loss(heads(batch, present_NM[rows]), present_NM[rows], temperature)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        losses.append(total / len(present_NM))
        if progress is not None:
            progress(epoch + 1, losses[-1])
    return heads.requires_grad_(False), losses


def _standardise(head: _Head, x_VF: Tensor) -> None:
    """Keep mean and deviation of each feature over the items that have the view. A constant feature stays zero from now on."""
    if not len(x_VF):
        return
    exact = x_VF.double()
    std, mean = torch.std_mean(exact, dim=0, correction=0)
    deviations = usable_deviations(std, exact.abs().amax(dim=0))
    head.load_state_dict({"weight": head.weight, "mean": mean, "std": deviations})


def _checked(views: Mapping[str, np.ndarray], present: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
    present = np.asarray(present, bool)
    if not len(present) or present.shape != (len(present), len(views)):
        raise ValueError(f"expected present of shape [N >= 1, {len(views)}] for views {list(views)}, got {list(present.shape)}")
    tensors = {}
    for column, (name, values) in enumerate(views.items()):
        if values.ndim != 2 or len(values) != len(present):
            raise ValueError(f"view '{name}': expected [{len(present)}, F], got {list(values.shape)}")
        bad = present[:, column] & ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise ValueError(f"view '{name}' is not finite in rows {np.flatnonzero(bad)[:5].tolist()} ({bad.sum()} in all)")
        tensors[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return tensors, torch.from_numpy(present)
