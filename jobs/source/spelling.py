"""Ids that look like two spellings of one: `A1` and `a1`, `7` and `7.0`, `007` and `7`."""

import unicodedata
from collections.abc import Callable
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
        pairs = ", ".join(f"'{_visible(one)}' and '{_visible(other)}'" for one, other in self.examples)
        return f"{self.count} ids differ from another one by {self.difference} alone, such as {pairs}"


def _forms(column: Column, *, folds: bool) -> dict[str, Column]:
    """The forms in which ids of two spellings are equal; the last one holds all the others.

    Args:
        column: of ids.
        folds: whether an id has letters beyond ASCII, which have several forms in Unicode: in some exports é is one letter, and
            in others two.
    """
    folded = F.udf(_folded, "string", useArrow=False)(column) if folds else column
    forms = {
        "blanks around them": F.trim(column),
        "a trailing '.0'": F.regexp_replace(column, r"\.0+$", ""),
        "leading zeros": F.regexp_replace(column, r"^0+(?=.)", ""),
        "the case of letters": F.lower(column),
    }
    unicode = {"the Unicode form of letters or invisible signs": folded} if folds else {}
    plain = F.regexp_replace(F.lower(folded), r"^\s*0+(?=.)|\.0+\s*$|[\s_\-]", "")
    return forms | unicode | {"case, blanks, zeros or signs between": plain}


def has_folds(column: str) -> Column:
    """An aggregate: whether any id has letters beyond ASCII."""
    return F.coalesce(F.bool_or(F.col(column).rlike(r"[^\x00-\x7F]")), F.lit(False))


def _folds(ids: DataFrame) -> bool:
    return bool(ids.agg(has_folds(ids.columns[0])).collect()[0][0])


def twins_across(ids: DataFrame, others: DataFrame) -> list[Spelling]:
    """The ways in which ids of one table would be ids of the other.

    Args:
        ids: one column, each id once; none of them is in `others`.
        others: one column, each id once.
    """
    mine, theirs = ids.toDF("id"), others.toDF("other")
    folds = _folds(mine) or _folds(theirs)

    def pairs(difference: str) -> DataFrame:
        with_form = mine.withColumn("form", _forms(F.col("id"), folds=folds)[difference])
        of_theirs = theirs.withColumn("form", _forms(F.col("other"), folds=folds)[difference])
        return with_form.join(of_theirs, "form").groupBy("id").agg(F.min("other").alias("other"))

    return _found(list(_forms(F.col("id"), folds=folds)), pairs)


def twins_within(ids: DataFrame, *, folds: bool) -> list[Spelling]:
    """The ways in which ids of one table look like two spellings of one.

    Args:
        ids: one column, each id once. It is read once, or several times if there are such ids.
        folds: what `has_folds` says of them.
    """
    mine = ids.toDF("id")

    def pairs(difference: str) -> DataFrame:
        groups = mine.groupBy(_forms(F.col("id"), folds=folds)[difference].alias("form"))
        return groups.agg(F.min("id").alias("id"), F.max("id").alias("other")).where("id != other")

    return _found(list(_forms(F.col("id"), folds=folds)), pairs)


def _found(differences: list[str], pairs: Callable[[str], DataFrame]) -> list[Spelling]:
    """The differences that there are. The last one holds all others, so it is looked for first, and told only if it adds."""
    whole = _summary(differences[-1], pairs(differences[-1]))
    if whole is None:
        return []
    parts = [spelling for name in differences[:-1] if (spelling := _summary(name, pairs(name)))]
    return [*parts, whole] if whole.count > sum(part.count for part in parts) else parts


def _summary(difference: str, pairs: DataFrame) -> Spelling | None:
    rows = pairs.withColumn("count", F.expr("count(1) over ()")).orderBy("id").limit(3).collect()
    if not rows:
        return None
    return Spelling(difference, rows[0]["count"], tuple((row["id"], row["other"]) for row in rows))


def _folded(text: str | None) -> str | None:
    """A text in one Unicode form, without signs that nobody sees, such as a zero-width space."""
    if text is None:
        return None
    return "".join(sign for sign in unicodedata.normalize("NFKC", text) if unicodedata.category(sign) != "Cf")


def _visible(text: str) -> str:
    """A text in which signs that look like others, or like nothing, are written as their code: `e\\u0301`."""
    plain = (sign.isprintable() and not unicodedata.category(sign).startswith("M") for sign in text)
    return "".join(sign if seen else sign.encode("unicode_escape").decode() for sign, seen in zip(text, plain, strict=True))
