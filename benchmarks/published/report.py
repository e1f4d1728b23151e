"""From finished trials to `published.json`: our rows beside the quoted ones, the bars, and the learning curves."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import judged
from benchmarks.published import plots, yardsticks
from benchmarks.published.logs import LOGS, METRICS
from benchmarks.published.plan import Plan
from benchmarks.published.quoted import BARS, QUOTED, RECIPE_SHARE
from benchmarks.published.runner import kept_plan
from benchmarks.published.table import PLAIN, QUOTED_AS, RECIPE, REFIT, REPEATS, TIES_SHUFFLED, TUNED, YARDSTICK, block, head
from benchmarks.record import REPOSITORY, Row, write_result
from benchmarks.trials import Runs, load_runs


def write(kept: Path, results: Path, command: str = "make bench-published FOLDER=/path/to/logs") -> None:
    """Write `published.json` and a picture of the learning curves of each log that has finished trials.

    Without any finished trial, the file holds the quoted rows alone.

    Args:
        kept: folder with the files `<log>.jsonl`.
        results: where `published.json` goes. Pictures go to docs/images, or beside it if it is not the repository's.
        command: what a person types to measure again.
    """
    rows: list[Row] = []
    chosen: dict[str, Any] = {}
    pictures: dict[str, str] = {}
    whole = results == REPOSITORY / "benchmarks" / "results"
    images = REPOSITORY / "docs" / "images" if whole else results
    for name, log in LOGS.items():
        plan, runs = kept_plan(name, kept), load_runs(kept / f"{name}.jsonl")
        rows += quoted_rows(name)
        rows += yardstick_rows(name, kept)
        if plan is None:
            continue
        rows += own_rows(plan, runs)
        rows += bar_rows(plan, runs)
        chosen[name] = {"settings": plan.best_settings(runs), "seeds": list(plan.seeds), "method": plan.method}
        curves = {title: found for stage, title in _SHOWN.items() if (found := plan.finished(stage, runs))}
        if curves:
            pictures[name] = f"published_{name}.png"
            plots.curves(log.title, log.main, curves, images / pictures[name])
    path = write_result("published", command, rows, folder=results, tuned=chosen, pictures=pictures)
    result = json.loads(path.read_text())
    print(f"{head(result)}\n\n{block(result)}")


_SHOWN = {"recipe": RECIPE, "tuned": TUNED}
_SCORED = {"test": PLAIN, "refit": REFIT, "test_repeats": REPEATS, "refit_repeats": REFIT + REPEATS}


def quoted_rows(name: str) -> Iterator[Row]:
    """Figures of others."""
    for quoted in QUOTED:
        if quoted.log == name:
            source = f"{quoted.source}; {quoted.differs}" if quoted.differs else quoted.source
            for metric, value in quoted.values.items():
                yield Row(name, f"{QUOTED_AS}{quoted.method} ({source})", metric, "share", value)


def yardstick_rows(name: str, kept: Path) -> Iterator[Row]:
    """Figures of the yardsticks that were measured."""
    for method, found in yardsticks.load(name, kept).items():
        yield from (Row(name, YARDSTICK + method, metric, "share", found["test"][metric]) for metric in METRICS)


def own_rows(plan: Plan, runs: Runs) -> Iterator[Row]:
    """Mean and standard deviation over the finished seeds of the recipe, the tuned settings and shuffled ties."""
    log = LOGS[plan.log]
    for stage, title in _SHOWN.items():
        found = plan.finished(stage, runs)
        for scored, suffix in _SCORED.items():
            yield from seed_rows(log.name, title + suffix, scored, found)
    yield from seed_rows(log.name, TUNED + TIES_SHUFFLED, "test", plan.finished("ties", runs))


def seed_rows(
    case: str, subject: str, scored: str, found: list[dict[str, Any]], metrics: Sequence[str] = METRICS
) -> Iterator[Row]:
    """Mean and standard deviation of each metric over the finished seeds, and the mean time of a training.

    Args:
        case: name of the log.
        subject: what was trained.
        scored: which of a run's results, such as `test` or `refit`; runs without it do not count.
        found: finished runs.
        metrics: names of the metrics.
    """
    found = [run for run in found if scored in run]
    if not found:
        return
    for metric in metrics:
        values = [run[scored][metric] for run in found]
        yield Row(case, subject, metric, "share", float(np.mean(values)), len(values))
        if len(values) > 1:
            yield Row(case, subject, f"{metric}_sd", "share", float(np.std(values, ddof=1)), len(values))
    seconds = [run["refit_seconds" if scored.startswith("refit") else "seconds"] for run in found]
    yield Row(case, subject, "seconds", "s", float(np.mean(seconds)), len(seconds))


def bar_rows(plan: Plan, runs: Runs) -> Iterator[Row]:
    """Each bar of the log, held against the mean over all seeds of the tuned settings, and a lower one against the recipe's.

    A bar is judged only when all seeds are finished. The row's ratio is to the whole bar.
    """
    log = LOGS[plan.log]
    suffix = REFIT if log.compared == "refit" else PLAIN
    for stage, title in _SHOWN.items():
        found = plan.finished(stage, runs)
        if len(found) < len(plan.seeds):
            continue
        for bar in BARS:
            if bar.log == log.name:
                least = bar.value if stage == "tuned" else RECIPE_SHARE * bar.value
                value = float(np.mean([run[log.compared][bar.metric] for run in found]))
                row = Row(log.name, title + suffix, f"{bar.metric} against the bar", "share", value, len(found))
                yield replace(judged(row, f"value >= {least:.6g}"), peer=bar.source, ratio=value / bar.value)
