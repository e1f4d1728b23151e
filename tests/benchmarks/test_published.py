"""The published benchmark on tiny made-up logs of each kind: splits, ties, metrics, trials, what is kept, and the report."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import trials
from benchmarks.published import plan as plan_module
from benchmarks.published import prepare, report, runner, yardsticks
from benchmarks.published import trial as trial_module
from benchmarks.published.content import attribute_view, text_view
from benchmarks.published.logs import KS, LOGS, METRICS, TIES
from benchmarks.published.plan import STAGES, Plan
from benchmarks.published.prepare import located, prepared, split
from benchmarks.published.quoted import BARS, QUOTED, RECIPE_SHARE
from benchmarks.published.runner import plan_of, run_missing
from benchmarks.published.table import block, head
from benchmarks.published.trial import TUNING_SEED, Trial, WithRepeats, hopeless, metrics, negatives, run_trial, with_validation
from benchmarks.published.yardsticks import ranked, user_metrics
from benchmarks.trials import load_runs
from esans_core.towers import TwoTower

NUM_ITEMS, NUM_USERS, LENGTH = 60, 30, 8

pytestmark = pytest.mark.slow  # nearly every test here trains


def write_log(folder: Path, name: str, log: pd.DataFrame, items: pd.DataFrame, file: str = "items") -> None:
    (folder / name).mkdir(parents=True)
    log.to_parquet(folder / name / "interactions.parquet")
    items.to_parquet(folder / name / f"{file}.parquet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Users who stay within one of six kinds of items: a log with order and times, one with repeats, two without order."""
    draw = np.random.default_rng(0)
    events = np.stack([draw.permutation(10)[:LENGTH] * 6 + user % 6 for user in range(NUM_USERS)])
    user = np.repeat(np.arange(1, NUM_USERS + 1), LENGTH)
    order = np.tile(np.arange(LENGTH), NUM_USERS)
    ids = np.arange(1, NUM_ITEMS + 1)
    text = [f"kind{item % 6} thing" if item != 7 else None for item in range(NUM_ITEMS)]
    attributes = [[item % 6, 100 + item % 10] if item != 8 else None for item in range(NUM_ITEMS)]
    items = pd.DataFrame({"item_id": ids, "text": text, "attributes": attributes})
    official = np.array(["train"] * (LENGTH - 2) + ["valid", "test"])
    log = pd.DataFrame({"user_id": user, "item_id": events.ravel() + 1, "order": order, "split": np.tile(official, NUM_USERS)})
    gap = np.where(order % 3 == 1, 86_400, 0)  # days of the positions 0; 1 to 3; 4 to 6; 7
    write_log(tmp_path, "s3rec_beauty", log.assign(gap_s=gap), items)
    again = events.copy()
    again[:, -1] = again[:, 0]
    write_log(tmp_path, "published/s3rec_yelp", log.assign(item_id=again.ravel() + 1), items)
    random = np.tile(np.array(["train"] * (LENGTH - 2) + ["test"] * 2), NUM_USERS)
    write_log(tmp_path, "gowalla", log.drop(columns="order").assign(split=random), items[["item_id"]])
    views = pd.DataFrame({"item_id": ids, **{view: list(draw.normal(size=(NUM_ITEMS, 4))) for view in ("visual", "acoustic")}})
    write_log(tmp_path, "tiktok", log.drop(columns="order").assign(user_id=user - 1), views, "item_features")
    monkeypatch.setattr(prepare, "KEPT", tmp_path / "kept")
    return tmp_path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = replace(
        trial_module.TRAINING, dim=8, num_heads=2, num_layers=1, max_history=6, batch_size=64, epochs=3, patience=3
    )
    monkeypatch.setattr(trial_module, "TRAINING", defaults)
    monkeypatch.setattr(plan_module, "TRAINING", defaults)
    prepare._loaded.cache_clear()


