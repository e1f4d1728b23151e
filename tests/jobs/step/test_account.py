"""What a step read and wrote, and why it ran, stands in its record and at the end of its log."""

import json
import logging
import sys
from typing import Any

import pandas as pd
import pytest

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job


def put(settings: PipelineSettings, table: str, values: list[int]) -> None:
    with Lake.of(settings).write(table, settings) as pending:
        pending.path.mkdir()
        pd.DataFrame({"value": values}).to_parquet(pending.path / "part-0.parquet")


def work(settings: PipelineSettings) -> dict[str, Any]:
    """Reads `numbers` twice, writes `doubled` and a table that holds no rows but a file, and reads what it wrote."""
    lake = Lake.of(settings)
    values = lake.read_pandas("numbers", settings.date)["value"]
    assert len(lake.read("numbers", settings.date)) == len(values)
    put(settings, "doubled", [2 * settings.shop.seed * value for value in values])
    with lake.write("model", settings) as pending:
        pending.path.mkdir()
        (pending.path / "weights").write_text(str(values.sum()))
    lake.read("doubled", settings.date)
    if (values < 0).any():
        raise OSError("disk gone")
    return {}


class Step:
    """The step as a command: what its record says, and the lines of its log."""

    def __init__(self, settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        self.settings, self.monkeypatch, self.log = settings, monkeypatch, caplog
        caplog.set_level(logging.INFO)

    def run(self, *flags: str) -> tuple[dict[str, Any], list[str]]:
        self.log.clear()
        self.monkeypatch.setattr(sys, "argv", ["demo", f"--home={self.settings.home}", f"--date={self.settings.ds}", *flags])
        with pytest.raises(SystemExit):
            run_job("demo", work, recipe=Recipe(sections=("shop",), reads=("numbers",), writes=("doubled", "model")))
        record = json.loads((self.settings.run_dir / "steps" / "demo.json").read_text())
        return record, [line.getMessage() for line in self.log.records]


@pytest.fixture
def step(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Step:
    put(settings, "numbers", [1, 2])
    return Step(settings, monkeypatch, caplog)


def used(step: Step, table: str, rows: int | None, **new: bool) -> dict[str, Any]:
    return {"table": table, "date": step.settings.ds, "rows": rows} | new


def test_the_record_and_the_log_name_each_table_once_with_its_rows(step: Step) -> None:
    record, log = step.run()
    day = step.settings.ds
    assert record["reads"] == [used(step, "numbers", 2)]
    assert record["writes"] == [used(step, "doubled", 2, new=True), used(step, "model", None, new=True)]
    spoken = [f"reads numbers of {day}: 2 rows", f"wrote doubled of {day}: 2 rows", f"wrote model of {day}"]
    assert [line for line in log if line in spoken] == spoken, "each is said when it happens"
    why = "demo: it ran, because no earlier success of it is known for this date"
    assert log[-5:-1] == [why, *(f"demo: {line.replace('reads', 'read')}" for line in spoken)]
    assert log[-1] == f"demo: success in {record['seconds']:.1f} s, peak memory {record['peak_memory_mb']:,} MB"


def test_a_result_that_is_kept_says_what_is_kept(step: Step) -> None:
    first, _ = step.run()
    record, log = step.run()
    assert record["reused"] and record["why"].startswith("nothing new: ") and record["reads"] == []
    assert record["writes"] == [use | {"new": False} for use in first["writes"]]
    assert f"demo: kept doubled of {step.settings.ds}: 2 rows" in log and not any(line.startswith("wrote") for line in log)


def test_a_step_that_runs_again_says_what_has_changed(step: Step) -> None:
    step.run()
    put(step.settings, "numbers", [1, 3])
    assert step.run("--shop.seed=5")[0]["why"].endswith("since its last success: the settings of shop, the table numbers")
    assert step.run("--no-run.reuse", "--shop.seed=5")[0]["why"] == "it ran, because run.reuse is off"
    put(step.settings, "doubled", [7])
    record, _ = step.run("--shop.seed=5")
    assert record["why"] == "it ran, because the tables that it wrote are no longer as it left them"


def test_rows_that_are_the_same_as_before_are_not_new(step: Step) -> None:
    step.run()
    record, log = step.run("--no-run.reuse")
    assert [use["new"] for use in record["writes"]] == [False, False]
    assert f"demo: wrote doubled of {step.settings.ds}: 2 rows, the same as before" in log


def test_a_step_that_fails_says_what_it_had_read_and_why_it_ran(step: Step) -> None:
    put(step.settings, "numbers", [-1])
    record, log = step.run()
    assert record["state"] == "failed" and record["reads"] == [used(step, "numbers", 1)] and len(record["writes"]) == 2
    assert record["why"].startswith("it ran, because") and log[-1].startswith("demo: failed in ")
