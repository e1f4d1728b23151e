"""Candidate generation in a real Spark session, from a model in a real registry, against a loop over users."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from source_builder import publish
from training_tables import NUM_ITEMS, NUM_USERS, write_training_tables

from esans_core.towers import TwoTower
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.scratch import IN_HOME
from jobs.base.settings import CandidateSettings, PipelineSettings
from jobs.base.tracking import LOGICAL_DATE, client
from jobs.forget.tables import LakeEraser
from jobs.lake.tables import Lake
from jobs.ranking import candidates
from jobs.serving.candidate_search import SCHEMA, _blocks
from jobs.serving.verified import BUNDLE_DIGEST
from jobs.training.data import load_training_data
from jobs.training.model_store import save_towers

pytest.importorskip("faiss")
K = 20
BUNDLE = "2026-01-28-v1-01234567"


def write_verdict(settings: PipelineSettings, verdict: str, version: str, incumbent: str | None) -> None:
    write_json(settings.run_dir / "verdict.json", {"verdict": verdict, "version": version, "incumbent_version": incumbent})


def asked(settings: PipelineSettings, **changes: Any) -> PipelineSettings:
    return settings.model_copy(update={"candidates": CandidateSettings(**({"k": K} | changes))})


@pytest.fixture
def model(settings: PipelineSettings, home: Path) -> TwoTower:
    """A day with a promoted model of random weights, version 1 of the registry."""
    write_training_tables(settings)
    data = load_training_data(settings)
    torch.manual_seed(0)
    towers = TwoTower(data.content, data.num_train > 0, dim=16, num_heads=2, max_history=8, popularity=True).eval()
    folder = home / "mlflow" / "artifacts" / "model"
    save_towers(folder / "artifacts" / "model", towers, data.item_ids, {"encoders": data.encoders})
    with Lake.of(settings).write("challenger", settings) as pending:
        save_towers(pending.path, towers, data.item_ids, {"encoders": data.encoders})
    registry, name = client(settings), settings.registry.model_name
    registry.create_registered_model(name)
    tags = {"esans.model_digest": "abc", LOGICAL_DATE: settings.ds, BUNDLE_DIGEST: "0123456789ab"}
    registry.create_model_version(name, folder.as_uri(), tags=tags)
    write_verdict(settings, "promoted", "1", None)
    # The towers as a reload gives them: without the content, which a model on disk does not carry.
    rows = torch.arange(NUM_ITEMS)
    return towers.for_catalogue(rows, data.content)


@torch.no_grad()
def brute_force(model: TwoTower, settings: PipelineSettings) -> list[tuple[list[str], list[float]]]:
    item_ids = load_training_data(settings).item_ids
    vectors, out = model.encode_items(torch.arange(NUM_ITEMS)), []
    for events in Lake.of(settings).read_pandas("sequences", settings.date).sort_values("user_index")["item_index"]:
        score = (vectors @ model.encode_users(torch.tensor(np.array(events[-8:]))[None])[0]).numpy()
        score[events] = -np.inf
        best = np.argsort(-score)[:K]
        out.append(([item_ids[item] for item in best], score[best].tolist()))
    return out


@pytest.mark.spark
@pytest.mark.mlflow
@pytest.mark.slow
def test_every_user_gets_the_best_unseen_items_however_the_rows_come(
    settings: PipelineSettings, model: TwoTower, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "_USERS_PER_BLOCK", 32)
    lake, today = Lake.of(settings), asked(settings)
    summary = candidates.run(today)
    assert summary == {
        "model_version": "1",
        "bundle": BUNDLE,
        "k": K,
        "items": NUM_ITEMS,
        "index": "exact",
        "users": NUM_USERS,
        "users_with_fewer": 0,
        "fewest": K,
    }
    table = lake.read("candidates", settings.date)
    assert [f"{field.name}: {field.type}" for field in table.schema] == [
        "user_index: int64",
        "user_id: string",
        "item_id: list<element: string>",
        "score: list<element: float>",
        "model_version: string",
        "bundle: string",
    ]
    assert set(table["model_version"].to_pylist()) == {"1"} and set(table["bundle"].to_pylist()) == {BUNDLE}
    assert table["user_index"].to_pylist() == list(range(NUM_USERS)) and table["user_id"][7].as_py() == "u0007"
    for row, (ids, scores) in zip(table.to_pylist(), brute_force(model, settings), strict=True):
        assert row["item_id"] == ids, row["user_id"]
        np.testing.assert_allclose(row["score"], scores, atol=1e-6)
    manifest = lake.manifest("candidates", settings.date)
    assert (manifest["stats"]["model_version"], manifest["stats"]["bundle"]) == ("1", BUNDLE)
    assert manifest["inputs"]["model"] == "abc" and "sequences" in manifest["inputs"]

    # Cut into other batches and searched through lists that miss the floor: the same bytes.
    before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "7")
    monkeypatch.setattr("jobs.serving.index.shared", lambda *_: 0.5)
    again = candidates.run(asked(settings, index="ivf"))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", before)
    assert (again["index"], again["index_given_up"], again["index_recall"]) == ("exact", "ivf", 0.5)
    assert lake.manifest("candidates", settings.date)["digest"] == manifest["digest"]
    assert not (settings.home / IN_HOME).exists()


@pytest.mark.spark
@pytest.mark.mlflow
@pytest.mark.slow
def test_lists_are_measured_and_used(settings: PipelineSettings, model: TwoTower, spark: Any) -> None:
    summary = candidates.run(asked(settings, index="ivf", k=NUM_ITEMS))
    assert summary["index"] == "ivf" and 0.98 <= summary["index_recall"] <= 1 and summary["probes"] >= 8
    # 14 events each, all of other items: what is left is the rest of the catalogue, for everybody.
    assert summary["users_with_fewer"] == NUM_USERS
    lengths = {len(ids) for ids in Lake.of(settings).read_pandas("candidates", settings.date)["item_id"]}
    assert lengths == {NUM_ITEMS - 14}


@pytest.mark.spark
@pytest.mark.mlflow
@pytest.mark.slow
def test_items_out_of_stock_are_no_candidates_but_stay_in_histories(
    settings: PipelineSettings, model: TwoTower, spark: Any
) -> None:
    lake = Lake.of(settings)
    items = lake.read_pandas("items", settings.date)
    gone = set(items["item_id"][::2])
    publish(settings, "stock", items[["item_id"]].assign(available=~items["item_id"].isin(gone)))
    everything = asked(settings, k=NUM_ITEMS)
    candidates.run(everything)
    found = lake.read("candidates", settings.date).to_pylist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_candidates.K", NUM_ITEMS)
        expected = brute_force(model, settings)
    histories = lake.read_pandas("sequences", settings.date).sort_values("user_index")["item_index"]
    for row, (ids, _), seen in zip(found, expected, histories, strict=True):
        assert row["item_id"] == [item for item in ids[: NUM_ITEMS - len(seen)] if item not in gone], row["user_id"]


@pytest.mark.spark
@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_disliked_items_are_no_candidates_and_items_come_again_where_the_log_says_so(
    settings: PipelineSettings, model: TwoTower, spark: Any, again: bool
) -> None:
    lake = Lake.of(settings)
    sequences = lake.read_pandas("sequences", settings.date).sort_values("user_index")
    sequences["unwanted"] = [[user % NUM_ITEMS, (user + 50) % NUM_ITEMS] if user % 3 else [] for user in range(NUM_USERS)]
    with lake.write("sequences", settings) as pending:
        pending.path.mkdir()
        sequences.to_parquet(pending.path / "part-0.parquet", index=False)
        pending.stats["again"] = again
    candidates.run(asked(settings, k=NUM_ITEMS))
    found = lake.read("candidates", settings.date).to_pylist()
    item_ids = load_training_data(settings).item_ids
    for row, seen, unwanted in zip(found, sequences["item_index"], sequences["unwanted"], strict=True):
        left_out = set(unwanted) | (set() if again else set(seen))
        assert set(row["item_id"]) == {item for place, item in enumerate(item_ids) if place not in left_out}, row["user_id"]


@pytest.mark.mlflow
def test_nothing_is_published_without_a_model_that_can_run(settings: PipelineSettings, model: TwoTower, home: Path) -> None:
    assert "off" in candidates.run(asked(settings, enabled=False))["skipped"]
    write_verdict(settings, "no_champion", "1", None)
    assert "no model is in force" in candidates.run(asked(settings))["skipped"]
    write_verdict(settings, "kept_champion", "2", "1")
    data = load_training_data(settings)
    save_towers(
        home / "mlflow" / "artifacts" / "model" / "artifacts" / "model", model, data.item_ids, {"encoders": {"text": "other"}}
    )
    assert "other encoders" in candidates.run(asked(settings))["skipped"]
    assert not Lake.of(settings).exists("candidates", settings.date)


def test_the_model_in_force_is_that_of_the_verdict(settings: PipelineSettings) -> None:
    with pytest.raises(DataError, match="run promote"):
        candidates.model_in_force(settings)
    for word, incumbent, expected in (
        ("promoted", "2", "5"),
        ("promoted", None, "5"),
        ("kept_champion", "2", "2"),
        ("champion_is_newer", "2", "2"),
        ("not_promoted_by_policy", None, None),
        ("rejected_in_review", "2", "2"),
    ):
        write_verdict(settings, word, "5", incumbent)
        assert candidates.model_in_force(settings) == expected, (word, incumbent)
    for word in ("awaiting_review", "awaiting_promotion"):
        write_verdict(settings, word, "5", "2")
        with pytest.raises(DataError, match="run promote"):
            candidates.model_in_force(settings)


def test_the_table_has_these_columns() -> None:
    assert [part.split()[0] for part in SCHEMA.split(", ")] == ["user_index", "user_id", "item_id", "score"]


def test_blocks_are_put_together_from_batches_of_any_length() -> None:
    blocks = [0, 0, 0, 1, 4, 4, 4, 4]
    for size in (1, 2, 3, 8):
        rows = pa.table({"block": blocks, "row": range(8)}).to_batches(max_chunksize=size)
        cut = [table["row"].to_pylist() for table in _blocks(iter([*rows, rows[0].slice(0, 0)]))]
        assert cut == [[0, 1, 2], [3], [4, 5, 6, 7]]
    assert list(_blocks(iter([]))) == []


@pytest.mark.spark
@pytest.mark.mlflow
def test_a_user_who_was_forgotten_gets_none_and_the_others_keep_theirs(
    settings: PipelineSettings, model: TwoTower, spark: Any
) -> None:
    lake = Lake.of(settings)
    candidates.run(asked(settings))
    before = lake.read("candidates", settings.date).to_pylist()
    LakeEraser(lake, "u0007", "request").erase(settings.date, lambda table, done: None)
    assert lake.read("candidates", settings.date).to_pylist() == before[:7] + before[8:]
    assert candidates.run(asked(settings))["users"] == NUM_USERS - 1
    after = lake.read("candidates", settings.date).to_pylist()
    assert [(row["user_id"], row["item_id"]) for row in after] == [
        (row["user_id"], row["item_id"]) for row in before if row["user_index"] != 7
    ]
