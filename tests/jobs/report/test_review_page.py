import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from records import metrics, publish_frame

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.gates.stages import STAGES
from jobs.registry.promotion import RelativeChange
from jobs.registry.verdict import Comparison, Facts, decide
from jobs.report import review_page

USERS = 400


@pytest.fixture
def judged(settings: PipelineSettings) -> PipelineSettings:
    """Settings of a date whose challenger was evaluated beside a champion and a baseline, and has passed."""
    rng, frames = np.random.default_rng(0), []
    for name, recall in (("challenger", 0.22), ("champion", 0.20), ("baseline", 0.15)):
        values = np.clip(rng.normal(recall, 0.05, USERS), 0, 1)
        frames.append(pd.DataFrame({"model": name, "user_index": np.arange(USERS), "recall_50": values}))
    for table in ("challenger", "baseline"):
        publish_frame(settings, table, pd.DataFrame({"x": [0]}))
    publish_frame(settings, "evaluation", pd.concat(frames), inputs=("challenger", "baseline"))
    models = {"challenger": metrics(recall_50=0.22), "champion": metrics(), "baseline": metrics(recall_50=0.15)}
    _write(settings, "metrics.json", {"models": models, "users": USERS, "incumbent_version": "1", "incumbent_note": None})
    for stage in STAGES:
        _write(settings, f"gates/{stage}.json", {"success": True, "checked": 9, "failures": []})
    gain = Comparison("champion", "champion version 1", RelativeChange(0.1, 0.05, 0.15, 0.025, 0.025, USERS), 1)
    verdict = decide(Facts(models["challenger"], comparisons=[gain]), settings.gate, embedding_dim=16)
    assert verdict.passed
    record = verdict.as_json() | {"verdict": "awaiting_review", "needs_review": True, "version": "2", "champion_version": "1"}
    _write(settings, "verdict.json", record)
    return settings


def _write(settings: PipelineSettings, name: str, value: object) -> None:
    path = settings.run_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _page(settings: PipelineSettings) -> str:
    review_page.run(settings)
    return (settings.run_dir / "review.md").read_text()


def test_the_page_says_what_is_decided_and_on_what_grounds(judged: PipelineSettings) -> None:
    found = _page(judged)
    assert "Version **2** of `esans-retrieval`, trained on data up to 2026-01-28" in found
    assert "in place of version 1" in found and "within 24 h it is rejected" in found
    assert re.search(r"\| Recall@50 \| 0\.2200 \| 0\.2000 \| \+0\.0\d+ \[.+\] \| 0\.1500 \| \+0\.0\d+ \[.+\] \|", found)
    assert "| 400 users | challenger | champion | difference | baseline | difference |" in found
    assert "Recall@50, new items" not in found  # nobody has measured it
    for other in ("champion (version 1)", "baseline"):
        (line,) = [line for line in found.splitlines() if line.startswith(f"- Recall@50 against {other}")]
        assert "95% interval [+0.0" in line
    assert found.count("| met |") == len(json.loads((judged.run_dir / "verdict.json").read_text())["checks"])
    assert found.count(": passed; checks: 9, warnings: 0") == len(STAGES)
    assert "](http" not in found


def test_links_to_mlflow_are_on_the_page_where_it_has_pages(judged: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESANS_MLFLOW_UI", "http://127.0.0.1:5000")
    _write(judged, "settings.json", judged.model_dump(mode="json"))
    _write(judged, "steps/register.json", {"summary": {"version": "2"}})
    found = _page(judged)
    assert "[Model version](http://127.0.0.1:5000/#/models/esans-retrieval/versions/2)" in found
    assert "[MLflow run]" not in found  # whose number is not known here


def test_warnings_are_shown_and_cannot_pose_as_the_page(judged: PipelineSettings) -> None:
    message = "category 'x'\n# Approve me | [here](http://evil)"
    failure = {"severity": "warning", "message": message}
    _write(judged, "gates/raw.json", {"success": True, "checked": 9, "failures": [failure]})
    found = _page(judged)
    assert "warnings: 1" in found
    assert "\n# Approve me" not in found and "[here](http://evil)" not in found


def test_the_first_model_has_no_champion_to_replace(judged: PipelineSettings) -> None:
    path: Path = judged.run_dir / "verdict.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"champion_version": None}))
    assert "makes it champion;" in _page(judged)


def test_without_a_verdict_there_is_nothing_to_review(judged: PipelineSettings) -> None:
    (judged.run_dir / "verdict.json").unlink()
    with pytest.raises(DataError, match="no verdict for this date.*run judge"):
        review_page.run(judged)


def test_what_speaks_against_a_version_comes_first_and_once(judged: PipelineSettings) -> None:
    assert "speaks against it" not in _page(judged)
    path = judged.run_dir / "verdict.json"
    verdict = json.loads(path.read_text())
    worse = "new items are found less often"
    _write(judged, "verdict.json", verdict | {"concerns": [worse], "reasons": [worse, *verdict["reasons"]]})
    found = _page(judged)
    assert found.count(worse) == 1 and found.index("speaks against it") < found.index(worse) < found.index("Why it passed")
