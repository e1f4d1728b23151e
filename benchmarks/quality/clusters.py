"""Clusters of the data sets of the quality benchmark, as the pipeline fits them, and their controls and ablations.

Fits are kept under `var/bench/quality/clusters` by the data and the arguments, so a machine without faiss can load them.

python -m benchmarks.quality.clusters movielens tiktok shop-100k-mid
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.data import DATA, QualityData, save_arrays
from esans_core.defaults import CLUSTERS

FOLDER = DATA.parent / "clusters"
# K_p, K_s: the pipeline's defaults. Finer primary clusters come to coincide with what users like. Then "same primary, other
# secondary" would draw items of the positive's own leaf: 2 % of the hard negatives of shop-100k-mid with 32 primary clusters,
# 7 % with 64, 20 % with 128, 54 % with 256.
_USUAL = (CLUSTERS.num_primary, CLUSTERS.num_secondary)
_DATA_SETS = ("quick", "movielens", "tiktok", "shop-100k-low", "shop-100k-mid", "shop-100k-high", "shop-1m")
SIZES = dict.fromkeys(_DATA_SETS, _USUAL)
KNOWN_BEFORE = 0.9  # share of the items that were known on the day before a warm start
VERSION = 1  # raise it when the same arguments would give different clusters


@dataclass(frozen=True)
class Clusters:
    """Clusters of N items.

    Attributes:
        primary: int64 [N], -1 for an item without any view.
        secondary: int64 [N], -1 likewise.
        centroids: float32 [K_p, d], primary codes.
    """

    primary: Tensor
    secondary: Tensor
    centroids: Tensor

    def save(self, path: Path) -> None:
        """Write one .npz, whole or not at all."""
        save_arrays(path, {name: values.numpy() for name, values in vars(self).items()})

    @classmethod
    def load(cls, path: Path) -> "Clusters":
        """Read what `save` wrote; it needs only numpy and torch."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{name: torch.from_numpy(file[name]) for name in ("primary", "secondary", "centroids")})


def fit_clusters(
    data: QualityData,
    *,
    num_primary: int,
    num_secondary: int,
    dim: int = CLUSTERS.dim,
    alignment: bool = True,
    views: Sequence[str] | None = None,
    mean_residual: bool = False,
    warm_start: bool = False,
    seed: int = 11,
    folder: Path = FOLDER,
) -> Clusters:
    """MSAC as the pipeline does it, or the kept result of an earlier call with the same data and arguments.

    Args:
        data: the data set.
        num_primary: K_p.
        num_secondary: K_s.
        dim: d of the aligned space.
        alignment: train the contrastive alignment; False leaves a fixed random projection.
        views: names of the views used; all of them unless given.
        mean_residual: quantise the mean of the residuals on the second level instead of the residuals side by side
            (ablation: the primary level stays the same).
        warm_start: start from the result of a day with `KNOWN_BEFORE` of the items, as every day except the first does.
        seed: seed of heads, k-means and the sample of items fitted on.
        folder: where fits are kept.
    """
    names = list(data.views) if views is None else sorted(views, key=list(data.views).index)
    arguments = [VERSION, data.digest(), names, num_primary, num_secondary, dim, alignment, mean_residual, seed]
    if warm_start:  # part of the name only then, so that cold fits from earlier are still found
        arguments.append("warm_start")
    path = folder / f"{data.name}-{hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        _fit(data, names, num_primary, num_secondary, dim, alignment, mean_residual, warm_start, seed).save(path)
    return Clusters.load(path)


def random_clusters(clusters: Clusters, seed: int = 11) -> Clusters:
    """The control: clusters of the same sizes, with the items shuffled; items without a cluster stay without one."""
    rows = torch.nonzero(clusters.primary >= 0).flatten()
    shuffled = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    primary, secondary = clusters.primary.clone(), clusters.secondary.clone()
    primary[rows], secondary[rows] = clusters.primary[shuffled], clusters.secondary[shuffled]
    return Clusters(primary, secondary, clusters.centroids)


