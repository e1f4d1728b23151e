import json
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save_file

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.pages.words import verdict_text, verdict_tone
from jobs.report.__main__ import run
from jobs.report.facts import RunFacts
from jobs.report.headline import headline
from jobs.report.interactive import SCRIPTS
from jobs.report.page import render_page
from jobs.report.pictures import Picture
from jobs.report.summary import build_summary, format_summary, report_folder
from jobs.source import prepare
from tests.agreements import RECORD

ALL_PICTURES = {
    "comparison.png", "learning_curves.png", "negatives.png", "metrics.png", "false_negatives.png", "cluster_sizes.png",
    "item_map.png", "clusters.png", "neighbours.png", "popularity.png",
}  # fmt: skip
METRICS = {"recall_50": 0.3312, "recall_200": 0.6, "ndcg_50": 0.17, "head_recall_50": 0.4, "coverage_50": 0.9}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> PipelineSettings:
    """A run that reached its end: the small shop's real pictures, and small tables and records in place of the other steps."""
    settings = PipelineSettings(home=tmp_path_factory.mktemp("report"), shop={"num_items": 120, "num_users": 60, "num_days": 7})  # type: ignore[arg-type]
    prepare.run(settings)
    source = settings.home / "source" / f"date={settings.ds}"
    items = pq.read_table(source / "items.parquet").to_pandas()
    truth = pq.read_table(settings.home / "truth" / source.name / "items.parquet").to_pandas()
    random, count = np.random.default_rng(0), len(items)
    catalogue = items.assign(item_index=np.arange(count), num_train=random.geometric(0.05, count) - 1)
    put(settings, "items", catalogue, INGEST)
    rejected = {
        "table": "interactions",
        "key": "u1",
        "column": "item_id",
        "reason": "unknown_item",
        "value": "<script>alert(1)",
    }
    put(settings, "quarantine", pd.DataFrame([rejected]))
    for view in ("visual", "text", "behaviour"):
        about = PICTURES if view == "visual" else {}
        put(settings, f"{view}_features", pd.DataFrame({"item_index": range(count)}), {"ok": count - 7, "missing": 7} | about)
    labels = {"primary": truth.category.astype("int32"), "secondary": (truth.leaf % 3).astype("int32")}
    clusters = catalogue[["item_index", "item_id"]].assign(**labels, has_visual=items.image_path.notna())
    clusters.loc[5, ["primary", "secondary"]] = -1
    stats = {
        "primary": {"balance": 0.87, "empty": 4, "distortion": 0.3125},
        "retired": 3,
        "distortion_growth": 0.02,
        "churn": {"since": "2026-01-27", "primary": 0.125},
    }
    put(settings, "clusters", clusters, stats)
    put(settings, "codebooks", pd.DataFrame({"x": [0]}), {"repairs": [{}, {}], "warm": True, "cold_because": None})
    vectors = random.normal(size=(count, 8)) + 3 * random.normal(size=(6, 8))[truth.category]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    for role in ("challenger", "baseline"):
        negatives = {"hardness": 0.4, "false_negative_rate": 0.1, "false_negative_weight": 0.2}
        epochs = [{"epoch": n, "train_loss": 5 / n, "validation_recall_50": 0.1 * n} | negatives for n in (1, 2, 3)]
        put(settings, role, None, files={"curves.json": {"epochs": epochs}}, vectors=vectors)
    write_json(settings.run_dir / "metrics.json", METRICS_JSON)
    write_json(settings.run_dir / "verdict.json", VERDICT)
    failure = {
        "table": "visual_features",
        "column": "status",
        "severity": "warning",
        "message": "visual_features.status: 3 % have no picture",
    }
    for stage, failures in (("raw", []), ("features", [failure])):
        gate = {"stage": stage, "success": True, "worst": "warning" if failures else None, "checked": 9, "failures": failures}
        write_json(settings.run_dir / "gates" / f"{stage}.json", gate | {"data_docs": "/docs/index.html"})
    for step, seconds in (("train_challenger", 61.25), ("prepare", 3.0), ("ingest", 20.0)):
        record = {"step": step, "state": "success", "message": "", "seconds": seconds, "peak_memory_mb": 700, "summary": {}}
        write_json(settings.run_dir / "steps" / f"{step}.json", record)
    run(settings)
    return settings


