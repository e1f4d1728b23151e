"""Logs in the shapes of shops, services and public data sets, landed and ingested with the very YAML of the documentation."""

import re
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.lake.tables import Lake
from jobs.source import ingest
from jobs.source.tables import read_source
from tests.jobs import source_builder as build
from tests.jobs.landing import export_shapes as shapes
from tests.jobs.landing import review_shapes as more
from tests.tutorials import TUTORIALS, blocks

PAGE = "coming-from.md"
SHAPES: dict[str, Callable[[Path], pd.DataFrame]] = {
    "Shopify": shapes.shopify,
    "GA4 in BigQuery": shapes.ga4,
    "RetailRocket": shapes.retailrocket,
    "H&M": shapes.handm,
    "MovieLens": shapes.movielens,
    "MovieLens 1M": shapes.movielens_1m,
    "Amazon reviews": more.amazon,
    "Steam": more.steam,
    "Yelp": more.yelp,
    "Last.fm": more.lastfm,
    "A click stream of sessions": shapes.stream,
    "A lake house with Delta tables": more.delta,
}
STEPS = ("ingest", "visual_features", "text_features", "behaviour_features", "fit_codebooks", "assign_clusters")
STEPS += ("build_training_set",)
# What is set aside, by table and reason: quirks of the source that its section tells of.
SET_ASIDE = {"Steam": {"unusable_timestamp": 1}, "Last.fm": {"missing_id": 120}}


def mappings() -> dict[str, str]:
    """The YAML of each section of the page."""
    sections = re.split(r"^## ", (TUTORIALS / PAGE).read_text(), flags=re.MULTILINE)[1:]
    found = (re.search(r"^```yaml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE) for section in sections)
    return {section.splitlines()[0]: yaml[1] for section, yaml in zip(sections, found, strict=True) if yaml}


def test_every_mapping_of_the_page_is_short_and_has_a_source() -> None:
    assert set(mappings()) == {*SHAPES, "PostgreSQL"}
    assert len(mappings()) == len([block for block in blocks(PAGE) if block.kind == "mapping"])
    assert all(len(text.splitlines()) <= 15 for text in mappings().values())


def check(settings: Any, spark: Any, folder: Path, expected: pd.DataFrame, set_aside: dict[str, int]) -> dict[str, Any]:
    """Land and ingest a source: its events are the expected ones, and each of them has its place in the counts."""
    limits = {"max_rejected_fraction": 0.05}
    chosen = build.tiny(settings, folder, data=limits, ingest={"split": "per_user_tail"}, clusters={"num_primary": 4})
    columns = list(expected.columns)
    rows = read_source(spark, chosen).interactions.select(*columns).toPandas()
    for frame in (rows, expected):
        frame["timestamp"] = frame["timestamp"].astype("Int64")
    by = {"by": columns, "ignore_index": True}
    pd.testing.assert_frame_equal(rows.sort_values(**by), expected.sort_values(**by), check_dtype=False)
    summary = ingest.run(chosen)
    assert summary["rejected"]["interactions"] == set_aside and summary["rejected"]["items"] == {}
    counted = [*summary["events"].values(), *summary["not_used"].values(), *summary["rejected"]["interactions"].values()]
    assert sum(counted) == len(expected)
    assert summary["items"] == shapes.NUM_ITEMS
    titles = Lake.of(chosen).read_pandas("items", build.DATE)
    assert titles[["title", "text"]].notna().any(axis=None)
    return summary


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_lands_and_is_ingested(settings, spark, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    expected = SHAPES[name](folder)
    (folder / "data.yaml").write_text(mappings()[name])
    if name == "Yelp":
        pacific = pd.to_datetime(expected["timestamp"], unit="s").dt.tz_localize("America/Los_Angeles")
        expected["timestamp"] = pacific.astype("int64") // (10**9 if pacific.dt.unit == "ns" else 1)
    check(settings, spark, folder, expected, SET_ASIDE.get(name, {}))


@pytest.mark.spark
@pytest.mark.slow
def test_articles_with_pictures_go_all_the_way_to_a_training_set(settings, spark, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    shapes.handm(tmp_path / "source")
    (tmp_path / "source" / "data.yaml").write_text(mappings()["H&M"])
    chosen = build.tiny(settings, tmp_path / "source", clusters={"num_primary": 4}, gate={"min_evaluated_users": 20})
    made = {step: import_module(f"jobs.{step}").run(chosen) for step in STEPS}
    lake = Lake.of(chosen)
    status = lake.read_pandas("visual_features", build.DATE, ["status"])["status"].value_counts()
    assert status.to_dict() == {"ok": 270, "missing": 30}
    assert len(lake.read_pandas("clusters", build.DATE)) == shapes.NUM_ITEMS
    assert made["build_training_set"]


@pytest.fixture
def database() -> Iterator[tuple[str, int]]:
    """A PostgreSQL server with an empty database `shop`: its URI and its port."""
    from infra.local.postgres import Postgres

    with tempfile.TemporaryDirectory(prefix="esans-shop-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's account can reach it, unlike pytest's own folder
        server = Postgres(Path(folder) / "postgres", "a-password", Path(folder) / "log")
        port = server.start(None)
        try:
            server.ensure_databases(port, ["shop"])
            yield f"postgresql://esans:a-password@127.0.0.1:{port}/shop", port
        finally:
            server.stop()


@pytest.mark.spark
@pytest.mark.slow
def test_a_database_lands_and_is_ingested(
    settings, spark, tmp_path: Path, database: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, port = database
    expected = more.fill_database(uri)
    monkeypatch.setenv("PGPASSWORD", "a-password")
    text = mappings()["PostgreSQL"].replace("db.example.org:5432", f"127.0.0.1:{port}")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data.yaml").write_text(text)
    check(settings, spark, tmp_path / "source", expected, {})
