"""Sets the statistics of the embedded shops beside those of real logs: a result file, and the table of docs/results/shop.md.

python -m benchmarks.shop_statistics                            # the shops anew; the real logs as they were measured
python -m benchmarks.shop_statistics --source /path/to/data     # the real logs too
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.quality import frozen
from benchmarks.record import RESULTS, Row, write_result
from benchmarks.shop_statistics.drawing import drawing
from benchmarks.shop_statistics.logs import Log, real_logs, shop_log
from benchmarks.shop_statistics.measures import histories, new_items, popularity, repeats, times
from benchmarks.shop_statistics.rules import predictability
from jobs.base.settings import ShopSettings

NAME = "shop_statistics"
REAL, SHOP = "real log", "shop"
SHOPS = {
    "v1, 3,000 items": ShopSettings(generator="v1"),
    "v2, 3,000 items": ShopSettings(generator="v2"),
    "v2, 100,000 items": ShopSettings(**asdict(frozen.SHOPS["shop2-100k"])),
}
LARGE = {**SHOPS, "v2, 1,000,000 items": ShopSettings(**asdict(frozen.SHOPS["shop2-1m"]))}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of the real logs; unless given, their rows are kept as they are")
    source = parser.parse_args().source
    path = RESULTS / f"{NAME}.json"
    if source is None:
        real = [Row(**row) for row in json.loads(path.read_text())["rows"] if row["case"] == REAL]
    else:
        real = [row for name, read in real_logs(source).items() for row in rows(REAL, name, read())]
    found = ranges(real)
    shops = [bounded(row, found) for name, shop in SHOPS.items() for row in rows(SHOP, name, shop_log(name, shop))]
    cost = [row for name, shop in LARGE.items() for row in drawing(name, shop)]
    write_result(NAME, "python -m benchmarks.shop_statistics --source DATA", [*real, *shops, *cost])
    pages.main()


def rows(case: str, name: str, log: Log) -> Iterator[Row]:
    """All statistics of one log."""
    began = time.monotonic()
    sizes = {"users": float(log.num_users), "items": float(log.num_items), "events": float(len(log.user))}
    for metric, value in sizes.items():
        yield Row(case, name, metric, "", value)
    for measure in (popularity, histories, repeats, times, new_items, predictability):
        for metric, value in measure(log).items():
            yield Row(case, name, metric, "", value)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def ranges(real: list[Row]) -> dict[str, tuple[float, float]]:
    """Least and greatest value of each statistic among the real logs. Sizes have no range, and neither has what one log has."""
    values: dict[str, list[float]] = {}
    for row in real:
        if row.metric not in ("users", "items", "events"):
            values.setdefault(row.metric, []).append(row.value)
    return {metric: (min(found), max(found)) for metric, found in values.items() if len(found) > 1}


def bounded(row: Row, found: Mapping[str, tuple[float, float]]) -> Row:
    """The row with the range of the real logs as its bar, and whether it lies within."""
    if row.metric not in found:
        return row
    low, high = found[row.metric]
    values: dict[str, Any] = {"bar": f"{low:.4g} to {high:.4g}", "holds": low <= row.value <= high}
    return Row(row.case, row.subject, row.metric, row.unit, row.value, **values)


if __name__ == "__main__":
    main()