PICTURES: dict[str, Any] = {
    "traits": {"grey": 5, "not_given": 7}, "pictures": 130, "lost_pictures": {"not_found": 2},
    "fetched": {"fetched": 1_100, "not_asked": 3, "kept_though_failed": 1},
}  # fmt: skip
INGEST: dict[str, Any] = {
    "rows_read": {"interactions": 9000, "items": 120, "images": 0}, "items": 120, "users": 60,
    "events": {"train": 7000, "validation": 800, "holdout": 900}, "not_used": {"repeated_pair": 250},
    "rejected": {"interactions": {"unknown_item": 50}}, "first_timestamp": 1_769_040_000, "last_timestamp": 1_769_644_799,
    "split": "window", "split_reason": "the last 3 days hold 55 users with a history", "previous_split": None,
}  # fmt: skip
METRICS_JSON: dict[str, Any] = {
    "users": 55, "incumbent_version": "2", "models": {"challenger": METRICS, "champion": METRICS, "baseline": METRICS},
    "popularity": {"recall_50": 0.1, "recall_200": 0.2},
    "false_negative_rate": {"uniform": 0.05, "in_batch": 0.09, "easy": 0.06, "hard": 0.16, "same_cluster": None},
    "clusters_vs_truth": {"nmi_category": 0.9, "ari_category": 0.8, "nmi_leaf": 0.7, "ari_leaf": 0.6},
}  # fmt: skip
VERDICT: dict[str, Any] = {
    "verdict": "promoted", "passed": True, "reasons": ["recall_50 differs by +0.0061; all absolute floors are met"],
    "checks": [{"name": "recall_50", "value": 0.3312, "bound": 0.02, "passed": True}], "version": "3", "alias": "champion",
    "champion_version": "3", "incumbent_version": "2", "difference": {"mean": 0.0061, "low": 0.001, "high": 0.011},
}  # fmt: skip


def put(
    settings: PipelineSettings,
    table: str,
    rows: pd.DataFrame | None,
    stats: dict[str, Any] | None = None,
    *,
    files: dict[str, Any] | None = None,
    vectors: np.ndarray | None = None,
) -> None:
    with Lake.of(settings).write(table, settings) as pending:
        pending.path.mkdir()
        if rows is not None:
            rows.to_parquet(pending.path / "part.parquet", index=False)
        for name, value in (files or {}).items():
            write_json(pending.path / name, value)
        if vectors is not None:
            save_file({"item_embeddings": vectors}, pending.path / "item_embeddings.safetensors")
        pending.stats = stats or {}


