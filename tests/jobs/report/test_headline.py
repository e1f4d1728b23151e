"""What the first screen of a report says: is today's model better, and for whom is it worse?"""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.report.__main__ import run
from jobs.report.facts import RunFacts
from jobs.report.headline import Headline, headline
from jobs.report.history import publish_history
from jobs.report.page import render_page
from jobs.report.summary import build_summary
from tests.jobs.records import metrics, publish_frame

USERS = 400
PROMOTED = {"verdict": "promoted", "version": "2", "weights": "w", "champion_version": "2", "concerns": []}
METRICS = ("recall_50", "recall_200", "ndcg_50", "head_recall_50", "tail_recall_50", "new_item_recall_50")


def day(settings: PipelineSettings, challenger: float, champion: float | None, **parts: tuple[float, float]) -> None:
    """A date whose models find this share of what every user wants; `parts` says otherwise for challenger and champion."""
    random = np.random.default_rng(0)
    shares = {"challenger": challenger, "baseline": 0.2} | ({} if champion is None else {"champion": champion})
    frames, models = [], {}
    for name, share in shares.items():
        place = 0 if name == "challenger" else 1
        found = {metric: parts.get(metric, (share, share))[place] for metric in METRICS}
        columns = {metric: random.binomial(10, value, USERS) / 10 for metric, value in found.items()}
        frames.append(pd.DataFrame({"model": name, "user_index": range(USERS)} | columns))
        models[name] = metrics(**{metric: float(values.mean()) for metric, values in columns.items()})
    publish_frame(settings, "evaluation", pd.concat(frames, ignore_index=True))
    write_json(settings.run_dir / "metrics.json", {"users": USERS, "models": {"champion": None} | models})
    write_json(settings.run_dir / "verdict.json", PROMOTED)


def seen(settings: PipelineSettings) -> Headline:
    facts = RunFacts.collect(settings)
    return headline(facts, build_summary(settings, facts))


@pytest.mark.parametrize(
    ("challenger", "champion", "answer"),
    [
        (0.5, 0.3, "Today's model is better than the champion."),
        (0.3, 0.5, "Today's model is worse than the champion."),
        (0.3, 0.3, "Today's model is neither clearly better nor clearly worse than the champion."),
        (0.5, None, "There is no champion to compare with. Today's model is better than the uniform baseline."),
    ],
)
def test_the_answer_comes_from_the_interval(
    settings: PipelineSettings, challenger: float, champion: float | None, answer: str
) -> None:
    day(settings, challenger, champion)
    found = seen(settings)
    assert found.answer == answer
    assert "that of the uniform baseline" in found.numbers and all(gap.low is not None for gap in found.gaps)


def test_a_better_model_that_finds_a_third_fewer_new_items_says_so_and_is_not_green(settings: PipelineSettings) -> None:
    day(settings, 0.5, 0.3)
    assert seen(settings).tone == "good" and not seen(settings).losses
    day(settings, 0.5, 0.3, new_item_recall_50=(0.2, 0.3))
    found = seen(settings)
    (loss,) = found.losses
    assert loss.startswith("Recall of new items fell by 3") and "may be chance" not in loss and found.tone == "warn"
    facts = RunFacts.collect(settings)
    page = render_page(facts, build_summary(settings, facts), found, [])
    assert page.index(loss) < page.index("PROMOTED: registered version 2") < page.index('class="cards"')


def test_what_is_measured_apart_is_compared_too(settings: PipelineSettings) -> None:
    day(settings, 0.5, 0.3)
    path = settings.run_dir / "metrics.json"
    apart: dict[str, Any] = {"new users": {"users": 9, "recall": {"challenger": 0.1, "champion": 0.2, "baseline": 0.1}}}
    write_json(path, RunFacts.collect(settings).metrics | {"recall_apart": apart})
    said = "Recall of new users fell by 50% against the champion, from 0.2000 to 0.1000."
    assert seen(settings).losses == (said,)
    for interval, chance in (([-0.2, 0.1], True), ([-0.15, -0.05], False)):
        apart["new users"]["intervals"] = {"champion": interval}
        write_json(path, RunFacts.collect(settings).metrics | {"recall_apart": apart})
        assert seen(settings).losses == ((said[:-1] + ". This may be chance.") if chance else said,)


