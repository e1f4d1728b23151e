"""Evaluates challenger, champion, anchor and baseline on one hold-out over the full catalogue, and counts false negatives."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from torch import Tensor
from upath import UPath

from esans_core.defaults import HEAD_SHARE
from esans_core.evaluation import Relevant, RetrievalResult, encode_catalogue, evaluate, retrieve
from esans_core.loader import Loader
from esans_core.sampler import SemanticNegativeSampler
from esans_core.towers import TwoTower
from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.places import local_draft
from jobs.base.settings import PipelineSettings
from jobs.lake.event_log import ParquetLog, of_kinds, of_repeats
from jobs.lake.tables import Lake
from jobs.registry.anchor import Anchor, anchor_of
from jobs.registry.champion import lost_words
from jobs.registry.gate_report import checked_copy
from jobs.registry.intervals import recall_intervals
from jobs.registry.version_records import said
from jobs.registry.versions import MODEL_DIGEST, TRAINED, incumbent_version, lost_champion, version_date
from jobs.shop.truth import HiddenTruth
from jobs.training.data import ItemClusters, TrainingData, load_item_clusters, load_training_data
from jobs.training.model_store import load_towers, readable

log = logging.getLogger(__name__)
_GONE = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}  # MLflow's error codes for files that are gone
_MISSING = "No such file or directory"
_MOST_KINDS = 12  # kinds of events whose recall is told apart
_SAMPLED_POSITIVES = 4096  # training events over which the samplers' false negatives are counted


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Evaluate the day's models, and publish the metrics of each user and `metrics.json`.

    Raises:
        DataError: there is no hold-out to evaluate on, or the champion to compare with does not pass its check.
    """
    lake = Lake.of(settings)
    data = load_training_data(settings)
    if data.log.num_evaluated("holdout") == 0:
        raise DataError(
            "no user has both a training history and a hold-out event.",
            file=lake.path("sequences", settings.date),
            remedy="provide more days of events, or change ingest.split and ingest.holdout_days.",
        )
    cutoffs = Cutoffs.for_catalogue(len(data.item_ids))
    if (k_note := cutoffs.note(len(data.item_ids))) is not None:
        log.warning("%s", k_note)
    models: dict[str, TwoTower] = {}
    for role in ("challenger", "baseline"):
        models[role] = load_towers(lake.path(role, settings.date))[0]
    incumbent = incumbent_version(settings)
    anchor = None if incumbent is None else _anchor(settings, incumbent)
    note = anchor_note = None
    if incumbent is None and (lost := lost_champion(settings)) is not None:
        note = lost_words(settings, lost)
        log.warning("%s, so nothing is compared with it", note)
    if incumbent is not None and anchor is not None:
        with _checked_incumbent(settings, incumbent) as folder:
            champion, note = champion_on_catalogue(folder, lake.path("challenger", settings.date), data.item_ids, data.content)
        if champion is None:
            log.warning("champion version %s cannot be compared: %s", incumbent.version, note)
        else:
            models["champion"] = champion
        if anchor.number != str(incumbent.version):
            best, anchor_note = anchor_on_catalogue(settings, anchor, data)
            if best is None:
                log.warning("anchor version %s cannot be ranked: %s", anchor.number, anchor_note)
            else:
                models["anchor"] = best
    slices = catalogue_slices(data.num_train)
    metrics: dict[str, Any] = {}
    frames = []
    for name, model in models.items():
        result = evaluate(model, data.log, "holdout", ks=cutoffs.ks, slices=slices)
        metrics[name] = summarise(result, model, cutoffs)
        frames.append(
            pd.DataFrame(
                {"model": name, "user_index": result.users.numpy(), "num_relevant": result.num_relevant.numpy()}
                | {f"recall_{k}": values.numpy() for k, values in result.recall.items()}
                | {cutoffs.ndcg: result.ndcg[cutoffs.first].numpy()}
                | {cutoffs.slice_recall(part): values.numpy() for part, values in result.slice_recall.items()}
            )
        )
        log.info("%s: %s", name, ", ".join(f"{recall} {metrics[name][recall]:.4f}" for recall in cutoffs.recalls))
    with lake.write("evaluation", settings, inputs=("challenger", "baseline", "sequences", "items")) as table:
        table.path.mkdir()
        with local_draft(table.path / "part-0.parquet") as file:
            pd.concat(frames, ignore_index=True).to_parquet(file, index=False)
    truth = HiddenTruth.load(settings)
    report = {
        "users": data.log.num_evaluated("holdout"),
        "ks": list(cutoffs.ks),
        "k_note": k_note,
        "recall_apart": {name: _recall_of(settings, part, models, cutoffs) for name, part in targets_apart(data.log).items()}
        | new_users(settings, data.log, models, cutoffs),
        "models": {"champion": None} | metrics,
        "popularity": popularity_recall(data, cutoffs),
        "incumbent_version": None if incumbent is None else str(incumbent.version),
        "incumbent_note": note,
        "incumbent_table": None if incumbent is None else _made_from(incumbent),
        "anchor_version": None if anchor is None else anchor.number,
        "anchor_note": anchor_note,
        "false_negative_rate": None
        if truth is None
        else false_negative_rates(settings, data, load_item_clusters(settings), truth),
        "clusters_vs_truth": None
        if truth is None
        else truth.cluster_agreement(lake.read_pandas("clusters", settings.date, ["item_index", "primary", "secondary"])),
    }
    write_json(settings.run_dir / "metrics.json", report)
    return {name: round(values[cutoffs.recall], 4) for name, values in metrics.items()}


