"""The library on public logs, beside published figures: yardsticks, the recipe, tuning, the tuned settings, a report.

Finished trials are kept in benchmarks/results/published/, so the benchmark goes on where it stopped. The logs are no part of
the repository; `--folder` names the folder that holds them.

python -m benchmarks.published run s3rec_beauty --folder /path/to/logs --minutes 60
python -m benchmarks.published run s3rec_beauty --folder /path/to/logs --stage tune
python -m benchmarks.published all --folder /path/to/logs       # every log in turn, then the report
python -m benchmarks.published report
python -m benchmarks.published quick --folder /path/to/logs     # the same tables for two logs and few epochs, in minutes
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.published import report, yardsticks
from benchmarks.published.logs import LOGS
from benchmarks.published.plan import STAGES
from benchmarks.published.prepare import located, prepared
from benchmarks.published.runner import plan_of, run_missing
from benchmarks.published.trial import METHOD
from benchmarks.record import RESULTS
from esans_core.negatives import METHODS

KEPT = RESULTS / "published"
QUICK = Path("var/bench/published/quick")
QUICK_LOGS = ("s3rec_beauty", "tiktok")
_QUICK: dict[str, Any] = {"epochs": 2, "seeds": (1,), "ties_seeds": (1,), "num_trials": 2}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the trials of some logs that are not finished yet")
    run.add_argument("logs", nargs="+", choices=LOGS)
    everything = commands.add_parser("all", help="run every log, or those named, then report")
    everything.add_argument("logs", nargs="*", default=[], help=f"some of {', '.join(LOGS)} (default: all)")
    quick = commands.add_parser("quick", help=f"{' and '.join(QUICK_LOGS)} with few epochs and one seed, then report")
    for command in (run, everything):
        command.add_argument("--stage", choices=STAGES, action="append", help="what to run (default: all stages in turn)")
        command.add_argument("--method", choices=METHODS, default=METHOD, help="which negatives")
    for command in (run, everything, quick):
        command.add_argument("--folder", type=Path, help="folder that holds the public logs")
        command.add_argument("--minutes", type=float, default=float("inf"), help="start no trial after so many minutes in all")
        command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trials at a time, one thread each")
        command.add_argument("--device", default="cpu", help="cpu or cuda")
    commands.add_parser("report", help="write benchmarks/results/published.json and its pictures")
    arguments = parser.parse_args()
    if arguments.command == "report":
        report.write(KEPT, RESULTS)
    elif arguments.command == "quick":
        _run(QUICK_LOGS, QUICK, STAGES, arguments, _QUICK)
        report.write(QUICK, QUICK, "make bench-published QUICK=1 FOLDER=/path/to/logs")
    else:
        if unknown := set(arguments.logs) - set(LOGS):
            parser.error(f"there is no log {', '.join(sorted(unknown))}: choose from {', '.join(LOGS)}")
        kept = KEPT if arguments.method == METHOD else KEPT / arguments.method
        _run(arguments.logs or LOGS, kept, arguments.stage or STAGES, arguments, {"method": arguments.method})
        if arguments.command == "all" and arguments.method == METHOD:
            report.write(KEPT, RESULTS)


def _run(logs: Any, kept: Path, stages: Any, arguments: argparse.Namespace, limits: dict[str, Any]) -> None:
    deadline = time.monotonic() + 60 * arguments.minutes
    for name in logs:
        located(name, arguments.folder)  # says at once what is missing
    for name in logs:
        if (left := (deadline - time.monotonic()) / 60) <= 0:
            return
        methods = [method for method in yardsticks.YARDSTICKS if method != "ease" or kept != QUICK]
        yardsticks.run_missing(prepared(name, arguments.folder), kept, methods)
        plan = plan_of(name, arguments.folder, **limits)
        run_missing(plan, arguments.folder, kept, stages, workers=arguments.workers, device=arguments.device, minutes=left)


if __name__ == "__main__":
    main()
