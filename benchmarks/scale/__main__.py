"""The scale benchmark: every case in one run, or only some of them. Their rows replace the earlier rows of the same cases.

make bench-scale              # benchmarks/results/scale.json and docs/images/scale.png; over an hour, 40 GB of disk
make bench-scale QUICK=1      # the same code on less, in minutes; into var/bench/
"""

import argparse
import datetime as dt
import json
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.record import REPOSITORY, RESULTS, Row, write_result
from benchmarks.scale import assignment, daily, extraction, index, model_extraction, plot, trainer
from jobs.lake.tables import git_sha

CASES = {
    "index": index,
    "trainer": trainer,
    "assignment": assignment,
    "extraction": extraction,
    "model_extraction": model_extraction,
    "daily": daily,
}
_FAMILIES = {name: name.replace("_", " ") for name in CASES} | {"assignment": "spark assignment"}  # how rows of each begin
_FOLDER = REPOSITORY / "var" / "bench" / "scale"
_QUICK_FOLDER = REPOSITORY / "var" / "bench"
_VERSIONS = ("pyspark", "torch", "numpy", "pyarrow")


def main() -> None:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="only these cases")
    parser.add_argument("--items", nargs="+", type=int, help="catalogue sizes of the daily case instead of its own")
    arguments = parser.parse_args()
    folder = _QUICK_FOLDER if arguments.quick else RESULTS
    shown = list[Row]()
    for name in arguments.only:
        started, case, rows = time.monotonic(), CASES[name], list[Row]()
        print(f"== {name}", flush=True)
        size = case.QUICK if arguments.quick else case.FULL
        if name == "daily" and arguments.items:
            size = daily.Size(items=tuple(sorted(arguments.items)), fitted_on=size.fitted_on)
        for row in case.rows(size, _FOLDER):
            rows.append(row)
            print(table.text([_plain(row)]), flush=True)
        path = write_case(folder, name, rows, f"python -m benchmarks.scale {' '.join(sys.argv[1:])}".strip())
        shown += rows
        print(f"   {time.monotonic() - started:.0f} s", flush=True)
    print(f"\n{table.text(_plain(row) for row in shown if row.peer or row.bar)}\n\nwritten: {path}")
    if "daily" in arguments.only:
        plot.steps(shown, (_QUICK_FOLDER if arguments.quick else REPOSITORY / "docs" / "images") / "scale.png")


def write_case(folder: Path, name: str, rows: list[Row], command: str) -> Path:
    """Replace a case's rows in `scale.json`, and say when, how and at which commit it was measured.

    Args:
        folder: where the file lies.
        name: name of the case.
        rows: the measurements.
        command: what a person types to measure again.
    """
    path = folder / "scale.json"
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
    families = list(_FAMILIES.values())
    place = [families.index(row["case"].partition(": ")[0]) for row in earlier["rows"]]
    mine = families.index(_FAMILIES[name])
    both = [(number, Row(**row)) for number, row in zip(place, earlier["rows"], strict=True) if number != mine]
    both += [(mine, row) for row in rows]
    about = {
        "commit": git_sha(),
        "date": dt.date.today().isoformat(),
        "command": command,
        "versions": {package: version(package) for package in _VERSIONS},
    }
    measured = earlier.get("measured", {}) | {name: about}
    ordered = [row for _, row in sorted(both, key=lambda pair: pair[0])]
    return write_result("scale", "make bench-scale", ordered, folder=folder, measured=measured)


def _plain(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if value is not None}


if __name__ == "__main__":
    main()
