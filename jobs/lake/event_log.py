"""The table `sequences` as an event log that is read one row group at a time."""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import torch
from torch import Tensor

from esans_core.sequences import Sequences
from jobs.base.errors import DataError

_COUNTS = ("num_train", "num_validation", "num_holdout")
_WEIGHT, _UNWANTED, _HISTORY_ONLY, _FEATURES = "weight", "unwanted", "num_history_only", "features"
_REMEDY = "run build_training_set for this date again."


class ParquetLog:
    """The table's row groups, in the order of its files' names, as blocks of an `esans_core.loader.EventLog`.

    The counts of events per user are read once, without the events. Only their sums for each block are kept.

    Args:
        table: the `sequences` of one date, with `user_index` ascending from 0 without gaps. It may lack the columns for weights
            of events, for unwanted items, and for the number of training events that are history only.
        again: whether items that a user has met may be found again.
        user_features: G, the length of the lists in the column `features`; 0 if it is not there or not read.

    Attributes:
        again: as given.
        user_features: as given.
        evaluated: split -> for each block, the number of users with a training history and an event in the split.

    Raises:
        DataError: users are not numbered in this way, or counts do not fit.
    """

    def __init__(self, table: pads.Dataset, *, again: bool = False, user_features: int = 0) -> None:
        self.again, self._weighted, self.user_features = again, _WEIGHT in table.schema.names, user_features
        self._lists = [name for name in (_WEIGHT, _UNWANTED) if name in table.schema.names]
        fragments = sorted(table.get_fragments(), key=lambda fragment: fragment.path)
        self._blocks = [block for fragment in fragments for block in fragment.split_by_row_group()]
        rows = [block.row_groups[0].num_rows for block in self._blocks]
        self._first = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).tolist()
        self.evaluated: dict[str, list[int]] = {"validation": [], "holdout": []}
        for number in range(self.num_blocks):
            counts = self._read(number, _COUNTS)
            for split, found in self.evaluated.items():
                if self._weighted:  # an event may be history only, so counts do not tell
                    found.append(len(self.read(number).evaluation_users(split)))
                else:
                    found.append(int(((counts["num_train"] > 0) & (counts[f"num_{split}"] > 0)).sum()))

    def _like(self, log: "ParquetLog") -> None:
        """Take over what another log knows of the table."""
        self._blocks, self._first, self.again = log._blocks, log._first, log.again
        self._lists, self._weighted, self.user_features = log._lists, log._weighted, log.user_features

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

    def num_history_only(self, block: int) -> Tensor | None:
        """int64 [users of the block], training events of each that are never targets; None if all may be."""
        return torch.from_numpy(self._read(block, (_HISTORY_ONLY,))[_HISTORY_ONLY]) if self._weighted else None

    def read(self, block: int) -> Sequences:
        """The block's sequences; raises `DataError` when its counts do not fit its events."""
        columns = self._read(block, ("num_train", "num_validation"), with_items=True)
        try:
            tensors = {name: torch.from_numpy(values) for name, values in columns.items()}
            unwanted = (tensors.pop("unwanted_user"), tensors.pop(_UNWANTED)) if _UNWANTED in tensors else None
            features = torch.from_numpy(self._features(block)) if self.user_features else None
            return Sequences(**tensors, unwanted=unwanted, again=self.again, features=features)
        except ValueError as error:
            raise DataError(str(error), file=self._blocks[block].path, column="num_train", remedy=_REMEDY) from error

    def _features(self, block: int) -> np.ndarray:
        """float32 [users of the block, G], NaN where nothing is known."""
        table = self._blocks[block].to_table(columns=[_FEATURES], use_threads=False)
        return features_of(table[_FEATURES], self.user_features)

    @property
    def has_kinds(self) -> bool:
        """Whether events have kinds."""
        return "kind" in self._blocks[0].physical_schema.names if self._blocks else False

    def kinds(self, block: int) -> np.ndarray:
        """object [E], kind of each event of the block; an empty text where there is none."""
        table = self._blocks[block].to_table(columns=["kind"], use_threads=False)
        kinds = pa.concat_arrays(table["kind"].chunks).flatten()
        return pc.fill_null(kinds.cast(pa.string()), "").to_numpy(zero_copy_only=False)

    def _read(self, block: int, names: tuple[str, ...], *, with_items: bool = False) -> dict[str, np.ndarray]:
        users, fragment = self.users(block), self._blocks[block]
        lists = ("item_index", *self._lists) if with_items else ()
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
        if with_items and _WEIGHT in self._lists:
            columns["weights"] = pa.concat_arrays(table[_WEIGHT].chunks).flatten().to_numpy().astype(np.float32, copy=True)
        if with_items and _UNWANTED in self._lists:
            unwanted = pa.concat_arrays(table[_UNWANTED].chunks)
            columns[_UNWANTED] = unwanted.flatten().to_numpy().astype(np.int64, copy=True)
            columns["unwanted_user"] = np.repeat(np.arange(len(unwanted)), unwanted.value_lengths().to_numpy())
        return columns


