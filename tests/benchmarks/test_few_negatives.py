"""The comparison of negatives: what is compared, what is kept, gains and tests of pairs, and the table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.negatives import report, runner
from benchmarks.negatives.contenders import CONTENDERS, DRAWS, LOGS, SEEDS
from benchmarks.negatives.table import METRICS, block
from benchmarks.published.trial import Trial, negatives
from benchmarks.trials import keep_plan


def test_contenders_differ_have_peers_and_draw_no_more_than_the_paper() -> None:
    trials = {name: Trial("tiktok", "d", each.method, each.settings, 1) for name, each in CONTENDERS.items()}
    assert len({trial.key for trial in trials.values()}) == len({each.title for each in CONTENDERS.values()}) == len(CONTENDERS)
    assert {each.against for each in CONTENDERS.values()} <= {None, *CONTENDERS}
    for name, trial in trials.items():
        config = negatives(trial)
        assert config.num_per_positive in (0, DRAWS), name
        assert not config.num_pool or (config.num_pool, name) == (DRAWS * 512, "debiased_mns")
        if name.startswith("esans"):
            assert config.semantic and not config.share_draws and config.virtual_weight == 1
            assert bool(config.log_q) == ("logq" in name or name == "esans_in_batch")
            assert config.simple_interpolation == config.hard_interpolation == (not name.endswith("_draws"))
            assert ("clusters.random" in trial.settings) == name.endswith("_random")


def kept(folder: Path, names: dict[str, float], seeds: tuple[int, ...] = SEEDS) -> None:
    """Made-up runs of some contenders, each at a level of its own."""
    keep_plan(folder, "tiktok", {"digest": "d"})
    lines = []
    for name, level in names.items():
        for trial in runner.planned("tiktok", "d", [name], seeds):
            value = level + 0.001 * trial.seed + 0.0001 * (trial.seed % 3 if name == "esans_random" else 1)
            run: dict[str, Any] = {"key": trial.key, "seed": trial.seed, "test": dict.fromkeys(METRICS, value), "seconds": 5.0}
            lines.append(json.dumps(run))
    (folder / "tiktok.jsonl").write_text("\n".join(lines) + "\n")


def test_gains_are_paired_by_seed_and_tested_together(tmp_path: Path) -> None:
    kept(tmp_path, {"uniform": 0.1, "esans": 0.11, "esans_random": 0.1102})
    report.write(tmp_path, tmp_path)
    result = json.loads((tmp_path / "negatives.json").read_text())
    rows = {(row["subject"], row["metric"]): row for row in result["rows"]}
    esans, random = CONTENDERS["esans"].title, CONTENDERS["esans_random"].title
    assert rows[esans, "recall_50"]["repeats"] == 5
    gain = rows[esans, "recall_50 p"]
    assert gain["peer"] == "15 uniform" and gain["ratio"] == pytest.approx(1.1, abs=0.005) and gain["value"] < 0.001
    assert rows[random, "recall_50 p"]["peer"] == esans and 0.001 < rows[random, "recall_50 p"]["value"] < 0.05
    text = block(result)
    assert "### TikTok, 6,710 items" in text and f"| {esans} |" in text and "+9" in text
    order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ") and "Recall@50" not in line]
    assert order == [random, esans, "15 uniform"]


def test_a_log_that_was_not_run_has_no_table_and_one_seed_has_no_test(tmp_path: Path) -> None:
    kept(tmp_path, {"uniform": 0.1, "esans": 0.11}, seeds=(1,))
    rows = list(report.rows_of("tiktok", dict(runner.finished("tiktok", tmp_path))))
    assert not any(row.metric.endswith((" p", "_sd")) for row in rows)
    assert dict(runner.finished("s3rec_beauty", tmp_path)) == {}
    assert set(LOGS) >= {"tiktok", "s3rec_beauty"}


def test_seeds_are_run_one_after_the_other() -> None:
    trials = runner.planned("tiktok", "d", ["uniform", "esans"], (1, 2))
    assert [(trial.seed, trial.method) for trial in trials] == [
        (1, "uniform"),
        (1, "esans_paper"),
        (2, "uniform"),
        (2, "esans_paper"),
    ]
    assert replace(trials[0], seed=2).key == trials[2].key
