"""Ids of the catalogue's items, from row to id and from id to row, in one Arrow file that is mapped, not loaded.

It needs pyarrow (`pip install ".[serving]"`).
"""

import hashlib
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa

_ID, _HASH, _ROW, _SALT = "item_id", "hash", "row_of_hash", b"salt"


class ItemIds:
    """Ids by row, and rows by id through sorted 64-bit hashes. So it costs neither time nor memory to open a catalogue.

    Args:
        file: a file that `save` wrote.
    """

    def __init__(self, file: Path) -> None:
        with pa.memory_map(str(file)) as stream:
            table = pa.ipc.open_file(stream).read_all().combine_chunks()
        self._salt = table.schema.metadata[_SALT]
        self.ids: pa.Array = _whole(table[_ID])
        self._hash, self._row = (_whole(table[name]).to_numpy() for name in (_HASH, _ROW))

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def save(file: Path, item_ids: Sequence[str]) -> None:
        """Write the ids of rows 0, 1, 2, ...

        Raises:
            ValueError: there is no id, or an id is there twice.
        """
        if not item_ids or len(set(item_ids)) != len(item_ids):
            raise ValueError(
                f"expected at least one id and none twice, got {len(item_ids)} of which {len(set(item_ids))} differ"
            )
        for number in count():  # try salts until no two ids share a hash; the first one nearly always works
            salt = str(number).encode()
            hashes = _hashes(item_ids, salt)
            rows = np.argsort(hashes, kind="stable")
            if (np.diff(ordered := hashes[rows]) > 0).all():
                break
        columns = {_ID: pa.array(item_ids, pa.large_string()), _HASH: pa.array(ordered), _ROW: pa.array(rows)}
        table = pa.table(columns).replace_schema_metadata({_SALT: salt})
        with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """int64, the row of each id, -1 for one that the catalogue does not have."""
        if not len(ids):
            return np.zeros(0, np.int64)
        hashes = _hashes(ids, self._salt)
        place = np.searchsorted(self._hash, hashes).clip(max=len(self) - 1)
        rows = self._row[place]
        # An unknown id may share its hash with a known one, so the ids themselves are compared.
        same = np.fromiter((here == asked for here, asked in zip(self.take(rows).to_pylist(), ids, strict=True)), bool)
        return np.where(same, rows, -1)

    def take(self, rows: np.ndarray) -> pa.Array:
        """The ids of some rows, as strings."""
        return self.ids.take(pa.array(rows)).cast(pa.string())


def _hashes(ids: Sequence[str], salt: bytes) -> np.ndarray:
    digests = b"".join(hashlib.blake2b(item.encode(), digest_size=8, salt=salt).digest() for item in ids)
    return np.frombuffer(digests, np.dtype("<u8"))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0)
