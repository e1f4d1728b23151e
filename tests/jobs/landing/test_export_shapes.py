"""Logs in the shapes of shops, services and public data sets, checked and run with the very YAML of the documentation."""

import datetime as dt
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from infra.local.postgres import Postgres
from jobs.base.settings import PipelineSettings
from jobs.base.verdicts import PROMOTED
from jobs.lake.tables import Lake
from jobs.preflight.check import Check, check
from jobs.report import __main__ as report
from jobs.report.summary import report_folder
from jobs.source import ingest
from jobs.source.tables import read_source
from tests.jobs import source_builder as build
from tests.jobs.day import run_day
from tests.jobs.landing import export_shapes as shapes
from tests.jobs.landing import ordered_shapes as without_times
from tests.jobs.landing import review_shapes as more
from tests.jobs.source.picture_server import PictureServer, picture_server
from tests.postgres_server import started
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
    "Sequences with an order": without_times.ordered,
    "Sequences in lines": without_times.lines,
    "Sets without any order": without_times.sets,
}
ONLY_IDS = ("Sequences in lines", "Sets without any order")  # their items have neither title nor text
# A day takes a minute of CPU time, so only two shapes have one: with pictures and texts, and with ids alone.
WHOLE_DAYS = ("H&M", "Sequences in lines")
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


def chosen_for(settings: Any, folder: Path) -> PipelineSettings:
    """Settings for so small a source; what it holds is said by its `data.yaml` alone."""
    return build.tiny(
        settings,
        folder,
        data={"max_rejected_fraction": 0.05},
        clusters={"num_primary": 4},
        gate={"min_evaluated_users": 20, "min_recall": 0.0, "allow_below_baseline": True},
        training={"epochs": 1},
    )


def checked(chosen: PipelineSettings, folder: Path) -> Check:
    """What `make check` finds. The date of the run becomes the one that it took."""
    cache, today = chosen.home / "landing", dt.date(2026, 2, 1)
    proposal = folder.parent / "proposed.yaml"
    found = check(chosen, date=None, today=today, cache=cache, proposal=proposal, say=lambda line: None)
    assert found.verdict != "not" and found.proposal is None and found.date is not None, found.reasons
    chosen.date = found.date
    return found


def compare(settings: Any, spark: Any, folder: Path, expected: pd.DataFrame, name: str) -> None:
    """Check and ingest a source: events are the expected ones, each has its place in the counts, and the check said so."""
    chosen = chosen_for(settings, folder)
    found = checked(chosen, folder)
    columns = list(expected.columns)
    rows = read_source(spark, chosen).interactions.select(*columns).toPandas()
    for frame in (rows, expected):
        frame["timestamp"] = frame["timestamp"].astype("Int64")
    by = {"by": columns, "ignore_index": True}
    pd.testing.assert_frame_equal(rows.sort_values(**by), expected.sort_values(**by), check_dtype=False)
    summary = ingest.run(chosen)
    assert found.ingest == summary
    assert summary["rejected"]["interactions"] == SET_ASIDE.get(name, {}) and summary["rejected"]["items"] == {}
    counted = [*summary["events"].values(), *summary["not_used"].values(), *summary["rejected"]["interactions"].values()]
    assert sum(counted) == len(expected)
    assert summary["items"] == shapes.NUM_ITEMS
    titles = Lake.of(chosen).read_pandas("items", chosen.date)[["title", "text"]]
    assert titles.notna().any(axis=None) == (name not in ONLY_IDS)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_checked_and_ingested_alike(settings, spark, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    expected = SHAPES[name](folder)
    (folder / "data.yaml").write_text(mappings()[name])
    if name == "Yelp":
        pacific = pd.to_datetime(expected["timestamp"], unit="s").dt.tz_localize("America/Los_Angeles")
        expected["timestamp"] = pacific.astype("int64") // (10**9 if pacific.dt.unit == "ns" else 1)
    compare(settings, spark, folder, expected, name)


@pytest.mark.spark
@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.usefixtures("spark", "home")
@pytest.mark.parametrize("name", WHOLE_DAYS)
def test_a_shape_goes_through_a_whole_day(settings, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    SHAPES[name](folder)
    (folder / "data.yaml").write_text(mappings()[name])
    with picture_server() as server:
        chosen = chosen_for(settings, folder)
        if name == "H&M":
            add_pictures(folder, server)
            chosen.pictures.hosts = server.host
        found = checked(chosen, folder)
        made = run_day(chosen)
    assert made["ingest"] == found.ingest
    assert made["promote"]["verdict"] == PROMOTED, made["judge"]
    if name == "H&M":
        see_pictures_and_users(chosen, found)


def add_pictures(folder: Path, server: PictureServer) -> None:
    """The first article, which has no file, gets a picture by URL; the second one its file, the same URL, and a lost one."""
    server.pages["/front.jpg"] = build.picture(1, "JPEG")
    first, second = f"{108_775_015:010d}", f"{108_775_016:010d}"
    files = [server.url("/front.jpg"), f"images/{second[:3]}/{second}.jpg", server.url("/front.jpg"), server.url("/gone.jpg")]
    photos = pd.DataFrame({"article_id": [first, second, second, second], "file": files})
    photos.to_csv(folder / "photos.csv", index=False)
    with (folder / "data.yaml").open("a") as stream:
        stream.write("images:\n  source: photos.csv\n  columns: {item_id: article_id, image_path: file}\n")


def see_pictures_and_users(chosen: PipelineSettings, found: Check) -> None:
    """All steps took both, and the page of the report says so."""
    lake, date = Lake.of(chosen), chosen.date
    seen = lake.read_pandas("visual_features", date, ["item_index", "status"])
    assert seen["status"].value_counts().to_dict() == {"ok": 271, "missing": 29}
    assert seen.set_index("item_index")["status"][0] == "ok"
    users = lake.read_pandas("users", date, ["user_id", "num_train", "num_validation", "num_holdout", "attributes"])
    new = users[users.filter(like="num_").sum(axis=1) == 0]
    assert len(new) == 1 and new["attributes"].iloc[0]["club_member_status"] == "ACTIVE"
    assert set(lake.read_pandas("candidates", date, ["user_id"])["user_id"]) == set(users["user_id"])
    assert "300 items name 302 picture files" in " ".join(found.sections["Pictures"])
    report.run(chosen)
    page = (report_folder(chosen) / "index.html").read_text()
    # The gate had fetched the picture already, so the view did not ask for it again.
    by_url = "pictures by URL: 1 kept from an earlier download; 1 not found"
    told = (by_url, "272 pictures, 1 cannot be used, but their items have others (1 not found)", "known of users: age 8")
    for each in told:
        assert each.lower() in page.lower(), each


@pytest.fixture
def database() -> Iterator[tuple[str, int]]:
    """A PostgreSQL server with an empty database `shop`: its URI and its port."""
    with tempfile.TemporaryDirectory(prefix="esans-shop-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's account can reach it, unlike pytest's own folder
        server = Postgres(Path(folder) / "postgres", "a-password", Path(folder) / "log")
        port = started(server, None)
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
    compare(settings, spark, tmp_path / "source", expected, "PostgreSQL")
