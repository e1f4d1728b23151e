"""Run a gate and read its verdict."""

import json

import numpy as np
import pandas as pd
import pytest

from jobs.base.errors import GateFailed
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.gates import gate
from jobs.lake.tables import Lake
from tests.jobs.records import metrics

NUM_ITEMS, NUM_USERS = 60, 30


def verdict(settings: PipelineSettings, stage: str) -> dict:
    return json.loads((settings.run_dir / "gates" / f"{stage}.json").read_text())


def failed(settings: PipelineSettings, stage: str, severity: str) -> set[tuple[str, str | None]]:
    return {(f["table"], f["column"]) for f in verdict(settings, stage)["failures"] if f["severity"] == severity}


def blocked(settings: PipelineSettings, stage: str) -> tuple[set[tuple[str, str | None]], str]:
    """Critical failures and message of a gate that must stop the run."""
    with pytest.raises(GateFailed) as caught:
        gate.run(settings, stage)
    result = verdict(settings, stage)
    assert result["success"] is False
    assert result["worst"] == "critical"
    return failed(settings, stage, "critical"), str(caught.value)


def items_frame() -> pd.DataFrame:
    index = np.arange(NUM_ITEMS)
    return pd.DataFrame(
        {"item_index": index, "item_id": [f"i{n:03d}" for n in index], "title": "t", "text": "x", "image_path": None}
    ).assign(num_train=2)


def publish_metrics(settings: PipelineSettings, *, users: int = 100, loss: float = 1.0, **changes: object) -> None:
    lake = Lake.of(settings)
    for table in ("baseline", "challenger", "evaluation"):
        with lake.write(table, settings) as pending:
            write_json(
                pending.path / "curves.json", {"epochs": [{"epoch": 1, "train_loss": loss, "validation_recall_50": 0.1}]}
            )
    ks = changes.pop("ks", [50, 200])
    models = {"challenger": metrics(**changes), "champion": None, "baseline": metrics(recall_50=0.15)}
    write_json(
        settings.run_dir / "metrics.json", {"users": users, "ks": ks, "models": models, "popularity": {"recall_50": 0.1}}
    )