def features_of(lists: pa.ChunkedArray | pa.Array, width: int) -> np.ndarray:
    """float32 [U, width] of lists of this length; NaN for a user without a list."""
    column = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    features = np.full((len(column), width), np.nan, np.float32)
    features[column.is_valid().to_numpy(zero_copy_only=False)] = (
        column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    )
    return features


class SomeTargets(ParquetLog):
    """The same log, in which only some of the targets count, such as those of one kind of event.

    Args:
        log: the log.
        counts: from a block's number and its sequences to bool [E], which of its events count.
    """

    def __init__(self, log: ParquetLog, counts: Callable[[int, Sequences], Tensor]) -> None:
        self._like(log)
        self._log, self._counts, self._weighted = log, counts, True
        self.evaluated = {
            split: [len(self.read(number).evaluation_users(split)) for number in range(self.num_blocks)]
            for split in log.evaluated
        }

    def read(self, block: int) -> Sequences:
        """The block's sequences."""
        sequences = self._log.read(block)
        return replace(sequences, weights=sequences.target_weights() * self._counts(block, sequences))

    def num_history_only(self, block: int) -> Tensor | None:
        """int64 [users of the block], training events of each that are never targets."""
        return self.read(block).num_history_only(0)


def of_kinds(log: ParquetLog, kinds: Collection[str]) -> SomeTargets:
    """The log in which only events of some kinds are targets."""
    wanted = set(kinds)
    return SomeTargets(log, lambda block, _: torch.tensor([kind in wanted for kind in log.kinds(block)], dtype=torch.bool))


def of_repeats(log: ParquetLog, *, repeated: bool) -> SomeTargets:
    """The log in which only events about an item that the user has met before are targets, or only the others."""

    def counts(_: int, sequences: Sequences) -> Tensor:
        user, _place = sequences.places()
        pair = user * (int(sequences.items.max()) + 1 if len(sequences.items) else 1) + sequences.items
        order = pair.argsort(stable=True)
        again = torch.zeros(len(pair), dtype=torch.bool)
        again[order[1:]] = pair[order[1:]] == pair[order[:-1]]
        return again if repeated else ~again

    return SomeTargets(log, counts)


class AllEvents(ParquetLog):
    """The same log, with every event as a training event: what a model that serves is trained on. Nobody is evaluated.

    Args:
        log: the log.
    """

    def __init__(self, log: ParquetLog) -> None:
        self._like(log)
        self._lists = [name for name in log._lists if name == _WEIGHT]
        self.evaluated = {split: [0] * log.num_blocks for split in log.evaluated}

    def num_train_events(self, block: int) -> Tensor:
        """int64 [users of the block], events of each."""
        return torch.from_numpy(sum(self._read(block, _COUNTS).values()))

    def num_history_only(self, block: int) -> Tensor | None:
        """int64 [users of the block], events of each that are never targets; None if all may be."""
        return self.read(block).num_history_only(0) if self._weighted else None

    def read(self, block: int) -> Sequences:
        """The block's sequences."""
        sequences = super().read(block)
        past = Sequences.past(sequences.items, sequences.offsets)
        return replace(past, weights=sequences.weights, features=sequences.features)


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
