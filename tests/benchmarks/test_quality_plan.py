"""The quality benchmark from tuning to its report: which trials run, what is left out, and how they are compared."""

import json
import multiprocessing
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.quality import plots
from benchmarks.quality.clusters import SIZES
from benchmarks.quality.methods import (
    ABLATIONS,
    CONTENDERS,
    LEARNING_RATES,
    NUM_TRIALS,
    POOLS,
    TEMPERATURES,
)
from benchmarks.quality.plan import OURS, SEEDS, TUNED_ON, Plan
from benchmarks.quality.report import (
    METRICS,
    bar_rows,
    change_rows,
    changes,
    finals,
    left_out_rows,
    result_rows,
    write,
    yardstick_rows,
)
from benchmarks.quality.runner import keep_plan, kept_plan, run_all
from benchmarks.quality.statistics import holm, paired_p
from benchmarks.quality.table import block
from benchmarks.quality.trial import EPOCHS, TUNING_SEED, Trial
from benchmarks.record import RESULTS, Row
from benchmarks.trials import load_runs
from tests.benchmarks.tuned_runs import tuned


def test_a_report_never_makes_the_results_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run the trials again"):
        write(RESULTS / "quality", tmp_path)  # all of it is of an earlier protocol
    assert not list(tmp_path.iterdir())


def test_tuning_may_be_shorter_than_what_it_chooses() -> None:
    tuned_on, final = (Trial("shop-100k-mid", "d", "esans", {"temperature": 0.1}, seed) for seed in (TUNING_SEED, 1))
    assert tuned_on.epochs < final.epochs == EPOCHS["shop-100k-mid"]
    assert Trial("tiktok", "d", "esans", {"temperature": 0.1}, TUNING_SEED).epochs == EPOCHS["tiktok"]


def test_each_round_starts_from_the_best_of_those_before() -> None:
    plan = Plan("tiktok", "d")
    first = plan.tuning("uniform", {})
    assert [trial.settings["temperature"] for trial in first] == list(TEMPERATURES)
    runs = {trial.key: {"validation": {"recall_50": 0.1 + 0.01 * (rank == 2)}} for rank, trial in enumerate(first)}
    second = plan.tuning("uniform", runs)[len(first) :]
    assert {trial.settings["training.learning_rate"] for trial in second} == set(LEARNING_RATES)
    assert {trial.settings["temperature"] for trial in second} == {TEMPERATURES[2]}
    runs |= {trial.key: {"validation": {"recall_50": 0.2 * rank}} for rank, trial in enumerate(second)}
    third = plan.tuning("uniform", runs)[len(first) + len(second) :]
    assert [trial.settings for trial in third] == [second[1].settings | own for own in CONTENDERS["uniform"].own]


def test_finals_wait_for_tuning_and_take_its_best(tmp_path: Path) -> None:
    plan = Plan("tiktok", "d")
    runs = tuned(plan, "uniform")
    tried = plan.tuning("uniform", runs)
    best = max(tried, key=lambda trial: runs[trial.key]["validation"]["recall_50"])
    assert plan.best_settings("uniform", runs) == best.settings
    assert [trial.seed for trial in plan.trials("final", runs, ["uniform"])] == list(SEEDS)
    file = tmp_path / "toy.jsonl"
    file.write_text("".join(json.dumps(run) + "\n" for run in runs.values()))
    assert load_runs(file) == runs
    assert load_runs(tmp_path / "none.jsonl") == {}
    other = Plan("noisy toy", "e", tuned_on=("tiktok", "d"))
    assert list(other.trials("tune", runs, ["uniform"])) == []
    assert {(trial.data, trial.digest) for trial in other.trials("final", runs, ["uniform"])} == {("noisy toy", "e")}
    assert other.best_settings("uniform", runs) == best.settings
    runs.pop(tried[0].key)
    assert list(plan.trials("final", runs, ["uniform"])) == []
    assert list(other.trials("final", runs, ["uniform"])) == []


def test_settings_are_carried_over_between_data_sets_that_exist() -> None:
    assert TUNED_ON.keys() | set(TUNED_ON.values()) <= SIZES.keys() == EPOCHS.keys()