def _recall_of(
    settings: PipelineSettings, log: ParquetLog, models: Mapping[str, TwoTower], cutoffs: Cutoffs, *, new_users: bool = False
) -> dict[str, Any]:
    """Mean recall of each model, and the intervals of its difference to the challenger, which have the same users."""
    found = {name: evaluate(model, log, "holdout", ks=cutoffs.ks[:1], new_users=new_users) for name, model in models.items()}
    recall = {name: result.recall[cutoffs.first].numpy() for name, result in found.items()}
    means = {name: float(values.mean()) for name, values in recall.items()}
    return {"users": len(recall["challenger"]), "recall": means, "intervals": recall_intervals(settings, recall)}


def new_users(settings: PipelineSettings, log: ParquetLog, models: Mapping[str, TwoTower], cutoffs: Cutoffs) -> dict[str, Any]:
    """Recall of users without any event before the hold-out, of whom something else is known; empty if there are none."""
    blocks = (log.read(block) for block in range(log.num_blocks)) if log.user_features else ()
    users = sum(len(block.evaluation_users("holdout", new=True)) for block in blocks)
    if not users:
        return {}
    return {"new users": _recall_of(settings, log, models, cutoffs, new_users=True)}


def targets_apart(log: ParquetLog) -> dict[str, ParquetLog]:
    """Parts of the hold-out whose recall is told apart: each kind of event, and items that are new to the user or not."""
    parts: dict[str, ParquetLog] = {}
    if log.has_kinds:
        parts |= _by_kind(log)
    if log.again:
        parts |= {"items new to the user": of_repeats(log, repeated=False), "repeated items": of_repeats(log, repeated=True)}
    return {name: part for name, part in parts.items() if part.num_evaluated("holdout")}


def _by_kind(log: ParquetLog) -> dict[str, ParquetLog]:
    """The targets of each kind of event, those of the most first; of many kinds, the rarest are told together."""
    targets: Counter[str] = Counter()
    for block in range(log.num_blocks):
        counts = log.read(block).target_weights().numpy() > 0
        targets.update(dict(zip(*np.unique(log.kinds(block)[counts], return_counts=True), strict=True)))
    kinds = sorted(targets, key=lambda kind: (-targets[kind], kind))
    if kinds == [""]:
        return {}
    if len(kinds) <= _MOST_KINDS:
        told, rest = kinds, []
    else:
        told, rest = kinds[: _MOST_KINDS - 1], kinds[_MOST_KINDS - 1 :]
    parts: dict[str, ParquetLog] = {f"kind {kind}" if kind else "events without a kind": of_kinds(log, [kind]) for kind in told}
    return parts | ({f"{len(rest)} other kinds": of_kinds(log, rest)} if rest else {})


