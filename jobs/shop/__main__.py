"""The command that makes a snapshot of the embedded shop by hand: `python -m jobs.shop --help`."""

import argparse
import datetime as dt
import logging
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from jobs.base.errors import EXIT_BAD_DATA, DataError
from jobs.base.settings import ShopSettings, explain
from jobs.shop.snapshot import write_snapshot
from jobs.shop.world import FIRST_RUN


def main() -> int:
    """Write one snapshot, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.shop",
        description="Write the embedded shop of one date: HOME/source/date=D (the tables of docs/data-contract.md, usable as "
        "data.source) and HOME/truth/date=D (the hidden categories, leaves and tastes).",
    )
    parser.add_argument("home", type=Path, metavar="HOME", help="folder to write to")
    parser.add_argument("--date", type=dt.date.fromisoformat, default=FIRST_RUN, help="last day of events (%(default)s)")
    for name, field in ShopSettings.model_fields.items():
        kind: dict[str, Any] = {"type": field.annotation}
        if field.annotation is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        elif get_origin(field.annotation) is Literal:
            kind = {"choices": get_args(field.annotation)}
        about = (field.description or "").replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", default=field.default, help=f"{about} (%(default)s)", **kind)
    values = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    log = logging.getLogger("jobs.shop")
    home, date = values.pop("home"), values.pop("date")
    try:
        folder = write_snapshot(ShopSettings(**values), home.expanduser().resolve(), date)
    except ValidationError as error:
        log.error("settings refused: %s", explain(error))
        return EXIT_BAD_DATA
    except DataError as error:
        log.error("%s", error)
        return EXIT_BAD_DATA
    log.info("wrote %s", folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
