"""The table of sequences, read by row groups, is compared with the table read as a whole."""

from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch

from esans_core.loader import Loader
from esans_core.sequences import Sequences
from jobs.base.errors import DataError
from jobs.lake.event_log import ParquetLog, some_users

ROWS_PER_FILE, ROWS_PER_GROUP = 40, 16


def write(folder: Path, num_users: int, length: int, **changes: np.ndarray) -> pads.Dataset:
    """Sequences of up to `length` events in files of several row groups."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, length + 1, num_users)
    values = generator.integers(0, 1000, int(lengths.sum()))
    train, rest = lengths // 2, lengths - lengths // 2
    columns = {
        "user_index": np.arange(num_users),
        "num_train": train.astype(np.int32),
        "num_validation": (rest // 2).astype(np.int32),
        "num_holdout": (rest - rest // 2).astype(np.int32),
    } | changes
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    table = pa.table(columns | {"item_index": pa.ListArray.from_arrays(offsets, pa.array(values))})
    folder.mkdir()
    for number, start in enumerate(range(0, num_users, ROWS_PER_FILE)):
        name = folder / f"part-{number:05d}.parquet"
        pq.write_table(table.slice(start, ROWS_PER_FILE), name, row_group_size=ROWS_PER_GROUP)
    return pads.dataset(folder, format="parquet")


def test_blocks_are_the_table(tmp_path: Path) -> None:
    dataset = write(tmp_path / "sequences", 100, 12)
    log = ParquetLog(dataset)
    assert [len(log.users(block)) for block in range(log.num_blocks)] == [16, 16, 8, 16, 16, 8, 16, 4]
    whole = Sequences.cat([log.read(block) for block in range(log.num_blocks)])
    table = dataset.to_table().to_pydict()
    for user, items in enumerate(table["item_index"]):
        assert whole.items[whole.offsets[user] : whole.offsets[user + 1]].tolist() == items
    assert whole.num_train.tolist() == table["num_train"] and whole.num_validation.tolist() == table["num_validation"]
    for split in ("validation", "holdout"):
        users = whole.evaluation_users(split)
        assert log.num_evaluated(split) == len(users)
        few = some_users(log, split, 7)
        chosen = users[torch.linspace(0, len(users) - 1, 7).long()]
        assert torch.equal(few.items, whole.select(chosen).items) and torch.equal(few.offsets, whole.select(chosen).offsets)
        assert torch.equal(some_users(log, split, 1000).items, whole.select(users).items)


def test_a_table_that_is_not_numbered_or_counted_right_is_refused(tmp_path: Path) -> None:
    users = np.arange(100)
    users[[50, 51]] = [51, 50]
    with pytest.raises(DataError, match=r"part-00001.*'user_index'.*users 40 to 55 expected.*Remedy"):
        ParquetLog(write(tmp_path / "swapped", 100, 12, user_index=users))
    log = ParquetLog(write(tmp_path / "counted", 100, 12, num_train=np.full(100, 13, np.int32)))
    with pytest.raises(DataError, match=r"part-00000.*'num_train'.*exceeds the length.*Remedy"):
        log.read(0)


@pytest.mark.slow
def test_a_log_ten_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    """An epoch over 5 million events in windows of 100,000 needs little more memory than a small one: less than a window."""

    def epoch(num_files: int) -> tuple[int, int]:
        dataset = pads.dataset(files[:num_files], format="parquet")
        loader = Loader(ParquetLog(dataset), batch_size=8192, max_history=20, window_targets=100_000)
        process, peak, seen = psutil.Process(), 0, 0
        for batch in loader.epoch(0).batches():
            seen += len(batch.positives)
            peak = max(peak, process.memory_info().rss)
        assert seen == loader.num_targets
        return seen, peak

    files, users, length = [], 2_500, 200
    items = pa.array(np.random.default_rng(0).integers(0, 1 << 40, users * length))
    offsets = pa.array(np.arange(0, users * length + 1, length, dtype=np.int32))
    for number in range(10):
        counts = {
            "num_train": np.full(users, length),
            "num_validation": np.zeros(users, int),
            "num_holdout": np.zeros(users, int),
        }
        rows = {"user_index": np.arange(number * users, (number + 1) * users)} | counts
        files.append(str(tmp_path / f"part-{number:05d}.parquet"))
        table = pa.table(rows | {"item_index": pa.ListArray.from_arrays(offsets, items)})
        pq.write_table(table, files[-1], row_group_size=250)
    epoch(1)
    short, low = epoch(1)
    long, high = epoch(10)
    assert long == 10 * short
    assert high - low < 12 * 2**20, (
        f"{(high - low) / 2**20:.1f} MB more; all events would be {8 * long / 2**20:.0f} MB of items alone"
    )
