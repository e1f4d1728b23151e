"""Quality of the methods on one data set after another: tune, run the finalists with five seeds, ablate, report.

Finished trials are kept in benchmarks/results/quality/, so the benchmark goes on where it stopped:

python -m benchmarks.quality run tiktok --stage tune --minutes 60
python -m benchmarks.quality run tiktok --stage final
python -m benchmarks.quality report
python -m benchmarks.quality quick              # the whole of it on a small shop, in minutes
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.quality import figure, report
from benchmarks.quality.clusters import SIZES
from benchmarks.quality.data import DATA
from benchmarks.quality.methods import CONTENDERS
from benchmarks.quality.plan import STAGES, Runs
from benchmarks.quality.runner import clusters_of, keep_plan, load_data, plan_of, run_all, runs_of
from benchmarks.quality.trial import Trial
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
        run_missing(arguments.data, KEPT, arguments.only, arguments.stage or STAGES, arguments)
    else:
        run_missing("quick", QUICK, _QUICK_METHODS, ("tune", "final"), arguments)
        report.write(QUICK, QUICK)


def run_missing(name: str, folder: Path, only: list[str] | None, stages: Sequence[str], arguments: argparse.Namespace) -> None:
    """Run the missing trials: for each contender its tuning and its seeds, then the ablations."""
    plan, runs = plan_of(name), runs_of(name, folder)
    keep_plan(plan, folder)
    load_data.cache_clear()  # each worker has a copy of its own, 2 GB at a million items

    def wanted(runs: Runs) -> Iterator[Trial]:
        for contender in only or CONTENDERS:
            for stage in stages:
                if stage != "ablate" and contender in CONTENDERS:
                    yield from plan.trials(stage, runs, [contender])
        if "ablate" in stages:
            yield from plan.trials("ablate", runs, only)

    planned = list(wanted(runs))
    finished = sum(trial.key in runs for trial in planned)
    print(f"{name}: {finished} of the {len(planned)} trials known by now are finished", flush=True)
    path, options = folder / f"{name}.jsonl", vars(arguments)
    run_all(wanted, runs, path, workers=options["workers"], device=options["device"], minutes=options["minutes"])


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no trial after so many minutes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trials at a time, one thread each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


if __name__ == "__main__":
    main()
