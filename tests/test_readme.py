"""The README's example is code that runs."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.readme import filled

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


def test_every_number_shown_is_one_recorded() -> None:
    page = (ROOT / "README.md").read_text()
    assert re.findall(r"<!-- /(\w+) -->", page)
    assert filled(page) == page, "run python -m benchmarks.readme"


def test_links_and_pictures_exist() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