def test_the_official_split_is_kept_and_item_numbers_are_not(folder: Path) -> None:
    raw = pd.read_parquet(folder / "s3rec_beauty" / "interactions.parquet")
    data = prepared("s3rec_beauty", folder)
    rows = data.sequences.items.view(NUM_USERS, LENGTH)
    assert data.sequences.num_train.tolist() == [LENGTH - 2] * NUM_USERS
    assert data.sequences.num_validation.tolist() == [1] * NUM_USERS
    ids = torch.from_numpy(raw["item_id"].to_numpy()).view(NUM_USERS, LENGTH) - 1
    place = torch.full((NUM_ITEMS,), -1)
    place[ids] = rows  # one row for each item, whoever saw it, and all of them moved together
    assert (place[ids] == rows).all() and len(set(place[place >= 0].tolist())) == int((place >= 0).sum())
    assert not torch.equal(place, torch.arange(NUM_ITEMS))
    assert data.views["text"][place[7]].isnan().all() and data.views["attributes"][place[8]].isnan().all()
    alike = data.views["text"][place[torch.tensor([0, 6, 1])]]
    assert torch.equal(alike[0], alike[1]) and not torch.equal(alike[0], alike[2])
    assert (
        prepared("s3rec_beauty", folder).digest()
        == data.digest()
        == prepare.read("s3rec_beauty", folder / "s3rec_beauty").digest()
    )


def test_a_log_without_validation_gives_up_a_fixed_tenth_and_one_without_order_is_in_none(folder: Path) -> None:
    gowalla, tiktok = prepared("gowalla", folder), prepared("tiktok", folder)
    assert gowalla.content.shape == (NUM_ITEMS, 0)
    assert gowalla.sequences.num_validation.tolist() == [1] * NUM_USERS
    assert gowalla.sequences.num_train.tolist() == [LENGTH - 3] * NUM_USERS
    raw = pd.read_parquet(folder / "gowalla" / "interactions.parquet")
    again = split(raw, np.arange(1, NUM_ITEMS + 1))
    assert torch.equal(again.items, split(raw, np.arange(1, NUM_ITEMS + 1)).items), "the tenth is fixed"
    test = [set(raw[(raw["user_id"] == user) & (raw["split"] == "test")]["item_id"] - 1) for user in range(1, NUM_USERS + 1)]
    assert [set(row[-2:]) for row in again.items.view(NUM_USERS, LENGTH).tolist()] == test
    assert tiktok.sequences.num_validation.tolist() == [1] * NUM_USERS and set(tiktok.views) == {
        "visual",
        "acoustic",
        "behaviour",
    }
    in_file = raw["item_id"].to_numpy().reshape(NUM_USERS, LENGTH)[:, :5] - 1
    assert (again.items.view(NUM_USERS, LENGTH)[:, :5].numpy() != in_file).any()


def test_ties_are_shuffled_within_a_users_day_and_nowhere_else(folder: Path) -> None:
    raw = pd.read_parquet(folder / "s3rec_beauty" / "interactions.parquet")
    ids = np.arange(1, NUM_ITEMS + 1)
    usual, shuffled = (split(raw, ids, shuffle_ties=ties).items.view(NUM_USERS, LENGTH) for ties in (False, True))
    for start, end in ((0, 1), (1, 4), (4, 7), (7, 8)):
        assert torch.equal(usual[:, start:end].sort(1).values, shuffled[:, start:end].sort(1).values)
    assert (usual[:, 1:4] != shuffled[:, 1:4]).any() and (usual[:, 6] != shuffled[:, 6]).any(), (
        "also across the border of a part"
    )
    assert torch.equal(shuffled, split(raw, ids, shuffle_ties=True).items.view(NUM_USERS, LENGTH))
    assert prepared("s3rec_beauty" + TIES, folder).digest() != prepared("s3rec_beauty", folder).digest()