def _anchor(settings: PipelineSettings, incumbent: ModelVersion) -> Anchor:
    with _readable_incumbent(incumbent):
        return anchor_of(settings, incumbent)


def anchor_on_catalogue(settings: PipelineSettings, anchor: Anchor, data: TrainingData) -> tuple[TwoTower | None, str | None]:
    """The anchor's towers over today's items, or None and the reason why it cannot be ranked.

    An anchor that is gone, was changed or reads other features does not stop the run. The verdict reports it (`jobs.judge`).
    """
    if anchor.version is None:
        return None, "the registry no longer has it"
    today = Lake.of(settings).path("challenger", settings.date)
    try:
        with checked_copy(settings, anchor.version) as (_, copy):
            return champion_on_catalogue(copy / TRAINED, today, data.item_ids, data.content)
    except DataError as error:
        return None, error.problem.rstrip(".")
    except MlflowException as error:
        if error.error_code not in _GONE:
            raise
        return None, "its files are gone"
    except OSError as error:
        # A full disk or a server out of reach is a passing fault. It must not cost the anchor its place. MLflow sets no errno.
        if _MISSING not in str(error):
            raise
        return None, "its files are gone"


@contextmanager
def _checked_incumbent(settings: PipelineSettings, incumbent: ModelVersion) -> Iterator[Path]:
    """Folder with the trained towers of the champion. It is checked, since anybody who reaches MLflow can move the alias."""
    with ExitStack() as stack:
        with _readable_incumbent(incumbent):
            _, copy = stack.enter_context(checked_copy(settings, incumbent))
        yield copy / TRAINED


