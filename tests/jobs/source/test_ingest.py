"""Cleaning, numbering and splitting of the log."""

import datetime as dt
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.base.errors import DataError
from jobs.lake.attributes import read_attributes
from jobs.lake.dense_index import dense_index
from jobs.lake.tables import Lake
from jobs.source import ingest
from jobs.source.cleaning import clean_events, clean_items
from jobs.source.splitting import assign_split, choose_split
from jobs.source.tables import read_source
from tests.jobs import source_builder as build

pytestmark = pytest.mark.spark
TABLES = ("items", "stock", "users", "interactions", "quarantine")


def published(settings) -> dict[str, pd.DataFrame]:
    lake = Lake.of(settings)
    return {table: lake.read_pandas(table, settings.date) for table in TABLES}


def named(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Interactions with the ids of user and item."""
    return tables["interactions"].merge(tables["users"]).merge(tables["items"], on="item_index")


@pytest.mark.usefixtures("spark")
class TestCleanLog:
    def test_tables_hold_what_the_source_says(self, settings, tmp_path: Path) -> None:
        folder = build.write_source(tmp_path, items=build.items(30))  # six without any event
        chosen = build.tiny(settings, folder, ingest={"split": "window"})
        summary = ingest.run(chosen)
        tables = published(chosen)
        assert tables["items"]["item_id"].tolist() == sorted(build.items(30)["item_id"])
        assert tables["items"]["item_index"].tolist() == list(range(30))
        assert tables["users"]["user_id"].tolist() == sorted(set(build.interactions()["user_id"]))
        assert len(tables["quarantine"]) == 0
        assert list(tables["quarantine"].columns) == ["table", "key", "column", "reason", "value"]
        rows, log = named(tables), build.interactions()
        keys = ["user_id", "item_id", "timestamp"]
        pd.testing.assert_frame_equal(
            rows[keys].sort_values(keys, ignore_index=True), log.sort_values(keys, ignore_index=True), check_dtype=False
        )
        stored = tables["interactions"]
        by = ["user_index", "timestamp", "item_index"]
        pd.testing.assert_frame_equal(stored, stored.sort_values(by, ignore_index=True))
        age = (build.NOON - rows["timestamp"] + build.DAY // 2) // build.DAY  # whole days before the logical date
        expected = np.where(age < 3, "holdout", np.where(age < 5, "validation", "train"))
        assert rows["split"].tolist() == expected.tolist()
        popularity = rows[rows["split"] == "train"].groupby("item_id").size()
        assert (
            tables["items"]
            .set_index("item_id")["num_train"]
            .equals(popularity.reindex(sorted(build.items(30)["item_id"]), fill_value=0).astype("int64").rename("num_train"))
        )
        users = tables["users"].set_index("user_id")
        assert (users[["num_train", "num_validation", "num_holdout"]] == [7, 2, 3]).all(axis=None)
        assert summary["events"] == {"train": 84, "validation": 24, "holdout": 36}
        manifest = Lake.of(chosen).manifest("interactions", chosen.date)
        assert manifest["stats"]["split"] == "window"
        assert set(manifest["inputs"]) == {"source/interactions", "source/items"}

    def test_rerun_and_other_order_of_rows_give_the_same_digests(self, settings, tmp_path: Path) -> None:
        chosen = build.tiny(settings, build.write_source(tmp_path))
        lake = Lake.of(chosen)
        ingest.run(chosen)
        first = {table: lake.manifest(table, chosen.date)["digest"] for table in TABLES}
        build.write_source(tmp_path, interactions=build.interactions().sample(frac=1, random_state=1))
        ingest.run(chosen)
        assert {table: lake.manifest(table, chosen.date)["digest"] for table in TABLES} == first


@pytest.mark.usefixtures("spark")
class TestOutOfStock:
    def test_what_the_catalogue_says_counts_at_the_end_of_the_date(self, settings, tmp_path: Path) -> None:
        end = pd.Timestamp(build.DATE) + pd.Timedelta(days=1)
        catalogue = build.items().assign(available=None, available_from=pd.NaT, available_until=pd.NaT)
        catalogue["available"] = [False, True, 0, 3, *[None] * 20]  # a number is the stock
        catalogue["available"] = catalogue["available"].astype("Float64")
        second = pd.Timedelta(seconds=1)
        for row, start, stop in (
            (4, end, None),
            (5, end + second, None),
            (6, None, end),
            (7, None, end + second),
            (8, end, end),
        ):
            catalogue.loc[row, ["available_from", "available_until"]] = [start, stop]
        for name in ("available_from", "available_until"):
            catalogue[name] = pd.to_datetime(catalogue[name]).astype("datetime64[us]")
        catalogue.loc[1, "available_until"] = end - pd.Timedelta(days=30)
        folder = build.write_source(tmp_path, items=catalogue)
        chosen = build.tiny(settings, folder)
        summary = ingest.run(chosen)
        table = published(chosen)["stock"].set_index("item_id")["available"]
        assert table[~table].index.tolist() == ["i00", "i01", "i02", "i05", "i06", "i08"]
        assert summary["out_of_stock"] == 6 and summary["items"] == build.NUM_ITEMS
        # Their events stay.
        assert sum(summary["events"].values()) == len(build.interactions())
        assert summary["rejected"] == {"interactions": {}, "items": {}}

    def test_without_a_word_about_it_everything_can_be_had(self, settings, tmp_path: Path) -> None:
        chosen = build.tiny(settings, build.write_source(tmp_path))
        assert ingest.run(chosen)["out_of_stock"] == 0
        assert published(chosen)["stock"]["available"].tolist() == [True] * build.NUM_ITEMS

    def test_a_change_of_the_stock_changes_no_table_that_training_reads(self, settings, tmp_path: Path) -> None:
        digests = []
        for gone in (3, 8):
            catalogue = build.items().assign(available=[row >= gone for row in range(build.NUM_ITEMS)])
            chosen = build.tiny(settings, build.write_source(tmp_path, items=catalogue))
            assert ingest.run(chosen)["out_of_stock"] == gone
            digests.append({table: Lake.of(chosen).manifest(table, chosen.date)["digest"] for table in TABLES})
        assert {table for table in TABLES if digests[0][table] != digests[1][table]} == {"stock"}

    def test_a_catalogue_of_which_nothing_can_be_had_stops_the_run(self, settings, tmp_path: Path) -> None:
        folder = build.write_source(tmp_path, items=build.items().assign(available=False))
        with pytest.raises(DataError, match="none of the 24 items can be had") as caught:
            ingest.run(build.tiny(settings, folder))
        assert caught.value.column == "available"


@pytest.mark.usefixtures("spark")
class TestAttributes:
    YAML = "items: {attributes: {price: number, category: text, markets: texts, look: embedding}}"

    def catalogue(self) -> pd.DataFrame:
        return build.items().assign(
            category=["shoes", None] * 12, price="9.5", markets=[["DE", "AT"], []] * 12, look=[[0.5, row] for row in range(24)]
        )

    def test_they_stand_beside_the_item_by_name(self, settings, tmp_path: Path) -> None:
        folder = build.write_source(tmp_path, items=self.catalogue().sample(frac=1, random_state=0))
        (folder / "data.yaml").write_text(self.YAML)
        chosen = build.tiny(settings, folder)
        ingest.run(chosen)
        found = read_attributes(Lake.of(chosen), chosen.date, "item_id", ["i03", "none", "i00"])
        assert found is not None and found.to_pylist() == [
            {"category": None, "look": [0.5, 3.0], "markets": [], "price": 9.5},
            {"category": None, "look": None, "markets": None, "price": None},
            {"category": "shoes", "look": [0.5, 0.0], "markets": ["DE", "AT"], "price": 9.5},
        ]
        by_index = read_attributes(Lake.of(chosen), chosen.date, "item_index", np.array([3]))
        assert by_index is not None and by_index.to_pylist() == found.to_pylist()[:1]

    def test_without_a_word_about_them_there_are_none(self, settings, tmp_path: Path) -> None:
        chosen = build.tiny(settings, build.write_source(tmp_path, items=self.catalogue()))
        ingest.run(chosen)
        assert "attributes" not in published(chosen)["items"]
        assert read_attributes(Lake.of(chosen), chosen.date, "item_id", ["i03"]) is None

    def test_vectors_of_two_lengths_stop_the_run(self, settings, tmp_path: Path) -> None:
        table = self.catalogue()
        table.at[5, "look"] = [1.0]
        folder = build.write_source(tmp_path, items=table)
        (folder / "data.yaml").write_text(self.YAML)
        with pytest.raises(DataError, match=r"1 of length 1 \(such as that of i05\), 23 of length 2") as caught:
            ingest.run(build.tiny(settings, folder))
        assert caught.value.column == "look"


@pytest.mark.usefixtures("spark")
class TestBadRows:
    def test_each_kind_is_set_aside_counted_and_listed(self, settings, tmp_path: Path) -> None:
        log, catalogue = build.interactions(), build.items()
        noon, bad = build.NOON, pd.DataFrame
        extra = [
            ("u00", "unheard-of", noon),
            (None, "i01", noon),
            ("u01", " ", noon),
            ("u02", "i03", int(time.time()) + 3 * build.DAY),
            ("u03", "i03", -5),
            tuple(log.iloc[0]),
            *[("robot", f"i{row:02d}", noon + row) for row in range(9)],
            ("robot", "i10", noon - 4 * build.DAY),
        ]
        log = pd.concat([log, bad(extra, columns=log.columns)], ignore_index=True)
        again = pd.concat([catalogue, catalogue.head(2).assign(title="second"), bad({"item_id": [None]})], ignore_index=True)
        images = bad({"item_id": ["i00", "i00", None], "image": [build.picture(seed) for seed in range(3)]})
        folder = build.write_source(tmp_path, interactions=log, items=again, images=images)
        chosen = build.tiny(settings, folder, ingest={"max_events_per_user_day": 8})
        summary = ingest.run(chosen)
        tables = published(chosen)
        expected = {
            "images": {"missing_id": 1},
            "interactions": {
                "bot_user": 10,
                "future_timestamp": 1,
                "missing_id": 2,
                "unknown_item": 1,
                "unusable_timestamp": 1,
            },
            "items": {"missing_id": 1, "repeated_item_id": 2},
        }
        assert summary["rejected"] == expected
        assert summary["not_used"] == {"told_again": 1}
        quarantine = tables["quarantine"]
        counted = quarantine.groupby(["table", "reason"]).size().to_dict()
        assert counted == {(table, reason): n for table, reasons in expected.items() for reason, n in reasons.items()}
        rows = quarantine.set_index(["table", "reason"])
        first_extra = len(build.interactions())
        assert tuple(rows.loc[("interactions", "unknown_item")].iloc[0]) == (
            f"interactions.parquet:{first_extra}",
            "item_id",
            "unheard-of",
        )
        assert set(rows.loc[("interactions", "missing_id")]["column"]) == {"user_id", "item_id"}
        assert rows.loc[("items", "repeated_item_id")]["key"].tolist() == ["items.parquet:24", "items.parquet:25"]
        assert "robot" not in set(tables["users"]["user_id"])
        assert "second" not in set(tables["items"]["title"])
        assert len(tables["interactions"]) == first_extra

    def test_too_many_rejected_rows_stop_and_publish_nothing(self, settings, tmp_path: Path) -> None:
        log = build.interactions()
        log.loc[log.index[:20], "item_id"] = "gone"
        folder = build.write_source(tmp_path, interactions=log)
        chosen = build.tiny(settings, folder, data={"max_rejected_fraction": 0.05})
        with pytest.raises(DataError) as caught:
            ingest.run(chosen)
        error = caught.value
        assert "unknown_item 20" in error.problem
        assert "item_id = gone" in error.problem
        assert error.rows[0] == "interactions.parquet:0"
        assert error.file == str(folder / "interactions.parquet")
        assert not any(Lake.of(chosen).exists(table, chosen.date) for table in TABLES)

    def test_repeated_item_ids_above_the_limit_stop(self, settings, tmp_path: Path) -> None:
        folder = build.write_source(tmp_path, items=pd.concat([build.items()] * 2))
        with pytest.raises(DataError, match="repeated_item_id 24"):
            ingest.run(build.tiny(settings, folder, data={"max_rejected_fraction": 0.2}))

    def test_fewer_items_than_clusters_stop(self, settings, tmp_path: Path) -> None:
        chosen = build.tiny(settings, build.write_source(tmp_path), clusters={"num_primary": 5, "min_cluster_size": 5})
        with pytest.raises(DataError, match="24 items; 5 clusters of at least 5 need 25") as caught:
            ingest.run(chosen)
        assert "clusters.num_primary to 4" in caught.value.remedy

    def test_split_without_training_events_stops(self, settings, tmp_path: Path) -> None:
        folder = build.write_source(tmp_path, interactions=build.interactions(num_days=2))
        with pytest.raises(DataError, match="leaves no train events"):
            ingest.run(build.tiny(settings, folder, ingest={"split": "window"}))


@pytest.mark.usefixtures("spark")
class TestTime:
    def test_later_events_wait_and_change_nothing(self, settings, tmp_path: Path) -> None:
        log = build.interactions()
        chosen = build.tiny(
            settings, build.write_source(tmp_path / "a", interactions=log), ingest={"max_events_per_user_day": 3}
        )
        ingest.run(chosen)
        before = published(chosen)
        tomorrow = pd.DataFrame(
            [("u00", f"i{row:02d}", build.NOON + build.DAY + row) for row in range(9)]
            + [("u01", "no such", build.NOON + build.DAY)],
            columns=log.columns,
        )
        folder = build.write_source(tmp_path / "b", interactions=pd.concat([tomorrow, log]))
        later = build.tiny(settings, folder, ingest={"max_events_per_user_day": 3})
        summary = ingest.run(later)
        assert summary["not_used"] == {"later_than_date": 10}
        for table in TABLES:
            pd.testing.assert_frame_equal(published(later)[table], before[table])

    def test_a_pair_counts_once_at_its_first_time_even_before_the_lookback(self, settings, tmp_path: Path) -> None:
        log = build.interactions()
        repeat = log.iloc[[0, 8]].assign(timestamp=build.NOON + 100)  # first seen 11 and 3 days before the logical date
        folder = build.write_source(tmp_path, interactions=pd.concat([log, repeat]))
        chosen = build.tiny(settings, folder, data={"lookback_days": 6}, ingest={"split": "per_user_tail"})
        summary = ingest.run(chosen)
        assert summary["not_used"] == {"before_lookback": 6 * build.NUM_USERS, "repeated_pair": 2}
        rows = named(published(chosen))
        assert build.NOON + 100 not in set(rows["timestamp"])
        assert rows["timestamp"].min() >= build.NOON - 6 * build.DAY

    def test_tail_split_against_brute_force(self, settings, tmp_path: Path) -> None:
        sizes = dict(enumerate([1, 4, 5, 6, 9, 10, 11, 20, 30]))
        log = pd.DataFrame(
            [
                (f"u{user}", f"i{row:02d}", build.NOON - (row % 3) * 50)  # many equal times
                for user, size in sizes.items()
                for row in range(size)
            ],
            columns=["user_id", "item_id", "timestamp"],
        )
        folder = build.write_source(tmp_path, interactions=log, items=build.items(30))
        chosen = build.tiny(settings, folder, ingest={"split": "per_user_tail"})
        ingest.run(chosen)
        rows = named(published(chosen))
        rows["rank"] = rows["split"].map({"train": 0, "validation": 1, "holdout": 2})  # any of equal times may be held out
        rows = rows.sort_values(["user_index", "timestamp", "rank"])
        for user, size in sizes.items():
            held = -(-2 * size // 10) if size >= 5 else 0
            checked = -(-size // 10) if size >= 5 else 0
            expected = ["train"] * (size - held - checked) + ["validation"] * checked + ["holdout"] * held
            assert rows[rows["user_id"] == f"u{user}"]["split"].tolist() == expected

    @pytest.mark.parametrize("method", ["window", "per_user_tail"])
    def test_what_was_trained_on_is_never_held_out_later(self, spark, settings, tmp_path: Path, method: str) -> None:
        random = np.random.default_rng(4)
        log = pd.DataFrame(
            {
                "user_id": random.choice(["a", "b", "c", "d"], 300),
                "item_id": [f"i{row:02d}" for row in random.integers(0, 60, 300)],
                "timestamp": build.NOON - random.integers(0, 10 * build.DAY, 300),
            }
        )
        folder = build.write_source(tmp_path, interactions=log, items=build.items(60))
        trained: set[tuple[str, str]] = set()
        for day in (2, 1, 0):
            chosen = build.tiny(settings, folder, ingest={"holdout_days": 2, "validation_days": 1}, data={"lookback_days": 8})
            chosen = chosen.model_copy(update={"date": build.DATE - dt.timedelta(days=day)})
            source = read_source(spark, chosen, check_log=False)
            with dense_index(clean_items(source, chosen)[0], "item_id", "item_index") as (items, _):
                events = clean_events(source, items, chosen).where("fate = 'kept'")
                rows = assign_split(events, method, chosen).select("user_id", "item_id", "split").toPandas()
            held = rows[rows["split"] == "holdout"]
            assert len(held) > 0
            assert not trained & set(zip(held["user_id"], held["item_id"], strict=True))
            train = rows[rows["split"] == "train"]
            trained |= set(zip(train["user_id"], train["item_id"], strict=True))

    def test_auto_takes_the_window_if_enough_users_fill_it(self, spark, settings) -> None:
        events = spark.createDataFrame(build.interactions())
        for needed, method in ((build.NUM_USERS, "window"), (build.NUM_USERS + 1, "per_user_tail")):
            choice = choose_split(events, build.tiny(settings, "", ingest={"min_holdout_users": needed}), previous=None)
            assert choice.method == method
            assert "12 users" in choice.reason

    @pytest.mark.parametrize(("kept", "stops"), [(1.0, False), (0.85, False), (0.75, True)])
    def test_a_log_that_has_lost_many_rows_stops(self, settings, tmp_path: Path, kept: float, stops: bool) -> None:
        folder = build.write_source(tmp_path)
        shrinkage = {"data": {"max_log_shrinkage": 0.2}}
        yesterday = build.tiny(settings, folder, **shrinkage).model_copy(update={"date": build.DATE - dt.timedelta(days=1)})
        before = ingest.run(yesterday)["rows_read"]["interactions"]
        log = build.interactions().sort_values("timestamp", ascending=False)
        build.write_source(folder, interactions=log.head(int(kept * before)))
        today = build.tiny(settings, folder, **shrinkage)
        if not stops:
            assert ingest.run(today)["rows_read"]["interactions"] == int(kept * before)
            return
        with pytest.raises(DataError, match=f"the log has 99 rows up to {build.DATE}, but it had 132 on .*: 25% fewer"):
            ingest.run(today)
        assert not Lake.of(today).exists("items", today.date)
        raised = build.tiny(settings, folder, data={"max_log_shrinkage": 0.5})
        assert ingest.run(raised)["rows_read"]["interactions"] == 99

    def test_auto_keeps_to_the_split_of_the_previous_date(self, settings, tmp_path: Path) -> None:
        folder = build.write_source(tmp_path)
        yesterday = build.tiny(settings, folder, ingest={"split": "window"}).model_copy(
            update={"date": build.DATE - dt.timedelta(days=1)}
        )
        assert ingest.run(yesterday)["split_reason"] == "named in ingest.split"
        summary = ingest.run(build.tiny(settings, folder, ingest={"min_holdout_users": build.NUM_USERS + 1}))
        assert (summary["split"], summary["split_reason"]) == ("window", "as on the previous date")