def test_content_knows_texts_and_treats_attribute_numbers_as_names() -> None:
    text = text_view(["red nail polish", "red nail file", None, "hair brush", "hair brush"], dim=3)
    assert np.isnan(text[2]).all() and text[3] @ text[4] == pytest.approx(1, abs=1e-5)
    assert text[0] @ text[1] > text[0] @ text[3]
    attributes = [[1, 2], [1, 3], [2, 3], [3], None]
    renamed = [None if each is None else [{1: 907, 2: 5, 3: 44}[number] for number in each] for each in attributes]
    one, other = (attribute_view(each, dim=2)[:4] for each in (attributes, renamed))
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-5)
    assert np.isnan(attribute_view([None, None])).all()


def test_metrics_by_hand() -> None:
    top = torch.arange(NUM_ITEMS)[None, :50]
    found = user_metrics(top, torch.zeros(3, dtype=torch.long), torch.tensor([1, 14, 55]), NUM_ITEMS)  # ranks 2, 15, none
    best = 1 + 1 / log2(3) + 1 / log2(4)
    assert [float(found[f"recall_{k}"]) for k in KS] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    first, second = 1 / log2(3), 1 / log2(16)
    assert [float(found[f"ndcg_{k}"]) for k in KS] == pytest.approx(
        [value / best for value in (first, first + second, first + second)]
    )
    many = user_metrics(top, torch.zeros(30, dtype=torch.long), torch.arange(30), NUM_ITEMS)
    assert float(many["ndcg_10"]) == pytest.approx(1), "no more than ten can be right in ten"
    assert float(many["recall_10"]) == pytest.approx(1 / 3)


def test_towers_and_yardsticks_are_ranked_alike_and_seen_items_are_out_unless_asked_for(folder: Path) -> None:
    data = prepared("s3rec_yelp", folder)
    torch.manual_seed(0)
    model = TwoTower(data.content, data.num_train > 0, dim=8, num_heads=2, max_history=6).eval()
    sequences, users = data.sequences, torch.arange(NUM_USERS)
    with torch.no_grad():
        users_UD = model.encode_users_of(sequences, users, sequences.known_ends(users, "holdout"))
        scores = (users_UD @ model.encode_items(torch.arange(NUM_ITEMS)).T).numpy()
    found = metrics(model, sequences, "holdout")
    by_hand = ranked(lambda users, _: scores[users].copy(), sequences, "holdout", NUM_ITEMS)
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand)
    assert found["recall_50"] == 0, "every user comes back to the first item"
    kept = metrics(model, WithRepeats(**vars(sequences)), "holdout")
    target = sequences.items.view(NUM_USERS, LENGTH)[:, -1]
    rank = (torch.from_numpy(scores) > torch.from_numpy(scores).gather(1, target[:, None])).sum(1)
    assert kept["recall_10"] == pytest.approx(float((rank < 10).double().mean()))
    assert kept["recall_50"] > 0.5


def test_the_key_names_all_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Trial("s3rec_beauty", "d", "debiased_mns", {"temperature": 0.1}, 1)
    others = [
        replace(base, data="tiktok"),
        replace(base, digest="e"),
        replace(base, method="esans"),
        replace(base, settings={"temperature": 0.2}),
        replace(base, settings={"temperature": 0.1, "negatives.num_pool": 7}),
        replace(base, seed=2),
        replace(base, refit=True),
    ]
    before = base.key
    assert len({before, *(other.key for other in others)}) == 8
    assert replace(base, give_up_below=(0.1,)).key == before
    assert replace(base, settings={"temperature": 0.1, "dim": 8}).key == before, "a default that is named is still the default"
    monkeypatch.setattr(trial_module, "TRAINING", replace(trial_module.TRAINING, dropout=0.123))
    assert base.key != before
    monkeypatch.undo()
    monkeypatch.setattr(trial_module, "PROTOCOL", -1)
    assert base.key != before


def test_no_default_of_a_training_is_left_out_in_silence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared("tiktok", folder)
    monkeypatch.setattr(trial_module, "_READ_HERE", trial_module._READ_HERE - {"patience"})
    with pytest.raises(ValueError, match="train without patience of the defaults"):
        run_trial(Trial("tiktok", data.digest(), "debiased_mns", {}, TUNING_SEED), data)


