"""The tutorials can be followed as they are written. `test_end_to_end.py` tests the parts that need a finished day."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from infra.local import check, run, up
from tests.tutorials import ROOT, TUTORIALS, blocks, follow, made_by, today

PAGES = sorted(path.name for path in TUTORIALS.glob("*.md"))
NOTEBOOK = TUTORIALS / "sampler-in-your-own-loop.ipynb"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_followed(page: str) -> None:
    assert {block.kind for block in blocks(page)} <= {"here", "check", "run", "up", "mapping"}
    assert any(block.kind in ("here", "mapping") for block in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_runs_would_start(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "own-data.md":
        follow(page, {"here"}, tmp_path)
    for block in blocks(page):
        if block.kind == "run":
            for line in block.text.strip().splitlines():
                (words,) = made_by(line)
                plan = run.make_plan(run._arguments(words[words.index("infra.local.run") + 1 :]), today=today())
                assert plan.date.year == 2026


def test_the_example_of_own_data_ends_on_the_day_that_the_tutorial_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    follow("own-data.md", {"here"}, tmp_path)
    assert str(run.make_plan(run._arguments(["--data", "my-data"]), today=today()).date) == "2026-03-01"


@pytest.mark.parametrize(
    "line", [line for block in blocks("own-data.md") if block.kind == "up" for line in block.text.splitlines()]
)
def test_the_stack_takes_these_options(line: str) -> None:
    (words,) = made_by(line)
    up._arguments(words[words.index("infra.local.up") + 1 :])


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
def test_own_data_can_be_checked_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    follow("own-data.md", {"here"}, tmp_path)
    (line,) = (block.text for block in blocks("own-data.md") if block.kind == "check")
    (words,) = made_by(line)
    arguments = words[words.index("infra.local.check") + 1 :]
    assert check.main(arguments) == 0
    said = capsys.readouterr().out
    assert "VERDICT: will run, but ..." in said and "items have a picture" in said
    assert "logical date 2026-03-01" in said and "events on a day that has any" in said
    (mapping,) = (block.text for block in blocks("own-data.md") if block.kind == "mapping")
    (tmp_path / "my-data" / "data.yaml").write_text(mapping)
    customers = "".join(f'user-{n},FR,{20 + n % 50},"[""tea"", ""lamps""]"\n' for n in range(300))
    (tmp_path / "my-data" / "customers.csv").write_text("customer_id,country,age,interests\n" + customers)
    assert check.main(arguments) == 0
    assert "interests" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs_in_its_own_process_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses the log that it makes, or the one in the folder that ESANS_BEAUTY names."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    (table,) = (output for output in notebook.cells[-2].outputs if output.output_type == "execute_result")
    recall = dict(line.rsplit(maxsplit=1) for line in table.data["text/plain"].splitlines()[1:])
    least = float(recall["most popular items"])
    assert float(recall["ESANS"]) > 2 * least and float(recall["uniform"]) > 2 * least, recall
    assert not list(tmp_path.iterdir()), "the notebook leaves nothing behind"
