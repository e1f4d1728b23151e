"""Fit the alignment heads and the cascaded codebooks (MSAC) on the three feature tables of the date.

It reads `items`, `visual_features`, `text_features`, `behaviour_features` and, for a warm start, the `codebooks` of the last
date that the gate did not refuse. It writes `codebooks`.
"""

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from esans_core.clusters.alignment import AlignmentHeads, fit_alignment
from esans_core.clusters.codebooks import Codebooks, FitReport, fit_codebooks
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.clusters.codebook_store import load_codebooks, save_codebooks
from jobs.clusters.history import accepted_date
from jobs.clusters.item_sample import sample_items
from jobs.lake.tables import Lake
from jobs.lake.views import FEATURE_TABLES, read_views

log = logging.getLogger(__name__)

_WARM_SHARE = 5  # a warm start trains the heads for a fifth of the epochs, enough to follow the new items


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Fit and publish the codebooks of the date.

    Raises:
        DataError: there are too few items for the clusters, or the feature tables cannot be used (see `read_views`).
    """
    lake, clusters = Lake.of(settings), settings.clusters
    views = read_views(settings, sample_items(settings))
    _check_enough(settings, int(views.present.any(axis=1).sum()))
    previous = _Previous.of(settings, views.encoders)

    kept = [] if previous.heads is None else [n for n, dim in previous.heads.input_dims.items() if _fits(views.arrays, n, dim)]
    all_kept = len(kept) == len(views.arrays)
    epochs = max(1, clusters.alignment_epochs // _WARM_SHARE) if all_kept else clusters.alignment_epochs
    heads, losses = fit_alignment(
        views.arrays,
        views.present,
        dim=clusters.dim,
        epochs=epochs if clusters.alignment else 0,
        temperature=clusters.alignment_temperature,
        seed=clusters.seed,
        initial=previous.heads,
        progress=lambda epoch, loss: log.info("alignment epoch %d of %d: loss %.4f", epoch, epochs, loss),
    )
    codebooks, report = fit_codebooks(
        heads.align(views.arrays, views.present),
        views.present,
        num_primary=clusters.num_primary,
        num_secondary=clusters.num_secondary,
        min_cluster_size=clusters.min_cluster_size,
        secondary_per_primary=clusters.secondary_per_primary,
        seed=clusters.seed,
        initial=previous.codebooks,
    )
    for repair in report.repairs:
        log.info("repair: %s", repair)
    about = {
        "settings": clusters.model_dump(mode="json"),
        "encoders": views.encoders,
        "items_fitted": len(views.present),
        "items_per_view": dict(zip(views.arrays, views.present.sum(axis=0).tolist(), strict=True)),
        "previous_date": previous.date,
        "cold_because": previous.cold_because,
        "refit_asked_by": previous.asked_by,
        "heads_kept": kept,
        "alignment_losses": losses,
        "fit": asdict(report),
    }
    with lake.write("codebooks", settings, inputs=("items", *FEATURE_TABLES), extra_inputs=previous.digest) as pending:
        save_codebooks(pending.path, heads, codebooks, about)
        pending.stats = _summary(about, report)
    return pending.stats


class _Previous:
    """What a warm start takes from the last accepted date, or why it takes nothing; and which setting asked for new labels."""

    def __init__(self, cold_because: str | None = None, asked_by: str | None = None) -> None:
        self.cold_because = cold_because
        self.asked_by = asked_by
        self.date: str | None = None
        self.digest: dict[str, str] = {}
        self.heads: AlignmentHeads | None = None
        self.codebooks: Codebooks | None = None

    @classmethod
    def of(cls, settings: PipelineSettings, encoders: Mapping[str, str]) -> "_Previous":
        """Codebooks of the last accepted date if they fit today's settings, and the heads whose encoder is still the same.

        A head that learnt from another encoder's vectors is of no use today. It is trained anew, beside those that are kept.
        """
        clusters, lake = settings.clusters, Lake.of(settings)
        if clusters.force_refit or not clusters.warm_start:
            reason = "clusters.force_refit is set" if clusters.force_refit else "clusters.warm_start is off"
            return cls(reason, reason)
        date = accepted_date(settings, "codebooks")
        if date is None:
            return cls("no earlier codebooks")
        heads, codebooks, about = load_codebooks(lake.path("codebooks", date))
        before, asked_by = about["settings"], _asked_by(settings, encoders, about, date)
        for name in ("dim", "num_primary", "num_secondary", "secondary_per_primary", "alignment"):
            if before[name] != getattr(clusters, name):
                return cls(f"clusters.{name} was {before[name]} on {date}", asked_by)
        if about["modalities"] != list(encoders):
            return cls(f"the views on {date} were {', '.join(about['modalities'])}", asked_by)
        same = [name for name, encoder in encoders.items() if about["encoders"][name] == encoder]
        if not same:
            return cls(f"every encoder has changed since {date}", asked_by)
        found = cls(asked_by=asked_by)
        found.date, found.codebooks = date.isoformat(), codebooks
        found.digest = {f"codebooks@{date}": lake.manifest("codebooks", date)["digest"]}
        found.heads = AlignmentHeads.from_arrays(heads.to_arrays(), same)
        return found


def _asked_by(settings: PipelineSettings, encoders: Mapping[str, str], about: Mapping[str, Any], date: dt.date) -> str | None:
    """The change of settings since `date` that explains why labels move; None if no setting was changed.

    The encoder of the behavioural view is fitted anew each day, so its change does not count.
    """
    now = settings.clusters.model_dump(mode="json")
    # The last two say how one run starts, not what the codebooks are.
    changed = [name for name in now if now[name] != about["settings"].get(name) and name not in ("force_refit", "warm_start")]
    if changed:
        return f"clusters.{changed[0]} was {about['settings'].get(changed[0])} on {date}"
    for name in ("visual", "text"):
        if encoders.get(name) != about["encoders"].get(name):
            return f"the {name} encoder has changed since {date}"
    return None


def _fits(arrays: Mapping[str, np.ndarray], name: str, dim: int) -> bool:
    return name in arrays and arrays[name].shape[1] == dim


def _check_enough(settings: PipelineSettings, count: int) -> None:
    clusters = settings.clusters
    needed = max(clusters.num_primary * clusters.min_cluster_size, clusters.num_secondary)
    if count < needed:
        raise DataError(
            f"there are fewer items than clusters need: {count} items have a view, but {clusters.num_primary} primary clusters "
            f"of at least {clusters.min_cluster_size} items with {clusters.num_secondary} secondary codes need {needed}.",
            file=" and ".join(FEATURE_TABLES),
            remedy=f"set clusters.num_primary to at most {count // clusters.min_cluster_size} (and clusters.num_secondary to "
            f"at most {count}), or bring more items."
            if count >= 2 * clusters.min_cluster_size
            else f"bring more items: at least two clusters of {clusters.min_cluster_size} items are needed.",
        )


def _summary(about: dict[str, Any], report: FitReport) -> dict[str, Any]:
    losses = about["alignment_losses"]
    return {
        "items_fitted": about["items_fitted"],
        "items_per_view": about["items_per_view"],
        "warm": report.warm,
        "previous_date": about["previous_date"],
        "cold_because": about["cold_because"],
        "refit_asked_by": about["refit_asked_by"],
        "heads_kept": about["heads_kept"],
        "alignment_epochs": len(losses),
        "alignment_loss_first": losses[0] if losses else None,
        "alignment_loss_last": losses[-1] if losses else None,
        "primary": asdict(report.primary),
        "secondary": asdict(report.secondary),
        "pairs_in_use": report.pairs_in_use,
        "repairs": [asdict(repair) for repair in report.repairs],
        "retired": list(report.retired),
    }
