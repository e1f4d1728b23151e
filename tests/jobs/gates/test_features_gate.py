import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.base.settings import PipelineSettings
from jobs.gates import gate
from jobs.gates.features import STATUSES
from tests.jobs.gates.judging import NUM_ITEMS, blocked, failed, items_frame, verdict
from tests.jobs.records import publish_frame

DIM = 4

FEATURE_SCHEMA = pa.schema(
    [
        ("item_index", pa.int64()),
        ("item_id", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("status", pa.string()),
        ("content_hash", pa.string()),
        ("encoder", pa.string()),
    ]
)


def feature_frame(seed: int) -> pd.DataFrame:
    vectors = np.random.default_rng(seed).normal(size=(NUM_ITEMS, DIM)).astype("float32")
    frame = items_frame()[["item_index", "item_id"]]
    return frame.assign(vector=list(vectors), status="ok", content_hash=None, encoder="e1")


def publish_features(settings: PipelineSettings, **changed: pd.DataFrame) -> None:
    publish_frame(settings, "items", items_frame())
    for seed, view in enumerate(STATUSES):
        publish_frame(settings, f"{view}_features", changed.get(view, feature_frame(seed)), FEATURE_SCHEMA)


@pytest.mark.spark
def test_features_pass_and_block(settings: PipelineSettings, spark: object) -> None:
    bare = feature_frame(1).assign(vector=None, status="missing")
    publish_features(settings, text=bare)
    gate.run(settings, "features")
    assert failed(settings, "features", "warning") == {("text_features", "vector_length")}

    visual, text, behaviour = (feature_frame(seed) for seed in range(3))
    visual.at[3, "vector"] = np.array([1, np.nan, 0, 0], "float32")
    visual.at[4, "vector"] = np.array([1, np.inf, 0, 0], "float32")
    visual.at[5, "vector"] = np.ones(DIM + 1, "float32")
    visual.loc[6, "item_index"] = 7
    visual.loc[8, "status"] = "fine"
    visual.loc[9, "encoder"] = "e2"
    text["vector"] = [np.ones(DIM, "float32")] * NUM_ITEMS
    text.loc[0, "item_index"] = NUM_ITEMS
    text.loc[1, "status"] = "missing"
    behaviour["vector"] = [np.zeros(DIM, "float32")] * 40 + list(behaviour["vector"][40:])
    behaviour["encoder"] = None
    publish_features(settings, visual=visual, text=text, behaviour=behaviour)
    columns, message = blocked(settings, "features")
    assert columns == {
        ("visual_features", "item_index"),
        ("visual_features", "num_not_finite"),
        ("visual_features", "vector_length"),
        ("visual_features", "status"),
        ("visual_features", "status_agrees"),
        ("visual_features", "encoder"),
        ("text_features", "item_index"),
        ("text_features", "identical_share"),
        ("text_features", "status_agrees"),
        ("behaviour_features", "norm"),
        ("behaviour_features", "has_encoder"),
        ("views", "num_missing_rows"),
    }
    not_finite = next(f for f in verdict(settings, "features")["failures"] if f["column"] == "num_not_finite")
    assert set(not_finite["examples"]) == {"item i003 (1)", "item i004 (1)"}


@pytest.mark.spark
def test_features_without_any_view_block(settings: PipelineSettings, spark: object) -> None:
    words = {"visual": "missing", "text": "missing", "behaviour": "too_few_events"}
    publish_features(settings, **{v: feature_frame(0).assign(vector=None, status=word) for v, word in words.items()})
    settings = settings.model_copy(update={"gate": settings.gate.model_copy(update={"min_view_coverage": 0.0})})
    assert blocked(settings, "features")[0] == {("views", "num_views")}


@pytest.mark.spark
def test_a_missing_table_is_a_critical_failure(settings: PipelineSettings, spark: object) -> None:
    publish_frame(settings, "items", items_frame())
    _, message = blocked(settings, "features")
    assert "visual_features" in message
    assert verdict(settings, "features")["checked"] == 0


@pytest.mark.spark
def test_one_placeholder_for_every_item_stops_the_run(settings: PipelineSettings, spark: object) -> None:
    publish_features(settings, visual=feature_frame(0).assign(content_hash="f" * 64))
    columns, message = blocked(settings, "features")
    assert columns == {("visual_features", "identical_content")}
    assert "no picture is shared by more than 90% of the items" in message and "such as a placeholder" in message