def _fit(
    data: QualityData,
    names: Sequence[str],
    num_primary: int,
    num_secondary: int,
    dim: int,
    alignment: bool,
    mean_residual: bool,
    warm_start: bool,
    seed: int,
) -> Clusters:
    from esans_core.clusters.alignment import AlignmentHeads, fit_alignment
    from esans_core.clusters.codebooks import fit_codebooks, mean_view

    views = {name: data.views[name].numpy() for name in names}
    present = np.stack([~np.isnan(values).any(axis=1) for values in views.values()], axis=1)
    chosen = np.random.default_rng(seed).permutation(data.num_items)[: CLUSTERS.max_train_items]
    heads, codebooks = None, None
    for count in (round(KNOWN_BEFORE * len(chosen)), len(chosen)) if warm_start else (len(chosen),):
        known = np.sort(chosen[:count])
        if heads is not None:  # the behavioural encoder is new every day, and so is its head
            heads = AlignmentHeads.from_arrays(heads.to_arrays(), [name for name in names if name != "behaviour"])
        heads, _ = fit_alignment(
            {name: values[known] for name, values in views.items()},
            present[known],
            dim=dim,
            epochs=CLUSTERS.alignment_epochs if alignment else 0,
            temperature=CLUSTERS.alignment_temperature,
            seed=seed,
            initial=heads,
        )
        aligned_NMD, seen_NM = heads.align(views, present), present
        if mean_residual:
            # A single view that is the mean has the same primary level, and its residual is the mean of the residuals.
            aligned_NMD, seen_NM = mean_view(aligned_NMD, present)[:, None], present.any(axis=1).reshape(-1, 1)
        codebooks, _ = fit_codebooks(
            aligned_NMD[known],
            seen_NM[known],
            num_primary=num_primary,
            num_secondary=num_secondary,
            min_cluster_size=CLUSTERS.min_cluster_size,
            seed=seed,
            initial=codebooks,
        )
    assert codebooks is not None  # those of the last day
    found = codebooks.assign(aligned_NMD, seen_NM)
    return Clusters(
        primary=torch.from_numpy(found.primary).long(),
        secondary=torch.from_numpy(found.secondary).long(),
        centroids=torch.from_numpy(codebooks.primary_PD),
    )


def cluster_facts(data: QualityData, clusters: Clusters) -> dict[str, float | int | None]:
    """Numbers that say whether clusters are fit to be sampled from.

    Returns:
        Sizes and balance of the primary level; the mean number of items in the (primary, secondary) pair of an item;
        `lift_primary` and `lift_pair`: how much more often a user's first validation event falls into the cluster of the
        last training event than another user's would. With planted leaves also `nmi_primary` and `nmi_pair`, and the chance
        that a hard draw (`same_leaf_hard`), or an item of the same pair (`same_leaf_pair`), is of the positive's own leaf.
    """
    from sklearn.metrics import normalized_mutual_info_score

    from esans_core.clusters.cluster_quality import cluster_quality

    primary, codes = clusters.primary.numpy(), len(clusters.centroids)
    has = primary >= 0
    pair = np.where(has, primary * (int(clusters.secondary.max()) + 1) + clusters.secondary.numpy(), -1)
    quality = cluster_quality(primary, codes)
    sizes = np.unique(pair[has], return_counts=True)[1]
    facts: dict[str, float | int | None] = {
        "num_primary": codes,
        "primary_median": int(np.median(np.bincount(primary[has], minlength=codes))),
        "primary_balance": round(quality.balance, 4),
        "largest_share": round(quality.largest_share, 4),
        "pairs": len(sizes),
        "pair_mates": round(float((sizes**2).sum() / sizes.sum()) - 1, 1),
        "unclustered": int((~has).sum()),
    }
    sequences = data.sequences
    users = sequences.evaluation_users("validation")
    border = sequences.known_ends(users, "validation")
    before, after = sequences.items[border - 1].numpy(), sequences.items[border].numpy()
    for name, label in (("primary", primary), ("pair", pair)):
        usable = (label[before] >= 0) & (label[after] >= 0)
        last, following = label[before][usable], label[after][usable]
        share = [np.bincount(side, minlength=int(label.max()) + 1) / max(len(side), 1) for side in (last, following)]
        facts[f"lift_{name}"] = round(float((last == following).mean() / max(share[0] @ share[1], 1e-12)), 2)
        if data.leaf is not None:
            facts[f"nmi_{name}"] = round(float(normalized_mutual_info_score(data.leaf.numpy()[has], label[has])), 4)
    if data.leaf is not None:
        leaf = data.leaf.numpy()[has]
        primary_mates, pair_mates, primary_leaf, pair_leaf = (
            _mates(*labels) for labels in ((primary[has],), (pair[has],), (primary[has], leaf), (pair[has], leaf))
        )
        facts["same_leaf_hard"] = round((primary_leaf - pair_leaf) / max(primary_mates - pair_mates, 1), 4)
        facts["same_leaf_pair"] = round(pair_leaf / max(pair_mates, 1), 4)
    return facts


def _mates(*labels: np.ndarray) -> int:
    """Ordered pairs of different items that share all the labels."""
    sizes = np.unique(np.stack(labels, axis=1), axis=0, return_counts=True)[1]
    return int((sizes * (sizes - 1)).sum())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="names of prepared data sets")
    parser.add_argument("--num-primary", type=int, help="K_p, instead of the data set's own")
    parser.add_argument("--num-secondary", type=int, help="K_s, instead of the data set's own")
    arguments = parser.parse_args()
    for name in arguments.names:
        data = QualityData.load(DATA / f"{name}.npz")
        num_primary, num_secondary = SIZES[name]
        clusters = fit_clusters(
            data,
            num_primary=arguments.num_primary or num_primary,
            num_secondary=arguments.num_secondary or num_secondary,
        )
        print(json.dumps({"data": name} | cluster_facts(data, clusters)), flush=True)


if __name__ == "__main__":
    main()
