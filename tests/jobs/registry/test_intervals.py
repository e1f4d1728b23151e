"""Intervals of several metrics at once are those of each alone."""

import numpy as np
import pandas as pd
import pytest

from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.registry.intervals import metric_intervals, paired_intervals, recall_intervals
from tests.jobs.records import publish_frame

CHOICE = {"samples": 300, "confidence": 0.9, "seed": 5}


def test_each_interval_is_that_of_its_metric_alone() -> None:
    random = np.random.default_rng(0)
    gaps = random.normal(0.1, 1, size=(80, 2))
    generator = np.random.default_rng(CHOICE["seed"])
    drawn = [generator.integers(0, 80, size=80) for _ in range(300)]
    for column, found in enumerate(paired_intervals(gaps, **CHOICE)):
        means = sorted(sum(gaps[user, column] for user in users) / 80 for users in drawn)
        assert found is not None
        assert found.mean == pytest.approx(gaps[:, column].mean())
        assert (found.low, found.high) == pytest.approx((np.quantile(means, 0.05), np.quantile(means, 0.95)))


def test_an_interval_covers_the_truth_as_often_as_it_says_and_pairing_narrows_it() -> None:
    random, covered = np.random.default_rng(2), 0
    for trial in range(300):
        gaps = random.normal(0.05, 0.3, size=(200, 1))
        (found,) = paired_intervals(gaps, samples=300, confidence=0.9, seed=trial)
        assert found is not None
        covered += found.low <= 0.05 <= found.high
    # 270 expected; 300 trials at 0.9 have a standard deviation of 5.2
    assert 250 <= covered <= 290
    other = random.random(400)
    (paired,) = paired_intervals(np.full((400, 1), 0.01), **CHOICE)
    (shuffled,) = paired_intervals((random.permutation(other + 0.01) - other)[:, None], **CHOICE)
    assert paired is not None and shuffled is not None
    assert paired.high - paired.low < 1e-12 and shuffled.high - shuffled.low > 0.03


def test_users_without_a_metric_do_not_count_and_a_metric_without_users_has_no_interval() -> None:
    random = np.random.default_rng(1)
    gaps = np.stack([random.normal(size=400), np.full(400, np.nan), random.normal(2, 0.5, size=400)], axis=1)
    gaps[::4, 2] = np.nan
    _, nothing, some = paired_intervals(gaps, **CHOICE)
    present = gaps[~np.isnan(gaps[:, 2]), 2]
    error = present.std() / np.sqrt(len(present))
    assert nothing is None and some is not None
    assert some.mean == pytest.approx(present.mean())
    # The normal approximation: 1.645 standard errors at 90 %.
    assert (some.high - some.low) / 2 == pytest.approx(1.645 * error, rel=0.15)


def test_the_table_gives_opponents_and_slices(settings: PipelineSettings) -> None:
    users = np.arange(50)
    frames = [
        pd.DataFrame(
            {"model": name, "user_index": users, "recall_50": level, "tail_recall_50": np.where(users < 9, level, np.nan)}
        )
        for name, level in (("challenger", 0.5), ("baseline", 0.4))
    ]
    publish_frame(settings, "evaluation", pd.concat(frames))
    found = metric_intervals(settings, Cutoffs())
    assert list(found) == ["baseline"] and list(found["baseline"]) == ["recall_50", "tail_recall_50"]
    assert found["baseline"]["tail_recall_50"].mean == pytest.approx(0.1)
    frames[1]["user_index"] += 1
    publish_frame(settings, "evaluation", pd.concat(frames))
    with pytest.raises(DataError, match="not evaluated on the same users"):
        metric_intervals(settings, Cutoffs())


def test_a_part_of_the_hold_out_has_the_same_paired_intervals(settings: PipelineSettings) -> None:
    random = np.random.default_rng(1)
    recall = {name: random.random(300) for name in ("challenger", "champion")} | {"stranger": random.random(300)}
    found = recall_intervals(settings, recall)
    (whole,) = paired_intervals(
        (recall["challenger"] - recall["champion"])[:, None],
        samples=settings.gate.bootstrap_samples,
        confidence=settings.gate.confidence,
        seed=settings.training.seed,
    )
    assert whole is not None and found == {"champion": [whole.low, whole.high]}
    assert recall_intervals(settings, {"challenger": recall["challenger"]}) == {}