def test_full_softmax_of_a_large_catalogue_takes_the_settings_of_what_estimates_it() -> None:
    plan = Plan("shop-100k-mid", "d")
    runs = tuned(plan, "debiased_mns")
    estimate, chosen = plan.best_settings("debiased_mns", runs), plan.best_settings("full_softmax", runs)
    assert estimate is not None and chosen == {key: value for key, value in estimate.items() if key != "num_pool"}
    assert {trial.method for trial in plan.trials("final", runs, ["full_softmax"])} == {"full_softmax"}
    assert Plan("tiktok", "d").tuning("full_softmax", {})[0].method == "full_softmax"


def test_what_falls_far_behind_is_left_out_and_named() -> None:
    plan = Plan("shop-100k-mid", "d")
    runs = tuned(plan, "in_batch", recall=0.085)
    assert len(plan.tuning("in_batch", runs)) == NUM_TRIALS, "nothing to hold it against yet"
    for name, recall in {"debiased_mns": 0.1, "popularity": 0.092, "mns": 0.096, "uniform": 0.05, "esans": 0.05}.items():
        runs = tuned(plan, name, runs, recall)
    tried = {name: plan.tuning(name, runs) for name in ("in_batch", "popularity", "mns", "uniform", "esans")}
    assert {name: len(trials) for name, trials in tried.items()} == dict.fromkeys(tried, NUM_TRIALS) | {"in_batch": 5}
    going_on = {name for name in tried if list(plan.trials("final", runs, [name]))}
    assert going_on == {"mns", "uniform", "esans"}
    assert list(Plan("shop-100k-low", "e", tuned_on=("shop-100k-mid", "d")).trials("final", runs, ["popularity"])) == []
    assert len(Plan("tiktok", "d").tuning("dns", tuned(Plan("tiktok", "d"), "dns", recall=1e-3))) == NUM_TRIALS
    rows = list(left_out_rows(plan, runs))
    assert {(row.subject, row.repeats) for row in rows} == {("in-batch", 5), ("popularity (PNS)", 10)}
    finished = [asdict(row) for row in (*rows, Row("shop-100k-mid", "mixed (MNS)", "recall_50", "share", 0.1, 5))]
    text = block({"rows": [*finished, finished[-1] | {"metric": "recall_50_sd"}]})
    assert "Left out after 5 settings, by Recall@50 on validation (debiased MNS is 1): in-batch 0.850." in text
    assert "Left out after 10 settings, by Recall@50 on validation (debiased MNS is 1): popularity (PNS) 0.920." in text


def test_ablations_change_the_chosen_settings() -> None:
    plan = Plan("tiktok", "d", views=("visual", "acoustic", "behaviour"))
    runs = tuned(plan, "esans")
    chosen, planned = plan.best_settings("esans", runs), list(plan.trials("ablate", runs))
    assert chosen is not None and chosen["same_group_weight"] == 0.5
    assert len(planned) == (len(ABLATIONS) - 2) * len(SEEDS), "one is what was chosen, one leaves out a view that TikTok lacks"
    assert {trial.settings.get("clusters.without") for trial in planned} == {None, "visual", "acoustic", "behaviour"}
    assert all(trial.settings.keys() >= chosen.keys() and trial.settings != chosen for trial in planned)


def test_rows_hold_ours_against_the_best_baseline() -> None:
    runs: dict[str, dict[str, Any]] = {}
    plan = Plan("shop-100k-mid", "d")
    level = {"uniform": 0.10, "mns": 0.12, "esans": 0.13}
    for method, recall in level.items():
        runs = tuned(plan, method, runs)
        for trial in plan.trials("final", runs, [method]):
            metrics = dict.fromkeys(("recall_200", "ndcg_50", "head_recall_20", "tail_recall_20", "new_recall_20"), recall)
            runs[trial.key] = {"holdout": {**metrics, "recall_50": recall + 1e-4 * (trial.seed * len(method) % 5)}}
    table = finals(plan, runs)
    assert set(table) == set(level)
    (gain,) = [row for row in result_rows("shop-100k-mid", table) if row.metric == "gain"]
    assert gain.peer == "mixed (MNS)" and gain.holds and gain.value == pytest.approx(13 / 12, rel=1e-2)
    table["full_softmax"] = [{"holdout": {"recall_50": 0.15}}] * len(SEEDS)
    ease, gap = bar_rows("shop-100k-mid", table, {"ease": {"recall_50": 0.2}})
    assert ease.holds is False and ease.ratio == pytest.approx(0.65, rel=1e-2)
    assert gap.holds and gap.value == pytest.approx(0.6, rel=1e-2)
    assert len(list(bar_rows("tiktok", table, {}))) == 0
    del table["full_softmax"]
    rows = [*result_rows("shop-100k-mid", table), *yardstick_rows("shop-100k-mid", {"EASE": dict.fromkeys(METRICS, 0.125)})]
    text = block({"rows": [asdict(row) for row in rows]})
    order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:]
    assert order == ["ESANS, debiased (ours)", "*EASE*", "mixed (MNS)", "uniform (UNS)"]
    assert "0.1002 ± 0.0002" in text and ": holds." in text


