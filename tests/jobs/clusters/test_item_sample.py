"""The sample that codebooks are fitted on: its size, its strata, and how little it changes."""

import numpy as np
import pandas as pd
import pytest

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.clusters.item_sample import quotas, sample_items
from jobs.lake.views import FEATURE_TABLES
from tests.jobs.records import publish_frame

# Shares of views (picture, text, behaviour) among the items; the first is rare, the last has none at all.
PATTERNS = ((0, 0, 1), (1, 1, 0), (1, 1, 1), (0, 1, 0), (0, 0, 0))
SHARES = (0.004, 0.3, 0.4, 0.2, 0.096)


def publish(settings: PipelineSettings, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pattern of each item, and its training events. A larger count only adds items."""
    generator = np.random.default_rng(0)
    pattern = generator.choice(len(PATTERNS), 20_000, p=SHARES)[:count]
    events = generator.zipf(1.5, 20_000)[:count].clip(max=10**6) - 1
    ids = [f"item-{index}" for index in range(count)]
    publish_frame(settings, "items", pd.DataFrame({"item_index": range(count), "item_id": ids, "num_train": events}))
    for view, table in enumerate(FEATURE_TABLES):
        status = ["ok" if PATTERNS[which][view] else "missing" for which in pattern]
        publish_frame(settings, table, pd.DataFrame({"item_index": range(count), "item_id": ids, "status": status}))
    return pattern, events


def limited(settings: PipelineSettings, limit: int) -> PipelineSettings:
    return settings.model_copy(update={"clusters": settings.clusters.model_copy(update={"max_train_items": limit})})


def test_strata_are_kept_in_proportion_and_rare_ones_are_not_lost(settings: PipelineSettings) -> None:
    settings = limited(settings, 2000)
    pattern, events = publish(settings, 10_000)
    sample = sample_items(settings)
    assert len(sample) == 2000 and (np.diff(sample) > 0).all()
    assert (pattern[sample] != 4).all()  # nothing can be learnt from an item without a view
    head = events >= np.sort(events)[-2000]
    for half in (head, ~head):  # in proportion to their number, only a few would be in the sample
        rare = half & (pattern == 0)
        assert rare.sum() > 5 and min(rare.sum(), 20) <= rare[sample].sum() <= 22
    for which in (1, 2, 3):
        for half in (head, ~head):
            stratum = half & (pattern == which)
            assert stratum[sample].mean() == pytest.approx(stratum[pattern != 4].mean(), rel=0.1)


def test_the_sample_hardly_changes_when_the_catalogue_grows(settings: PipelineSettings) -> None:
    settings = limited(settings, 2000)
    publish(settings, 10_000)
    before = sample_items(settings)
    publish(settings, 10_200)
    after = sample_items(settings)
    assert len(np.intersect1d(before, after)) > 0.95 * 2000
    other = settings.model_copy(update={"clusters": settings.clusters.model_copy(update={"seed": 12})})
    assert len(np.intersect1d(after, sample_items(other))) < 0.4 * 2000


def test_batches_and_what_is_held_do_not_show(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = limited(settings, 300)  # more than twice the limit, so that the reservoirs are emptied on the way
    publish(settings, 10_000)
    whole = sample_items(settings)
    monkeypatch.setattr("jobs.clusters.item_sample._NARROW_ROWS", 500)
    assert np.array_equal(sample_items(settings), whole)


def test_a_small_catalogue_is_taken_whole_and_one_of_another_length_refused(settings: PipelineSettings) -> None:
    publish(settings, 150)
    assert np.array_equal(sample_items(settings), np.arange(150))
    publish_frame(settings, "items", pd.DataFrame({"item_index": range(151)}))
    with pytest.raises(DataError, match="one row for each of 151 items, got 150"):
        sample_items(settings)


def test_quotas_add_up_and_never_exceed_a_stratum() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        sizes = generator.integers(0, 10 ** generator.integers(1, 7), generator.integers(1, 15))
        limit = int(generator.integers(100, 10_000))
        quota = np.array(quotas(sizes, limit))
        assert quota.sum() == min(limit, sizes.sum()) and (quota <= sizes).all()
        if sizes.sum() > limit:
            assert (quota >= np.minimum(sizes, limit // 100)).all()
            assert (quota <= np.maximum(limit // 100, sizes * limit / sizes.sum()) + 1).all()
    assert quotas([], 100) == [] and quotas([5], 100) == [5] and quotas([1000, 1], 100) == [99, 1]
