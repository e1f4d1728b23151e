"""The behavioural view is learnt from training events alone, and is the same on every run."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from jobs.base.errors import DataError
from jobs.features import behaviour_features
from jobs.lake.tables import Lake
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


def test_weights_are_the_confidence_of_als(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = build.tiny(settings, "", features={"behaviour_method": "als", "behaviour_dim": 8})
    log, given, fit = two_tastes(20), [], behaviour_features.ALS.fit
    weights = np.array([0.0, 1.0, 8.0])[np.arange(len(log)) % 3]

    def spied(als, ratings):
        given.append(ratings.toPandas())
        return fit(als, ratings)

    monkeypatch.setattr(behaviour_features.ALS, "fit", spied)
    vectors = []
    for weighed in (log, log.assign(weight=1.0), log.assign(weight=weights)):
        publish(chosen, weighed)
        behaviour_features.run(chosen)
        vectors.append(vectors_of(chosen, chosen.date))
    pairs = log.assign(weight=weights).query("split == 'train'").set_index(["user_index", "item_index"])["weight"]
    read = given[-1].set_index(["user_index", "item_index"])["rating"]
    assert read.sort_index().tolist() == pytest.approx(pairs.replace(0.0, 0.1).sort_index().tolist())  # 0: history only
    assert set(given[0]["rating"]) == set(given[1]["rating"]) == {1.0}
    np.testing.assert_array_equal(np.stack(vectors[0]), np.stack(vectors[1]))
    assert not np.allclose(np.stack(vectors[1]), np.stack(vectors[2]))


def test_word2vec_refuses_weights_that_it_cannot_read(settings) -> None:
    chosen = build.tiny(settings, "", features={"behaviour_method": "word2vec"})
    log = two_tastes(20)
    publish(chosen, log.assign(weight=np.where(np.arange(len(log)) % 2, 8.0, 0.0)))  # history beside targets is no weight
    assert behaviour_features.run(chosen)["method"] == "word2vec"
    publish(chosen, log.assign(weight=np.where(np.arange(len(log)) % 2, 8.0, 1.0)))
    with pytest.raises(DataError, match="weights from 1 to 8, but word2vec reads every event alike"):
        behaviour_features.run(chosen)


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


def vectors_of(settings, date: dt.date) -> pd.Series:
    return Lake.of(settings).read_pandas("behaviour_features", date).set_index("item_id")["vector"].dropna()


def cosines(vectors: pd.Series) -> np.ndarray:
    rows = np.stack(vectors.tolist())
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def test_the_next_date_keeps_the_axes_and_says_how_well(settings) -> None:
    chosen = build.tiny(settings, "", features={"behaviour_dim": 6})
    tomorrow = chosen.model_copy(update={"date": build.DATE + dt.timedelta(days=1)})
    alone = tomorrow.model_copy(update={"home": chosen.home / "alone"})
    log = two_tastes()
    extra = two_tastes(90).query("split == 'train' and user_index >= 80")
    publish(chosen, log)
    first = behaviour_features.run(chosen)
    assert first["axes"]["skipped"] == "no earlier vectors" and first["blocks"] == 1
    for day in (tomorrow, alone):  # with and without a day before
        publish(day, pd.concat([log, extra]))
    second, cold = behaviour_features.run(tomorrow), behaviour_features.run(alone)
    axes = second["axes"]
    assert axes["encoder"] == first["axes"]["encoder"] != cold["axes"]["encoder"]
    assert (axes["onto"], axes["items"]) == (chosen.ds, 20)
    assert axes["residual_after"] < axes["residual_before"]
    encoders = Lake.of(chosen).read_pandas("behaviour_features", tomorrow.date)["encoder"].unique()
    assert encoders.tolist() == [axes["encoder"]]
    # Only turned: angles are those of a fit without a day before, and each vector is near that of the day before.
    old, new, free = vectors_of(chosen, chosen.date), vectors_of(tomorrow, tomorrow.date), vectors_of(alone, alone.date)
    np.testing.assert_allclose(cosines(new), cosines(free), atol=1e-5)
    near = [old[name] @ new[name] / np.linalg.norm(old[name]) / np.linalg.norm(new[name]) for name in new.index]
    assert np.sqrt(2 - 2 * np.mean(near)) == pytest.approx(axes["residual_after"], abs=1e-3)
    digest = Lake.of(chosen).manifest("behaviour_features", tomorrow.date)["digest"]
    behaviour_features.run(tomorrow)
    assert Lake.of(chosen).manifest("behaviour_features", tomorrow.date)["digest"] == digest


def test_other_settings_or_too_few_common_items_start_new_axes(settings) -> None:
    chosen = build.tiny(settings, "", features={"behaviour_dim": 8})
    publish(chosen, two_tastes())
    behaviour_features.run(chosen)
    tomorrow = chosen.model_copy(update={"date": build.DATE + dt.timedelta(days=1)})
    other = tomorrow.model_copy(update={"features": chosen.features.model_copy(update={"min_behaviour_events": 4})})
    publish(other, two_tastes())
    assert behaviour_features.run(other)["axes"]["skipped"] == f"method or settings have changed since {chosen.ds}"
    publish(tomorrow, two_tastes().query("item_index < 12 or item_index > 19"))
    report = behaviour_features.run(tomorrow)["axes"]
    assert report["skipped"] == f"12 items have vectors today and on {chosen.ds}, fewer than 16"


@pytest.mark.parametrize("method", ["word2vec", "als"])
def test_several_blocks_give_the_same_tastes(settings, method: str) -> None:
    features = {"behaviour_method": method, "behaviour_dim": 8, "behaviour_blocks": 3}
    chosen = build.tiny(settings, "", features=features)
    publish(chosen, two_tastes(160))
    assert behaviour_features.run(chosen)["blocks"] == 3
    similarity = cosines(vectors_of(chosen, chosen.date))
    assert similarity[:10, :10].mean() > similarity[:10, 10:].mean() + 0.2
