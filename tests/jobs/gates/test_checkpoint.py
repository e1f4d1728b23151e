import json
import re
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.base.errors import GateFailed
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings
from jobs.gates import gate, raw
from jobs.gates.checks import Judged, Suite, zero
from jobs.gates.page import page as gates_page
from tests.jobs.gates.judging import publish_metrics, verdict


def test_the_page_tells_what_the_code_checks() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "gates.md"
    assert page.read_text() == gates_page(), "run python -m jobs.gates.page > docs/gates.md"


def test_an_expectation_that_raises_or_is_not_evaluated_is_critical(settings: PipelineSettings) -> None:
    import great_expectations.expectations as gxe

    from jobs.gates.checkpoint import run_checkpoint
    from jobs.gates.checks import Judged, Suite, check

    suite = Suite.of("t", check(gxe.ExpectColumnValuesToNotBeNull, "no_such_column", "warning", "x is there", "add x."))
    result = run_checkpoint(settings, "model", [suite], Judged({"t": pd.DataFrame({"row": ["a"]})}))
    assert [(f.column, f.severity) for f in result.failures] == [("no_such_column", "critical")]
    assert "could not be evaluated" in result.failures[0].message

    result = run_checkpoint(settings, "model", [suite], Judged({}))
    assert [(f.expectation, f.severity) for f in result.failures] == [("all_expectations_are_evaluated", "critical")]

    empty = pd.DataFrame({"row": pd.Series(dtype=str), "no_such_column": pd.Series(dtype=float)})
    result = run_checkpoint(settings, "model", [suite], Judged({"t": empty}))
    assert [f.expectation for f in result.failures if f.severity == "critical"] == ["expect_table_row_count_to_be_between"]


def test_a_rerun_replaces_its_results_and_docs_need_no_network(settings: PipelineSettings) -> None:
    publish_metrics(settings)

    def files(suffix: str) -> set[Path]:
        return set((settings.home / "gx").rglob(f"*{suffix}"))

    index = Path(gate.run(settings, "model")["data_docs"])
    first = files(".json") | files(".html")
    ids = (settings.home / "gx" / "great_expectations.yml").read_text()
    gate.run(settings, "model")
    assert files(".json") | files(".html") == first
    assert (settings.home / "gx" / "great_expectations.yml").read_text() == ids
    links = re.findall(r'href="(validations/[^"]+)">([^<]+)<', index.read_text())
    assert [word for _, word in links] == ["all expectations hold"] * 3
    assert all((index.parent / link).exists() for link, _ in links)
    reports = {(settings.home / "reports" / name).resolve() for name in ("index.html", f"{settings.ds}/index.html")}
    for page in [index, *files(".html")]:
        text = page.read_text()
        back = {(page.parent / link).resolve() for link in re.findall(r'href="((?:\.\./)+reports/[^"]+)"', text)}
        assert back == (reports if "validations" in page.parts else {(settings.home / "reports" / "index.html").resolve()})
        assert "esans-offline" in text
        assert 'src="https://' not in text
        assert not any("stylesheet" in line and "https://" in line for line in text.splitlines())


def test_gates_that_run_side_by_side_write_one_after_the_other(settings: PipelineSettings) -> None:
    publish_metrics(settings)
    folder = settings.home / "gx"
    with ThreadPoolExecutor(1) as pool:
        with alone_in(folder):
            waiting = pool.submit(gate.run, settings, "model")
            assert not wait([waiting], timeout=2).done
            assert [path.name for path in folder.iterdir()] == [".lock"]
        assert waiting.result(timeout=60)["checked"] > 0


def test_a_failed_gate_leaves_no_older_pass_behind(settings: PipelineSettings) -> None:
    publish_metrics(settings)
    gate.run(settings, "model")
    (settings.run_dir / "metrics.json").write_text("{ half")
    with pytest.raises(json.JSONDecodeError):
        gate.run(settings, "model")
    assert not (settings.run_dir / "gates" / "model.json").exists()


@pytest.mark.spark
def test_a_table_that_changes_between_the_two_looks_is_no_pass(
    spark: Any, settings: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is judged in detail only if something does not hold. If all holds then, it is not what was judged first."""
    file = tmp_path / "table.csv"
    file.write_text("row,lost\na,1\n")
    frame = spark.read.csv(str(file), header=True, inferSchema=True)

    def tables(settings: PipelineSettings, spark: Any) -> Judged:
        return Judged({"t": frame}, read_again=frozenset({"t"}))

    keep = type(frame).persist

    def overwritten(given: Any) -> Any:
        if given is frame:
            file.write_text("row,lost\na,0\n")
        return keep(given)

    suite = Suite.of("t", zero("lost", "critical", "nothing is lost", "look for it."))
    monkeypatch.setattr(raw, "tables", tables)
    monkeypatch.setattr(raw, "suites", lambda settings: [suite])
    monkeypatch.setattr(type(frame), "persist", overwritten)
    with pytest.raises(GateFailed, match="changed while the gate read it"):
        gate.run(settings, "raw")
    assert not verdict(settings, "raw")["success"]
