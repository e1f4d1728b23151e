"""The README is short, its example runs, and what it and the other pages show of results is what was recorded."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.pages import BLOCKS, filled, pages

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


def test_it_is_one_short_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_number_shown_is_one_recorded() -> None:
    shown = {name for page in pages() for name in re.findall(r"<!-- /(\w+) -->", page.read_text())}
    assert shown == set(BLOCKS), "a part that no page shows, or one that nothing makes"
    for page in pages():
        assert filled(page.read_text()) == page.read_text(), f"{page.relative_to(ROOT)}: run python -m benchmarks.pages"


def test_links_and_pictures_exist() -> None:
    for page in pages():
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
