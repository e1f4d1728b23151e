"""Intervals of several metrics at once are those of each alone."""

import numpy as np
import pandas as pd
import pytest

from jobs.errors import DataError
from jobs.registry.intervals import metric_intervals, paired_intervals
from jobs.registry.promotion import paired_bootstrap
from jobs.settings import PipelineSettings
from tests.jobs.records import publish_frame

CHOICE = {"samples": 300, "confidence": 0.9, "seed": 5}


def test_each_interval_is_that_of_its_metric_alone() -> None:
    random = np.random.default_rng(0)
    gaps = random.normal(0.1, 1, size=(80, 2))
    expected = [paired_bootstrap(gaps[:, m], np.zeros(80), **CHOICE) for m in range(2)]
    for found, wanted in zip(paired_intervals(gaps, **CHOICE), expected, strict=True):
        assert found is not None
        assert (found.mean, found.low, found.high) == pytest.approx((wanted.mean, wanted.low, wanted.high))


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
    found = metric_intervals(settings)
    assert list(found) == ["baseline"] and list(found["baseline"]) == ["recall_50", "tail_recall_50"]
    assert found["baseline"]["tail_recall_50"].mean == pytest.approx(0.1)
    frames[1]["user_index"] += 1
    publish_frame(settings, "evaluation", pd.concat(frames))
    with pytest.raises(DataError, match="not evaluated on the same users"):
        metric_intervals(settings)
