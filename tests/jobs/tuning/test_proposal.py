"""Whether the best of a search is more than chance."""

import numpy as np
import pytest

from jobs.tuning.page import page
from jobs.tuning.proposal import difference


def test_the_best_of_many_must_gain_more_than_the_best_of_few() -> None:
    generator = np.random.default_rng(0)
    before = generator.random(400).astype(np.float32)
    found = np.clip(before + generator.normal(0.012, 0.1, 400), 0, 1).astype(np.float32)
    one, many = (difference(found, before, compared=count) for count in (1, 1000))
    assert one["mean"] == many["mean"] > 0 and one["error"] == pytest.approx((found - before).std(ddof=1) / 20, rel=1e-3)
    assert not one["by_chance"] and many["by_chance"]
    alone = difference(found[:1], before[:1], compared=1)
    assert alone["by_chance"] and alone["reach"] is None


def test_chance_passes_for_better_in_one_of_twenty_searches_at_most() -> None:
    """Ten trials that are as good as today's settings, over and over: how often the best one seems to be better."""
    generator, passed = np.random.default_rng(1), 0
    for _ in range(400):
        trials = generator.random((11, 60)).astype(np.float32)
        best = trials[1 + trials[1:].mean(axis=1).argmax()]
        passed += not difference(best, trials[0], compared=10)["by_chance"]
    assert passed <= 0.05 * 400


def test_a_search_without_a_trial_shows_no_empty_table() -> None:
    found = {
        "date": "2026-01-28", "trials": [], "counts": {}, "study": "s", "tone": "plain", "headline": "No trial has ended.",
        "difference": None, "unfinished": "", "changes": {}, "left": {}, "searched": [], "best": None, "metric": "recall_50",
        "cost": None,
    }  # fmt: skip
    text = page(found)
    assert "No trial has ended." in text and "<table" not in text and "<h2>Trials" not in text and "<img" not in text
