"""Train one model of the day: the challenger with the configured negatives, or the uniform-negatives baseline."""

import hashlib
import json
import logging
import os
from functools import partial
from typing import Any

import mlflow
import torch
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
from safetensors.torch import save_file
from torch import Tensor
from upath import UPath

from esans_core.cooccurrence import cooccurrence_vectors
from esans_core.evaluation import encode_catalogue
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.sampler import SemanticNegativeSampler
from esans_core.towers import TwoTower
from esans_core.training import DENSE_ITEMS
from esans_core.user_input import user_statistics
from esans_core.world import World
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.places import local_draft, uri_of
from jobs.base.settings import POPULARITY, PipelineSettings
from jobs.base.tracking import start_or_resume_run
from jobs.lake.tables import Lake
from jobs.step import workers
from jobs.step.code_key import code_key, package_key
from jobs.training.data import ItemClusters, TrainingData, load_item_clusters, load_training_data
from jobs.training.epochs import Training, make_loader
from jobs.training.model_store import SERVED, save_towers, weights_digest
from jobs.training.refit import has_later_events, refit, with_all_events

log = logging.getLogger(__name__)
ROLES = ("baseline", "challenger")
_SECTIONS = ("data", "sampling", "training")  # all that training may read; if another setting changes, nothing is trained again


def run(whole: PipelineSettings, role: str) -> dict[str, Any]:
    """Train a model and publish the towers of its best epoch. A run that was interrupted goes on where it stopped.

    If several processes train together, all of them call this function, and only the first one writes anything.
    """
    settings = whole.only(_SECTIONS)
    device = resolve_device(settings.training.device)
    with workers.joined(device) as world:
        data = load_training_data(settings)
        method = settings.sampling.method if role == "challenger" else "uniform"
        temperature = settings.training.temperature if role == "challenger" else settings.training.baseline_temperature
        # The baseline needs no clusters, so it can be trained while the clusters are made.
        clusters = load_item_clusters(settings) if role == "challenger" else None
        digests = data.digests | (clusters.digests if clusters else {})
        key = training_key(settings, role, digests)
        build = partial(build_training, device=device, world=world, clusters=clusters, method=method, temperature=temperature)
        training = build(settings, data, f"{role}-{key}")
        model = training.model

        def on_all_events(everything: TrainingData, new: bool = False) -> TwoTower:
            """The towers of all events, trained for as many epochs as were best. A new run gets earlier epochs' curves."""
            again = build(settings, everything, f"{role}-{key}-refit", epochs=training.progress.best_epoch)
            if new:
                again.log_curves()
            again.run()
            return again.model.eval()

        wants_refit = settings.training.refit and role == "challenger"
        if world.rank:
            training.run()
            if wants_refit and has_later_events(data):
                on_all_events(with_all_events(data))
            return {}
        progress, lake, run_key = training.progress, Lake.of(settings), version_key(settings, key)
        with start_or_resume_run(settings, run_key, f"{role}-{settings.ds}") as tracked:
            new = not tracked.data.params or (progress.epoch == 0 and progress.step == 0)
            if new:
                _log_start(whole, role, method, temperature, digests)
                training.log_curves()  # the training may have been done before, under other settings of later steps
            training.run()
            run_id, experiment_id = tracked.info.run_id, tracked.info.experiment_id
            training.checkpoint.load_best(device)
            verdict = training.negatives_verdict() if role == "challenger" else None
            served, found = refit(model.eval(), data, partial(on_all_events, new=new)) if wants_refit else (None, None)
            with lake.write(role, settings, inputs=tuple(digests)) as table:
                about = {"role": role, "method": method, "temperature": temperature, "best_epoch": progress.best_epoch}
                _save(table.path, settings, model, data, about)
                if served is not None:
                    save_towers(table.path / SERVED, served, data.item_ids, about | {"encoders": data.encoders})
                best = progress.best_epoch
                curves = {"epochs": progress.curves, "best_epoch": best, "false_means": training.false_means}
                curves |= {"negatives": verdict, "order": data.order, "refit": found}
                write_json(table.path / "curves.json", curves)
                table.stats = {"run_key": run_key, "mlflow_run_id": run_id, "method": method, "best_epoch": best}
                table.stats |= {"order": data.order, "refit": found, "weights": weights_digest(table.path)}
            mlflow.log_text((lake.path(role, settings.date) / "curves.json").read_text(), "curves.json")
    return {
        "method": method,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        training.cutoffs.validation_recall: progress.best_recall if progress.best_recall >= 0 else None,
        "order": data.order,
        "refit": found,
        "mlflow_run_id": run_id,
        "mlflow_experiment_id": experiment_id,
        "device": str(device),
        "processes": world.size,
    }


def build_training(
    settings: PipelineSettings,
    data: TrainingData,
    name: str,
    *,
    device: torch.device,
    world: World,
    clusters: ItemClusters | None,
    method: str,
    temperature: float,
    **further: Any,
) -> Training:
    """Fresh towers, their loss and batches, and the training that puts them together, from the training seed.

    Args:
        settings: settings of the run.
        data: the tables that training reads.
        name: name of the training's checkpoints.
        device: the training device.
        world: the processes that train together.
        clusters: clusters of the items; None for a method that needs none.
        method: one of `METHODS`.
        temperature: tau of the softmax.
        further: other arguments of `Training`.
    """
    torch.manual_seed(settings.training.seed)
    model, loader = build_model(settings, data).to(device), make_loader(settings, data, world)
    frequency = loader.target_frequency(len(data.item_ids), device)
    objective = build_objective(settings, data, clusters, frequency, method, temperature)
    return Training(settings, data, model, objective, loader, name, device, world, **further)


