"""What every job has in common: its command line, its log, its exit status, and a record of time and memory."""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError
from pydantic_settings import CliApp

from jobs.base.errors import EXIT_BAD_DATA, DataError, StepKilled
from jobs.base.files import write_json
from jobs.base.home import home_of_settings, settle
from jobs.base.locks import at_work
from jobs.base.memory import PeakMemory
from jobs.base.settings import PipelineSettings
from jobs.base.writing import end_dead_runs
from jobs.lake.table_use import heard_by
from jobs.step import workers
from jobs.step.account import Account, lines
from jobs.step.code_key import code_key
from jobs.step.metrics_file import update_metrics
from jobs.step.reuse import Recipe

log = logging.getLogger(__name__)

_AIRFLOW_RUN = "AIRFLOW_CTX_DAG_RUN_ID"  # Airflow tells each task its run under this name
ONLY_IF_KEPT = "--only-if-kept"  # asks a step to end at once, with this status, if no earlier result of it can be kept
EXIT_NOT_KEPT = 3

# Read by `jobs.step.code_key`. Code that decides what a step writes must stand in a module that the step imports itself.
OUTSIDE_KEYS = "this module starts a step and records how it went; what the step writes comes from its own modules"


def load_settings(argv: Sequence[str]) -> PipelineSettings:
    """Settings from `--settings FILE` (JSON). Further flags override it.

    Raises:
        DataError: the file is missing, or does not hold a JSON object.
        ValidationError: the schema refuses a value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings", type=Path)
    known, rest = parser.parse_known_args(argv)
    values: dict[str, Any] = {}
    if known.settings:
        if home := home_of_settings(known.settings):
            settle(home)
        try:
            values = json.loads(known.settings.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise DataError(
                f"the file cannot be read as settings ({error}).",
                file=known.settings,
                remedy="give the settings.json that the run wrote, or leave --settings out.",
            ) from error
    return CliApp.run(PipelineSettings, cli_args=list(rest), **values)


def run_job(
    name: str,
    work: Callable[..., dict[str, Any] | None],
    *,
    choice: tuple[str, Sequence[str]] | None = None,
    recipe: Recipe | Mapping[str, Recipe] | None = None,
    processes: Callable[[PipelineSettings], int] | None = None,
    records: str | None = None,
    recorded: bool = True,
) -> None:
    """Run a job as a command and exit: with 0 if it is done, 65 for bad data or settings, 1 for anything else.

    A record `<run_dir>/steps/<name>.json` is written in every case: state, exit status, seconds, peak resident memory, the
    message, the small summary (a JSON object) that `work` returns, whether an earlier result was reused and why, the tables
    that were read and written with their rows (`jobs.step.account`), and the Airflow `run`. The log ends with the same.

    With the flag `--only-if-kept`, a step that would have to run ends with status 3 instead, and leaves no record.

    Args:
        name: name of the step, as the DAG calls it.
        work: called with the settings, and with the choice if there is one.
        choice: name and allowed values of one positional argument before the flags.
        recipe: says when the step may be reused (`jobs.step.reuse`); with a choice, one recipe for each of its values.
        processes: how many processes do the work together. If more than one, this process starts them and writes their record.
        records: value of `run.records` of a job that is no step of a daily run.
        recorded: False for a job that is no step at all; it leaves no record.
    """
    argv = sys.argv[1:]
    chosen: list[str] = []
    if choice:
        label, allowed = choice
        if argv and argv[0] in allowed:
            chosen, argv = [argv[0]], argv[1:]
            name = f"{name}_{chosen[0]}"
        elif "--help" not in argv and "-h" not in argv:
            sys.exit(f"usage: {sys.argv[0]} {{{','.join(allowed)}}} [flags]\nfirst argument: {label}; --help lists the flags")
    start_log()
    only_if_kept = ONLY_IF_KEPT in argv
    try:
        settings = load_settings([argument for argument in argv if argument != ONLY_IF_KEPT])
    except (ValidationError, DataError) as error:
        log.error("settings refused: %s", error)
        sys.exit(EXIT_BAD_DATA)
    if records:
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"records": records})})
    settle(settings.home)
    if not workers.rank():
        end_dead_runs(settings)
    count = processes(settings) if processes and workers.rank() is None else 1
    record: dict[str, Any] = {"step": name, "state": "failed", "message": "", "summary": {}}
    account = Account(aloud=not workers.rank())
    started = time.monotonic()
    with at_work(settings.home), PeakMemory(_process_tree()) as memory:
        if count > 1:
            found, status = workers.run_workers(count)
        else:
            chosen_recipe = recipe[chosen[0]] if isinstance(recipe, Mapping) else recipe
            found, status = attempt(name, lambda: _do(work, settings, chosen, chosen_recipe, name, only_if_kept, account))
    record |= account.record() | found | {"seconds": round(time.monotonic() - started, 2), "peak_memory_mb": memory.megabytes}
    if report := workers.report_file():
        write_json(report, record | {"status": status})
    elif not workers.rank():  # no worker, or the first of those that torchrun started
        if recorded:
            record |= {"exit_status": status, "run": os.environ.get(_AIRFLOW_RUN)}
            write_json(settings.run_dir / "steps" / f"{name}.json", record)
        update_metrics(settings)
        for line in lines(record):
            log.info("%s: %s", name, line)
    sys.exit(status)


def start_log() -> None:
    """Start the log of a command, on standard error."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    for chatty in ("py4j", "great_expectations", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def attempt(name: str, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """Do the work. Return what the record says of it, and its exit status."""
    try:
        return work() | {"state": "success"}, 0
    except DataError as error:
        log.error("%s", error)
        return {"message": str(error)}, EXIT_BAD_DATA
    except StepKilled as error:
        log.exception("%s was stopped", name)
        return {"message": str(error), "state": "killed"}, 1
    except Exception as error:
        log.exception("%s failed", name)
        return {"message": f"{type(error).__name__}: {error}"}, 1


def _do(
    work: Callable[..., dict[str, Any] | None],
    settings: PipelineSettings,
    chosen: list[str],
    recipe: Recipe | None,
    name: str,
    only_if_kept: bool,
    account: Account,
) -> dict[str, Any]:
    """Run the step, or find that it need not run. Return what the record of a success says besides the account."""
    key = recipe.key(settings, code_key(work)) if recipe else None
    if recipe and settings.run.reuse:
        found = recipe.recall(name, settings, key)
        account.why = found.why
        if found.summary is not None:
            account.keep(recipe.kept_tables(settings))
            return {"summary": found.summary}
    elif recipe:
        account.why = "it ran, because run.reuse is off"
    if only_if_kept:
        log.info("no earlier result can be kept: %s", account.why)
        sys.exit(EXIT_NOT_KEPT)
    with heard_by(account):
        summary = work(settings.only(recipe.sections) if recipe else settings, *chosen) or {}
    if recipe:
        recipe.remember(name, settings, key, summary)
    return {"summary": summary}


def _process_tree() -> psutil.Process:
    """This process, or under spark-submit the JVM above it."""
    here = psutil.Process()
    parent = here.parent()
    return parent if parent is not None and "java" in parent.name() else here
