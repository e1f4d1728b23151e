"""Keep the summary of a finished run of the pipeline as a result, and show it in the README.

python -m benchmarks.record_run var/movielens-posters 2018-09-24 movielens_run
"""

import argparse
import datetime as dt
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import psutil

from jobs.lake import git_sha, write_json
from jobs.report.layout import format_summary

_REPOSITORY = Path(__file__).resolve().parent.parent
_RESULTS = _REPOSITORY / "benchmarks" / "results"
_METRICS = ("recall_50", "recall_200", "ndcg_50")


def main() -> None:
    """Record one run and rewrite the README's block of that name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, help="home folder of the run, such as var/embedded")
    parser.add_argument("date", help="logical date, YYYY-MM-DD")
    parser.add_argument("name", help="name of the result")
    arguments = parser.parse_args()
    summary = json.loads((arguments.home / "runs" / arguments.date / "summary.json").read_text())
    result = {
        "machine": machine(),
        "commit": git_sha(),
        "date": dt.date.today().isoformat(),
        "command": "make run" if summary["embedded"] else f"make run DATA={Path(summary['source']).name}",
        "rows": rows(summary),
        "summary": without_paths(summary, arguments.home.resolve()),
    }
    write_json(_RESULTS / f"{arguments.name}.json", result)
    readme = _REPOSITORY / "README.md"
    readme.write_text(with_block(readme.read_text(), arguments.name, format_summary(result["summary"])))


def machine() -> dict[str, Any]:
    """What the run ran on."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each number worth comparing."""
    case = "embedded shop" if summary["embedded"] else Path(summary["source"]).name
    found = [
        {"case": case, "subject": model, "metric": metric, "unit": "share", "value": values[metric], "repeats": 1}
        for model, values in summary["models"].items()
        if values
        for metric in _METRICS
        if values.get(metric) is not None
    ]
    for metric, unit in (("minutes", "min"), ("peak_memory_mb", "MB")):
        value = summary["total"][metric]
        found.append({"case": case, "subject": "make run", "metric": metric, "unit": unit, "value": value, "repeats": 1})
    return found


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


def with_block(page: str, name: str, text: str) -> str:
    """The page with the text between `<!-- name -->` and `<!-- /name -->` replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"the README has no block <!-- {name} --> ... <!-- /{name} -->")
    return pattern.sub(lambda match: f"{match[1]}```text\n{text.strip()}\n```\n{match[2]}", page)


if __name__ == "__main__":
    main()