def test_runs_are_reported_without_their_data(tmp_path: Path) -> None:
    plans = [Plan("tiktok", "d", views=("visual", "acoustic")), Plan("shop-1m", "e", ("shop-100k-mid", "f"))]
    for plan in plans:
        keep_plan(plan, tmp_path)
    assert [kept_plan(plan.data, tmp_path) for plan in plans] == plans


def test_a_killed_worker_is_named_with_the_remedy(tmp_path: Path) -> None:
    def kill() -> None:
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.05)
        workers[0].kill()

    threading.Thread(target=kill, daemon=True).start()
    trial = Trial("quick", "digest", "uniform", {}, seed=1)
    with pytest.raises(RuntimeError, match="trained uniform on quick was killed.*fewer --workers"):
        run_all(lambda _: [trial], {}, tmp_path / "quick.jsonl", workers=1, device="cpu", minutes=1)


def test_ablations_are_held_against_the_whole_and_drawn(tmp_path: Path) -> None:
    plan = Plan("tiktok", "d")
    runs = tuned(plan, "esans")
    assert changes(plan, runs, OURS, list(ABLATIONS)) == {}
    for trial in plan.trials("final", runs, ["esans"]):
        runs[trial.key] = {"holdout": {"recall_50": 0.2 + 0.001 * trial.seed}}
    assert changes(plan, runs, OURS, list(ABLATIONS)) == {}, "nothing was changed yet"
    for trial in plan.trials("ablate", runs, ["no logQ", "m_c = 1", "m_c = 3", "lambda, weight 50 = 0.1"]):
        runs[trial.key] = {"holdout": {"recall_50": 0.19 + 0.001 * trial.seed}}
    changed = changes(plan, runs, OURS, list(ABLATIONS))
    assert set(changed) == {"esans", "no logQ", "m_c = 1", "m_c = 3", "lambda, weight 50 = 0.1"}
    rows = {(row.subject, row.metric): row for row in change_rows("tiktok", OURS, changed)}
    assert rows["ESANS: no logQ", "recall_50"].ratio == pytest.approx(0.193 / 0.203)
    assert rows["ESANS: no logQ", "p"].value < 0.01
    plots.sweeps("tiktok", changed, tmp_path / "sweeps.png")
    assert (tmp_path / "sweeps.png").stat().st_size > 5000
    plots.sweeps("tiktok", {"esans": changed["esans"], "no logQ": changed["no logQ"]}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists(), "nothing to draw"


def test_smaller_pools_are_held_against_the_usual_one_over_the_same_seeds() -> None:
    plan = Plan("shop-100k-mid", "d")
    runs = tuned(plan, "debiased_mns")
    planned = list(plan.trials("ablate", runs, list(POOLS)))
    assert [trial.settings["num_pool"] for trial in planned] == [256, 256, 1024, 1024, 4096, 4096]
    assert list(Plan("tiktok", "d").trials("ablate", tuned(Plan("tiktok", "d"), "debiased_mns"), list(POOLS))) == []
    for trial in [*plan.trials("final", runs, ["debiased_mns"]), *planned[:2]]:
        runs[trial.key] = {"holdout": {"recall_50": trial.seed * (0.1 if trial.settings["num_pool"] > 256 else 0.05)}}
    (row,) = change_rows("shop-100k-mid", "debiased_mns", changes(plan, runs, "debiased_mns", list(POOLS)))
    assert (row.subject, row.repeats, row.ratio) == ("debiased MNS: pool of 256", 2, pytest.approx(0.5))


def test_statistics_match_the_textbook() -> None:
    ours, other = [0.31, 0.33, 0.32, 0.35, 0.30], [0.30, 0.31, 0.32, 0.33, 0.28]
    difference = np.array(ours) - np.array(other)
    t = difference.mean() / (difference.std(ddof=1) / np.sqrt(5))
    assert paired_p(ours, other) == pytest.approx(2 * stats.t.sf(abs(t), 4))
    assert paired_p(ours, ours) == 1.0
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
