"""`make run`: one logical date of the pipeline, run by a real Airflow that is started for it and stopped after it."""

import argparse
import datetime as dt
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.local.client import ApiError
from infra.local.environment import REPOSITORY
from infra.local.faults import fault_said, raise_exit_behind
from infra.local.home import claim_home
from infra.local.processes import StackError, exit_on_signals
from infra.local.progress import RunResult
from infra.local.stack import LocalStack
from jobs.base.errors import EXIT_BAD_DATA, DataError
from jobs.base.files import write_json
from jobs.base.memory import PeakMemory
from jobs.base.places import existing_folder
from jobs.base.settings import EMBEDDED, PipelineSettings, explain, nest, workspace_name
from jobs.base.verdicts import PROMOTED
from jobs.landing.dates import last_event_date
from jobs.landing.land import land


@dataclass(frozen=True)
class Plan:
    """What is going to be run."""

    home: Path
    date: dt.date
    conf: dict[str, Any]
    spark_master: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one date; returns the exit status: 0 done, 65 bad data or settings, 1 anything else, 128+n on signal n."""
    exit_on_signals()
    arguments = _arguments(argv)
    try:
        plan = make_plan(arguments, today=dt.datetime.now(dt.UTC).date())
        return EXIT_BAD_DATA if _stopped_by_check(plan) else _run(plan)
    except DataError as error:
        _say(f"cannot run: {error}")
        for note in getattr(error, "__notes__", ()):
            _say(note)
        if arguments.data not in (None, EMBEDDED):
            _say(f'To see more of these tables:  make check DATA="{arguments.data}"')
        return EXIT_BAD_DATA
    except (StackError, ApiError, OSError) as error:
        _say(f"cannot run: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted: everything is stopped; running the same command again starts over")
        return 128 + signal.SIGINT
    except Exception as error:  # no traceback reaches a person
        raise_exit_behind(error)
        _say(fault_said("make run", error))
        return 1


def settings_of(arguments: argparse.Namespace, home: Path | None = None) -> tuple[dict[str, Any], PipelineSettings]:
    """What was given on the command line by the name of the setting, and all settings that follow from it.

    Args:
        arguments: of the command line.
        home: the home of the run, if it is known already; its agreed settings count then.

    Raises:
        DataError: a setting is refused.
    """
    pairs = [_assignment(text) for text in arguments.set]
    given = dict(pairs)
    if len(given) < len(pairs):
        twice = next(name for name in given if [each for each, _ in pairs].count(name) > 1)
        raise DataError(f"the setting {twice} is given twice.", remedy="give it once.")
    if "home" in given:
        raise DataError("home is not a setting of one run.", remedy="name the home folder: HOME_FOLDER=/path (or --home).")
    if arguments.data:
        given["data.source"] = arguments.data
    if arguments.date:
        given["date"] = arguments.date
    try:
        settings = PipelineSettings(**(nest(given) | ({"home": home} if home else {})))
    except ValidationError as error:
        raise DataError(
            f"settings refused: {explain(error, known=_names())}.",
            remedy="`python -m jobs.prepare --help` lists every setting.",
        ) from error
    return given, settings


def _names() -> set[str]:
    """The names of all settings."""
    sections = {name: field.annotation for name, field in PipelineSettings.model_fields.items()}
    return {
        f"{name}.{inner}" for name, kind in sections.items() for inner in getattr(kind, "model_fields", ())
    } | sections.keys()


def home_of(arguments: argparse.Namespace, source: str) -> Path:
    """The home of a run: the one that was named, else that of the source."""
    return (Path(arguments.home) if arguments.home else REPOSITORY / "var" / workspace_name(source)).expanduser().resolve()


def make_plan(arguments: argparse.Namespace, *, today: dt.date) -> Plan:
    """Home, date and conf of a run. All that can be checked before anything starts is checked here.

    Raises:
        DataError: a setting, the date or the source cannot be used.
    """
    given, settings = settings_of(arguments)
    if "lake" in given:
        raise DataError("lake is not a setting of one run.", remedy="set ESANS_LAKE in the environment for the whole home.")
    if "registry.tracking_uri" in given:
        raise DataError(
            "registry.tracking_uri is not a setting of one run.", remedy="set ESANS_REGISTRY__TRACKING_URI instead."
        )
    if settings.registry.promotion == "review":
        raise DataError(
            "registry.promotion=review waits for a person, and nobody can answer in the Airflow of this command.",
            remedy="start Airflow with `make up` and trigger the run in its form, or choose auto or never.",
        )
    source = settings.data.source
    if source != EMBEDDED:
        folder = existing_folder(source)
        given["data.source"] = source = str(folder) if isinstance(folder, Path) else source
    home = home_of(arguments, source)
    if source == EMBEDDED or "date" in given:
        date = settings.date
    else:
        settings.data.source = source
        date = _last_date(settings, home, today)
    if date > today:
        raise DataError(f"the logical date {date} lies in the future.", remedy="choose a date whose day has begun.")
    values = settings.flat() | {"data.source": source}
    conf = {name: values[name] for name in sorted(given) if name not in ("date", "home", "spark.master")}
    return Plan(home, date, conf, settings.spark.master if "spark.master" in given else None)


def _last_date(settings: PipelineSettings, home: Path, today: dt.date) -> dt.date:
    """The last day of the log. If the tables cannot be read as they are, the error has notes on a `data.yaml` that may help."""
    folder = existing_folder(settings.data.source)
    try:
        return last_event_date(land(folder, settings, home / "landing"), settings, today=today)
    except DataError as error:
        from jobs.preflight.check import propose  # it imports Spark, which nothing else needs here
        from jobs.preflight.layout import proposal_lines

        for line in proposal_lines(propose(folder, settings, home / "data.yaml")):
            error.add_note(line)
        raise


def _stopped_by_check(plan: Plan) -> bool:
    """Look at the source as `make check` does, and say what stops the run, or what to mind."""
    if plan.conf.get("data.source", EMBEDDED) == EMBEDDED:
        return False
    from jobs.preflight.check import check  # Spark and Great Expectations, which the embedded shop need not wait for
    from jobs.preflight.layout import verdict_lines

    found = check(
        PipelineSettings(**nest(plan.conf), home=plan.home),
        date=plan.date,
        today=plan.date,
        cache=plan.home / "landing",
        proposal=plan.home / "data.yaml",
        say=lambda line: _say(f"check: {line}"),
    )
    for line in verdict_lines(found):
        _say(line)
    return found.verdict == "not"


def _run(plan: Plan) -> int:
    claim_home(plan.home, plan.conf.get("data.source", EMBEDDED), _say)
    _say(f"esans_daily_retraining for {plan.date}, home {plan.home}")
    for name, value in plan.conf.items():
        _say(f"  {name} = {value}")
    run_dir = plan.home / "runs" / plan.date.isoformat()
    with PeakMemory(seconds=2, shared_once=True) as memory:
        with LocalStack(plan.home, spark_master=plan.spark_master, say=_say) as stack:
            result = stack.run(plan.date, plan.conf)
            published = stack.publish(plan.date, plan.conf) if _promoted(run_dir) else None
        _say("Airflow is stopped")
    total = {"minutes": round(result.seconds / 60, 1), "peak_memory_mb": memory.megabytes}
    if result.success:
        _print_summary(run_dir / "summary.json", total)
    else:
        _say(f"FAILED after {total['minutes']} min, peak memory {total['peak_memory_mb']} MB")
    status = _told_publication(plan.home, published)
    return status if result.success else _explain_failure(result)


def _promoted(run_dir: Path) -> bool:
    """Whether the verdict of a date made its version the champion."""
    path = run_dir / "verdict.json"
    return path.exists() and json.loads(path.read_text())["verdict"] == PROMOTED


def _told_publication(home: Path, published: Mapping[str, Any] | None) -> int:
    """Say whether the champion was put in force, if it was to be, and how to ask it; returns an exit status."""
    if published is None:
        return 0
    if published["state"] != "success":
        _say(f"the champion could not be put in force: {published['message']}")
        return 1
    if published["summary"].get("bundle"):
        folder = "" if home == REPOSITORY / "var" / "embedded" else f' HOME_FOLDER="{home}"'
        _say(f"{published['message']} To ask it over HTTP:  make serve{folder}")
    else:
        _say(published["message"])
    return 0


def _print_summary(path: Path, total: dict[str, Any]) -> None:
    from jobs.report.layout import format_summary  # nothing before this needs it

    summary = json.loads(path.read_text()) | {"total": total}
    write_json(path, summary)
    _say(format_summary(summary))


def _explain_failure(result: RunResult) -> int:
    for failure in result.failures:
        _say(f"\nstep {failure.step} failed: {failure.message}\n  log: {failure.log}")
    if not result.failures:
        _say("the run failed without a failed step (it may have been stopped from outside)")
    bad_data = any(failure.bad_data for failure in result.failures)
    return EXIT_BAD_DATA if bad_data else 1


def argument_parser(prog: str, says: str) -> argparse.ArgumentParser:
    """A parser of the arguments that name a source, a date, a home and settings."""
    parser = argparse.ArgumentParser(prog=prog, description=says)
    parser.add_argument("--data", metavar="FOLDER", help="folder with your tables, or 'embedded' (default)")
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="logical date; default: the last day of the log")
    parser.add_argument("--home", metavar="FOLDER", help="where everything is kept; default: var/<name of the source>")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="training.epochs=3 ...")
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    return argument_parser("python -m infra.local.run", __doc__ or "").parse_args(argv)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise DataError(f"cannot read the setting '{text}'.", remedy="write it as NAME=VALUE, such as training.epochs=3.")
    return name, value


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
