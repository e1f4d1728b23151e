"""Where each method's ten negatives of one positive fall, on a map of the trained items (as the paper's Figure 1 does).

python -m benchmarks.quality figure quick
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from benchmarks.quality.clusters import Clusters
from benchmarks.quality.data import QualityData
from benchmarks.quality.trial import TOWERS, TRAINING, Trial, build_objective
from esans_core.cluster_index import ClusterIndex
from esans_core.loader import Loader
from esans_core.towers import TwoTower
from esans_core.training import train_epoch

mpl.use("Agg")
from matplotlib import pyplot as plt

_EPOCHS, _TEMPERATURE, _SHOWN, _JUDGED, _CANDIDATES = 6, 0.07, 10, 2048, 200


@dataclass(frozen=True)
class Drawn:
    """Negatives of one method for B positives, int64 [B, R], and whether each counts, bool [B, R]."""

    title: str
    items_BR: Tensor
    counts_BR: Tensor


def write(data: QualityData, clusters: Clusters, path: Path) -> None:
    """Train uniform towers for a few epochs, draw with each method, and draw the picture.

    Args:
        data: a data set with a known truth, so that false negatives can be told.
        clusters: its clusters.
        path: path of the PNG file.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if data.leaf is None or data.liked_leaves is None:
        raise ValueError(f"{data.name} has no known truth, so nobody can say which negatives are false")
    model = _trained(data, clusters)
    users, positions = data.sequences.training_targets()
    chosen = torch.randperm(len(users), generator=torch.Generator().manual_seed(1))[:_JUDGED]
    users, positions = users[chosen], positions[chosen]
    positives = data.sequences.items[positions]
    with torch.no_grad():
        items_ND = model.encode_items(torch.arange(data.num_items))
        users_BD = model.encode_users_of(data.sequences, users, positions)
    drawn = list(_draws(data, clusters, positives, users_BD @ items_ND.T))
    with threadpool_limits(1):  # threads that wait for each other cost minutes on a busy machine
        place_N2 = TSNE(2, init="pca", perplexity=40, random_state=0).fit_transform(items_ND.numpy())
    liked_BL = data.liked_leaves[users]
    index = ClusterIndex.from_labels(clusters.primary, clusters.secondary, len(clusters.centroids))
    group = index.group(torch.arange(data.num_items))
    shown = int(torch.nonzero(torch.stack([each.counts_BR.all(1) for each in drawn]).all(0)).flatten()[0])
    positive = int(positives[shown])
    own, same = (clusters.primary == clusters.primary[positive]).numpy(), (group == group[positive]).numpy()
    figure, axes = plt.subplots(2, 3, figsize=(13, 8.6), constrained_layout=True)
    for axis, each in zip(axes.flat, drawn, strict=True):
        false_BR = (data.leaf[each.items_BR][..., None] == liked_BL[:, None]).any(-1)
        cosine = float((users_BD @ items_ND.T).gather(1, each.items_BR)[each.counts_BR].mean())
        rate = float(false_BR[each.counts_BR].float().mean())
        axis.scatter(*place_N2.T, s=3, color="#d9dde2", linewidths=0)
        axis.scatter(*place_N2[own].T, s=6, color="#a8c7e8", linewidths=0, label="its primary cluster")
        axis.scatter(*place_N2[same].T, s=10, color="#3f7fbf", linewidths=0, label="its own group: never drawn by ESANS")
        items, false = each.items_BR[shown, :_SHOWN].numpy(), false_BR[shown, :_SHOWN].numpy()
        for kept, colour, label in ((~false, "#222222", "negative"), (false, "#c62828", "negative that the user truly likes")):
            axis.scatter(*place_N2[items[kept]].T, s=52, c=colour, marker="X", edgecolors="white", linewidths=0.6, label=label)
        axis.scatter(*place_N2[positive], s=190, c="#f0a202", marker="*", edgecolors="black", linewidths=0.6, label="positive")
        axis.set_title(f"{each.title}\nmean cosine with the user {cosine:+.2f}, truly liked {rate:.1%}", fontsize=10)
        axis.set(xticks=[], yticks=[])
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _trained(data: QualityData, clusters: Clusters) -> TwoTower:
    torch.manual_seed(0)
    options = {name: TRAINING[name] for name in TOWERS}
    model = TwoTower(data.content, data.num_train > 0, **options)  # type: ignore[arg-type]
    trial = Trial(data.name, data.digest(), "uniform", {"temperature": _TEMPERATURE, "num_per_positive": 16}, 0)
    objective = build_objective(trial, data, clusters)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    loader = Loader(data.sequences, batch_size=1024, max_history=model.user_tower.max_history)
    for epoch in range(_EPOCHS):
        train_epoch(model, objective, loader, [optimizer], seed=epoch)
    return model.eval()


def _draws(data: QualityData, clusters: Clusters, positives: Tensor, scores_BN: Tensor) -> Iterator[Drawn]:
    """Ten negatives of each positive by each method."""

    def drawn(method: str, **settings: object) -> Tensor:
        trial = Trial(data.name, "", method, {"temperature": _TEMPERATURE, **settings}, 0)
        found = build_objective(trial, data, clusters).sources.draw(positives, torch.Generator().manual_seed(0))
        return found.rows_BR(positives)

    def counted(title: str, items_BR: Tensor) -> Drawn:
        return Drawn(title, items_BR, items_BR != positives[:, None])

    yield counted("uniform", drawn("uniform", num_per_positive=_SHOWN))
    yield counted("popularity", drawn("popularity", num_per_positive=_SHOWN))
    others = torch.randint(len(positives), (len(positives), _SHOWN), generator=torch.Generator().manual_seed(0))
    yield counted("in-batch", positives[others])
    candidates = drawn("uniform", num_per_positive=_CANDIDATES)
    scores = scores_BN.gather(1, candidates).masked_fill(candidates == positives[:, None], -torch.inf)
    yield counted(f"dynamic: hardest of {_CANDIDATES} uniform", candidates.gather(1, scores.topk(_SHOWN).indices))
    sizes = {"sampler.num_easy_clusters": 2, "sampler.items_per_cluster": _SHOWN // 2, "sampler.num_hard": _SHOWN}
    semantic = drawn("esans_paper", **sizes)
    yield counted("ESANS, easy", semantic[:, :_SHOWN])
    yield counted("ESANS, hard", semantic[:, _SHOWN:])
