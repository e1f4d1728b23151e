"""Runs what a person does by hand to the champion, the bundle or the settings in force: one at a time, each with a record."""

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from jobs.base.errors import EXIT_BAD_DATA, DataError
from jobs.base.files import write_json
from jobs.base.home import settle
from jobs.base.settings import PipelineSettings
from jobs.base.writing import end_dead_runs
from jobs.registry.champion import exclusive, now
from jobs.step.metrics_file import update_metrics
from jobs.step.runtime import attempt, start_log

log = logging.getLogger(__name__)

_ACTION = re.compile(r"(?!\.+$)[A-Za-z0-9_.:+-]{1,200}")
_MAX_REASON, _MAX_NAME = 2000, 200


@dataclass
class Action:
    """One action, as the command line gave it.

    Attributes:
        settings: home folder and registry.
        by: who does it.
        reason: why.
        options: the values of the command's own options.
        record: the file with the action's record.
        facts: what an earlier attempt at this action noted; empty the first time.
    """

    settings: PipelineSettings
    by: str
    reason: str
    options: Mapping[str, str | None]
    record: Path = field(repr=False)
    facts: dict[str, Any] = field(default_factory=dict)

    def note(self, **facts: Any) -> None:
        """Write down what a repeat of this action has to know, before anything is done."""
        self.facts |= facts
        write_json(self.record, _record("failed", "it was stopped before its end.", self.facts))


def run_action(
    name: str,
    work: Callable[[Action], dict[str, Any]],
    *,
    description: str,
    options: Mapping[str, str] = {},
    flags: Mapping[str, str] = {},
    needed: frozenset[str] = frozenset(),
    reason_needed: bool = True,
    then: Callable[[PipelineSettings], object] | None = None,
) -> None:
    """Run an action as a command and exit: 0 if it is done, 65 if it is refused, 1 after any other error, which may be retried.

    The record `<home>/actions/<action>/<name>.json` says `state` (success or failed), `message`, `summary` and `started_at`.
    Settings other than the home folder come from the environment. The same action may be run again.

    Args:
        name: name of the command.
        work: does it and returns a summary (JSON values). The record and the log give the `message` in it.
        description: what the command does, for its help.
        options: help of each further option, by its name.
        flags: help of each further option that takes no value, by its name. Its value is `yes` if it is given.
        needed: names of the options that must be given.
        reason_needed: whether a reason must be given.
        then: called with the settings at the end, however it ended, to renew pages. If it fails, the log says so.
    """
    start_log()
    parser = _Parser(prog=f"python -m jobs.{name}", description=description, allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True, help="the pipeline's home folder")
    parser.add_argument("--action", required=True, help="names this action and its record")
    parser.add_argument("--by", required=True, help="who does it")
    parser.add_argument("--reason", required=reason_needed, default="", help="why")
    for option, said in options.items():
        parser.add_argument(f"--{option}", required=option in needed, help=said)
    for option, said in flags.items():
        parser.add_argument(f"--{option}", action="store_const", const="yes", help=said)
    given = vars(parser.parse_args())
    try:
        action = _action(name, given, reason_needed)
    except (DataError, ValidationError) as error:
        log.error("refused: %s", error)
        sys.exit(EXIT_BAD_DATA)

    def done() -> dict[str, Any]:
        with exclusive(action.settings):
            return {"summary": work(action)}

    end_dead_runs(action.settings)
    started = now()
    found, status = attempt(name, done)
    summary = dict(found.get("summary", action.facts))
    message = found.get("message") or summary.pop("message", "")
    write_json(action.record, _record("failed" if status else "success", message, summary, started))
    update_metrics(action.settings)
    if then is not None:
        try:
            then(action.settings)
        except Exception:
            log.exception("%s: the pages could not be renewed", name)
    if not status:
        log.info("%s: %s", name, message)
    sys.exit(status)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit with the status that is never retried."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_BAD_DATA, f"{self.prog}: {message}\n")


def _action(name: str, given: Mapping[str, Any], reason_needed: bool) -> Action:
    texts = {"action": given["action"], "by": given["by"].strip(), "reason": given["reason"].strip()}
    if not _ACTION.fullmatch(texts["action"]):
        raise DataError(
            f"--action {texts['action'][:50]!r} cannot name a record.",
            remedy="use up to 200 letters, digits and the characters _ . : + -",
        )
    for option, longest, required in (("by", _MAX_NAME, True), ("reason", _MAX_REASON, reason_needed)):
        if (required and not texts[option]) or len(texts[option]) > longest:
            raise DataError(
                f"--{option} has {len(texts[option])} characters.", remedy=f"give a text of 1 to {longest} characters."
            )
    settings = PipelineSettings(home=given["home"])
    settle(settings.home)
    record = settings.home / "actions" / texts["action"] / f"{name}.json"
    try:
        facts = json.loads(record.read_text())["summary"]
    except FileNotFoundError:
        facts = {}
    options = {option: value for option, value in given.items() if option not in ("home", "action", "by", "reason")}
    return Action(settings, texts["by"], texts["reason"], options, record, facts)


def _record(state: str, message: str, summary: Mapping[str, Any], started: str | None = None) -> dict[str, Any]:
    return {"state": state, "message": message, "summary": dict(summary), "started_at": started or now()}
