"""A step is skipped only if its inputs, its settings, its code and what it wrote are all unchanged."""

import json
import shutil
import sys
from typing import Any

import pandas as pd
import pytest

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.step import runtime
from jobs.step.reuse import Recipe
from jobs.step.runtime import EXIT_NOT_KEPT, run_job


def put(settings: PipelineSettings, table: str, values: list[int]) -> None:
    with Lake.of(settings).write(table, settings) as pending:
        pending.path.mkdir()
        pd.DataFrame({"value": values}).to_parquet(pending.path / "part-0.parquet")


class Step:
    """A step that doubles `numbers` into `doubled`, scaled by a setting, and counts how often it ran."""

    recipe = Recipe(
        sections=("shop",),
        reads=("numbers",),
        before=("numbers",),
        writes=("doubled",),
        leaves=lambda settings: (settings.run_dir / "verdict.txt",),
    )

    def __init__(self, settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.monkeypatch, self.runs = settings, monkeypatch, 0

    def work(self, settings: PipelineSettings) -> dict[str, Any]:
        self.runs += 1
        values = Lake.of(settings).read_pandas("numbers", settings.date)["value"]
        if (values < 0).any():
            raise DataError("holds a negative number.", file="numbers", remedy="bring others.")
        put(settings, "doubled", [2 * settings.shop.seed * value for value in values])
        (settings.run_dir / "verdict.txt").write_text("good")
        return {"rows": len(values)}

    def ask(self, *flags: str) -> None:
        """The command as the DAG asks it; ends with its exit status."""
        self._command("--only-if-kept", *flags)

    def _command(self, *flags: str) -> None:
        home = [f"--home={self.settings.home}", f"--date={self.settings.ds}"]
        self.monkeypatch.setattr(sys, "argv", ["demo", *home, *flags])
        run_job("demo", self.work, recipe=self.recipe)

    def run(self, *flags: str) -> dict[str, Any]:
        with pytest.raises(SystemExit):
            self._command(*flags)
        return json.loads((self.settings.run_dir / "steps" / "demo.json").read_text())


@pytest.fixture
def step(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> Step:
    settings.run_dir.mkdir(parents=True)
    put(settings, "numbers", [1, 2])
    return Step(settings, monkeypatch)


def test_a_second_run_keeps_the_result_and_says_so(step: Step) -> None:
    first, second = step.run(), step.run("--training.epochs=99")
    assert step.runs == 1 and (first["reused"], second["reused"]) == (False, True)
    assert second["state"] == "success" and second["summary"] == {"rows": 2}
    assert step.run()["reused"], "the record of a kept result serves the run after it too"


@pytest.mark.parametrize("change", ["setting", "input", "earlier date", "code", "asked"])
def test_any_change_runs_it_again(step: Step, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step.run()
    flags: list[str] = []
    if change == "setting":
        flags = ["--shop.seed=5"]
    elif change == "input":
        put(step.settings, "numbers", [1, 3])
    elif change == "earlier date":
        put(step.settings.model_copy(update={"date": step.settings.date.replace(day=1)}), "numbers", [7])
    elif change == "code":
        monkeypatch.setattr(runtime, "code_key", lambda work: "other code")
    else:
        flags = ["--no-run.reuse"]
    assert not step.run(*flags)["reused"]
    assert step.runs == 2


@pytest.mark.parametrize("loss", ["table", "rows", "half a file", "version", "memory"])
def test_what_is_lost_or_damaged_is_made_again(step: Step, loss: str) -> None:
    step.run()
    folder = Lake.of(step.settings).path("doubled", step.settings.date)
    if loss == "table":
        (folder.parent / "CURRENT").unlink()
    elif loss == "rows":
        pd.DataFrame({"value": [0]}).to_parquet(folder / "part-0.parquet")
    elif loss == "half a file":
        whole = (folder / "part-0.parquet").read_bytes()
        (folder / "part-0.parquet").write_bytes(whole[: len(whole) // 2])
    elif loss == "version":
        shutil.rmtree(folder)
    else:
        next((step.settings.home / "reuse").rglob("demo.json")).write_text("{")
    assert not step.run()["reused"] and step.runs == 2
    assert len(Lake.of(step.settings).read("doubled", step.settings.date)) == 2
    assert step.run()["reused"]
    assert not list((step.settings.home / "lake").rglob(".*"))


def test_a_step_can_be_asked_whether_its_result_is_kept(step: Step) -> None:
    """So that Spark need not start for a step that ends at once."""
    record = step.settings.run_dir / "steps" / "demo.json"
    with pytest.raises(SystemExit) as ended:
        step.ask()
    assert ended.value.code == EXIT_NOT_KEPT and step.runs == 0 and not record.exists()
    step.run()
    with pytest.raises(SystemExit) as ended:
        step.ask()
    assert ended.value.code == 0 and step.runs == 1 and json.loads(record.read_text())["reused"]
    with pytest.raises(SystemExit) as ended:
        step.ask("--no-run.reuse")
    assert ended.value.code == EXIT_NOT_KEPT and step.runs == 1


@pytest.mark.parametrize("text", [None, "forged"])
def test_its_files_are_put_back(step: Step, text: str | None) -> None:
    step.run()
    verdict = step.settings.run_dir / "verdict.txt"
    verdict.unlink() if text is None else verdict.write_text(text)
    assert step.run()["reused"] and verdict.read_text() == "good"


def test_a_failure_is_never_kept(step: Step) -> None:
    put(step.settings, "numbers", [-1])
    assert [step.run()["state"], step.run()["state"]] == ["failed", "failed"]
    assert step.runs == 2


def test_a_missing_input_is_left_for_the_step_to_report(step: Step) -> None:
    step.run()
    (step.settings.home / "lake" / "numbers" / f"date={step.settings.ds}" / "CURRENT").unlink()
    record = step.run()
    assert record["state"] == "failed" and "no table 'numbers' is published" in record["message"]


def test_a_step_gets_only_the_settings_it_names(settings: PipelineSettings) -> None:
    part = settings.only(("shop",))
    assert part.shop == settings.shop and part.spark == settings.spark and part.date == settings.date
    assert part.config_hash() == settings.config_hash()
    with pytest.raises(AttributeError, match="training"):
        _ = part.training
    assert settings.training.epochs, "the whole is left as it was"
