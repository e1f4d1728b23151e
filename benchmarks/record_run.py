"""Keeps the summary of a finished run of the pipeline as a result, and rewrites the pages that show it.

python -m benchmarks.record_run var/movielens-posters 2018-09-24 movielens_run
python -m benchmarks.record_run var/embedded 2026-01-28 shop_run --picture docs/images/report.png --command "make run ..."
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.record import Row, write_result
from jobs.base.cutoffs import Cutoffs

_CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    """Record one run and rewrite the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, help="home folder of the run, such as var/embedded")
    parser.add_argument("date", help="logical date, YYYY-MM-DD")
    parser.add_argument("name", help="name of the result")
    parser.add_argument("--command", help="what a person types to make the same run, where settings were given")
    parser.add_argument("--picture", type=Path, help="also keep the head of the run's report as this PNG file; needs Chromium")
    arguments = parser.parse_args()
    summary = json.loads((arguments.home / "runs" / arguments.date / "summary.json").read_text())
    command = "make run" if summary["embedded"] else f"make run DATA={Path(summary['source']).name}"
    write_result(
        arguments.name, arguments.command or command, rows(summary), summary=without_paths(summary, arguments.home.resolve())
    )
    pages.main()
    if arguments.picture:
        take_picture(arguments.home / "reports" / arguments.date / "index.html", arguments.picture)


def take_picture(report: Path, to: Path) -> None:
    """The first 1,100 x 1,000 pixels of a page on the disk, as a PNG file."""
    from playwright.sync_api import sync_playwright  # only this function needs it

    with sync_playwright() as driver:
        # It runs without a sandbox, because root cannot have one, and the page is our own.
        browser = driver.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1_100, "height": 1_000})
        page.goto(report.resolve().as_uri(), wait_until="networkidle")  # pictures are loaded when they come into view
        page.screenshot(path=to)
        browser.close()


def rows(summary: dict[str, Any]) -> Iterator[Row]:
    """One row for each number that is worth comparing."""
    cutoffs = Cutoffs.of(summary)
    case = "embedded shop" if summary["embedded"] else Path(summary["source"]).name
    for model, values in summary["models"].items():
        for metric in (*cutoffs.recalls, cutoffs.ndcg):
            if values and values.get(metric) is not None:
                yield Row(case, model, metric, "share", values[metric])
    for metric, unit in (("minutes", "min"), ("peak_memory_mb", "MB")):
        yield Row(case, "make run", metric, unit, summary["total"][metric])


def without_paths(value: Any, home: Path) -> Any:
    """The same value with every path of this machine cut short: below `var/` for the home, the last part for the source."""
    if isinstance(value, dict):
        return {key: without_paths(part, home) for key, part in value.items()}
    if isinstance(value, list):
        return [without_paths(part, home) for part in value]
    if isinstance(value, str):
        value = value.replace(str(home), f"var/{home.name}")
        return Path(value).name if value.startswith(("file://", "/")) else value
    return value


if __name__ == "__main__":
    main()
