"""Depths follow the size of the catalogue, and names of metrics say the depth at which they were measured."""

import doctest

import pytest

from jobs.base import cutoffs
from jobs.base.cutoffs import KS, Cutoffs, validation_recall


def test_the_examples_are_true() -> None:
    assert doctest.testmod(cutoffs).failed == 0


@pytest.mark.parametrize(
    ("num_items", "ks"),
    [(5, (1,)), (60, (6,)), (499, (49,)), (500, (50,)), (509, (50,)), (510, (50, 51)), (1999, (50, 199)), (2000, (50, 200))],
)
def test_no_depth_is_more_than_a_tenth_of_the_catalogue(num_items: int, ks: tuple[int, ...]) -> None:
    found = Cutoffs.for_catalogue(num_items)
    assert found.ks == ks
    assert (found.note(num_items) is None) == (ks == KS)


def test_names_say_the_real_depth() -> None:
    small = Cutoffs.for_catalogue(60)
    assert set(small.labels) == {
        "recall_6", "ndcg_6", "head_recall_6", "tail_recall_6", "new_item_recall_6", "coverage_6"
    }  # fmt: skip
    assert not any("50" in text or "200" in text for text in (*small.labels, *small.labels.values(), *small.of_users))
    assert "at 6, not at 50 and 200: the catalogue has 60 items" in str(small.note(60))


def test_a_file_of_an_earlier_release_has_the_wanted_depths() -> None:
    assert Cutoffs.of({}).ks == KS
    assert Cutoffs.of({"ks": [6]}).recall == "recall_6"


def test_the_validation_recall_of_a_curve_is_found_by_its_name() -> None:
    assert validation_recall([{"epoch": 1, "validation_recall_6": 0.5}]) == "validation_recall_6"
    assert validation_recall([]) == "validation_recall_50"
