"""`make check`: a look at your tables before a run. It starts no Airflow, and it changes nothing in the folder or the home."""

import datetime as dt
import sys
from collections.abc import Sequence

from infra.local.environment import REPOSITORY
from infra.local.faults import fault_said, raise_exit_behind
from infra.local.processes import exit_on_signals
from infra.local.run import argument_parser, home_of, settings_of
from jobs.base.errors import EXIT_BAD_DATA, DataError
from jobs.base.places import place
from jobs.base.settings import EMBEDDED, workspace_name
from jobs.preflight.check import check, suggest
from jobs.preflight.layout import lines_of


def main(argv: Sequence[str] | None = None) -> int:
    """Check a source; returns the exit status: 0 it will run, 65 it will not, 130 interrupted, 1 a fault of the program."""
    exit_on_signals()
    arguments = argument_parser("python -m infra.local.check", __doc__ or "").parse_args(argv)
    try:
        given, settings = settings_of(arguments)
        if settings.data.source == EMBEDDED:
            raise DataError(
                "there is nothing to check in the embedded shop.", remedy="name your tables: make check DATA=<folder>."
            )
        settings = settings_of(arguments, home_of(arguments, str(place(settings.data.source))))[1]
        today = dt.datetime.now(dt.UTC).date()
        proposal = REPOSITORY / "var" / "check" / workspace_name(settings.data.source) / "data.yaml"
        found = check(
            settings,
            date=settings.date if "date" in given else None,
            today=today,
            cache=None,
            proposal=proposal,
            say=lambda line: print(f"{line} ...", file=sys.stderr, flush=True),
        )
    except (DataError, OSError) as error:
        print(f"cannot check: {error}", flush=True)
        return EXIT_BAD_DATA
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # no traceback reaches a person
        raise_exit_behind(error)
        print(fault_said("make check", error), flush=True)
        return 1
    more = suggest(settings, proposal) if found.verdict != "not" else None
    if more is not None:
        found.sections["What else your tables hold"] = [f"A data.yaml that names it, ready to edit, was written to {more}."]
    for line in lines_of(found, settings.data.source):
        print(line, flush=True)
    return EXIT_BAD_DATA if found.verdict == "not" else 0


if __name__ == "__main__":
    sys.exit(main())
