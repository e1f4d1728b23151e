"""Rows that are used, set aside or not used: each has its place in the counts of the ingest."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.base.accounting import accounting
from jobs.base.forgotten import hash_of, remember
from jobs.lake.tables import Lake
from jobs.source import ingest
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]


def counted(settings, folder: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """The summary of an ingest in which no row of the log is unaccounted for."""
    summary = ingest.run(build.tiny(settings, folder, ingest={"split": "window"}, **sections))
    rejected = sum(summary["rejected"]["interactions"].values())
    used = sum(summary["events"].values())
    not_used = {fate: count for fate, count in summary["not_used"].items() if fate != "later_than_date"}
    assert summary["rows_read"]["interactions"] == used + rejected + sum(not_used.values())
    return summary


def test_view_cart_and_purchase_in_one_second_are_one_event(settings, tmp_path: Path) -> None:
    log = build.interactions()
    told = pd.concat([log.assign(kind=kind) for kind in ("view", "cart", "purchase")])
    summary = counted(settings, build.write_source(tmp_path, interactions=told), data={"max_rejected_fraction": 0.05})
    assert summary["rows_read"]["interactions"] == 3 * len(log)
    assert summary["not_used"] == {"told_again": 2 * len(log)}
    assert summary["rejected"]["interactions"] == {}
    assert sum(summary["events"].values()) == len(log)


def test_the_strongest_kind_of_one_second_is_kept(settings, tmp_path: Path) -> None:
    log = build.interactions()
    told = pd.concat([log.assign(event_type=kind) for kind in ("purchase", "view")])
    folder = build.write_source(tmp_path, interactions=told)
    (folder / "data.yaml").write_text(
        "interactions: {columns: {kind: event_type}}\nkinds: {view: {role: history}, purchase: {weight: 8}}\n"
    )
    summary = counted(settings, folder)
    assert summary["not_used"] == {"told_again": len(log)}
    chosen = build.tiny(settings, folder)
    stored = Lake.of(chosen).read_pandas("interactions", build.DATE)
    assert set(stored["kind"]) == {"purchase"} and set(stored["weight"]) == {8.0}


@pytest.mark.parametrize(("repeats", "used"), [("once", 144), ("again", 288)])
def test_groceries_count_once_or_again(settings, tmp_path: Path, repeats: str, used: int) -> None:
    log = build.interactions()
    again = pd.concat([log, log.assign(timestamp=log["timestamp"] + 3_600)])
    folder = build.write_source(tmp_path, interactions=again)
    (folder / "data.yaml").write_text(f"repeats: {repeats}\n")
    summary = counted(settings, folder)
    assert sum(summary["events"].values()) == used
    assert summary["not_used"] == ({"repeated_pair": len(log)} if repeats == "once" else {})
    assert summary["rejected"]["interactions"] == {}


def test_two_pieces_of_one_article_on_one_day(settings, tmp_path: Path) -> None:
    log = build.interactions()
    log["timestamp"] = log["timestamp"] // build.DAY * build.DAY
    pieces = pd.concat([log, log.iloc[::10]])
    summary = counted(settings, build.write_source(tmp_path, interactions=pieces), data={"max_rejected_fraction": 0.05})
    assert summary["not_used"] == {"told_again": 15}
    assert sum(summary["events"].values()) == len(log)


def test_a_few_repeated_items_are_set_aside_below_the_limit(settings, tmp_path: Path) -> None:
    items = build.items(60)
    repeated = pd.concat([items, items.iloc[[0, 1]].assign(title="another")], ignore_index=True)
    summary = counted(settings, build.write_source(tmp_path, items=repeated), data={"max_rejected_fraction": 0.05})
    assert summary["rows_read"]["items"] == 62
    assert summary["rejected"]["items"] == {"repeated_item_id": 2}
    stored = Lake.of(build.tiny(settings, tmp_path)).read_pandas("items", build.DATE)
    assert "another" not in set(stored["title"])


def test_the_first_row_of_an_item_counts_whether_or_not_its_part_is_written_anew(settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path)
    (folder / "items.parquet").unlink()
    (folder / "items.parquet").mkdir()
    build.items().assign(title="first").to_parquet(folder / "items.parquet" / "a.parquet", compression="brotli")
    build.items().assign(title="second").to_parquet(folder / "items.parquet" / "b ü.parquet")
    counted(settings, folder)
    chosen = build.tiny(settings, folder)
    assert set(Lake.of(chosen).read_pandas("items", build.DATE)["title"]) == {"first"}
    keys = set(Lake.of(chosen).read_pandas("quarantine", build.DATE)["key"])
    assert keys == {f"b ü.parquet:{row}" for row in range(build.NUM_ITEMS)}


def test_words_for_nothing_make_no_user(settings, tmp_path: Path) -> None:
    log = build.interactions()
    log.loc[log.index[::36], "user_id"] = ["nan", "None", "NULL", "NaN"]
    folder = build.write_source(tmp_path)
    (folder / "interactions.parquet").unlink()
    log.to_csv(folder / "interactions.csv", index=False)
    summary = counted(settings, folder, data={"max_rejected_fraction": 0.05})
    assert summary["rejected"]["interactions"] == {"missing_id": 4}
    users = set(Lake.of(build.tiny(settings, folder)).read_pandas("users", build.DATE)["user_id"])
    assert users == set(build.interactions()["user_id"])
    keys = set(Lake.of(build.tiny(settings, folder)).read_pandas("quarantine", build.DATE)["key"])
    assert keys == {f"interactions.csv:{row + 2}" for row in range(0, 144, 36)}, "lines of the file"


def test_a_column_that_only_the_names_of_folders_give(settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path)
    (folder / "interactions.parquet").unlink()
    for user, rows in build.interactions().groupby("user_id"):
        part = folder / "interactions" / f"user_id={user}"
        part.mkdir(parents=True)
        rows.drop(columns="user_id").to_parquet(part / "part-0.parquet", index=False)
    summary = counted(settings, folder)
    assert summary["rejected"]["interactions"] == {} and summary["users"] == build.NUM_USERS


def test_times_of_the_year_one_are_set_aside(settings, tmp_path: Path) -> None:
    log = build.interactions()
    stamps = log["timestamp"].astype("datetime64[s]").astype(object).tolist()
    stamps[0], stamps[13] = pd.Timestamp("0001-01-01").to_pydatetime(), pd.Timestamp("9999-12-31").to_pydatetime()
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = build.write_source(tmp_path)
    table = pa.Table.from_pandas(log, preserve_index=False).set_column(2, "timestamp", pa.array(stamps, pa.timestamp("us")))
    pq.write_table(table, folder / "interactions.parquet")
    summary = counted(settings, folder)
    assert summary["rejected"]["interactions"] == {"future_timestamp": 1, "unusable_timestamp": 1}


@pytest.mark.parametrize("repeated", ["damage", "first"])
def test_a_catalogue_that_is_taken_from_the_log(settings, tmp_path: Path, repeated: str) -> None:
    log = build.interactions().assign(title=[f"title {row}" for row in range(144)])
    folder = build.write_source(tmp_path, interactions=log)
    (folder / "items.parquet").unlink()
    (folder / "data.yaml").write_text(f"items: {{source: interactions.parquet, repeated_ids: {repeated}}}\n")
    summary = counted(settings, folder)
    again = len(log) - build.NUM_ITEMS
    assert summary["rejected"]["items"] == ({"repeated_item_id": again} if repeated == "damage" else {})
    titles = Lake.of(build.tiny(settings, folder)).read_pandas("items", build.DATE).set_index("item_id")["title"]
    assert titles.to_dict() == log.groupby("item_id")["title"].first().to_dict()


def test_every_row_of_every_table_has_a_place(settings, tmp_path: Path) -> None:
    log = build.interactions().assign(title="thing")
    log.loc[[3, 4], "item_id"] = None
    known = pd.DataFrame(
        [("u00", "DE"), ("u00", "AT"), ("u01", None), (None, "DE"), ("u02", "DE"), ("u03", "FR"), ("u03", "CH")],
        columns=["user_id", "country"],
    )
    pictures = pd.DataFrame({"item_id": ["i00", "i01", "unheard-of", None], "image_path": ["a.png"] * 4})
    folder = build.write_source(tmp_path / "data", interactions=log, users=known, images=pictures)
    (folder / "items.parquet").unlink()
    yaml = (
        "items: {source: interactions.parquet, repeated_ids: first}\nusers: {attributes: {country: text}, repeated_ids: %s}\n"
    )
    (folder / "data.yaml").write_text(yaml % "damage")
    remember(settings, hash_of(settings, "u02"))
    summary = counted(settings, folder)
    assert summary["unused_rows"] == {
        "items": {"repeated_id": 144 - 2 - build.NUM_ITEMS, "missing_id": 2},
        "images": {"unknown_item": 1},
        "users": {"without_attribute": 1, "forgotten": 1},
    }
    assert summary["rejected"]["users"] == {"missing_id": 1, "repeated_user_id": 2}
    assert summary["rows_read"] | {"interactions": 0} == {"interactions": 0, "items": 144, "images": 4, "users": 7}
    assert summary["forgotten"] == 12
    told = " ".join(accounting(summary))
    assert "of 144 rows of items, 24 were used, 0 set aside and 120 not used (repeated id 118, missing id 2)" in told
    assert "of 7 rows of users, 2 were used, 3 set aside and 2 not used (forgotten 1, without attribute 1)" in told
    assert "of 4 rows of images, 2 were used, 1 set aside and 1 not used (unknown item 1)" in told
    assert "12 events of users who were forgotten" in told
    (folder / "data.yaml").write_text(yaml % "first")
    summary = counted(settings, folder)
    expected = {"repeated_id": 2, "missing_id": 1, "without_attribute": 1, "forgotten": 1}
    assert summary["unused_rows"]["users"] == expected and "users" not in summary["rejected"]
