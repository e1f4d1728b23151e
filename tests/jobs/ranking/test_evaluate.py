"""Evaluation as a job, against plain loops and a planted truth."""

import datetime as dt
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from training_tables import NUM_TASTES, NUM_USERS, write_training_tables

from esans_core.towers import TwoTower
from jobs import register
from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.places import open_dataset, place
from jobs.base.settings import PipelineSettings
from jobs.gates.stages import STAGES
from jobs.lake.event_log import ParquetLog
from jobs.lake.tables import Lake
from jobs.ranking import evaluate
from jobs.registry import judge, promote
from jobs.registry.anchor import Anchor
from jobs.registry.gate_report import read_gate_report
from jobs.registry.signing import seal
from jobs.registry.version_records import write_record
from jobs.registry.versions import download_version, numbered_version
from jobs.shop.truth import HiddenTruth
from jobs.training import train
from jobs.training.data import load_item_clusters, load_training_data
from jobs.training.model_store import load_towers, save_towers
from tests.jobs.serving_days import move_alias

pytestmark = pytest.mark.mlflow


def day(settings: PipelineSettings, number: int = 0, num_items: int = 120) -> PipelineSettings:
    """A further date with its tables and both models."""
    changed = settings.model_copy(
        update={
            "date": settings.date + dt.timedelta(days=number),
            "training": settings.training.model_copy(update={"epochs": 2, "batch_size": 128, "learning_rate": 0.01}),
        }
    )
    write_training_tables(changed, num_items=num_items)
    for role in train.ROLES:
        train.run(changed, role)
    return changed


def test_models_are_compared_on_the_same_users_over_the_full_catalogue(settings: PipelineSettings) -> None:
    today = day(settings)
    evaluate.run(today)
    report = json.loads((today.run_dir / "metrics.json").read_text())
    table = Lake.of(today).read_pandas("evaluation", today.date)
    assert report["ks"] == [12] and "metrics are at 12, not at 50 and 200" in report["k_note"]  # a tenth of 120 items
    assert report["users"] == NUM_USERS and report["models"]["champion"] is None and report["incumbent_version"] is None
    for name in train.ROLES:
        rows = table[table["model"] == name]
        assert rows["user_index"].tolist() == list(range(NUM_USERS))
        for metric in ("recall_12", "head_recall_12", "tail_recall_12"):
            assert report["models"][name][metric] == pytest.approx(rows[metric].mean())  # over the users that have it
        assert 0 < report["models"][name]["coverage_12"] <= 1 and report["models"][name]["finite"]
        assert report["models"][name]["embedding_norm_mean"] == pytest.approx(1, abs=1e-4)
    assert report["models"]["challenger"]["recall_12"] > report["popularity"]["recall_12"]
    assert report["false_negative_rate"] is None and report["clusters_vs_truth"] is None
    digest = Lake.of(today).manifest("evaluation", today.date)["digest"]
    evaluate.run(today)
    assert Lake.of(today).manifest("evaluation", today.date)["digest"] == digest


