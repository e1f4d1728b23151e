"""The behavioural view: learnt from training events alone, the same on every run."""

import numpy as np
import pandas as pd
import pytest

from jobs import behaviour_features
from jobs.lake import Lake
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]


def two_tastes(num_users: int = 80) -> pd.DataFrame:
    """Even users take items 0..9, odd users 10..19; item 20 has two training events, 21 only a hold-out event."""
    random = np.random.default_rng(0)
    taken = [(user, item) for user in range(num_users) for item in random.permutation(10)[:6] + 10 * (user % 2)]
    rows = pd.DataFrame([*taken, (0, 20), (1, 20)], columns=["user_index", "item_index"]).astype("int64")
    rows["timestamp"] = build.NOON + np.arange(len(rows))
    rows["split"] = "train"
    held = pd.DataFrame({"user_index": [0], "item_index": [21], "timestamp": [build.NOON + build.DAY], "split": ["holdout"]})
    return pd.concat([rows, held], ignore_index=True)


def publish(settings, log: pd.DataFrame) -> None:
    train = log[log["split"] == "train"]
    catalogue = build.items(22)
    catalogue["num_train"] = train.groupby("item_index").size().reindex(range(22), fill_value=0).astype("int64")
    build.publish_catalogue(settings, catalogue)
    build.publish(settings, "interactions", log)


@pytest.mark.parametrize("method", ["word2vec", "als"])
def test_items_of_one_taste_lie_together_and_reruns_agree(settings, method: str) -> None:
    chosen = build.tiny(settings, "", features={"behaviour_method": method, "behaviour_dim": 8})
    publish(chosen, two_tastes())
    summary = behaviour_features.run(chosen)
    assert (summary["ok"], summary["too_few_events"], summary["method"]) == (20, 2, method)
    lake = Lake.of(chosen)
    table = lake.read_pandas("behaviour_features", chosen.date)
    assert table["status"].tolist() == ["ok"] * 20 + ["too_few_events"] * 2
    assert table["vector"][20:].isna().all()
    vectors = np.stack(table["vector"][:20])
    assert vectors.shape == (20, 8)
    assert vectors.dtype == np.float32
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    assert similarity[:10, :10].mean() > similarity[:10, 10:].mean() + 0.3
    digest = lake.manifest("behaviour_features", chosen.date)["digest"]
    behaviour_features.run(chosen)
    assert lake.manifest("behaviour_features", chosen.date)["digest"] == digest


def test_held_out_events_teach_nothing(settings) -> None:
    chosen = build.tiny(settings, "")
    log = two_tastes()
    publish(chosen, log)
    behaviour_features.run(chosen)
    lake = Lake.of(chosen)
    before = lake.read_pandas("behaviour_features", chosen.date)["vector"]
    extra = log[log["split"] == "holdout"].assign(item_index=3, user_index=1)
    publish(chosen, pd.concat([log, extra]))
    behaviour_features.run(chosen)
    after = lake.read_pandas("behaviour_features", chosen.date)["vector"]
    np.testing.assert_array_equal(np.stack(before[:20]), np.stack(after[:20]))


@pytest.mark.parametrize("method", ["word2vec", "als"])
def test_no_item_with_enough_events(settings, method: str) -> None:
    chosen = build.tiny(settings, "", features={"min_behaviour_events": 1000, "behaviour_method": method})
    publish(chosen, two_tastes())
    summary = behaviour_features.run(chosen)
    assert (summary["ok"], summary["too_few_events"]) == (0, 22)
