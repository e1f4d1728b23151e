"""What a run left behind, read once: the JSON records of its folder and the manifests and tables of the lake.

Everything may be missing, since a gate may have stopped the run at any point: what was not reached is empty or None.
"""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file
from upath import UPath

from jobs.base.places import local_file, open_dataset
from jobs.base.settings import PipelineSettings
from jobs.gates.stages import STAGES
from jobs.lake.tables import Lake

# In the order in which the pipeline runs them.
STEPS = (
    "prepare", "gate_raw", "ingest", "visual_features", "text_features", "behaviour_features", "gate_features",
    "fit_codebooks", "assign_clusters", "gate_clusters", "build_training_set", "gate_training_set", "train_baseline",
    "train_challenger", "evaluate", "gate_model", "register", "judge", "promote", "candidates", "report",
)  # fmt: skip
TABLES = (
    "items", "users", "interactions", "quarantine", "visual_features", "text_features", "behaviour_features", "codebooks",
    "clusters", "cluster_index", "sequences", "baseline", "challenger", "evaluation", "candidates",
)  # fmt: skip


@dataclass(frozen=True)
class RunFacts:
    """Records of one run.

    Attributes:
        settings: of the run.
        source: `source.json`.
        steps: record of each step that ran, by name, in the pipeline's order.
        gates: verdict of each gate that ran, by stage.
        metrics: `metrics.json`.
        verdict: `verdict.json`.
        agreed: `agreed.json`: the settings that a person agreed to after a search, if any were in force.
        manifests: manifest of each table published for the date.
    """

    settings: PipelineSettings
    source: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    gates: dict[str, dict[str, Any]]
    metrics: dict[str, Any]
    verdict: dict[str, Any]
    agreed: dict[str, Any]
    manifests: dict[str, dict[str, Any]]

    @classmethod
    def collect(cls, settings: PipelineSettings) -> "RunFacts":
        """Read the records of the settings' date."""
        folder, lake = settings.run_dir, Lake.of(settings)
        recorded = {path.stem: _read(path) for path in (folder / "steps").glob("*.json")}
        known = [name for name in STEPS if name in recorded]
        gates = {stage: _read(folder / "gates" / f"{stage}.json") for stage in STAGES}
        return cls(
            settings=settings,
            source=_read(folder / "source.json"),
            steps={name: recorded[name] for name in [*known, *sorted(recorded.keys() - set(known))]},
            gates={stage: gate for stage, gate in gates.items() if gate},
            metrics=_read(folder / "metrics.json"),
            verdict=_read(folder / "verdict.json"),
            agreed=_read(folder / "agreed.json"),
            manifests={name: lake.manifest(name, settings.date) for name in TABLES if lake.exists(name, settings.date)},
        )

    def stats(self, table: str) -> dict[str, Any]:
        """What the job that wrote a table noted in its manifest."""
        return self.manifests.get(table, {}).get("stats") or {}

    def frame(self, table: str, columns: list[str]) -> pd.DataFrame | None:
        """Columns of a lake table of the date, or None where it is not published, or by a release that had other columns."""
        if table not in self.manifests:
            return None
        dataset = open_dataset(Lake.of(self.settings).path(table, self.settings.date))
        if not set(columns) <= set(dataset.schema.names):
            return None
        return dataset.to_table(columns=columns).to_pandas()

    def curves(self, role: str) -> list[dict[str, Any]]:
        """The epochs of a trained model: dicts of epoch, train_loss, the validation recall, and what the probe measured."""
        return list(self._curves(role).get("epochs") or [])

    def false_means(self, role: str) -> str | None:
        """What the curves of a model count as a false negative (`jobs.training.probe`)."""
        return self._curves(role).get("false_means")

    def training(self, role: str) -> dict[str, Any]:
        """How a model was trained: its `epochs`, the best of them, `order` of events, `refit`, and verdict on `negatives`."""
        found = self._curves(role)
        if not found:
            return {}
        return {"epochs": len(found["epochs"])} | {key: found.get(key) for key in ("best_epoch", "order", "refit", "negatives")}

    def _curves(self, role: str) -> dict[str, Any]:
        if role not in self.manifests:
            return {}
        return _read(Lake.of(self.settings).path(role, self.settings.date) / "curves.json")

    def champion_embeddings(self, item_ids: list[str]) -> NDArray[np.float32] | None:
        """What the champion that was compared with makes of these items, float32 [N, D], zero for those it does not know.

        Taken from the table that it was registered from; None where there is no champion, or that table has gone.
        """
        table, lake = self.metrics.get("incumbent_table"), Lake.of(self.settings)
        if not table:
            return None
        date = dt.date.fromisoformat(table["date"])
        if not lake.exists("challenger", date) or lake.manifest("challenger", date)["digest"] != table["digest"]:
            return None
        if (found := model_embeddings(lake, date)) is None:
            return None
        embeddings, ids = found
        rows = pd.Index(ids).get_indexer(pd.Index(item_ids))
        return np.where(rows[:, None] >= 0, embeddings[rows], np.float32(0))

    def item_embeddings(self) -> NDArray[np.float32] | None:
        """Item tower outputs of the challenger, float32 [N, D], row i is item_index i."""
        if "challenger" not in self.manifests:
            return None
        path = Lake.of(self.settings).path("challenger", self.settings.date) / "item_embeddings.safetensors"
        if not path.exists():
            return None
        with local_file(path) as file:
            return load_file(file)["item_embeddings"]


def model_embeddings(lake: Lake, date: dt.date) -> tuple[NDArray[np.float32], list[str]] | None:
    """Item tower outputs of a date's challenger, float32 [N, D], and the item of each row; None where it left none."""
    folder = lake.path("challenger", date)
    if not (folder / "item_embeddings.safetensors").exists() or not (folder / "item_ids.parquet").exists():
        return None
    with local_file(folder / "item_embeddings.safetensors") as file:
        embeddings = load_file(file)["item_embeddings"]
    with local_file(folder / "item_ids.parquet") as file:
        return embeddings, pd.read_parquet(file)["item_id"].tolist()


def _read(path: UPath | Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
