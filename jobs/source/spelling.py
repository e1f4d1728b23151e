"""Ids that look like two spellings of one: `A1` and `a1`, `7` and `7.0`, `007` and `7`."""

import unicodedata
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Spelling:
    """A way in which ids differ that may be one.

    Attributes:
        difference: what differs, in words.
        count: ids that have such a twin.
        examples: a few pairs of ids.
    """

    difference: str
    count: int
    examples: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        pairs = ", ".join(f"'{one}' and '{other}'" for one, other in self.examples)
        return f"{self.count} ids differ from another one by {self.difference} alone, such as {pairs}"


def _forms(column: Column) -> dict[str, Column]:
    # NFKC and combining marks: é is one letter in some exports and two in others.
    folded = F.udf(_folded, "string", useArrow=False)(column)
    return {
        "blanks around them": F.trim(column),
        "a trailing '.0'": F.regexp_replace(column, r"\.0+$", ""),
        "leading zeros": F.regexp_replace(column, r"^0+(?=.)", ""),
        "the case of letters": F.lower(column),
        "the Unicode form of letters": folded,
        "case, blanks, zeros or signs between": F.regexp_replace(F.lower(folded), r"^0+(?=.)|\.0+$|[\s_\-]", ""),
    }


def twins_across(ids: DataFrame, others: DataFrame) -> list[Spelling]:
    """The ways in which ids of one table would be ids of the other.

    Args:
        ids: one column, each id once; none of them is in `others`.
        others: one column, each id once.
    """
    mine, theirs = ids.toDF("id"), others.toDF("other")
    found: list[Spelling] = []
    for difference, form in _forms(F.col("id")).items():
        of_theirs = _forms(F.col("other"))[difference]
        pairs = mine.withColumn("form", form).join(theirs.withColumn("form", of_theirs), "form")
        spelling = _summary(difference, pairs.groupBy("id").agg(F.min("other").alias("other")))
        if spelling and spelling.count > sum(known.count for known in found):  # the last form finds all that the others find
            found.append(spelling)
    return found


def twins_within(ids: DataFrame) -> list[Spelling]:
    """The ways in which ids of one table look like two spellings of one. `ids` has one column, with each id once."""
    found: list[Spelling] = []
    for difference, form in _forms(F.col("id")).items():
        groups = ids.toDF("id").groupBy(form.alias("form")).agg(F.min("id").alias("id"), F.max("id").alias("other"))
        spelling = _summary(difference, groups.where("id != other"))
        if spelling and spelling.count > sum(known.count for known in found):
            found.append(spelling)
    return found


def _summary(difference: str, pairs: DataFrame) -> Spelling | None:
    rows = pairs.withColumn("count", F.expr("count(1) over ()")).orderBy("id").limit(3).collect()
    if not rows:
        return None
    return Spelling(difference, rows[0]["count"], tuple((row["id"], row["other"]) for row in rows))


def _folded(text: str | None) -> str | None:
    return None if text is None else unicodedata.normalize("NFKC", text)
