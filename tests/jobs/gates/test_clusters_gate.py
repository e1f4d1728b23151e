import numpy as np
import pandas as pd
import pytest

from jobs.base.settings import PipelineSettings
from jobs.gates import gate
from tests.jobs.gates.judging import NUM_ITEMS, blocked, failed, items_frame
from tests.jobs.records import publish_frame


def cluster_frame() -> pd.DataFrame:
    index = np.arange(NUM_ITEMS)
    return items_frame()[["item_index", "item_id"]].assign(
        primary=(index % 8).astype("int32"),
        secondary=(index % 4).astype("int32"),
        has_visual=True,
        has_text=True,
        has_behaviour=False,
        distance=np.float32(0.5),
    )


def publish_clusters(
    settings: PipelineSettings, frame: pd.DataFrame, *, churn: float | None, asked_by: str | None = None, growth: float = 0.1
) -> None:
    moved = {"since": "2026-01-27", "moved_items": 36, "labelled_items": 60, "primary": churn} if churn else None
    quality = {"empty": 3, "num_codes": 8}
    publish_frame(settings, "clusters", frame, churn=moved, primary=quality, distortion_growth=growth)
    fit = {"refit_asked_by": asked_by, "cold_because": None, "warm": True, "previous_date": "2026-01-27"}
    publish_frame(settings, "codebooks", frame[:1], **fit)


@pytest.mark.spark
def test_clusters_pass_and_block(settings: PipelineSettings, spark: object) -> None:
    publish_frame(settings, "items", items_frame())
    publish_clusters(settings, cluster_frame(), churn=0.6, asked_by="clusters.force_refit is set", growth=0.3)
    gate.run(settings, "clusters")  # what a change of the settings explains is a warning
    assert failed(settings, "clusters", "warning") == {
        ("labelling", "label_churn_of_refit"),
        ("labelling", "distortion_growth"),
        ("labelling", "empty_codes"),
    }

    bad = cluster_frame()
    bad.loc[:40, "primary"] = 0  # one cluster holds most items, and the others become too small
    bad.loc[41:53, ["primary", "secondary"]] = -1  # more than a fifth without a cluster, though they have views
    bad.loc[54, "primary"] = 8
    bad.loc[55, "secondary"] = 4
    bad.loc[56, "distance"] = np.float32("nan")
    bad.loc[57, "item_index"] = 58
    publish_clusters(settings, bad, churn=0.6)
    columns, message = blocked(settings, "clusters")
    assert columns == {
        ("clusters", "item_index"),
        ("clusters", "primary"),
        ("clusters", "secondary"),
        ("clusters", "label_agrees"),
        ("clusters", "distance_not_finite"),
        ("cluster_sizes", "items"),
        ("cluster_sizes", "share"),
        ("labelling", "unlabelled_items"),
        ("labelling", "label_churn"),
    }
    assert "item i057" in message
    assert ("labelling", "balance") in failed(settings, "clusters", "warning")
