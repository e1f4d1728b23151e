"""Files written so that a reader never sees half of one, and digests of what lies in files and folders."""

import hashlib
import io
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from jobs.base.places import arrow_source, files_below, replace_text

# Where a file lay and when it was written. It says whether the file has to be read again, and changes if a home is moved.
_NO_CONTENT = frozenset({"file_stamp"})
_DIGEST_ROWS = 8_192  # 16 MB of the widest vectors
_DIGEST_THREADS, _BYTES_PER_THREAD = min(8, os.cpu_count() or 1), 256 * 2**20  # a thread takes 30 MB and half a second for that


def write_json(path: UPath | Path, value: Any) -> None:
    """Write JSON so that a reader never sees half a file."""
    write_text(path, json_text(value))


def write_text(path: UPath | Path, text: str) -> None:
    """Write a text so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(UPath(path), text, aside=UPath(path).with_name(f".{path.name}-{uuid.uuid4().hex}"))


def file_digest(path: UPath | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def folder_digest(folder: UPath | Path) -> str:
    """SHA-256 over all files of a folder.

    Parquet files count by schema and rows, not by name or bytes: Spark names its part files at random, and the JVM lists
    the encodings in the footer in an order that changes from process to process. The column `file_stamp` does not count. Other
    files count by name and bytes.
    The files of a large folder are read in parallel. Each thread holds one row group at most.
    """
    folder = UPath(folder)

    def part(path: UPath) -> str:
        if path.suffix == ".parquet":
            return _rows_digest(path)
        return f"{path.relative_to(folder)}:{file_digest(path)}"

    files = files_below(folder)
    wanted = 1 + sum(path.stat().st_size for path in files) // _BYTES_PER_THREAD
    with ThreadPoolExecutor(min(_DIGEST_THREADS, wanted)) as threads:
        parts = sorted(threads.map(part, files))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _rows_digest(path: UPath) -> str:
    """SHA-256 of a Parquet file's rows as an Arrow stream, without the columns that are no content."""
    sink = _HashSink()
    file = pq.ParquetFile(**arrow_source(path))
    kept = [name for name in file.schema_arrow.names if name not in _NO_CONTENT]
    schema = pa.schema([file.schema_arrow.field(name) for name in kept])
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in file.iter_batches(batch_size=_DIGEST_ROWS, columns=kept):
            writer.write_batch(batch.replace_schema_metadata(None))
    return sink.hash.hexdigest()


class _HashSink(io.RawIOBase):
    """A file that keeps nothing but the hash of what was written to it."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return len(data)


def json_text(value: Any) -> str:
    """The text of a JSON file: indented and sorted, so that equal values give equal bytes."""
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"
