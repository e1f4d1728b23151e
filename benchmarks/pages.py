"""The parts of README and docs that come from results: each is made from result files, and a test compares them.

python -m benchmarks.pages

A part stands between `<!-- name -->` and `<!-- /name -->`.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.headlines import block as headlines_block
from benchmarks.negatives.table import block as negatives_block
from benchmarks.promotion.page import power_block, years_block
from benchmarks.published.table import block as published_block
from benchmarks.published.table import head as published_head
from benchmarks.quality.table import block as quality_block
from benchmarks.record import REPOSITORY, RESULTS
from benchmarks.shop_statistics.page import drawing_block, statistics_block
from benchmarks.table import block as measured_block
from jobs.report.layout import format_summary

_SHORTENED = ("INGESTED", "TRAINING", "RETRIEVAL", "VERDICT")  # the sections that the README shows of a run's summary

Result = dict[str, Any]


def run_block(result: Result) -> str:
    """The summary of a run of the pipeline, as the terminal shows it."""
    return f"```text\n{format_summary(result['summary']).strip()}\n```"


def short_run_block(result: Result) -> str:
    """The head of the summary, and the few sections that say what the run was about and how it ended."""
    title, _, *body, _, end = format_summary(result["summary"]).strip().splitlines()
    kept, keeping = [], False
    for line in body:
        if not line.startswith(" "):
            keeping = line.startswith(_SHORTENED)
        if keeping:
            kept.append(line)
    return "\n".join(["```text", title, *kept, end, "```"])


# For each part: the names of the result files that it is made from, and the function that makes it.
BLOCKS: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "check": (("check",), measured_block),
    "gpu": (("gpu",), measured_block),
    "headlines": (("published", "negatives", "speed", "serving", "scale"), headlines_block),
    "movielens_run": (("movielens_run",), run_block),
    "promotion_power": (("promotion",), power_block),
    "promotion_years": (("promotion",), years_block),
    "published": (("published",), published_block),
    "published_head": (("published",), published_head),
    "quality": (("quality",), quality_block),
    "scale": (("scale",), measured_block),
    "serving": (("serving",), measured_block),
    "serving_load": (("serving_load",), measured_block),
    "negatives": (("negatives",), negatives_block),
    "near_clusters": (("near_clusters",), measured_block),
    "shop_drawing": (("shop_statistics",), drawing_block),
    "shop_statistics": (("shop_statistics",), statistics_block),
    "short_run": (("shop_run",), short_run_block),
    "speed": (("speed",), measured_block),
}


def pages() -> list[Path]:
    """README and every page of docs."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def filled(page: str) -> str:
    """The page with each part made anew.

    Raises:
        KeyError: the page has a part for which there is no function here.
    """

    def block(match: re.Match[str]) -> str:
        sources, make = BLOCKS[match[1]]
        results = [json.loads((RESULTS / f"{source}.json").read_text()) for source in sources]
        return f"<!-- {match[1]} -->\n{make(*results)}\n<!-- /{match[1]} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", block, page, flags=re.DOTALL)


def main() -> None:
    """Rewrite the pages."""
    for path in pages():
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