def test_a_pool_is_never_larger_than_the_catalogue() -> None:
    trial = Trial("s3rec_beauty", "d", "debiased_mns", {"negatives.num_pool": NUM_ITEMS + 64}, 1)
    assert negatives(trial).num_pool == NUM_ITEMS + 64
    assert negatives(trial, NUM_ITEMS).num_pool == NUM_ITEMS


@pytest.mark.parametrize("name", ["s3rec_beauty", "gowalla", "s3rec_yelp"])
def test_a_trial_learns_repeats_itself_and_refits_on_what_it_validated_on(folder: Path, name: str) -> None:
    data = prepared(name, folder)
    trial = Trial(name, data.digest(), "debiased_mns", {"learning_rate": 0.02}, 1, refit=True)
    found, again = run_trial(trial, data), run_trial(trial, data)
    times = {"seconds", "refit_seconds"}
    assert {key: found[key] for key in found.keys() - times} == {key: again[key] for key in again.keys() - times}
    assert json.loads(json.dumps(found))["key"] == trial.key
    assert found["epochs"][-1]["loss"] < found["epochs"][0]["loss"]
    reached = [epoch[LOGS[name].main] for epoch in found["epochs"]]
    assert found["best_epoch"] == 1 + reached.index(max(reached)) and found["validation"][LOGS[name].main] == max(reached)
    assert found["test"]["users"] == found["refit"]["users"] == NUM_USERS
    assert ("test_repeats" in found) == ("refit_repeats" in found) == LOGS[name].repeats
    known = with_validation(data.sequences)
    assert torch.equal(known.known_ends(torch.arange(3), "holdout"), data.sequences.known_ends(torch.arange(3), "holdout"))
    assert int(known.num_train.sum() - data.sequences.num_train.sum()) == NUM_USERS


def test_tuning_never_sees_the_test_part_and_gives_up_what_is_hopeless(folder: Path) -> None:
    data = prepared("tiktok", folder)
    trial = Trial("tiktok", data.digest(), "debiased_mns", {}, TUNING_SEED, give_up_below=(2.0, 2.0, 2.0))
    found = run_trial(trial, data)
    assert found["given_up"] and len(found["epochs"]) == 1 and not {"test", "refit"} & found.keys()
    assert not hopeless([0.1, 0.1], (0.5, 0.5), 9), "too early to tell"
    assert not hopeless([0.1, 0.1, 0.44], (0.5, 0.5, 0.5), 9)
    assert not hopeless([0.1, 0.1, 0.1], (0.5, 0.5), 9), "the best trial had stopped by then"
    assert not hopeless([0.1] * 3, (), 3)


def finished(plan: Plan, level: float = 0.1) -> dict[str, dict[str, Any]]:
    """Made-up runs of all trials of a plan; the later a tuning trial, the better."""
    runs: dict[str, dict[str, Any]] = {}
    for stage in ("tune", "tune", "tune", "tune", "tune", *STAGES):
        for trial in plan.trials(stage, runs):
            value = level + 0.001 * len(runs) if trial.seed == TUNING_SEED else level + 0.0001 * trial.seed
            values = dict.fromkeys(METRICS, value)
            run = {"key": trial.key, "settings": trial.settings, "validation": values, "epochs": [values], "seconds": 3.0}
            if trial.seed != TUNING_SEED:
                run |= {"test": values, "refit": dict.fromkeys(METRICS, 2 * value), "refit_seconds": 4.0}
            runs.setdefault(trial.key, run)
    return runs