class Page(HTMLParser):
    """Collects what a page refers to, and fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "img":
            self.images.append(values["src"] or "")
            assert values["alt"]
        if tag in ("script", "link", "iframe"):
            self.links.append(tag)
        if "href" in values:
            self.links.append(values["href"] or "")
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def read_page(settings: PipelineSettings) -> Page:
    return Page((report_folder(settings) / "index.html").read_text())


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(finished: PipelineSettings) -> None:
    page = read_page(finished)
    assert set(page.images) == ALL_PICTURES
    assert page.links == ["../index.html", "script", "script", "script"]  # the scripts that lie beside the pages
    assert all((report_folder(finished).parent / name).stat().st_size > 100 for name in SCRIPTS)
    assert "Recall@50" in page.words
    assert "0.3312" in page.words
    assert "visual_features.status3 % have no picture" in page.words  # the place has a cell of its own, and is said once
    assert "<script>alert(1)" in page.words  # shown as text, since no script tag was found above


def test_every_picture_opens_and_shows_something(finished: PipelineSettings) -> None:
    for name in ALL_PICTURES:
        with Image.open(report_folder(finished) / name) as picture:
            assert picture.format == "PNG"
            assert picture.width > 600
            assert np.asarray(picture.convert("L")).std() > 5


def test_drawing_again_gives_the_same_bytes(finished: PipelineSettings) -> None:
    def times() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in report_folder(finished).iterdir()}

    before = times()
    run(finished)
    assert times() == before
    assert not list(report_folder(finished).parent.glob(".*"))


def test_the_summary_says_what_happened_at_a_glance(finished: PipelineSettings) -> None:
    text = format_summary(json.loads((finished.run_dir / "summary.json").read_text()))
    for expected in (
        "120 items, 60 users, 8,700 events from 2026-01-22 to 2026-01-28",
        "events: train 7,000, validation 800, holdout 900",
        "interactions: 50 of 9,000 rows were set aside (unknown_item 50)",
        "balance 0.87",
        "2 repaired; churn since 2026-01-27: 12.5% of unchanged items",
        "items without any view, and so without a cluster: 1",
        "category NMI 0.900",
        "champion (version 2)",
        "0.3312",
        "uniform 5.0%",
        "registered version 3 now carries the alias 'champion' (before: version 2)",
        "- recall_50 differs by +0.0061",
        "raw passed (9), features warned (9)",
        "- warning, features: visual_features.status: 3 % have no picture",
        "1 min 24 s of work in 3 steps, peak memory 700 MB",
        "mlflow ui --backend-store-uri sqlite:///",
        str(report_folder(finished) / "index.html"),
        "/docs/index.html",
    ):
        assert expected in text
    told = "of 9,000 events read, 8,700 were used, 50 set aside and 250 not used (repeated pair 250)"
    assert told in " ".join(text.split())
    assert "same cluster" not in text  # that rate was not measured
    steps = text[text.index("STEPS") :]
    assert steps.index("prepare") < steps.index("train_challenger")
    body = text[: text.index("LOOK NEXT")]
    assert max(len(line) for line in body.splitlines()) <= 100
    assert len(text.splitlines()) < 50


def test_page_and_summary_say_in_words_what_became_of_the_pictures(finished: PipelineSettings) -> None:
    text = format_summary(json.loads((finished.run_dir / "summary.json").read_text()))
    for shown in (" ".join(text.split()).lower(), " ".join(read_page(finished).words.split()).lower()):
        assert "of 130 pictures, 2 cannot be used, but their items have others (2 not found)" in shown
        why = "because the server fails now"
        assert f"by url: 1,100 downloaded now; 1 kept from an earlier download, {why}; 3 kept from an earlier download" in shown
    assert "Pictures of the items: 5 in grey; 7 that the catalogue does not name." in read_page(finished).words


def test_recall_of_each_kind_and_of_new_and_repeated_items_stands_in_a_table(finished: PipelineSettings) -> None:
    recall = {"challenger": 0.4321, "champion": 0.4, "baseline": 0.2}
    parts = ("kind Purchase online", "kind view", "2 other kinds", "items new to the user", "repeated items")
    apart = {name: {"users": 10 + number, "recall": recall} for number, name in enumerate(parts)}
    facts = RunFacts.collect(finished)
    summary = build_summary(finished, facts) | {"recall_apart": apart}
    page = Page(render_page(facts, summary, headline(facts, summary), [])).words
    text = " ".join(format_summary(summary).split())
    for number, name in enumerate(parts):
        assert f"{name[0].upper()}{name[1:]}{10 + number}0.4" in page, name  # as its kind is spelt, with users and recall
        told = "challenger (today) 0.4321, champion 0.4000, uniform-negatives baseline 0.2000"
        assert f"{name}: {told} ({10 + number} users, " in text, name


def test_views_and_clusters_are_counted_from_the_tables(finished: PipelineSettings) -> None:
    summary = build_summary(finished)
    labels = Lake.of(finished).read_pandas("clusters", finished.date)
    inside = labels[labels.primary >= 0]
    sizes = inside.primary.value_counts()
    primary = summary["clusters"]["primary"]
    assert (primary["count"], primary["smallest"], primary["largest"]) == (len(sizes), sizes.min(), sizes.max())
    assert primary["median"] == np.median(sizes)
    assert summary["clusters"]["pairs"]["count"] == len(inside.drop_duplicates(["primary", "secondary"]))
    assert "4 codes without items (3 retired); distortion 0.3125, +2.0% since the date before" in format_summary(summary)
    assert list(summary["views"]) == ["visual", "text", "behaviour"]
    assert summary["views"]["text"] == {"items": 120, "ok": 113, "missing": 7}


def test_items_out_of_stock_are_counted() -> None:
    ingest = {"items": 9, "users": 4, "events": {"train": 5}, "out_of_stock": 3}
    assert "out of stock: 3 items, which are in no answer" in format_summary({"ingest": ingest})
    assert "out of stock" not in format_summary({"ingest": ingest | {"out_of_stock": 0}})


def test_a_run_that_left_nothing_still_has_a_page_and_a_summary(settings: PipelineSettings) -> None:
    assert run(settings)["pictures"] == []
    page = read_page(settings)
    assert page.images == []
    text = format_summary(json.loads((settings.run_dir / "summary.json").read_text()))
    assert "nothing: the run stopped before" in text
    assert "NONE: the run did not reach the promotion gate" in text


def test_a_failed_step_leads_the_summary_with_its_message(settings: PipelineSettings) -> None:
    record = {
        "step": "gate_raw",
        "state": "failed",
        "message": "items: 40 % of the ids repeat. Remedy: export again.",
        "seconds": 2.0,
    }
    write_json(settings.run_dir / "steps" / "gate_raw.json", record | {"peak_memory_mb": 300})
    run(settings)
    text = format_summary(json.loads((settings.run_dir / "summary.json").read_text()))
    assert text.splitlines()[3].startswith("FAILED        gate_raw: items: 40 % of the ids repeat")
    assert "items: 40 % of the ids repeat" in read_page(settings).words


def test_without_champion_truth_and_pictures_the_rest_is_shown(settings: PipelineSettings) -> None:
    count = 30
    items = pd.DataFrame({"item_index": range(count), "item_id": [f"i{n:02d}" for n in range(count)], "num_train": 1})
    put(settings, "items", items.assign(title=None, text=None, image_path=None), INGEST | {"rejected": {}})
    labels = items[["item_index", "item_id"]].assign(primary=np.arange(count) % 3, secondary=0, has_visual=False)
    put(settings, "clusters", labels, {"churn": None})
    put(settings, "codebooks", pd.DataFrame({"x": [0]}), {"cold_because": "no earlier codebooks"})
    alone = {"users": 9, "models": {"challenger": METRICS, "champion": None, "baseline": METRICS}, "incumbent_version": None}
    write_json(settings.run_dir / "metrics.json", alone | {"false_negative_rate": None, "clusters_vs_truth": None})
    assert set(run(settings)["pictures"]) == {"comparison.png", "metrics.png", "cluster_sizes.png", "popularity.png"}
    assert set(read_page(settings).images) == {"comparison.png", "metrics.png", "cluster_sizes.png", "popularity.png"}
    text = format_summary(json.loads((settings.run_dir / "summary.json").read_text()))
    assert "cold start (no earlier codebooks)" in text
    assert "FALSE NEG." not in text
    assert [line.split() for line in text.splitlines() if line.strip().startswith("champion")] == [["champion", "none", "yet"]]
    assert "REJECTED      nothing" in text


@pytest.mark.parametrize(
    ("word", "champion", "expected"),
    [
        ("kept_champion", "2", "CHAMPION KEPT: version 3 is registered, version 2 stays 'champion'"),
        ("no_champion", None, "NOT GOOD ENOUGH: version 3 is registered, no version carries the alias 'champion'"),
        ("blocked_by_gate", "2", "BLOCKED by a gate: version 3 is registered, version 2 stays 'champion'"),
        ("something_new", "2", "SOMETHING NEW: version 3 is registered, version 2 stays 'champion'"),
    ],
)
def test_a_verdict_says_which_version_is_where(word: str, champion: str | None, expected: str) -> None:
    assert verdict_text({"verdict": word, "version": "3", "champion_version": champion, "alias": "champion"}) == expected


def test_a_promotion_with_bad_news_says_so_in_its_first_line() -> None:
    text = verdict_text({"verdict": "promoted", "version": "3", "concerns": ["Recall@50, new items is below the champion's"]})
    assert text.startswith("PROMOTED, but Recall@50, new items is below the champion's: registered version 3")


def test_a_small_catalogue_and_an_anchor_are_named_as_they_are() -> None:
    models = {"challenger": {"recall_6": 0.3, "ndcg_6": 0.2, "coverage_6": 0.9}, "anchor": {"recall_6": 0.31}}
    text = format_summary({"ks": [6], "k_note": "metrics are at 6", "models": models, "users": 9, "anchor_version": "2"})
    assert "Recall@6" in text and "@50" not in text and "metrics are at 6" in text
    assert "best ever (version 2)" in text and "0.3100" in text


@pytest.mark.slow
def test_the_report_runs_as_a_command(settings: PipelineSettings) -> None:
    command = [sys.executable, "-m", "jobs.report", "--home", str(settings.home)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((settings.run_dir / "steps" / "report.json").read_text())["state"] == "success"
    assert (report_folder(settings) / "index.html").exists()


def test_candidates_say_from_which_model_and_how_they_were_found() -> None:
    found = {"k": 100, "users": 4000, "model_version": "3", "index": "ivf", "index_recall": 0.9912}
    line = "CANDIDATES 100 for each of 4,000 users, from version 3 (ivf search, which finds 99.1% of the exact top)"
    assert line in " ".join(format_summary({"candidates": found}).split())
    assert "CANDIDATES" not in format_summary({"candidates": None})


def test_the_bad_news_of_a_promotion_is_said_once_and_is_not_green() -> None:
    reasons = ["recall is below the baseline", "all floors are met"]
    verdict = {"verdict": "promoted", "version": "2", "concerns": reasons[:1], "reasons": reasons}
    text = format_summary({"verdict": verdict})
    assert text.count(reasons[0]) == 1 and text.index(reasons[0]) < text.index(f"- {reasons[1]}")
    assert (verdict_tone(verdict), verdict_tone(verdict | {"concerns": []})) == ("warn", "good")


def test_pictures_are_drawn_once(finished: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.report import gallery

    drawn = []

    @wraps(gallery.draw_pictures)  # the pictures' key covers the code of what draws them
    def draw(_: RunFacts, folder: Path) -> list[Picture]:
        drawn.append(folder)
        return []

    monkeypatch.setattr(gallery, "draw_pictures", draw)
    facts = RunFacts.collect(finished)
    folder, pictures = gallery.gallery(facts)
    assert {picture.file for picture in pictures} == ALL_PICTURES and (folder / "item_map.png").exists() and not drawn
    gallery.gallery(replace(facts, source={"uri": "elsewhere"}))
    assert len(drawn) == 1


def test_agreed_settings_are_said_with_who_agreed_and_what_this_run_was_given_instead() -> None:
    settings = {"training.temperature": 0.05, "training.dropout": 0.3}
    agreed = RECORD | {"settings": settings, "otherwise": {"training.dropout": 0.5}}
    training = {"epochs": 10, "best_epoch": 5, "order": "sequence"}
    text = " ".join(format_summary({"training": training, "agreed": agreed}).split())
    who = "by ann on 2026-11-28, after the search of 2026-01-28:"
    assert f"Tuned settings are in force, agreed {who} training.temperature 0.05." in text
    assert f"Mind: this run was given other values than those agreed {who} training.dropout 0.5 instead of 0.3." in text
    quiet = format_summary({"training": training, "agreed": agreed | {"otherwise": {}}})
    assert "training.dropout 0.3" in quiet and "Mind" not in quiet
    assert "agreed" not in format_summary({"training": training, "agreed": None})