@pytest.mark.parametrize("trouble", ["concern", "finding", "failed"])
def test_a_promotion_is_green_only_when_nothing_warns(settings: PipelineSettings, trouble: str) -> None:
    day(settings, 0.5, 0.3)
    failure: dict[str, Any] = {"severity": "warning", "message": "items.title: 3 % are empty"}
    gate = {"stage": "raw", "success": True, "worst": "warning", "checked": 3, "failures": [failure]}
    files: dict[str, tuple[str, dict[str, Any], str]] = {
        "concern": ("verdict.json", PROMOTED | {"concerns": ["the anchor is gone"]}, "warn"),
        "finding": ("gates/raw.json", gate, "warn"),
        "failed": (
            "steps/candidates.json",
            {"step": "candidates", "state": "failed", "message": "no room", "seconds": 1},
            "bad",
        ),
    }
    name, content, tone = files[trouble]
    write_json(settings.run_dir / name, content)
    found = seen(settings)
    assert found.tone == tone and len(found.warnings) == 1
    facts = RunFacts.collect(settings)
    page = render_page(facts, build_summary(settings, facts), found, [])
    assert page.index(found.warnings[0]) < page.index('class="cards"')


def test_a_run_that_stopped_early_has_nothing_to_compare(settings: PipelineSettings) -> None:
    found = seen(settings)
    assert found.answer.startswith("There is no model of this date") and not found.gaps


def test_what_stopped_the_run_is_said_once(settings: PipelineSettings) -> None:
    failures = [
        {"severity": "critical", "message": "items.item_id: 3 rows have none"},
        {"severity": "warning", "message": "few"},
    ]
    gate = {"stage": "raw", "success": False, "worst": "critical", "checked": 3, "failures": failures}
    write_json(settings.run_dir / "gates" / "raw.json", gate)
    said = {"step": "gate_raw", "state": "failed", "message": "the gate stops: items.item_id: 3 rows have none", "seconds": 1}
    write_json(settings.run_dir / "steps" / "gate_raw.json", said)
    assert seen(settings).warnings == (f"gate_raw failed: {said['message']}", "raw: few")


def test_a_report_says_first_what_has_become_of_its_version(settings: PipelineSettings) -> None:
    day(settings, 0.5, 0.3)
    run(settings)
    page = settings.home / "reports" / settings.ds / "index.html"
    assert "now carries the alias" in page.read_text() and "was taken back" not in page.read_text()
    entries = [
        {"at": f"2026-01-30T0{hour}:00:00+00:00", "name": name, "version": name[12], "by": "ann", "reason": "it is slow"}
        for hour, name in ((1, "2026-01-27-v1-0123abcd"), (2, f"{settings.ds}-v2-0123abcd"), (3, "2026-01-27-v1-0123abcd"))
    ]
    settings.serving_root.mkdir()
    (settings.serving_root / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (settings.serving_root / "CURRENT").write_text(json.dumps(entries[-1]))
    taken = {"decision": "withdrawn", "by": "ann", "at": "2026-01-30T03:00:00+00:00", "reason": "it is <slow>", "version": "2"}
    write_json(settings.home / "decisions" / "w.json", taken)
    publish_history(settings)
    text = page.read_text()
    said = "Version 2 was taken back on 2026-01-30 03:00 UTC by ann: it is &lt;slow&gt;. Version 1 is in force."
    assert f'<section class="verdict bad">\n<h2>{said}</h2>' in text and "now carries" not in text
    assert "What the run found:</strong> Today" in text and text.count("</section>") == text.count("<section")
    start = (settings.home / "reports" / "index.html").read_text()
    assert start.count(said) == 2, "as the last verdict, and in the table"
    assert publish_history(settings) and page.read_text() == text
    run(settings)  # a report that is made anew says the same
    assert page.read_text() == text


def test_a_date_without_records_shows_no_empty_table(settings: PipelineSettings) -> None:
    run(settings)
    text = (settings.home / "reports" / settings.ds / "index.html").read_text()
    assert "<h2>Steps</h2>" not in text and text.count("<table") == 1, "the settings are the only table"
