"""The README is short, its example runs, and it and the other pages show the results that were recorded."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages import BLOCKS, filled, pages

ROOT = Path(__file__).parents[1]


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_the_example_runs_and_learns(tmp_path: Path) -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 32
    script = tmp_path / "example.py"
    script.write_text(example())
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['faiss'] = None; exec(open({str(script)!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(value) for value in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]


def test_it_is_one_short_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


CLUSTERS = "torch.arange(num_items) % 20, torch.arange(num_items) // 20 % 5"


@pytest.mark.parametrize(
    "changes",
    [
        {CLUSTERS: f"{CLUSTERS}; primary[:7] = secondary[:7] = -1"},
        {CLUSTERS: "torch.arange(num_items) % 20, torch.zeros(num_items, dtype=torch.long)"},
        {CLUSTERS: "torch.zeros(num_items, dtype=torch.long), torch.arange(num_items) % 5"},
        {CLUSTERS: "torch.zeros(num_items, dtype=torch.long), torch.zeros(num_items, dtype=torch.long)"},
        {CLUSTERS: "torch.full((num_items,), -1), torch.full((num_items,), -1)"},
        {"1_000, 32": "1, 32", "items = users % 20 + 20 * torch.randint(50, (len(users),))": "items = users * 0"},
    ],
    ids=["items without a cluster", "one secondary cluster", "one primary cluster", "one group", "no cluster", "one item"],
)
def test_the_example_stays_finite_where_draws_fail(changes: dict[str, str]) -> None:
    code = example()
    for old, new in changes.items():
        assert code.count(old) == 1
        code = code.replace(old, new)
    code = code.replace("loss.backward()", "loss.backward(); steps.append(finite())")
    names: dict[str, Any] = {"steps": []}

    def finite() -> bool:
        tables = names["user_table"].weight, names["item_table"].weight
        return bool(names["loss"].isfinite()) and all(bool(table.grad.isfinite().all()) for table in tables)

    names["finite"] = finite
    exec(code, names)
    assert names["steps"] == [True] * 60


def test_every_number_shown_is_one_recorded() -> None:
    shown = {name for page in pages() for name in re.findall(r"<!-- /(\w+) -->", page.read_text())}
    assert shown == set(BLOCKS), "a part that no page shows, or one that nothing makes"
    for page in pages():
        assert filled(page.read_text()) == page.read_text(), f"{page.relative_to(ROOT)}: run python -m benchmarks.pages"


def test_links_and_pictures_exist() -> None:
    for page in pages():
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
