"""Tables, tests and plots from finished trials."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import beside, judged
from benchmarks.quality import plots
from benchmarks.quality.frozen import is_large_shop
from benchmarks.quality.methods import ABLATIONS, CONTENDERS, POOLS
from benchmarks.quality.plan import ESTIMATES_IT, OURS, SEEDS, Plan, Runs
from benchmarks.quality.runner import kept_plan, runs_of
from benchmarks.quality.statistics import holm, paired_p
from benchmarks.quality.table import AGAINST, CHANGED, LEFT_OUT, TITLES, YARDSTICK, block
from benchmarks.quality.trial import PROTOCOL
from benchmarks.record import REPOSITORY, Row, write_result

METRICS = ("recall_50", "recall_200", "ndcg_50", "head_recall_20", "tail_recall_20", "new_recall_20")
_MARGIN = 1.037  # the paper's smallest gain over the best baseline (in its table: .2121 / .2045)


def write(folder: Path, results: Path) -> None:
    """Write `quality.json` and the plots of every data set that has finished trials.

    Args:
        folder: folder with the files `<data set>.jsonl`.
        results: where `quality.json` goes; plots go to docs/images unless this is a quick run.

    Raises:
        ValueError: no method has finished all its seeds, so the file would be made empty.
    """
    rows: list[Row] = []
    settings: dict[str, Any] = {}
    paths = sorted(folder.glob("*.jsonl"))
    tables = {path.stem: finals(kept_plan(path.stem, folder), runs_of(path.stem, folder)) for path in paths}
    if not any(tables.values()):
        raise ValueError(
            f"{folder} has no method with all its seeds by protocol {PROTOCOL}, so {results / 'quality.json'} stays as it is. "
            "Trials of an earlier protocol are kept, but are not results of today's code: run the trials again."
        )
    for path in paths:
        name = path.stem
        runs, plan, table = runs_of(name, folder), kept_plan(name, folder), tables[name]
        yardsticks = external(folder / "yardsticks" / path.name)
        rows += list(yardstick_rows(name, yardsticks))
        rows += list(result_rows(name, table))
        rows += list(bar_rows(name, table, yardsticks))
        rows += list(left_out_rows(plan, runs))
        changed = changes(plan, runs, OURS, list(ABLATIONS))
        rows += list(change_rows(name, OURS, changed))
        rows += list(change_rows(name, ESTIMATES_IT, changes(plan, runs, ESTIMATES_IT, list(POOLS))))
        settings[name] = {method: plan.best_settings(method, runs) for method in CONTENDERS}
        images = REPOSITORY / "docs" / "images" if folder.name == "quality" else results
        if table:
            plots.hardness(TITLES[name], table, images / f"quality_{name}.png")
        if changed:
            plots.sweeps(TITLES[name], changed, images / f"sweeps_{name}.png")
    written = write_result("quality", "make bench-quality", rows, folder=results, settings=settings)
    print(block(json.loads(written.read_text())))


def finals(plan: Plan, runs: Runs) -> dict[str, list[dict[str, Any]]]:
    """Runs of each contender that has all its seeds, by seed."""
    found = {}
    for method in CONTENDERS:
        wanted = list(plan.trials("final", runs, [method]))
        if wanted and all(trial.key in runs for trial in wanted):
            found[method] = [runs[trial.key] for trial in wanted]
    return found


def external(path: Path) -> dict[str, dict[str, float]]:
    """Hold-out metrics of each yardstick that has been run; its settings were chosen on validation."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["method"]: line for line in lines if line["split"] == "holdout"}


def yardstick_rows(name: str, yardsticks: dict[str, dict[str, float]]) -> Iterator[Row]:
    """One row for each metric of each yardstick."""
    for method, found in yardsticks.items():
        for metric in ("recall_50", "recall_200", "ndcg_50"):
            yield Row(name, YARDSTICK + method, metric, "share", found[metric])


def values(runs: list[dict[str, Any]], metric: str) -> list[float]:
    """One hold-out metric of each seed."""
    return [run["holdout"][metric] for run in runs]


