"""The README's blocks that come from results: each is made from its file, and a test holds the page to them.

python -m benchmarks.readme
"""

import json
import re
from collections.abc import Callable
from typing import Any

from benchmarks.quality.table import block as quality_block
from benchmarks.record import REPOSITORY, RESULTS
from benchmarks.table import block as measured_block
from jobs.report.layout import format_summary


def run_block(result: dict[str, Any]) -> str:
    """The summary of a run of the pipeline, as the terminal shows it."""
    return f"```text\n{format_summary(result['summary']).strip()}\n```"


BLOCKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "gpu": measured_block,
    "movielens_run": run_block,
    "quality": quality_block,
    "scale": measured_block,
    "serving": measured_block,
    "speed": measured_block,
}


def filled(page: str) -> str:
    """The page with each block `<!-- name -->` ... `<!-- /name -->` made anew from `benchmarks/results/<name>.json`.

    Raises:
        KeyError: the page has a block that nothing here makes.
    """

    def block(match: re.Match[str]) -> str:
        name = match[1]
        result = json.loads((RESULTS / f"{name}.json").read_text())
        return f"<!-- {name} -->\n{BLOCKS[name](result)}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", block, page, flags=re.DOTALL)


def main() -> None:
    """Rewrite the README."""
    page = REPOSITORY / "README.md"
    page.write_text(filled(page.read_text()))


if __name__ == "__main__":
    main()