def test_popularity_recall_matches_a_loop(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    distinct = torch.randperm(120, generator=torch.Generator().manual_seed(0))  # no ties, whose order is nobody's business
    data = replace(load_training_data(settings), num_train=distinct)
    sequences = data.log.read(0)
    recalls = []
    for user in sequences.evaluation_users("holdout").tolist():
        start, end = int(sequences.offsets[user]), int(sequences.offsets[user + 1])
        known = int(sequences.num_train[user] + sequences.num_validation[user])
        seen = set(sequences.items[start : start + known].tolist())
        scores = data.num_train.float().clone()
        scores[list(seen)] = -torch.inf
        top = set(scores.topk(12).indices.tolist())
        relevant = sequences.items[start + known : end].tolist()
        recalls.append(sum(item in top for item in relevant) / len(relevant))
    assert evaluate.popularity_recall(data, Cutoffs((12,)))["recall_12"] == pytest.approx(np.mean(recalls))


def test_slices_cover_the_catalogue_without_overlap() -> None:
    num_train = torch.tensor([9, 0, 3, 5, 0, 1, 1, 2, 0, 4])
    slices = evaluate.catalogue_slices(num_train)
    assert torch.stack(list(slices.values())).sum(0).eq(1).all()
    assert torch.nonzero(slices["head"]).flatten().tolist() == [0, 3]
    assert torch.nonzero(slices["new"]).flatten().tolist() == [1, 4, 8]


def registered_day(settings: PipelineSettings, number: int = 0) -> PipelineSettings:
    """A date whose challenger is in the registry, and not judged yet."""
    first = day(settings, number)
    evaluate.run(first)
    for stage in STAGES:
        passed = {"stage": stage, "success": True, "worst": None, "checked": 1, "failures": [], "digests": {}}
        write_json(first.run_dir / "gates" / f"{stage}.json", passed)
    register.run(first)
    return first


def test_a_champion_that_was_never_judged_is_no_opponent(settings: PipelineSettings) -> None:
    registered_day(settings)
    move_alias(settings, "1")
    with pytest.raises(DataError, match="version 1 of .* cannot be the champion to compare with: has no gate report"):
        evaluate.run(day(settings, 1))


def test_the_champion_of_the_day_before_is_evaluated_on_todays_catalogue(settings: PipelineSettings) -> None:
    first = registered_day(settings)
    judge.run(first)
    assert promote.run(first)["verdict"] == "promoted"
    second = day(settings, 1, num_items=126)
    evaluate.run(second)
    report = json.loads((second.run_dir / "metrics.json").read_text())
    assert report["incumbent_table"]["date"] == first.ds
    assert report["incumbent_version"] == "1" and report["models"]["champion"]["recall_12"] > report["popularity"]["recall_12"]
    champion = load_towers(Lake.of(first).path("challenger", first.date))[0]
    data = load_training_data(second)
    moved, note = evaluate.champion_on_catalogue(
        Lake.of(first).path("challenger", first.date),
        Lake.of(second).path("challenger", second.date),
        data.item_ids,
        data.content,
    )
    assert note is None and moved is not None and moved.num_items == 126
    known = torch.arange(115)  # items 115 to 119 were new on the first day: content alone
    torch.testing.assert_close(moved.encode_items(known), champion.encode_items(known), atol=1e-5, rtol=1e-4)


def test_the_best_version_ever_is_ranked_beside_the_champion(settings: PipelineSettings) -> None:
    open_gate = settings.gate.model_copy(update={"max_relative_loss": 1.0, "allow_below_baseline": True})
    settings = settings.model_copy(update={"gate": open_gate})
    for number in (0, 1):
        today = registered_day(settings, number)
        judge.run(today)
        assert promote.run(today)["verdict"] == "promoted"
    first, champion = (numbered_version(settings, number) for number in ("1", "2"))
    assert first is not None and champion is not None
    # As if the second one had not been shown to be as good as the first.
    report = read_gate_report(today, champion).model_dump(mode="json") | {"takes_anchor": False, "anchor_version": "1"}
    write_record(today, champion, "report", seal(today, "gate report", report))
    third = day(settings, 2)
    evaluate.run(third)
    measured = json.loads((third.run_dir / "metrics.json").read_text())
    assert (measured["incumbent_version"], measured["anchor_version"], measured["anchor_note"]) == ("2", "1", None)
    assert set(measured["models"]) == {"champion", "challenger", "baseline", "anchor"}
    rows = Lake.of(third).read_pandas("evaluation", third.date)
    assert rows[rows["model"] == "anchor"]["user_index"].tolist() == list(range(NUM_USERS))
    assert measured["models"]["anchor"]["recall_12"] > measured["popularity"]["recall_12"]

    # An anchor that cannot be ranked stops no run.
    data = load_training_data(third)
    gone = evaluate.anchor_on_catalogue(third, Anchor("1", None, 2), data)
    assert gone == (None, "the registry no longer has it")
    folder = download_version(first, settings)
    towers = folder / "towers.safetensors"
    towers.write_bytes(towers.read_bytes()[:-1] + b"x")
    model, note = evaluate.anchor_on_catalogue(third, Anchor("1", first, 2), data)
    assert model is None and note is not None and "its files are not those that were judged" in note
    shutil.rmtree(folder.parents[1])
    assert evaluate.anchor_on_catalogue(third, Anchor("1", first, 2), data) == (None, "its files are gone")
    evaluate.run(third)
    assert json.loads((third.run_dir / "metrics.json").read_text())["anchor_note"] == "its files are gone"


def test_a_champion_of_other_encoders_is_set_aside_with_the_reason(settings: PipelineSettings) -> None:
    today = day(settings)
    folder = Lake.of(today).path("challenger", today.date)
    model, meta, ids = load_towers(folder)
    other = settings.home / "other"
    save_towers(other, model, ids, {"encoders": {"visual": "another", "text": meta["encoders"]["text"]}})
    data = load_training_data(today)
    moved, note = evaluate.champion_on_catalogue(other, folder, data.item_ids, data.content)
    assert moved is None and note is not None and "other encoders" in note
    said = json.loads((other / "model.json").read_text())
    del said["format"]  # as version 0.2 wrote it
    (other / "model.json").write_text(json.dumps(said))
    moved, note = evaluate.champion_on_catalogue(other, folder, data.item_ids, data.content)
    assert moved is None and note is not None and "towers of an earlier version" in note
    with pytest.raises(DataError, match="another version of this project"):
        load_towers(other)


@pytest.mark.parametrize(
    ("kinds", "told", "together"), [(1, 1, ""), (12, 12, ""), (13, 11, "2 other kinds"), (30, 11, "19 other kinds")]
)
def test_no_kind_of_event_is_left_out_of_the_table(settings: PipelineSettings, kinds: int, told: int, together: str) -> None:
    write_training_tables(settings)
    lake = Lake.of(settings)
    table = lake.read_pandas("sequences", settings.date)
    names = [f"K{number:02d}" for number in range(kinds)]  # each kind has targets in the hold-out, the first ones the most
    generator = np.random.default_rng(0)
    drawn = [np.minimum(generator.geometric(0.1, 14) - 1, kinds - 1) for _ in range(len(table))]
    table["kind"] = [[names[number] for number in row] for row in drawn]
    table["weight"] = [np.ones(14, np.float32)] * len(table)
    table["num_history_only"] = np.int32(0)
    with lake.write("sequences", settings) as pending:
        pending.path.mkdir()
        table.to_parquet(pending.path / "part-0.parquet", index=False)
    log = ParquetLog(open_dataset(lake.path("sequences", settings.date)))
    parts = evaluate.targets_apart(log)
    assert sum(name.startswith("kind K") for name in parts) == told and (not together or list(parts)[-1] == together)
    read = {name: part.read(0).target_weights().numpy() > 0 for name, part in parts.items()}
    assert np.array_equal(np.sum(list(read.values()), axis=0), np.ones(14 * len(table))), "each event is told once"
    sizes = [int(counts.sum()) for name, counts in read.items() if name != together]
    assert sizes == sorted(sizes, reverse=True)


def test_an_empty_holdout_is_named(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    lake = Lake.of(settings)
    table = lake.read_pandas("sequences", settings.date)
    table["item_index"] = [items[:11] for items in table["item_index"]]
    table["num_holdout"] = 0
    with lake.write("sequences", settings) as pending:
        pending.path.mkdir()
        table.to_parquet(pending.path / "part-0.parquet")
    with pytest.raises(DataError, match=r"no user has both.*Remedy"):
        evaluate.run(settings)


def test_false_negative_rates_follow_the_planted_truth(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    data = load_training_data(settings)
    taste = np.arange(120) % NUM_TASTES
    truth = HiddenTruth(category=taste, leaf=taste, liked_leaves=np.arange(NUM_USERS)[:, None] % NUM_TASTES)
    rates = evaluate.false_negative_rates(settings, data, load_item_clusters(settings), truth)
    assert rates["uniform"] == pytest.approx(1 / NUM_TASTES, abs=0.02)
    assert rates["same_cluster"] > 0.8, "clusters follow the tastes, so cluster mates are what the user likes"
    assert rates["easy"] < rates["uniform"] < rates["same_cluster"]


def test_recall_of_new_users_is_of_those_of_whom_something_is_known(settings: PipelineSettings, tmp_path: Path) -> None:
    rows = {
        "user_index": [0, 1, 2, 3],
        "item_index": [[1, 2, 3], [4, 5], [6], [7]],
        "num_train": [2, 0, 0, 0],
        "num_validation": [0, 1, 0, 0],
        "num_holdout": [1, 1, 1, 1],
        "features": [[0.5, 1.0], [1.0, 0.0], [float("nan"), 2.0], None],
    }
    pq.write_table(pa.table(rows), tmp_path / "part-0.parquet")
    log = ParquetLog(open_dataset(place(tmp_path)), user_features=2)
    assert log.read(0).evaluation_users("holdout").tolist() == [0]
    torch.manual_seed(0)
    model = TwoTower(torch.randn(9, 2), torch.ones(9) > 0, dim=8, num_user_features=2).eval()
    cutoffs = Cutoffs.for_catalogue(9)
    found = evaluate.new_users(settings, log, {"challenger": model, "baseline": model}, cutoffs)
    features = torch.tensor([[torch.nan, 2.0]])
    with torch.no_grad():
        score = (model.encode_users(torch.tensor([[-1]]), features) @ model.encode_items(torch.arange(9)).T)[0]
    hit = 6 in score.topk(cutoffs.first).indices.tolist()
    recall = {"challenger": float(hit), "baseline": float(hit)}  # 1 has a past, and 3 is unknown
    assert found == {"new users": {"users": 1, "recall": recall, "intervals": {"baseline": [0.0, 0.0]}}}
    assert evaluate.new_users(settings, ParquetLog(open_dataset(place(tmp_path))), {"challenger": model}, cutoffs) == {}
