"""Draws every picture that a run has the data for, and says which they are."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.base.cutoffs import Cutoffs
from jobs.report import charts, posters
from jobs.report.facts import RunFacts
from jobs.report.headline import compare
from jobs.report.images import load_images

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A picture on the page: file name, what it shows, and the same as a chart for plotly if it is one."""

    file: str
    title: str
    caption: str
    chart: dict[str, Any] | None = None


def draw_pictures(facts: RunFacts, folder: Path) -> list[Picture]:
    """Write the PNGs into a folder; a picture whose data the run did not reach is left out."""
    return [*_model_pictures(facts, folder), *_cluster_pictures(facts, folder), *_catalogue_pictures(facts, folder)]


def _model_pictures(facts: RunFacts, folder: Path) -> list[Picture]:
    drawn = []
    curves = {role: epochs for role in ("challenger", "baseline") if (epochs := facts.curves(role))}
    if curves:
        chart = charts.learning_curves(curves, folder / "learning_curves.png")
        what = "Challenger and uniform-negatives baseline, by epoch."
        drawn.append(Picture("learning_curves.png", "Learning curves", what, chart))
    measured = {role: epochs for role, epochs in curves.items() if epochs[-1].get("hardness") is not None}
    if measured:
        meaning = facts.false_means("challenger") or "later_event"
        chart = charts.negatives_by_epoch(measured, meaning, folder / "negatives.png")
        drawn.append(
            Picture(
                "negatives.png",
                "Negatives over training",
                "How much of the softmax drawn negatives hold, and how much of them is false: as drawn, and by their weight.",
                chart,
            )
        )
    if gaps := compare(facts):
        charts.comparison(gaps, folder / "comparison.png")
        what = (
            "Difference in recall (or NDCG) for the same users. A bar is an interval; one that touches the line may be chance."
        )
        drawn.append(Picture("comparison.png", "Today's model against the others", what))
    models = facts.metrics.get("models") or {}
    if any(models.values()):
        ordered = {name: models.get(name) for name in ("challenger", "champion", "anchor", "baseline")}
        chart = charts.metric_bars(
            ordered | {"popularity": facts.metrics.get("popularity")}, Cutoffs.of(facts.metrics), folder / "metrics.png"
        )
        drawn.append(
            Picture(
                "metrics.png",
                "Hold-out metrics",
                "Full-catalogue retrieval on the hold-out, the same users for all models.",
                chart,
            )
        )
    rates = facts.metrics.get("false_negative_rate")
    if rates and any(rate is not None for rate in rates.values()):
        chart = charts.false_negative_rates(rates, folder / "false_negatives.png")
        drawn.append(
            Picture(
                "false_negatives.png",
                "True false negatives",
                "Share of drawn negatives whose leaf the user truly likes, from the embedded shop's hidden truth.",
                chart,
            )
        )
    return drawn


def _cluster_pictures(facts: RunFacts, folder: Path) -> list[Picture]:
    drawn = []
    items = facts.frame("items", ["item_index", "item_id", "image_path", "num_train"])
    labels = facts.frame("clusters", ["item_index", "primary", "secondary", "has_visual"])
    if items is None or labels is None:
        return []
    catalogue = items.merge(labels, on="item_index").sort_values("item_index", ignore_index=True)
    inside = catalogue[catalogue["primary"] >= 0]
    if inside.empty:
        return []
    sizes, pairs = (inside.groupby(keys).size().to_list() for keys in (["primary"], ["primary", "secondary"]))
    chart = charts.cluster_sizes(np.array(sizes), np.array(pairs), folder / "cluster_sizes.png")
    drawn.append(Picture("cluster_sizes.png", "Cluster sizes", "Primary clusters and (primary, secondary) pairs.", chart))

    embeddings = facts.item_embeddings()
    if embeddings is not None and len(embeddings) != len(catalogue):
        log.warning("%d item embeddings for %d items: no map, no neighbours", len(embeddings), len(catalogue))
        embeddings = None
    if embeddings is not None:
        charts.item_map(embeddings[inside.index], inside["primary"].to_numpy(), folder / "item_map.png")
        drawn.append(Picture("item_map.png", "Map of the items", "Where the challenger's item tower puts each cluster."))
    return drawn + _poster_pages(facts, catalogue, embeddings, folder)


def _poster_pages(facts: RunFacts, catalogue: pd.DataFrame, embeddings: np.ndarray | None, folder: Path) -> list[Picture]:
    rows = posters.choose_clusters(catalogue)
    neighbours = []
    if embeddings is not None:
        before = facts.champion_embeddings(catalogue["item_id"].tolist())
        neighbours = posters.choose_neighbours(catalogue, embeddings, before)
    wanted = {item for row in rows for _, items in row.groups for item in items}
    wanted |= {item for row in neighbours for item in (row.query, *row.neighbours, *row.before)}
    chosen = catalogue[catalogue["item_id"].isin(wanted)]
    paths = dict(zip(chosen["item_id"], chosen["image_path"].where(chosen["image_path"].notna(), None), strict=True))
    images = load_images(facts.settings, paths)
    if not images:
        return []
    posters.cluster_page(rows, images, folder / "clusters.png")
    drawn = [
        Picture(
            "clusters.png",
            "What lies together",
            "Primary clusters of all sizes, their items grouped by secondary cluster. ESANS draws hard negatives from the same "
            "line but never from the same group.",
        )
    ]
    if neighbours:
        pairs = zip(chosen["primary"].tolist(), chosen["secondary"].tolist(), strict=True)
        labels = dict(zip(chosen["item_id"], pairs, strict=True))
        posters.neighbour_page(neighbours, images, labels, folder / "neighbours.png")
        drawn.append(
            Picture(
                "neighbours.png",
                "What the challenger finds alike",
                "Nearest items in the challenger's embedding space, and above them those in the champion's where there is one; "
                "below each item, its primary / secondary cluster of today.",
            )
        )
    return drawn


def _catalogue_pictures(facts: RunFacts, folder: Path) -> list[Picture]:
    items = facts.frame("items", ["num_train"])
    if items is None or items["num_train"].sum() == 0:
        return []
    chart = charts.popularity_curve(items["num_train"].to_numpy(), folder / "popularity.png")
    return [Picture("popularity.png", "Popularity", "Training events of each item by rank.", chart)]
