"""The speed benchmark: every case in one run.

make bench-speed              # benchmarks/results/speed.json and docs/images/sampler_throughput.png
make bench-speed QUICK=1      # the same code on less, in minutes; into var/bench/
"""

import argparse
import os
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import table
from benchmarks.record import REPOSITORY, RESULTS, Row, write_result
from benchmarks.speed import assignment, codebooks, edis, loss, near_clusters, plot, sampler, serving, step

CASES = {"sampler": sampler, "near_clusters": near_clusters, "step": step, "edis": edis, "loss": loss, "codebooks": codebooks,
         "assignment": assignment, "serving": serving}  # fmt: skip
_VERSIONS = ("torch", "numpy", "faiss-cpu", "scikit-learn", "recbole", "sentence-transformers", "pytorch-metric-learning",
             "vector-quantize-pytorch")  # fmt: skip
_QUIET = 0.5  # a machine with a lower load average counts as idle
_QUICK_FOLDER = REPOSITORY / "var" / "bench"


def main() -> None:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="only these cases, into var/bench/")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    if load > _QUIET:
        print(f"the machine is busy (load {load:.1f}), so times mean little: threads wait for each other", flush=True)
    rows = measure(arguments.only, arguments.quick)
    whole = not arguments.quick and set(arguments.only) == set(CASES)
    print()
    print(table.text(_plain(row) for row in rows if row.peer or row.bar))
    print(f"\nwritten: {save(rows, RESULTS if whole else _QUICK_FOLDER, arguments.quick, load)}")
    pictures = REPOSITORY / "docs" / "images" if whole else _QUICK_FOLDER
    if "sampler" in arguments.only:
        plot.sampler_throughput(rows, pictures / "sampler_throughput.png")


def measure(names: list[str], quick: bool) -> list[Row]:
    """The rows of these cases; each is printed as soon as it is there."""
    rows = []
    for name in names:
        start = time.monotonic()
        print(f"== {name}", flush=True)
        case = CASES[name]
        for row in case.rows(case.QUICK if quick else case.FULL):
            print(table.text([_plain(row)]), flush=True)
            rows.append(row)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    return rows


def save(rows: list[Row], folder: Path, quick: bool, load: float) -> Path:
    """Write `speed.json`, with the versions of all libraries measured and the machine's load before the run."""
    command = "make bench-speed QUICK=1" if quick else "make bench-speed"
    versions = {name: version(name) for name in _VERSIONS}
    about = {"versions": versions, "threads": torch.get_num_threads(), "load_before": round(load, 2)}
    return write_result("speed", command, rows, folder=folder, **about)


def _plain(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if value is not None}


if __name__ == "__main__":
    main()
