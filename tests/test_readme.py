"""The README's example is code that runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.record_run import with_block
from jobs.report.layout import format_summary

ROOT = Path(__file__).parents[1]


def test_the_example_runs_and_learns(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 32
    script = tmp_path / "example.py"
    script.write_text(blocks[0])
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['faiss'] = None; exec(open({str(script)!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(value) for value in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]


def test_the_summary_shown_is_the_one_recorded() -> None:
    page = (ROOT / "README.md").read_text()
    names = re.findall(r"<!-- /(\w+) -->", page)
    assert names
    for name in names:
        result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        assert with_block(page, name, format_summary(result["summary"])) == page, f"run benchmarks.record_run for {name}"


def test_links_and_pictures_exist() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
