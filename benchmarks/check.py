"""How long `make check` looks at a log, in each format that it reads, beside what one would look at it with otherwise.

python -m benchmarks.check              # a million rows: benchmarks/results/check.json
python -m benchmarks.check --quick      # the same code on ten thousand, into var/bench/

Peers read the same two tables whole. ydata-profiling is measured if its environment is there
(benchmarks/peers/requirements-check.txt).
"""

import argparse
import gzip
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from deltalake import write_deltalake

from benchmarks import table
from benchmarks.measure import beside, judged
from benchmarks.record import REPOSITORY, RESULTS, Row, write_result
from benchmarks.scale.process import Measured, run_command

OURS, PANDAS, PROFILING = "make check", "pandas, read and describe", "ydata-profiling, minimal"
FORMS = ("csv", "jsonl.gz", "parquet", "delta")
_BAR = "value <= 60"
_VERSIONS = ("pyspark", "pyarrow", "pandas", "deltalake", "great-expectations")
_PEERS = REPOSITORY / ".venv-peers-check" / "bin" / "python"
_FOLDER = REPOSITORY / "var" / "bench" / "check"
_LAST = 1_769_644_799  # the last second of 2026-01-28, UTC
_READ = """
import sys, pandas as pd
def read(path):
    if path.endswith(".csv"): return pd.read_csv(path)
    if path.endswith(".gz"): return pd.read_json(path, lines=True)
    if path.endswith(".parquet"): return pd.read_parquet(path)
    from deltalake import DeltaTable
    return DeltaTable(path).to_pandas()
"""
_DESCRIBE = f"{_READ}for path in sys.argv[1:]: print(read(path).describe(include='all'))"
_PROFILE = f"""{_READ}
from ydata_profiling import ProfileReport
for path in sys.argv[1:]: ProfileReport(read(path), minimal=True, progress_bar=False).to_json()"""


@dataclass(frozen=True)
class Size:
    """Rows of the log, and items of the catalogue."""

    rows: int = 1_000_000
    items: int = 50_000


def main() -> None:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ten thousand rows")
    arguments = parser.parse_args()
    load, rows = os.getloadavg()[0], []
    for row in measure(Size(10_000, 2_000) if arguments.quick else Size(), _FOLDER):
        rows.append(row)
        print(table.text([_plain(row)]), flush=True)
    versions = {name: version(name) for name in _VERSIONS}
    folder = _FOLDER.parent if arguments.quick else RESULTS
    command = "python -m benchmarks.check" + (" --quick" if arguments.quick else "")
    print(f"written: {write_result('check', command, rows, folder=folder, versions=versions, load_before=round(load, 2))}")


def measure(size: Size, folder: Path) -> Iterator[Row]:
    """Seconds, CPU seconds and peak memory for each format. Sources are written into `folder`, and removed afterwards."""
    log, items = make_tables(size)
    for form in FORMS:
        source = write_source(folder / form, form, log, items)
        found = {OURS: run_command([sys.executable, "-m", "infra.local.check", "--data", str(source)], folder / "log")}
        tables = [str(source / f"{name}.{form}") for name in ("interactions", "items")]
        found[PANDAS] = run_command([sys.executable, "-c", _DESCRIBE, *tables], folder / "log")
        if _PEERS.exists():
            found[PROFILING] = run_command([str(_PEERS), "-c", _PROFILE, *tables], folder / "log")
        yield from rows_of(f"check: {size.rows:,} rows and {size.items:,} items, {form}", found)
        shutil.rmtree(source)


def rows_of(case: str, found: dict[str, Measured]) -> Iterator[Row]:
    """A row for each number of each subject, and ours beside each peer's."""
    numbers = {
        ("time", "s"): lambda one: one.seconds,
        ("CPU time", "s"): lambda one: one.cpu_seconds,
        ("peak memory", "MB"): lambda one: one.driver_mb + one.jvm_mb + one.workers_mb,
    }
    for (metric, unit), number in numbers.items():
        rows = {subject: Row(case, subject, metric, unit, number(one)) for subject, one in found.items()}
        yield judged(rows[OURS], _BAR) if metric == "time" else rows[OURS]
        for peer in rows.keys() - {OURS}:
            yield rows[peer]
            yield beside(rows[OURS], rows[peer])


def make_tables(size: Size) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A log of 60 days with long tails of users and items, and its catalogue."""
    draw = np.random.default_rng(0)
    rank = np.minimum(draw.zipf(1.2, size.rows), size.items) - 1
    log = pd.DataFrame(
        {
            "user_id": [f"user-{user}" for user in draw.integers(0, max(size.rows // 20, 100), size.rows)],
            "item_id": [f"sku-{item}" for item in (rank + draw.integers(0, size.items, size.rows) // 2) % size.items],
            "timestamp": np.sort(_LAST - draw.integers(0, 60 * 86_400, size.rows)),
            "kind": draw.choice(["view", "cart", "purchase"], size.rows, p=[0.8, 0.15, 0.05]),
        }
    )
    colours, things = ("red", "blue", "green", "white"), ("lamp", "chair", "shirt", "cup", "bag")
    titles = [f"{colours[item % 4]} {things[item % 5]} number {item}" for item in range(size.items)]
    texts = [f"A {title}, made of {('wood', 'wool', 'paper')[item % 3]}." for item, title in enumerate(titles)]
    return log, pd.DataFrame({"item_id": [f"sku-{item}" for item in range(size.items)], "title": titles, "text": texts})


def write_source(folder: Path, form: str, log: pd.DataFrame, items: pd.DataFrame) -> Path:
    """A folder with both tables in one format."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, frame in (("interactions", log), ("items", items)):
        path = folder / f"{name}.{form}"
        if form == "csv":
            frame.to_csv(path, index=False)
        elif form == "jsonl.gz":
            with gzip.open(path, "wb", compresslevel=1) as stream:
                frame.to_json(stream, orient="records", lines=True)
        elif form == "parquet":
            frame.to_parquet(path, index=False)
        else:
            write_deltalake(path, frame)
    return folder


def _plain(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if value is not None}


if __name__ == "__main__":
    main()