def test_six_trials_in_rounds_each_from_the_best_so_far() -> None:
    plan = Plan("s3rec_beauty", "d", "e")
    plain = {"history_means": False, "batch_size": trial_module.TRAINING.batch_size // 2}
    assert [trial.settings for trial in plan.tuning({})] == [plan.recipe, plan.recipe | plain]
    assert plan.best_settings({}) is None and list(plan.trials("tuned", {})) == []
    runs = finished(plan)
    tuning = plan.tuning(runs)
    assert len({trial.key for trial in tuning}) == plan.num_trials == 6
    best = plan.best_settings(runs)
    assert best == tuning[-1].settings and best == plan.recipe | plain | {
        "dropout": 0.3,
        "members": 3,
        "dim": 3 * trial_module.TRAINING.dim,
        "negatives.num_pool": 4096,
        "temperature": 0.05,
        "learn_temperature": False,
    }
    assert tuning[0].give_up_below == () and len(tuning[-1].give_up_below) == 1
    assert [(trial.data, trial.refit) for trial in plan.trials("ties", runs)] == [("s3rec_beauty" + TIES, False)] * 2
    assert [trial.refit for trial in plan.trials("tuned", runs)] == [True, True, False, False, False]
    gowalla = Plan("gowalla", "d")
    assert all(trial.refit for trial in gowalla.trials("recipe", runs)), "its tables train on validation too"
    assert [trial.settings for trial in gowalla.tuning({})] == [gowalla.recipe, gowalla.recipe | {"epochs": 20}]
    for trial in plan.tuning(runs):
        runs[trial.key] |= {"validation": dict.fromkeys(METRICS, 0.5 if trial.settings == plan.recipe else 0.1)}
    for _ in range(5):
        for trial in plan.tuning(runs):
            runs.setdefault(trial.key, {"validation": dict.fromkeys(METRICS, 0.1), "epochs": []})
    same = [{trial.key for trial in plan.trials(stage, runs)} for stage in ("recipe", "tuned")]
    assert same[0] == same[1], "if the recipe is best, nothing is run twice"


class _HereAndNow(ThreadPoolExecutor):
    def __init__(self, workers: int, **_: Any) -> None:
        super().__init__(1)


def test_a_finished_trial_is_kept_and_never_run_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "ProcessPoolExecutor", _HereAndNow)
    limits: dict[str, Any] = {"epochs": 1, "seeds": (1, 2), "ties_seeds": (1,), "num_trials": 2}
    plan, kept = plan_of("s3rec_beauty", folder, **limits), tmp_path / "runs"

    def run(stages: tuple[str, ...], plan: Plan = plan) -> int:
        return run_missing(plan, folder, kept, stages, workers=1, device="cpu", minutes=10)

    assert run(("recipe",)) == 2
    monkeypatch.setattr(runner, "run_trial", lambda *_, **__: pytest.fail("a finished trial was run again"))
    assert run(("recipe",)) == 0
    monkeypatch.undo()
    monkeypatch.setattr(trials, "ProcessPoolExecutor", _HereAndNow)
    monkeypatch.setattr(prepare, "KEPT", folder / "kept")
    assert run_missing(plan, folder, kept, STAGES, workers=1, device="cpu", minutes=0) == 0, "no time is left"
    assert runner.kept_plan("s3rec_beauty", kept) == plan and runner.kept_plan("tiktok", kept) is None


def test_yardsticks_are_measured_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared("s3rec_beauty", folder)
    yardsticks.run_missing(data, tmp_path)
    found = yardsticks.load("s3rec_beauty", tmp_path)
    assert set(found) == set(yardsticks.YARDSTICKS)
    assert found["item_cosine"]["test"]["recall_10"] > found["popularity"]["test"]["recall_10"], "users stay within a kind"
    monkeypatch.setattr(yardsticks, "measure", lambda *_: pytest.fail("measured again"))
    yardsticks.run_missing(data, tmp_path)


def test_every_log_has_a_bar_and_every_bar_and_quotation_a_log_and_a_metric() -> None:
    assert {bar.log for bar in BARS} == set(LOGS) == {quoted.log for quoted in QUOTED} | {"movielens-posters"}
    assert all(bar.metric in METRICS for bar in BARS) and all(set(quoted.values) <= set(METRICS) for quoted in QUOTED)
    assert all(log.main in METRICS for log in LOGS.values())