def result_rows(name: str, table: dict[str, list[dict[str, Any]]]) -> Iterator[Row]:
    """Mean and sd of every contender; Recall@50 is compared with the best baseline and tested with Holm's correction."""
    baselines = [method for method in table if not method.startswith(OURS) and not CONTENDERS[method].reference]
    best = max(baselines, key=lambda method: np.mean(values(table[method], "recall_50")), default=None)
    for method, runs in table.items():
        for metric in METRICS:
            found = values(runs, metric)
            if np.isnan(found).any():
                continue
            against: dict[str, Any] = {}
            if metric == "recall_50" and best is not None and method != best:
                against = {
                    "peer": CONTENDERS[best].title,
                    "ratio": float(np.mean(found) / np.mean(values(table[best], metric))),
                }
            yield Row(name, CONTENDERS[method].title, metric, "share", float(np.mean(found)), len(runs), **against)
            yield Row(name, CONTENDERS[method].title, f"{metric}_sd", "share", float(np.std(found, ddof=1)), len(runs))
    if OURS in table and best is not None:
        p_values = holm(
            {method: paired_p(values(table[OURS], "recall_50"), values(table[method], "recall_50")) for method in baselines}
        )
        for method, p in p_values.items():
            yield Row(name, AGAINST + CONTENDERS[method].title, "p (Holm)", "", p, len(SEEDS))
        ratio = float(np.mean(values(table[OURS], "recall_50")) / np.mean(values(table[best], "recall_50")))
        large = is_large_shop(name)
        bar = f"ratio >= {_MARGIN} at p < 0.01" if large else "never significantly worse"
        holds = (ratio >= _MARGIN and p_values[best] < 0.01) if large else (ratio >= 1 or p_values[best] >= 0.05)
        yield Row(
            name, CONTENDERS[OURS].title, "gain", "ratio", ratio, len(SEEDS), CONTENDERS[best].title, ratio, bar, bool(holds)
        )


def bar_rows(name: str, table: dict[str, list[dict[str, Any]]], yardsticks: dict[str, dict[str, float]]) -> Iterator[Row]:
    """The other bars: better than EASE, if that was run; on a large catalogue, most of the gap up to full softmax."""
    reached = {method: float(np.mean(values(runs, "recall_50"))) for method, runs in table.items()}
    if OURS not in reached:
        return
    ours, title = reached[OURS], CONTENDERS[OURS].title
    if "ease" in yardsticks:
        ease = Row(name, "EASE", "recall_50 over EASE", "share", yardsticks["ease"]["recall_50"])
        yield beside(replace(ease, subject=title, value=ours, repeats=len(SEEDS)), ease, "ratio >= 1")
    if is_large_shop(name) and {"uniform", "full_softmax"} <= reached.keys():
        gap = (ours - reached["uniform"]) / (reached["full_softmax"] - reached["uniform"])
        closed = Row(name, title, "gap closed from uniform to full softmax", "share", gap, len(SEEDS))
        yield judged(closed, "value >= 0.5")


def left_out_rows(plan: Plan, runs: Runs) -> Iterator[Row]:
    """Baselines that were dropped: their share of debiased MNS's Recall@50 on validation, and after how many settings."""
    for method in CONTENDERS if plan.tuned_on is None else ():
        tried = plan.tuning(method, runs)
        if (share := plan.fell_behind(method, tried, runs)) is not None:
            peer = CONTENDERS[ESTIMATES_IT].title
            yield Row(plan.data, CONTENDERS[method].title, LEFT_OUT, "share", share, len(tried), peer, share)


def changes(plan: Plan, runs: Runs, method: str, names: Sequence[str]) -> dict[str, list[float]]:
    """Hold-out Recall@50 by seed of a whole method (under its name) and of each finished change to it; empty without any."""
    planned = {method: list(plan.trials("final", runs, [method]))}
    planned |= {change: list(plan.trials("ablate", runs, [change])) for change in names}
    finished = {kind: wanted for kind, wanted in planned.items() if wanted and all(trial.key in runs for trial in wanted)}
    if method not in finished or len(finished) == 1:
        return {}
    return {kind: values([runs[trial.key] for trial in wanted], "recall_50") for kind, wanted in finished.items()}


def change_rows(name: str, method: str, changed: dict[str, list[float]]) -> Iterator[Row]:
    """Recall@50 of each finished change to a method next to the whole method with the same seeds; tested if it has them all."""
    for change, found in changed.items():
        if change != method:
            subject, whole = CHANGED[method] + change, changed[method][: len(found)]
            ratio = float(np.mean(found) / np.mean(whole))
            yield Row(name, subject, "recall_50", "share", float(np.mean(found)), len(found), CHANGED[method][:-2], ratio)
            if len(found) == len(SEEDS):
                yield Row(name, subject, "p", "", paired_p(found, whole), len(found))
