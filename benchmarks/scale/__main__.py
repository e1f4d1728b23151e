"""The scale benchmark: every case in one run.

make bench-scale              # benchmarks/results/scale.json and docs/images/scale.png; over an hour, 40 GB of disk
make bench-scale QUICK=1      # the same code on less, in minutes; into var/bench/
"""

import argparse
import sys
import time
from dataclasses import asdict
from importlib.metadata import version

from benchmarks import table
from benchmarks.record import REPOSITORY, RESULTS, Row, write_result
from benchmarks.scale import assignment, daily, extraction, index, plot, trainer

CASES = {"index": index, "trainer": trainer, "assignment": assignment, "extraction": extraction, "daily": daily}
_FOLDER = REPOSITORY / "var" / "bench" / "scale"
_QUICK_FOLDER = REPOSITORY / "var" / "bench"
_VERSIONS = ("pyspark", "torch", "numpy", "pyarrow")


def main() -> None:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="only these cases, into var/bench/")
    parser.add_argument("--items", nargs="+", type=int, help="catalogue sizes of the daily case instead of its own")
    arguments = parser.parse_args()
    whole = not arguments.quick and not arguments.items and set(arguments.only) == set(CASES)
    command = "make bench-scale" if whole else f"python -m benchmarks.scale {' '.join(sys.argv[1:])}"
    folder, rows = RESULTS if whole else _QUICK_FOLDER, list[Row]()
    for name in arguments.only:
        started, case = time.monotonic(), CASES[name]
        print(f"== {name}", flush=True)
        size = case.QUICK if arguments.quick else case.FULL
        if name == "daily" and arguments.items:
            size = daily.Size(items=tuple(sorted(arguments.items)), fitted_on=size.fitted_on)
        for row in case.rows(size, _FOLDER):
            rows.append(row)
            print(table.text([_plain(row)]), flush=True)
        path = write_result("scale", command, rows, folder=folder, versions={name: version(name) for name in _VERSIONS})
        print(f"   {time.monotonic() - started:.0f} s", flush=True)
    print(f"\n{table.text(_plain(row) for row in rows if row.peer or row.bar)}\n\nwritten: {path}")
    if "daily" in arguments.only:
        plot.steps(rows, (REPOSITORY / "docs" / "images" if whole else _QUICK_FOLDER) / "scale.png")


def _plain(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if value is not None}


if __name__ == "__main__":
    main()
