"""Quality of the methods on one data set after another: tune, run the finalists over five seeds, ablate, report.

Finished trials are kept in benchmarks/results/quality/, so the benchmark goes on where it stopped:

python -m benchmarks.quality run tiktok --stage tune --minutes 60
python -m benchmarks.quality run tiktok --stage final
python -m benchmarks.quality report
python -m benchmarks.quality quick              # the whole of it on a small shop, in minutes
"""

import argparse
import os
from pathlib import Path

from benchmarks.quality import figure, report
from benchmarks.quality.clusters import SIZES
from benchmarks.quality.data import DATA
from benchmarks.quality.plan import STAGES, trials
from benchmarks.quality.runner import clusters_of, load_data, run_all
from benchmarks.quality.trial import load_runs
from benchmarks.record import REPOSITORY, RESULTS

KEPT = RESULTS / "quality"
QUICK = DATA.parent / "quick"
_QUICK_METHODS = ["uniform", "debiased_mns", "esans_paper", "esans"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run trials that are not finished yet")
    run.add_argument("data", choices=SIZES, help="data set, made by benchmarks.quality.prepare")
    run.add_argument("--stage", choices=STAGES, action="append", help="what to run (default: all stages in turn)")
    run.add_argument("--only", nargs="+", help="contenders, or ablations, to run")
    _common(run)
    _common(commands.add_parser("quick", help="four methods on the small shop: the same code, the same tables, in minutes"))
    commands.add_parser("report", help="write benchmarks/results/quality.json and its plots")
    drawn = commands.add_parser("figure", help="draw where each method's negatives fall: docs/images/negatives.png")
    drawn.add_argument("data", choices=[name for name in SIZES if name not in ("movielens", "tiktok")], help="a shop")
    arguments = parser.parse_args()
    if arguments.command == "report":
        report.write(KEPT, RESULTS)
    elif arguments.command == "figure":
        data = load_data(arguments.data)
        figure.write(data, clusters_of(data, {}), REPOSITORY / "docs" / "images" / "negatives.png")
    elif arguments.command == "run":
        for stage in arguments.stage or STAGES:
            run_stage(stage, arguments.data, KEPT, arguments.only, arguments)
    else:
        for stage in ("tune", "final"):
            run_stage(stage, "quick", QUICK, _QUICK_METHODS, arguments)
        report.write(QUICK, QUICK)


def run_stage(stage: str, name: str, folder: Path, only: list[str] | None, arguments: argparse.Namespace) -> None:
    """Run what is missing of one stage."""
    path = folder / f"{name}.jsonl"
    data, runs = load_data(name), load_runs(path)
    planned = list(trials(stage, name, data.digest(), runs, only))
    print(f"{name}, {stage}: {sum(trial.key in runs for trial in planned)} of {len(planned)} trials are finished", flush=True)
    run_all(
        planned,
        path,
        workers=arguments.workers,
        device=arguments.device,
        holdout=stage != "tune",
        minutes=arguments.minutes,
        finished=runs,
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no trial after so many minutes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trials at a time, one thread each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


if __name__ == "__main__":
    main()
