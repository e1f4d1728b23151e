"""A process that writes or reads one table of a lake in a loop, for the tests of processes that work at the same time.

    python -m tests.jobs.lake_process write HOME LAKE VALUE TIMES
    python -m tests.jobs.lake_process read HOME LAKE "" TIMES

A writer's table holds four files of rows that are all VALUE (0: the number of the round). A reader sees TIMES tables, and
fails on one that is not whole. Both print a line when they begin.
"""

import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.base.errors import DataError
from jobs.base.places import local_draft
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake, Pending

FILES, ROWS = 4, 1_000


def put(pending: Pending, value: int) -> None:
    """Write the rows of one version."""
    pending.path.mkdir(parents=True, exist_ok=True)
    for _ in range(FILES):
        with local_draft(pending.path / f"part-{uuid.uuid4().hex}.parquet") as file:
            pq.write_table(pa.table({"value": [value] * ROWS}), file)


def main(what: str, home: str, lake_at: str, value: str, times: str) -> None:
    settings = PipelineSettings(home=Path(home), lake=lake_at)
    lake, done = Lake.of(settings), 0
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    while done < int(times):
        if what == "write":
            with lake.write("numbers", settings) as pending:
                put(pending, int(value) or done)
        else:
            try:
                values = lake.read("numbers", settings.date)["value"].to_pylist()
            except DataError:  # nothing is published yet
                continue
            if len(values) != FILES * ROWS or len(set(values)) != 1:
                sys.exit(f"saw {len(values)} rows with {len(set(values))} values")
        done += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
