"""The page of all dates: from one date on, with gaps, with what was done by hand; and the numbers that drift is read from."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from esans_core.clusters.alignment import AlignmentHeads
from esans_core.clusters.codebooks import Codebooks
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.clusters.assign_clusters import _growth
from jobs.clusters.codebook_store import save_codebooks
from jobs.lake.tables import Lake
from jobs.report import history_charts
from jobs.report.facts import RunFacts
from jobs.report.history import collect, publish_history
from jobs.report.profile import build_profile, stability_index
from tests.jobs.records import metrics, publish_frame
from tests.jobs.report.test_report import Page


def record(settings: PipelineSettings, day: int, **verdict: Any) -> None:
    folder = settings.home / "runs" / (settings.date + dt.timedelta(days=day)).isoformat()
    models = {"challenger": metrics(recall_50=0.3 + day / 100), "champion": metrics(recall_50=0.25) if day else None}
    write_json(folder / "metrics.json", {"models": models | {"baseline": metrics(recall_50=0.2)}})
    write_json(
        folder / "verdict.json", {"version": str(day + 1), "champion_version": "1", "reasons": ["<b>because</b>"]} | verdict
    )
    write_json(folder / "profile.json", {"events_of_day": 90, "distributions": {"text length": {"1": 10 + 10 * day, "2": 10}}})


def page_of(settings: PipelineSettings) -> tuple[Page, str]:
    text = publish_history(settings).read_text()
    return Page(text), text


def test_one_date_is_enough_and_none_is_no_error(settings: PipelineSettings) -> None:
    page, _ = page_of(settings)
    assert "No date has been run yet" in page.words and page.images == []
    record(settings, 0, verdict="promoted")
    page, _ = page_of(settings)
    assert len(page.images) == 2, "the model has not moved yet, so no chart of it is shown"
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert page.links == ["script"] * 3  # the date has no page of its own, and nothing comes from elsewhere


def test_no_chart_is_shown_that_is_empty_in_part_or_whole(settings: PipelineSettings, tmp_path: Path) -> None:
    stopped = {"step": "gate_raw", "state": "failed", "message": "no rows"}
    write_json(settings.run_dir / "steps" / "gate_raw.json", stopped)
    page, text = page_of(settings)
    assert page.images == [] and "Trend" not in page.words and "Drift" not in page.words
    record(settings, 0, verdict="promoted")
    chart = history_charts.input_chart(collect(settings), tmp_path / "input.png")
    assert chart is not None and [title["text"] for title in chart["layout"]["annotations"]] == ["<b>Events of the date</b>"]
    quality = history_charts.quality_chart(collect(settings), tmp_path / "quality.png")
    assert quality is not None and {series["name"] for series in quality["data"]} == {"challenger", "baseline", "promoted"}
    write_json(settings.run_dir / "profile.json", {"churn": {"primary": 0.1}})
    chart = history_charts.model_chart(collect(settings), tmp_path / "model.png")
    assert chart is not None and len(chart["layout"]["annotations"]) == 1


def test_a_promotion_is_green_only_if_its_report_found_nothing_to_warn_of(settings: PipelineSettings) -> None:
    record(settings, 0, verdict="promoted")
    verdict = json.loads((settings.run_dir / "verdict.json").read_text())
    colours = []
    for tone in ("good", "warn"):
        told = {"answer": "Better.", "numbers": "", "losses": [], "warnings": [], "tone": tone}
        write_json(settings.run_dir / "summary.json", {"verdict": verdict, "headline": told})
        colours.append(collect(settings)[0]["tone"])
    write_json(settings.run_dir / "summary.json", {"verdict": {"verdict": "kept_champion"}, "headline": told})
    assert [*colours, collect(settings)[0]["tone"]] == ["good", "warn", "plain"], "the last summary is of an earlier run"


def test_dates_with_gaps_say_what_was_promoted_why_and_by_whom(settings: PipelineSettings) -> None:
    record(settings, 0, verdict="promoted", promoted_by="pipeline")
    record(settings, 5, verdict="rejected_in_review", reviewed_by="anna")
    stopped = {"step": "gate_raw", "state": "killed", "message": "no memory left"}
    write_json(settings.home / "runs" / "2026-02-03" / "steps" / "gate_raw.json", stopped)
    (settings.home / "reports" / settings.ds).mkdir(parents=True)
    (settings.home / "reports" / settings.ds / "index.html").touch()
    lines = [{"at": "2026-01-29T03:00:00", "name": "2026-01-28-v1-0123abcd", "version": "1", "by": "ben", "reason": "first"}]
    (settings.home / "serving").mkdir()
    (settings.home / "serving" / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = {"state": "failed", "message": "it was refused", "started_at": "2026-01-30T10:00:00"}
    write_json(settings.home / "actions" / "x" / "promote_version.json", done)
    page, text = page_of(settings)
    for word in ("rejected in review", "anna", "pipeline", "<b>because</b>", "0.3500", "2026-01-28-v1-0123abcd", "ben"):
        assert word in page.words
    assert "promote version" in page.words and "it was refused" in page.words
    assert "Last verdict, 2026-02-02" in page.words and "2026-02-03: gate_raw killed: no memory left" in page.words
    assert page.words.index("Last verdict") < page.words.index("Without a verdict")  # a stopped date never leads
    assert "Version 1, since 2026-01-29 03:00" in page.words
    assert page.links == [f"{settings.ds}/index.html", *["script"] * 3]
    first, second, last = collect(settings)
    assert first["moved"] == {} and last["moved"] == {}
    assert second["moved"] == {"text length": pytest.approx(stability_index({"1": 10, "2": 10}, {"1": 60, "2": 10}))}
    assert text == publish_history(settings).read_text()


def test_the_stability_index_is_that_of_its_definition() -> None:
    assert stability_index({"a": 5, "b": 5}, {"a": 50, "b": 50}) == 0
    expected = (0.8 - 0.5) * math.log(0.8 / 0.5) + (0.2 - 0.5) * math.log(0.2 / 0.5)
    assert stability_index({"a": 5, "b": 5}, {"a": 8, "b": 2}) == pytest.approx(expected)
    assert stability_index({"a": 10}, {"b": 10}) > 1


def test_a_profile_counts_what_the_tables_hold(settings: PipelineSettings) -> None:
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    yesterday = settings.model_copy(update={"date": settings.date - dt.timedelta(days=1)})
    vectors = random.normal(size=(6, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for day, ids, embeddings in ((yesterday, "abcdef", vectors), (settings, "bcdefg", np.roll(vectors, -1, 0) @ turn)):
        items = pd.DataFrame({"item_index": range(6), "item_id": list(ids), "num_train": [0, 1, 2, 3, 4, 9]})
        publish_frame(day, "items", items.assign(title=["", "x", None, "xx", "x" * 9, "x"], text=["x"] + [None] * 5))
        with Lake.of(day).write("challenger", day) as table:
            table.path.mkdir()
            items[["item_id"]].to_parquet(table.path / "item_ids.parquet")
            save_file({"item_embeddings": embeddings.astype(np.float32)}, table.path / "item_embeddings.safetensors")
    midnight = int(dt.datetime.combine(settings.date, dt.time(), dt.UTC).timestamp())
    when = [midnight - 1, midnight, midnight + 86_399, midnight + 86_400]
    publish_frame(settings, "interactions", pd.DataFrame({"timestamp": when}))
    publish_frame(settings, "clusters", pd.DataFrame({"primary": [0, 0, 2, -1, 2, 2]}), churn={"primary": 0.1})
    found = build_profile(RunFacts.collect(settings))
    assert found["events_of_day"] == 2
    assert found["new_items"] == pytest.approx(1 / 6) and found["since"] == yesterday.ds
    assert found["distributions"]["text length"] == {"0": 1, "1": 3, "2": 1, "8": 1}
    assert found["distributions"]["events of an item"] == {"0": 1, "1": 1, "2": 2, "4": 1, "8": 1}
    assert found["distributions"]["items of a cluster"] == {"0": 2, "2": 3}
    assert found["churn"] == {"primary": 0.1}
    # Five items are in both dates, and the vectors differ by a rotation alone.
    assert found["embeddings"]["items"] == 5
    assert found["embeddings"]["cosine"] == pytest.approx(1, abs=1e-5) and found["embeddings"]["cosine_as_they_are"] < 0.9
    assert build_profile(RunFacts.collect(yesterday))["embeddings"] is None


@pytest.mark.parametrize(("spread", "moved"), [(0.5, pytest.approx(0.2)), (1e-9, None)])
def test_codes_are_measured_by_their_spread_and_not_where_they_have_none(
    settings: PipelineSettings, spread: float, moved: Any
) -> None:
    yesterday = settings.model_copy(update={"date": settings.date - dt.timedelta(days=1)})
    codes = np.array([[0.6, 0.8], [0.6, 0.8]], np.float32) + np.float32(spread) * np.array([[1, 0], [-1, 0]], np.float32)
    heads = AlignmentHeads({"text": 3}, 2)
    for day, shift, about in ((yesterday, 0.0, {}), (settings, 0.1, {"warm": True, "previous_date": yesterday.ds})):
        with Lake.of(day).write("codebooks", day) as table:
            books = Codebooks(
                (codes + np.float32(shift) * np.eye(2, dtype=np.float32)[1]), np.ones(2, bool), np.zeros((1, 1, 2))
            )
            save_codebooks(table.path, heads, books, {})
            table.stats = about
    found = build_profile(RunFacts.collect(settings))["centroids"]
    assert (None if found is None else found["moved"]) == moved


@pytest.mark.parametrize(("before", "growth"), [(0.4, pytest.approx(0.25)), (1e-15, None), (0.0, None)])
def test_distortion_grows_from_what_is_more_than_rounding(settings: PipelineSettings, before: float, growth: Any) -> None:
    publish_frame(settings, "clusters", pd.DataFrame({"primary": [0]}), primary={"distortion": before})
    found = _growth(Lake.of(settings), settings.date, 0.5)
    assert (found["distortion_before"], found["distortion_growth"]) == (before, growth)
