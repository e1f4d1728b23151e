"""Attributes of users from the owner's table to towers, candidates and gate, and out again when a user is forgotten."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from esans_core.attributes import AttributeEncoder
from esans_core.serving.retrieval_index import RetrievalIndex
from esans_core.serving.retriever import Retriever, item_embeddings
from jobs.base.errors import DataError
from jobs.base.forgotten import hash_of, remember
from jobs.base.settings import PipelineSettings
from jobs.forget.tables import LakeEraser
from jobs.lake.event_log import AllEvents, SomeTargets
from jobs.lake.tables import Lake
from jobs.lake.user_features import drift
from jobs.serving.candidate_search import recommender
from jobs.source import ingest
from jobs.training import build_training_set
from jobs.training.data import TrainingData, open_log, user_encoder
from jobs.training.train import build_model
from tests.jobs import source_builder as build

YAML = """
users:
  source: customers.csv
  columns: {user_id: customer}
  attributes: {country: text, likes: texts, age: number, taste: embedding}
"""
FIELDS = ("age", "country", "likes", "taste")


def customers() -> pd.DataFrame:
    """Twelve users with events, of whom u01 says nothing and u02 little; one without events; and damage."""
    rows = [(f"u{n:02d}", ["DE", "AT"][n % 2], ["a|b", "b"][n % 2], 20 + n, f"[{n}, 0.5]") for n in range(12)]
    table = pd.DataFrame(rows, columns=["customer", "country", "likes", "age", "taste"]).astype(object)
    table.loc[1, ["country", "likes", "age", "taste"]] = None
    table.loc[2, ["likes", "age", "taste"]] = None
    further = [("u05", "FR", "c", 99, "[9, 9]"), ("newcomer", "AT", "b", 33, "[1, 2]"), (None, "DE", "a", 1, "[1, 1]")]
    return pd.concat([table, pd.DataFrame(further, columns=table.columns)], ignore_index=True)


@dataclass
class Day:
    settings: PipelineSettings
    summary: dict
    users: pd.DataFrame
    stats: dict


def run(settings: PipelineSettings, table: pd.DataFrame | None) -> Day:
    folder = build.write_source(Path(settings.data.source))
    if table is not None:
        table.to_csv(folder / "customers.csv", index=False)
        (folder / "data.yaml").write_text(YAML)
    summary = ingest.run(settings)
    stats = build_training_set.run(settings)
    return Day(settings, summary, Lake.of(settings).read_pandas("users", settings.date).set_index("user_id"), stats)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Day:
    home = tmp_path_factory.mktemp("users")
    settings = build.tiny(PipelineSettings(home=home / "home"), home / "source")
    return run(settings, customers())


def expected(rows: pd.DataFrame) -> np.ndarray:
    """The features of rows of `customers`, made by hand."""
    given = {
        "age": [None if pd.isna(value) else float(value) for value in rows["age"]],
        "country": [None if pd.isna(value) else value for value in rows["country"]],
        "likes": [None if pd.isna(value) else value.split("|") for value in rows["likes"]],
        "taste": [None if pd.isna(value) else json.loads(value) for value in rows["taste"]],
    }
    layout = {"age": ("number", 1), "country": ("text", 64), "likes": ("texts", 64), "taste": ("embedding", 2)}
    return AttributeEncoder(layout).encode(given)  # type: ignore[arg-type]


@pytest.mark.spark
def test_features_are_those_of_the_owners_table(day: Day) -> None:
    assert day.summary["rejected"]["users"] == {"missing_id": 1, "repeated_user_id": 1}
    assert day.summary["rows_read"]["users"] == 15 and day.summary["users"] == 13
    assert day.users.loc["newcomer", ["num_train", "num_validation", "num_holdout"]].tolist() == [0, 0, 0]
    log = open_log(day.settings)
    features = torch.cat([log.read(block).features for block in range(log.num_blocks)])  # type: ignore[misc]
    table = customers().drop_duplicates("customer").set_index("customer")
    wanted = expected(table.loc[day.users.sort_values("user_index").index])
    np.testing.assert_allclose(features.numpy(), wanted, rtol=1e-6)
    assert bool(features[day.users.loc["u01", "user_index"]].isnan().all())
    known = {name: found["known"] for name, found in day.stats["user_features"]["attributes"].items()}
    assert known == {"age": 11, "country": 12, "likes": 11, "taste": 11} and day.stats["user_features"]["users"] == 13


@pytest.mark.spark
def test_users_without_events_have_candidates_by_what_is_known_of_them(day: Day, tmp_path: Path) -> None:
    encoders, log = user_encoder(day.settings), open_log(day.settings)
    data = TrainingData([f"i{n:02d}" for n in range(24)], torch.rand(24, 3), torch.ones(24).long(), log, encoders, "set", {})
    model = build_model(day.settings, data).eval()
    assert model.user_input is not None and model.user_input.std.isfinite().any()
    Retriever.save(tmp_path, model, data.item_ids, RetrievalIndex.build(item_embeddings(model), "exact"))
    sequences = Lake.of(day.settings).read("sequences", day.settings.date).sort_by("user_index")
    block = pa.table(
        {
            "block": pa.array([0] * len(sequences), pa.int64()),
            "user_index": sequences["user_index"],
            "user_id": pa.array([f"{row}" for row in range(len(sequences))]),
            "item_index": sequences["item_index"],
            "features": sequences["features"],
        }
    )
    (found,) = recommender(tmp_path, 3, user_features=log.user_features)(iter(block.combine_chunks().to_batches()))
    newcomer = int(day.users.loc["newcomer", "user_index"])
    whole = log.read(0)
    with torch.no_grad():
        users = model.encode_users(torch.full((1, 2), -1), whole.features[[newcomer]])  # type: ignore[index]
        best = (users @ model.encode_items(torch.arange(24)).T)[0].topk(3).indices.tolist()
    assert found["item_id"][newcomer].as_py() == [data.item_ids[row] for row in best]


@pytest.mark.spark
def test_users_of_all_events_and_of_one_kind_keep_their_features(day: Day) -> None:
    log = open_log(day.settings)
    whole = log.read(0).features
    for other in (AllEvents(log), SomeTargets(log, lambda _, sequences: torch.ones(len(sequences.items)) > 0)):
        features = other.read(0).features
        assert whole is not None and features is not None
        torch.testing.assert_close(features, whole, equal_nan=True)


@pytest.mark.spark
def test_a_forgotten_user_has_no_attributes_left_and_does_not_come_back(day: Day, tmp_path: Path) -> None:
    shutil.copytree(day.settings.home, tmp_path / "home")
    settings = day.settings.model_copy(update={"home": tmp_path / "home"})
    for user in ("u03", "newcomer"):
        index = int(day.users.loc[user, "user_index"])
        LakeEraser(Lake.of(settings), user, f"request of {user}").erase(settings.date, lambda *_: None)
        rows = {table: Lake.of(settings).read_pandas(table, settings.date) for table in ("users", "sequences")}
        (row,) = rows["users"][rows["users"]["user_index"] == index].to_dict("records")
        assert (row["user_id"], row["attributes"]) == ("", None)
        assert rows["sequences"].loc[rows["sequences"]["user_index"] == index, "features"].tolist() == [None]
        assert bool(open_log(settings).read(0).features[index].isnan().all())  # type: ignore[index]
        remember(settings, hash_of(settings, user))
    ingest.run(settings)
    users = Lake.of(settings).read_pandas("users", settings.date)
    assert len(users) == 11 and {"u03", "newcomer"}.isdisjoint(users["user_id"])


@pytest.mark.spark
def test_without_a_table_of_users_nothing_is_different(spark: object, tmp_path: Path) -> None:
    plain = build.tiny(PipelineSettings(home=tmp_path / "home"), tmp_path / "source")
    build.write_source(tmp_path / "source", users=pd.DataFrame({"somebody": ["x"]}))  # nobody reads it
    day = run(plain, None)
    assert list(day.users.columns) == ["user_index", "num_train", "num_validation", "num_holdout"]
    assert "features" not in Lake.of(plain).read("sequences", plain.date).column_names
    assert "users" not in day.summary["rejected"]
    assert "user_features" not in day.stats and open_log(plain).read(0).features is None and not user_encoder(plain)
    data = TrainingData(["i"] * 24, torch.rand(24, 3), torch.ones(24).long(), open_log(plain), {}, "set", {})
    assert build_model(plain, data).user_input is None


@pytest.mark.spark
def test_attributes_without_a_table_are_refused(spark: object, tmp_path: Path) -> None:
    settings = build.tiny(PipelineSettings(home=tmp_path / "home"), tmp_path / "source")
    build.write_source(tmp_path / "source")
    (tmp_path / "source" / "data.yaml").write_text("users: {attributes: {country: text}}")
    with pytest.raises(DataError, match="there is no table of users"):
        ingest.run(settings)


def test_drift_is_a_root_mean_square_in_deviations() -> None:
    before = {"mean": [0.0, 1.0, 5.0], "std": [1.0, 2.0, 0.0]}
    assert drift({"mean": [3.0, 9.0, 7.0], "std": []}, before) == pytest.approx(np.sqrt((9 + 16) / 2))
    assert drift(before, before) == 0
    assert (
        drift({"mean": [1.0], "std": [1.0]}, before) is None and drift({"mean": [1.0]}, {"mean": [1.0], "std": [0.0]}) is None
    )