def build_model(settings: PipelineSettings, data: TrainingData) -> TwoTower:
    """Fresh towers over the date's catalogue."""
    training = settings.training
    model = TwoTower(
        data.content,
        data.num_train > 0,
        order=data.order,
        dim=training.embedding_dim,
        num_heads=training.num_heads,
        num_layers=training.num_layers,
        max_history=training.max_history,
        dropout=training.dropout,
        item_network=training.item_network,
        popularity=POPULARITY[training.popularity],
        id_dropout=training.id_dropout,
        num_user_features=data.log.user_features,
        history_dropout=training.history_dropout,
        sparse_ids=training.table_updates == "sparse"
        or (training.table_updates == "auto" and len(data.item_ids) > DENSE_ITEMS),
    )
    if model.user_input is not None and (found := user_statistics(data.log)) is not None:
        model.user_input.standardise_by(*found[:2])
    if data.order == "sequence" and training.start_ids == "cooccurrence":
        model.item_input.start_from(cooccurrence_vectors(data.log, len(data.item_ids), training.embedding_dim))
    return model


def build_objective(
    settings: PipelineSettings,
    data: TrainingData,
    clusters: ItemClusters | None,
    frequency: Tensor,
    method: str,
    temperature: float,
) -> RetrievalObjective:
    """The loss of a method, on the device of `frequency`. It has a sampler if there are clusters.

    Args:
        settings: settings of the run.
        data: the tables that training reads.
        clusters: clusters of the items; None for a method that needs none.
        frequency: float32 [N], `Loader.target_frequency`.
        method: one of `METHODS`.
        temperature: tau of the softmax.
    """
    sampling, device = settings.sampling, frequency.device
    fields = sampling.model_dump(include=set(NegativeConfig.__dataclass_fields__))
    config = NegativeConfig.for_method(method, **fields)
    sampler, groups = None, None
    if clusters is not None:
        index = clusters.index.to(device)
        groups = index.primary(torch.arange(index.num_items, device=device))
        sampler = SemanticNegativeSampler(
            index,
            clusters.centroids.to(device),
            num_easy_clusters=sampling.num_easy_clusters,
            items_per_cluster=sampling.items_per_cluster,
            num_hard=sampling.num_hard,
            easy_temperature=sampling.easy_temperature,
        )
    return RetrievalObjective(
        config,
        frequency,
        temperature=temperature,
        learn_temperature=settings.training.learn_temperature,
        sampler=sampler,
        item_groups=groups,
        num_users=data.log.num_users,
    ).to(device)


def training_key(settings: PipelineSettings, role: str, digests: dict[str, str]) -> str:
    """The name of a training, made from all that decides its result: role, date, settings it may read, tables and code.

    Its checkpoints have this name. So if anything else changes, nothing is trained again.
    """
    parts = {
        "role": role,
        "date": settings.ds,
        "settings": {name: getattr(settings, name).model_dump(mode="json") for name in _SECTIONS},
        "tables": digests,
        "code": code_key(run),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def version_key(settings: PipelineSettings, key: str) -> str:
    """The name of the MLflow run and of the model version that a training leads to.

    A version holds more than the towers: the settings of later steps decide how it is packed and judged, and it contains the
    whole library. If one of these changes, there must be another version, although nothing is trained again.
    """
    parts = [key, settings.config_hash(), package_key("esans_core")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _agreed_params(settings: PipelineSettings) -> dict[str, Any]:
    """Which of the run's settings a person agreed to after a search, and who; nothing if none."""
    record = settings.run_dir / "agreed.json"  # as the run began; the home's own file may have changed since
    if not record.exists():
        return {}
    found = json.loads(record.read_text())
    names = ", ".join(sorted(found["settings"].keys() - found["otherwise"].keys()))
    return {"agreed.settings": names} | {f"agreed.{name}": found[name] for name in ("by", "at", "date", "reason")}


def resolve_device(name: str) -> torch.device:
    """The device to train on: `auto` is CUDA if there is a GPU, else the CPU. Each worker takes a GPU of its own.

    Raises:
        DataError: the CUDA device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and workers.rank() is not None:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(
            f"training on '{device}' was asked for, but {torch.cuda.device_count()} CUDA devices are visible.",
            remedy="set training.device to auto or cpu, make the GPU visible, or lower training.processes.",
        )
    return device


def _save(folder: UPath, settings: PipelineSettings, model: TwoTower, data: TrainingData, meta: dict[str, Any]) -> None:
    save_towers(
        folder,
        model,
        data.item_ids,
        meta | {"date": settings.ds, "encoders": data.encoders},
    )
    embeddings = encode_catalogue(model)
    with local_draft(folder / "item_embeddings.safetensors") as file:
        save_file({"item_embeddings": embeddings.cpu().contiguous()}, file)


def _log_start(settings: PipelineSettings, role: str, method: str, temperature: float, digests: dict[str, str]) -> None:
    lake = Lake.of(settings)
    about = {"role": role, "effective_method": method, "effective_temperature": temperature}
    mlflow.log_params(settings.flat() | about | _agreed_params(settings))
    for table, digest in digests.items():
        source = LocalArtifactDatasetSource(uri_of(lake.path(table, settings.date)))
        dataset = MetaDataset(source, name=table, digest=digest[:8])  # type: ignore[abstract]
        mlflow.log_input(dataset, context="training")
