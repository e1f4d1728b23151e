"""Checks the attributes of items, which `data.yaml` names."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.errors import DataError
from jobs.source.tables import Source


def check_embeddings(items: DataFrame, source: Source) -> None:
    """Stop if the vectors of an attribute differ in length, or if no item has one.

    Args:
        items: item_id, and the struct `attributes` if there are any.
        source: names the attributes and their file.

    Raises:
        DataError: it names two items whose vectors differ in length.
    """
    for name, kind in source.mapping.items.attributes.items():
        if kind != "embedding":
            continue
        vector = F.col("attributes").getField(name)
        sizes = items.where(vector.isNotNull()).groupBy(F.size(vector).alias("size"))
        found = sizes.agg(F.count(F.lit(1)).alias("items"), F.min("item_id").alias("item")).orderBy("size").collect()
        if len(found) == 1:
            continue
        said = ", ".join(f"{row['items']} of length {row['size']} (such as that of {row['item']})" for row in found[:5])
        raise DataError(
            f"the vectors of one attribute must have one length; there are {said or 'none'}.",
            file=source.file("items"),
            column=name,
            remedy="make all of them with one model, or leave the attribute out of data.yaml.",
        )
