"""Ids that look like two spellings of one."""

import pytest

from jobs.source.spelling import Spelling, has_folds, twins_across, twins_within

pytestmark = pytest.mark.spark


def frame(spark, *ids: str):
    return spark.createDataFrame([(one,) for one in ids], "any string")


def within(spark, *ids: str) -> list[Spelling]:
    given = frame(spark, *ids)
    return twins_within(given, folds=given.agg(has_folds("any")).collect()[0][0])


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("A1", "a1", "the case of letters"),
        ("a1", " a1", "blanks around them"),
        ("7", "7.0", "a trailing '.0'"),
        ("007", "7", "leading zeros"),
        ("\u00e91", "e\u03011", "the Unicode form of letters or invisible signs"),
        ("a1", "a1\u200b", "the Unicode form of letters or invisible signs"),
        ("a1", "\ufeffa1", "the Unicode form of letters or invisible signs"),
        ("AB-12", "ab 12", "case, blanks, zeros or signs between"),
        ("\u00c4-1", "\u00e41", "case, blanks, zeros or signs between"),
    ],
)
def test_each_difference_is_named_with_both_spellings(spark, one: str, other: str, difference: str) -> None:
    (found,) = within(spark, one, other, "else", "more")
    assert (found.difference, found.count, set(found.examples[0])) == (difference, 1, {one, other})
    (across,) = twins_across(frame(spark, one), frame(spark, other, "else"))
    assert (across.difference, across.count, across.examples) == (difference, 1, ((one, other),))
    assert f"differ from another one by {difference} alone" in str(across)


def test_what_looks_alike_is_written_as_its_code() -> None:
    pairs = (("\u00e91", "e\u03011"), ("a1", "a1\u200b"), ("a1", "\u00a0a1"), ("\u30ab", "\uff76"))
    told = str(Spelling("x", 4, pairs))
    assert told.endswith("'\u00e91' and 'e\\u03011', 'a1' and 'a1\\u200b', 'a1' and '\\xa0a1', '\u30ab' and '\uff76'")


def test_ids_that_differ_in_more_are_no_twins(spark) -> None:
    assert within(spark, "a1", "a2", "b1", "10", "1", "1.5", "0") == []
    assert twins_across(frame(spark, "x"), frame(spark, "y")) == []
    assert within(spark) == []


def test_several_differences_are_told_apart(spark) -> None:
    found = {each.difference: each.count for each in within(spark, "A", "a", "7", "7.0", "x-y", "x y")}
    assert found == {"the case of letters": 1, "a trailing '.0'": 1, "case, blanks, zeros or signs between": 3}
