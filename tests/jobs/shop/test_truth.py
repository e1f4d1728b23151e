import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.shop.truth import HiddenTruth


@pytest.fixture
def truth(settings: PipelineSettings) -> HiddenTruth:
    """Six items in three leaves of two categories, and an item (x) that the shop does not know; three users."""
    folder = settings.home / "truth" / f"date={settings.ds}"
    folder.mkdir(parents=True)
    ids = ["f", "e", "d", "c", "b", "a"]  # not in the lake's order
    items = {"item_id": ids, "category": [1, 1, 0, 0, 0, 0], "leaf": [2, 2, 1, 1, 0, 0], "born": [settings.date] * 6}
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": ["v", "u", "w"], "leaves": [[1, 2], [0], [2]]}), folder / "users.parquet")
    lake = Lake.of(settings)
    for table, key, names in (("items", "item", ["a", "b", "c", "d", "e", "f", "x"]), ("users", "user", ["u", "v", "z"])):
        with lake.write(table, settings) as pending:
            pending.path.mkdir()
            frame = pd.DataFrame({f"{key}_index": range(len(names)), f"{key}_id": names})
            frame.iloc[::-1].to_parquet(pending.path / "part.parquet", index=False)
    loaded = HiddenTruth.load(settings)
    assert loaded is not None
    return loaded


def test_truth_follows_the_indices_of_the_lake(truth: HiddenTruth) -> None:
    assert truth.leaf.tolist() == [0, 0, 1, 1, 2, 2, -1]
    assert truth.category.tolist() == [0, 0, 0, 0, 1, 1, -1]


def test_a_false_negative_is_an_item_of_a_liked_leaf(truth: HiddenTruth) -> None:
    users, drawn = np.array([0, 1, 1, 2]), np.array([[0, 2, 6], [0, 2, 6], [5, 4, 1], [0, 4, 6]])
    mask = truth.false_negative_mask(users, drawn)
    assert mask.tolist() == [
        [True, False, False],  # u likes leaf 0; an unknown item is never liked
        [False, True, False],
        [True, True, False],
        [False, False, False],  # z is unknown to the shop
    ]


def test_clusters_equal_to_the_hierarchy_agree_perfectly(truth: HiddenTruth) -> None:
    clusters = pd.DataFrame(
        {"item_index": [5, 4, 3, 2, 1, 0, 6], "primary": [7, 7, 3, 3, 3, 3, -1], "secondary": [0, 0, 1, 1, 2, 2, -1]}
    )
    assert truth.cluster_agreement(clusters) == pytest.approx(
        {"nmi_category": 1.0, "ari_category": 1.0, "nmi_leaf": 1.0, "ari_leaf": 1.0}
    )


def test_clusters_across_the_hierarchy_do_not_agree(truth: HiddenTruth) -> None:
    clusters = pd.DataFrame({"item_index": range(6), "primary": [0, 1, 0, 1, 0, 1], "secondary": [0] * 6})
    agreement = truth.cluster_agreement(clusters)
    assert agreement["nmi_category"] == pytest.approx(0.0, abs=1e-9)
    assert agreement["ari_leaf"] <= 0


def test_there_is_no_truth_about_other_data(settings: PipelineSettings, truth: HiddenTruth) -> None:
    other = settings.model_copy(update={"data": settings.data.model_copy(update={"source": "/somewhere"})})
    assert HiddenTruth.load(other) is None
    tomorrow = settings.model_copy(update={"date": settings.date.replace(day=29)})
    assert HiddenTruth.load(tomorrow) is None


def test_the_shops_own_truth_agrees_with_its_events(settings: PipelineSettings) -> None:
    from jobs.shop.snapshot import write_snapshot

    settings.shop = settings.shop.model_copy(update={"generator": "v1"})  # in which events follow leaves alone
    folder = write_snapshot(settings.shop, settings.home, settings.date)
    log = pq.read_table(folder / "interactions.parquet").to_pandas()
    for table in ("item", "user"):
        ids = sorted(pq.read_table(settings.home / "truth" / folder.name / f"{table}s.parquet")[f"{table}_id"].to_pylist())
        with Lake.of(settings).write(f"{table}s", settings) as pending:
            pending.path.mkdir()
            frame = pd.DataFrame({f"{table}_index": range(len(ids)), f"{table}_id": ids})
            frame.to_parquet(pending.path / "part.parquet", index=False)
        log[f"{table}_index"] = log[f"{table}_id"].map(dict(zip(ids, range(len(ids)), strict=True)))
    truth = HiddenTruth.load(settings)
    assert truth is not None
    recent = log[log.timestamp > log.timestamp.max() - 3 * 86_400]
    users, positives = recent.user_index.to_numpy(), recent.item_index.to_numpy()[:, None]
    assert truth.false_negative_mask(users, positives).mean() > 0.75  # an event follows taste
    uniform = np.random.default_rng(0).integers(0, 200, (len(users), 20))
    assert 0.1 < truth.false_negative_mask(users, uniform).mean() < 0.45
