"""The table `sequences` as an event log that is read one row group at a time."""

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import torch
from torch import Tensor

from esans_core.sequences import Sequences
from jobs.base.errors import DataError

_COUNTS = ("num_train", "num_validation", "num_holdout")
_REMEDY = "run build_training_set for this date again."


class ParquetLog:
    """The table's row groups, in the order of its files' names, as blocks of an `esans_core.loader.EventLog`.

    The counts of events per user are read once, without the events. Only their sums for each block are kept.

    Args:
        table: the `sequences` of one date, with `user_index` ascending from 0 without gaps.

    Attributes:
        evaluated: split -> for each block, the number of users with a training history and an event in the split.

    Raises:
        DataError: users are not numbered in this way, or counts do not fit.
    """

    def __init__(self, table: pads.Dataset) -> None:
        fragments = sorted(table.get_fragments(), key=lambda fragment: fragment.path)
        self._blocks = [block for fragment in fragments for block in fragment.split_by_row_group()]
        rows = [block.row_groups[0].num_rows for block in self._blocks]
        self._first = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).tolist()
        self.evaluated: dict[str, list[int]] = {"validation": [], "holdout": []}
        for number in range(self.num_blocks):
            counts = self._read(number, _COUNTS)
            for split, found in self.evaluated.items():
                found.append(int(((counts["num_train"] > 0) & (counts[f"num_{split}"] > 0)).sum()))

    def num_evaluated(self, split: str) -> int:
        """Number of users with a training history and an event in the split (validation or holdout)."""
        return sum(self.evaluated[split])

    @property
    def num_users(self) -> int:
        """U, the number of users."""
        return self._first[-1]

    @property
    def num_blocks(self) -> int:
        """Number of row groups in all files."""
        return len(self._blocks)

    def users(self, block: int) -> range:
        """Rows of the block's users, which are their `user_index`."""
        return range(self._first[block], self._first[block + 1])

    def num_train_events(self, block: int) -> Tensor:
        """int64 [users of the block], training events of each."""
        return torch.from_numpy(self._read(block, ("num_train",))["num_train"])

    def read(self, block: int) -> Sequences:
        """The block's sequences; raises `DataError` when its counts do not fit its events."""
        columns = self._read(block, ("num_train", "num_validation"), with_items=True)
        try:
            return Sequences(**{name: torch.from_numpy(values) for name, values in columns.items()})
        except ValueError as error:
            raise DataError(str(error), file=self._blocks[block].path, column="num_train", remedy=_REMEDY) from error

    def _read(self, block: int, names: tuple[str, ...], *, with_items: bool = False) -> dict[str, np.ndarray]:
        users, fragment = self.users(block), self._blocks[block]
        lists = ("item_index",) if with_items else ()
        table = fragment.to_table(columns=["user_index", *names, *lists], use_threads=False)
        index = table["user_index"].to_numpy()
        if not np.array_equal(index, np.arange(users.start, users.stop)):
            raise DataError(
                f"users {users.start} to {users.stop - 1} expected, ascending and with one row each.",
                file=fragment.path,
                column="user_index",
                rows=index[index != np.arange(users.start, users.stop)].tolist(),
                remedy=_REMEDY,
            )
        columns = {name: table[name].to_numpy().astype(np.int64) for name in names}
        if with_items:
            items = pa.concat_arrays(table["item_index"].chunks)
            columns["items"] = items.flatten().to_numpy().astype(np.int64, copy=True)
            columns["offsets"] = np.concatenate([[0], np.cumsum(items.value_lengths().to_numpy(), dtype=np.int64)])
        return columns


class AllEvents(ParquetLog):
    """The same log, with every event as a training event: what a model that serves is trained on. Nobody is evaluated.

    Args:
        log: the log.
    """

    def __init__(self, log: ParquetLog) -> None:
        self._blocks, self._first = log._blocks, log._first
        self.evaluated = {split: [0] * log.num_blocks for split in log.evaluated}

    def num_train_events(self, block: int) -> Tensor:
        """int64 [users of the block], events of each."""
        return torch.from_numpy(sum(self._read(block, _COUNTS).values()))

    def read(self, block: int) -> Sequences:
        """The block's sequences."""
        sequences = super().read(block)
        return Sequences.past(sequences.items, sequences.offsets)


def some_users(log: ParquetLog, split: str, most: int) -> Sequences:
    """Sequences of at most `most` users with an event in a split, spread evenly over all of them. There must be one."""
    return some_users_by_row(log, split, most)[0]


def some_users_by_row(log: ParquetLog, split: str, most: int) -> tuple[Sequences, Tensor]:
    """As `some_users`, with the row of each of these users in the log, int64."""
    total, parts, rows, seen = log.num_evaluated(split), [], [], 0
    wanted = torch.linspace(0, total - 1, min(most, total), dtype=torch.float64).long()
    for block, count in enumerate(log.evaluated[split]):
        here = wanted[(wanted >= seen) & (wanted < seen + count)] - seen
        seen += count
        if len(here):
            sequences = log.read(block)
            users = sequences.evaluation_users(split)[here]
            parts.append(sequences.select(users))
            rows.append(users + log.users(block).start)
    return Sequences.cat(parts), torch.cat(rows)