def test_the_report_without_results_says_so(tmp_path: Path) -> None:
    report.write(tmp_path / "none", tmp_path)
    result = json.loads((tmp_path / "published.json").read_text())
    assert head(result).count("\n") == 0 and "Not tuned yet" in head(result)
    text = block(result)
    assert text.count("Ours was not run yet.") == len(LOGS) and "quoted: BSARec" in text and "Bar," not in text


def test_the_report_says_bad_news_first_and_judges_whole_seeds_alone(tmp_path: Path) -> None:
    good, bad, partial = Plan("gowalla", "d"), Plan("tiktok", "e"), Plan("s3rec_beauty", "f", "g")
    for plan, level in ((good, 0.1), (bad, 0.1), (partial, 0.1)):
        runner.keep_plan(plan, tmp_path)
        runs = finished(plan, level)
        if plan is partial:
            del runs[next(plan.trials("tuned", runs)).key]
        (tmp_path / f"{plan.log}.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs.values()))
        assert load_runs(tmp_path / f"{plan.log}.jsonl") == runs
    report.write(tmp_path, tmp_path)
    result = json.loads((tmp_path / "published.json").read_text())
    rows = {(row["case"], row["subject"], row["metric"]): row for row in result["rows"]}
    own = rows["gowalla", "tuned, refit", "recall_20"]
    assert own["value"] == pytest.approx(0.2006) and own["repeats"] == 5
    assert rows["gowalla", "tuned, refit", "recall_20_sd"]["value"] == pytest.approx(
        np.std([2e-4 * seed for seed in range(5)], ddof=1)
    )
    assert rows["gowalla", "tuned, refit", "seconds"]["value"] == 4.0
    assert rows["gowalla", "tuned, refit", "recall_20 against the bar"]["holds"], "its tables train on all but the test part"
    missed = rows["tiktok", "tuned", "recall_20 against the bar"]
    assert not missed["holds"] and missed["ratio"] == pytest.approx(0.1003 / 0.1129)
    recipe = rows["tiktok", "recipe", "recall_20 against the bar"]
    assert not recipe["holds"] and recipe["bar"] == f"value >= {RECIPE_SHARE * 0.1129:.6g}"
    assert ("s3rec_beauty", "tuned", "recall_10 against the bar") not in rows, "a seed is missing"
    assert rows["s3rec_beauty", "tuned, ties shuffled", "recall_10"]["repeats"] == 2
    said = head(result).splitlines()
    assert [line.split("**")[1].split(":")[0] for line in said[:3]] == [
        "Missed, tuned",
        "The defaults alone are below 95 % of the bar",
        "Not tuned yet with all seeds",
    ]
    assert "TikTok Recall@20 0.1003, 88.8% of the bar" in said[0] and said[3].startswith("- Met, tuned: Gowalla")
    assert not any("defaults alone, so" in line for line in said)
    (tmp_path / "tiktok.jsonl").unlink()
    strong = {key: run for key, run in finished(bad, 0.2).items() if run["settings"] == bad.recipe}
    (tmp_path / "tiktok.jsonl").write_text("".join(json.dumps(run) + "\n" for run in strong.values()))
    report.write(tmp_path, tmp_path)
    again = head(json.loads((tmp_path / "published.json").read_text()))
    assert "Met by the defaults alone, so nothing was tuned: TikTok Recall@20 0.2003." in again
    assert "TikTok" not in next(line for line in again.splitlines() if "Not tuned yet" in line)
    text = block(result)
    assert "| **tuned, refit** |" in text and "**missed**" in text and "published_tiktok.png" in text
    assert (tmp_path / "published_tiktok.png").stat().st_size > 5_000
    first = [line for line in text.split("### TikTok")[1].splitlines() if line.startswith("| ")][1:4]
    assert [line.split("|")[1].strip() for line in first] == [
        "**recipe, refit**",
        "**tuned, refit**",
        "quoted: DiffMM (DiffMM, Table 1)",
    ]


def test_missing_logs_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no folder was named.*make bench-published FOLDER="):
        located("gowalla", None)
    with pytest.raises(SystemExit, match="gowalla/interactions.parquet is not in .*LOGS="):
        located("gowalla", tmp_path)
