"""The command that forgets a user: `python -m jobs.forget --home HOME --user ID`."""

import argparse
import getpass
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from jobs.base.errors import EXIT_BAD_DATA, DataError
from jobs.base.files import write_json
from jobs.base.locks import HomeBusyError
from jobs.base.settings import PipelineSettings
from jobs.forget.erase import Request, forget
from jobs.registry.champion import now
from jobs.step.metrics_file import update_metrics
from jobs.step.runtime import attempt, start_log

log = logging.getLogger("jobs.forget")

BUSY = 75  # EX_TEMPFAIL: the same command may succeed later
_ENVIRONMENT = "ESANS_FORGET_USER"  # how the DAG hands over the id: a command line is seen by everybody on the machine
_ACTION = re.compile(r"(?!\.+$)[A-Za-z0-9_.:+-]{1,200}")


def main() -> int:
    """Forget one user; returns the exit status: 0 done, 65 refused, 75 a run is at work, 1 any other error (try again)."""
    start_log()
    handed_over = os.environ.pop(_ENVIRONMENT, None)  # at once, so that no process that is started here has it
    given = _arguments()
    try:
        settings = PipelineSettings(home=given.home)
        if not settings.home.is_dir():
            raise DataError("there is no such home folder.", file=settings.home, remedy="give --home the home of the pipeline.")
        request = Request(_user_id(given, handed_over), given.by.strip(), given.reason.strip())
        if given.action is not None and not _ACTION.fullmatch(given.action):
            raise DataError(
                "--action cannot name a record.", remedy="use up to 200 letters, digits and the characters _ . : + -"
            )
    except (DataError, ValidationError) as error:
        log.error("refused: %s", error)
        return EXIT_BAD_DATA
    started, busy = now(), ""
    found: dict[str, Any] = {}

    def work() -> dict[str, Any]:
        nonlocal busy
        try:
            return {"summary": forget(settings, request)}
        except HomeBusyError as error:
            busy = str(error)
            return {}

    found, status = attempt("forget", work)
    summary = dict(found.get("summary", {}))
    message = busy or found.get("message") or summary.pop("message", "")
    status = BUSY if busy else status
    if given.action is not None:
        record = {"state": "failed" if status else "success", "exit_status": status, "message": message, "summary": summary}
        write_json(settings.home / "actions" / given.action / "forget.json", record | {"started_at": started})
    if status:
        log.error("%s", busy or "nothing is lost: the same command goes on where this one ended")
        return status
    update_metrics(settings)
    log.info("%s", message)
    for note in summary["notes"]:
        log.info("%s", note)
    for model in summary["models"]:
        earliest = f" (on {model['out_of_force_from']} at the earliest)" if model["out_of_force_from"] else ""
        log.info(
            "left: %s %s of %s, until %s%s; %s",
            *(model[key] for key in ("kind", "name", "date", "until")),
            earliest,
            model["what_you_can_do"],
        )
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    return 0


def _user_id(given: argparse.Namespace, handed_over: str | None) -> str:
    """The id, from the one place that was given. A line end behind it does not count."""
    places = [given.user is not None, given.user_file is not None, handed_over is not None]
    if sum(places) != 1:
        raise DataError(
            "exactly one id is needed.", remedy="give --user ID, or --user - for standard input, or --user-file FILE."
        )
    if given.user_file is not None:
        try:
            text = given.user_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the file cannot be read ({error}).", file=given.user_file, remedy="name a text file.") from error
        return text.removesuffix("\n").removesuffix("\r")
    if given.user == "-":
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    return str(handed_over if given.user is None else given.user)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say how the command is used, without the message: it may quote the id."""
        self.print_usage(sys.stderr)
        self.exit(
            EXIT_BAD_DATA, f"{self.prog}: the arguments cannot be read; an id with a leading dash is written --user=-id\n"
        )


def _arguments() -> argparse.Namespace:
    parser = _Parser(
        prog="python -m jobs.forget",
        description="Remove a user from all that a home keeps (docs/forgetting.md). The same command again finishes what was "
        "cut short. What was done is printed as JSON, and kept without the id in HOME/forgotten.",
        allow_abbrev=False,
    )
    parser.add_argument("--home", type=Path, required=True, help="the pipeline's home folder")
    parser.add_argument("--user", help="id of the user, as the source has it; - reads it from standard input")
    parser.add_argument("--user-file", type=Path, metavar="FILE", help="a file that holds the id and nothing else")
    parser.add_argument("--by", default=getpass.getuser(), help="who does it (%(default)s)")
    parser.add_argument("--reason", default="", help="why, such as the number of a ticket, without the id")
    parser.add_argument("--action", help="names a record in HOME/actions as well; the DAG gives it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