@contextmanager
def _readable_incumbent(incumbent: ModelVersion) -> Iterator[None]:
    """Add to errors about the champion what to do about them."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"cannot be the champion to compare with: {error.problem}",
            file=said(incumbent),
            remedy="let esans_publish put the alias back (it runs every hour), then run evaluate again for this date.",
        ) from error


def _made_from(version: ModelVersion) -> dict[str, str | None]:
    """Date and digest of the table `challenger` from which a version was registered."""
    return {"date": version_date(version).isoformat(), "digest": version.tags.get(MODEL_DIGEST)}


def champion_on_catalogue(
    champion: Path,
    challenger: UPath,
    item_ids: list[str],
    content: Tensor,
    load: Callable[[Path], tuple[TwoTower, dict[str, Any], list[str]]] = load_towers,
) -> tuple[TwoTower | None, str | None]:
    """The champion's towers over today's items, or None and the reason if its features or its towers are not those of today.

    Two models are compared by the towers that were judged, because those that serve have seen the days that are judged today.
    """
    if not readable(champion):
        return None, "it has the towers of an earlier version of this project, which this version cannot read"
    model, meta, ids = load(champion)
    today = load_towers(challenger)[1]
    if meta.get("encoders") != today.get("encoders"):
        return None, f"it was trained on features of other encoders ({meta.get('encoders')}, today {today.get('encoders')})"
    row_of = {item_id: row for row, item_id in enumerate(ids)}
    rows = torch.tensor([row_of.get(item_id, -1) for item_id in item_ids])
    return model.for_catalogue(rows, content), None


def catalogue_slices(num_train: Tensor) -> dict[str, Tensor]:
    """head: the most popular fifth; tail: the other items with training events; new: items without any. bool [N] each."""
    threshold_rank = max(1, int(len(num_train) * HEAD_SHARE))
    head = torch.zeros(len(num_train), dtype=torch.bool)
    head[num_train.argsort(descending=True, stable=True)[:threshold_rank]] = True
    head &= num_train > 0
    return {"head": head, "tail": ~head & (num_train > 0), "new": num_train == 0}


@torch.no_grad()
def summarise(result: RetrievalResult, model: TwoTower, cutoffs: Cutoffs) -> dict[str, Any]:
    """Means over users, coverage of the catalogue, and measures of the health of the item embeddings."""
    embeddings = encode_catalogue(model)
    slices = {cutoffs.slice_recall(name): _mean(values) for name, values in result.slice_recall.items()}
    return {
        **{f"recall_{k}": _mean(values) for k, values in result.recall.items()},
        cutoffs.ndcg: _mean(result.ndcg[cutoffs.first]),
        **slices,
        cutoffs.coverage: int(result.retrieved.sum()) / model.num_items,
        "embedding_norm_mean": float(embeddings[:, : model.options["dim"]].norm(dim=1).mean()),  # without the popularity
        "embedding_std": float(embeddings.std(dim=0).mean()),
        "finite": bool(embeddings.isfinite().all()),
    }


def popularity_recall(data: TrainingData, cutoffs: Cutoffs) -> dict[str, float]:
    """Recall if everyone gets the most popular unseen items. A model that is not better is worth nothing."""
    totals, popularity = dict.fromkeys(cutoffs.ks, 0.0), data.num_train.float()[:, None]
    for log_block in range(data.log.num_blocks):
        sequences = data.log.read(log_block)
        for block in sequences.evaluation_users("holdout").split(512):
            if len(block) == 0:
                continue
            top = retrieve(torch.ones(len(block), 1), popularity, sequences.seen(block, "holdout"), max(totals))
            relevant = Relevant(*sequences.relevant(block, "holdout"), len(block), len(popularity))
            hits = relevant.hits(top)
            for k in totals:
                totals[k] += float((hits[:, :k].sum(1) / relevant.count()).sum())
    return {f"recall_{k}": total / data.log.num_evaluated("holdout") for k, total in totals.items()}


def false_negative_rates(
    settings: PipelineSettings, data: TrainingData, clusters: ItemClusters, truth: HiddenTruth
) -> dict[str, float | None]:
    """Share of the drawn negatives that the user would truly like, by sampler, over a fixed sample of training events."""
    generator = torch.Generator().manual_seed(settings.training.seed)
    loader = Loader(data.log, batch_size=_SAMPLED_POSITIVES, max_history=1)
    sample = next(loader.epoch(settings.training.seed).batches())
    users, positives = sample.users[sample.excerpt_of_target], sample.positives
    sampling = settings.sampling
    sampler = SemanticNegativeSampler(
        clusters.index,
        clusters.centroids,
        num_easy_clusters=max(1, sampling.num_easy_clusters),
        items_per_cluster=sampling.items_per_cluster,
        num_hard=max(1, sampling.num_hard),
        easy_temperature=sampling.easy_temperature,
    )
    draws = sampler.sample(positives, generator)
    group = clusters.index.group(positives)
    in_group = clusters.index.group_offsets[group.clamp_min(0)][:, None]
    ranks = (
        torch.rand(len(positives), 5, generator=generator) * clusters.index.group_sizes[group.clamp_min(0)][:, None]
    ).long()
    drawn: Mapping[str, tuple[Tensor, Tensor]] = {
        "uniform": (torch.randint(len(data.item_ids), (len(users), 20), generator=generator), torch.ones(len(users)) > 0),
        "in_batch": (positives[torch.randint(len(users), (len(users), 20), generator=generator)], torch.ones(len(users)) > 0),
        "easy": (draws.easy_BCM.flatten(1), draws.easy_valid_B),
        "hard": (draws.hard_BH, draws.hard_valid_B),
        "same_cluster": (clusters.index.order[in_group + ranks].long(), group >= 0),
    }
    rates: dict[str, float | None] = {}
    for name, (items, valid) in drawn.items():
        usable = valid[:, None] & (items != positives[:, None])
        wrong = torch.from_numpy(truth.false_negative_mask(users.numpy(), items.numpy()))
        rates[name] = float((wrong & usable).sum() / usable.sum()) if bool(usable.any()) else None
    return rates


def _mean(values: Tensor) -> float | None:
    present = values[~values.isnan()]
    return float(present.mean()) if len(present) else None
