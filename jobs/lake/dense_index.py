"""Dense numbers 0, 1, 2, ... for the rows of a frame, in the order of a key, computed by many tasks."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_POSITION_BITS = 33  # of monotonically_increasing_id: its upper bits are the partition, the lower the row's place there


@contextmanager
def dense_index(frame: DataFrame, by: str, index: str) -> Iterator[tuple[DataFrame, int]]:
    """Number the rows of a frame in ascending order of a key, as `row_number() - 1` over one window does in a single task.

    The rows are sorted into ranges of the key and counted. A row's number is its place in its range plus the sizes of the
    ranges before. The sorted rows are kept (in memory, else on disk) inside the block, because a second sort could choose
    other ranges than those that were counted.

    Args:
        frame: the rows.
        by: a unique column without nulls.
        index: name of the new column, int64.

    Yields:
        The frame with the new column, to be used inside the block only, and its number of rows.
    """
    place = F.monotonically_increasing_id()
    ranges = frame.repartitionByRange(by).sortWithinPartitions(by).withColumn("place", place).persist()
    try:
        partition = F.shiftright("place", _POSITION_BITS)
        sizes = {row["partition"]: row["count"] for row in ranges.groupBy(partition.alias("partition")).count().collect()}
        last = max(sizes, default=0)
        starts = [0, *accumulate(sizes.get(number, 0) for number in range(last + 1))]
        start = F.array(*(F.lit(value).cast("bigint") for value in starts))[partition.cast("int")]
        position = F.col("place").bitwiseAND(F.lit(2**_POSITION_BITS - 1))
        yield ranges.withColumn(index, start + position).drop("place"), starts[-1]
    finally:
        ranges.unpersist()
