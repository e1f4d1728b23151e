"""Negatives against each other on the same towers: few for each positive, as in the paper, five seeds, paired tests.

Every method has the same towers, epochs and seeds, and a temperature that training learns; nothing is tuned for any of them.
Finished trials are kept in benchmarks/results/negatives/, so the benchmark goes on where it stopped.

python -m benchmarks.negatives run tiktok --folder /path/to/logs --minutes 60
python -m benchmarks.negatives run tiktok --folder /path/to/logs --method esans --method uniform
python -m benchmarks.negatives report
"""

import argparse
import os
import time
from pathlib import Path

from benchmarks.negatives import report
from benchmarks.negatives.contenders import CONTENDERS, LOGS, SEEDS
from benchmarks.negatives.runner import run_missing
from benchmarks.published.prepare import located
from benchmarks.record import RESULTS

KEPT = RESULTS / "negatives"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the trials of some logs that are not finished yet, then report")
    run.add_argument("logs", nargs="*", default=[], help=f"some of {', '.join(LOGS)} (default: all)")
    run.add_argument("--method", action="append", choices=CONTENDERS, help="one contender, may be repeated (default: all)")
    run.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the five seeds")
    run.add_argument("--folder", type=Path, help="folder that holds the public logs")
    run.add_argument("--minutes", type=float, default=float("inf"), help="start no trial after so many minutes in all")
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trials at a time, one thread each")
    commands.add_parser("report", help="write benchmarks/results/negatives.json")
    arguments = parser.parse_args()
    if arguments.command == "run":
        if unknown := set(arguments.logs) - set(LOGS):
            parser.error(f"there is no log {', '.join(sorted(unknown))}: choose from {', '.join(LOGS)}")
        logs, deadline = arguments.logs or LOGS, time.monotonic() + 60 * arguments.minutes
        for log in logs:
            located(log, arguments.folder)  # says at once what is missing
        for log in logs:
            left, names = (deadline - time.monotonic()) / 60, arguments.method or tuple(CONTENDERS)
            seeds = SEEDS[: arguments.seeds]
            run_missing(log, arguments.folder, KEPT, names, seeds, workers=arguments.workers, minutes=left)
    report.write(KEPT, RESULTS)


if __name__ == "__main__":
    main()
