"""What the ingest and the gates leave out because it would find nothing gives the same as to do all of it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.base.errors import DataError
from jobs.lake.tables import Lake
from jobs.source import cleaning, ingest, tables
from jobs.source.tables import landed, read_source
from tests.jobs import source_builder as build

pytestmark = pytest.mark.spark
FUTURE, LONG_AGO = 2**33, 86_400  # in the years 2242 and 1970, which no log has


def log_of(*times: int | None) -> pd.DataFrame:
    """One event for each time."""
    rows = [(f"u{row}", f"i{row % 24:02d}", when) for row, when in enumerate(times)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).astype({"timestamp": "Int64"})


class TestTheCountsOfLanding:
    """`_counted_well` spares a look at the log where landing's counts say that nothing is wrong with its times."""

    N, Y = build.NOON, build.NOON - build.DAY

    @pytest.mark.parametrize(
        ("times", "spared"),
        [
            pytest.param([N, N, Y], True, id="a good log"),
            pytest.param([N, Y, Y, FUTURE, LONG_AGO], True, id="more than half of the times are sane"),
            pytest.param([N, Y, FUTURE, FUTURE], False, id="half of them, and the median is"),
            pytest.param([N, Y, LONG_AGO, LONG_AGO], False, id="half of them, and the median is not"),
            pytest.param([N, None, None, None], True, id="most rows have no time, and the others are sane"),
            pytest.param([N, LONG_AGO, LONG_AGO, None, None], False, id="most times are too old"),
            pytest.param([N, -build.NOON, -build.NOON], False, id="most times are before 1970"),
            pytest.param([Y, Y, Y], False, id="the date has no event"),
            pytest.param([build.NOON // build.DAY * build.DAY - 1] * 3, False, id="the last second of the day before"),
            pytest.param([build.NOON // build.DAY * build.DAY], True, id="the first second of the date"),
            pytest.param([build.NOON * 1_000] * 3, False, id="milliseconds"),
            pytest.param([None, None], False, id="no time at all"),
        ],
    )
    @pytest.mark.parametrize("form", ["parquet", "csv"])  # looked at as it is, and written anew
    def test_the_look_that_is_spared_would_find_nothing(
        self, spark, settings, tmp_path: Path, monkeypatch, times: list, spared: bool, form: str
    ) -> None:
        folder = build.write_source(tmp_path / "source")
        (folder / "interactions.parquet").unlink()
        if form == "csv":
            log_of(*times).to_csv(folder / "interactions.csv", index=False)
        else:
            log_of(*times).to_parquet(folder / "interactions.parquet", index=False)
        chosen = build.tiny(settings, folder)

        def found() -> str:
            try:
                return str(read_source(spark, chosen).interactions.count())
            except DataError as error:
                return str(error)

        assert tables._counted_well(landed(chosen), chosen) == spared
        short = found()
        monkeypatch.setattr(tables, "_counted_well", lambda landing, settings: False)
        assert found() == short

    @pytest.mark.parametrize("form", ["parquet", "csv"])
    def test_a_log_that_changed_since_it_was_counted(self, spark, settings, tmp_path: Path, form: str) -> None:
        """The counts are of the earlier file. A part that Spark reads itself is refused; of any other, there is a copy."""
        folder = build.write_source(tmp_path / "source")
        (folder / "interactions.parquet").unlink()
        file, write = folder / f"interactions.{form}", "to_csv" if form == "csv" else "to_parquet"
        getattr(log_of(self.N, self.Y, self.Y), write)(file, index=False)
        chosen = build.tiny(settings, folder)
        counted = landed(chosen)
        getattr(log_of(LONG_AGO, LONG_AGO), write)(file, index=False)
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns + 1))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(tables, "landed", lambda settings: counted)
            if form == "parquet":
                with pytest.raises(DataError, match="was changed or removed while a run was reading it"):
                    read_source(spark, chosen)
            else:
                assert read_source(spark, chosen).interactions.count() == 3
        with pytest.raises(DataError, match="outside the years"):  # the next run counts anew
            read_source(spark, chosen)


def robots(*days: tuple[int, int], user: str = "robot", item: Callable[[int], str] = "i{:02d}".format) -> pd.DataFrame:
    """Events of one user: so many days ago, so many of them, each about another item."""
    rows = [(user, item(row), build.NOON - ago * build.DAY + row) for ago, count in days for row in range(count)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


class TestUsersWithManyEvents:
    """`_may_have_bots` spares the count of each user's days where no user has as many events at all."""

    @pytest.mark.parametrize(
        ("extra", "bots"),
        [
            pytest.param(robots((0, 13)), 0, id="as many as are allowed on one day"),
            pytest.param(robots((0, 14)), 14, id="one more"),
            pytest.param(robots((0, 7), (3, 7)), 0, id="one more, on two days"),
            pytest.param(robots((0, 14), (3, 5)), 19, id="all events of the user are set aside"),
            pytest.param(pd.concat([robots((0, 13)), robots((0, 1))]), 0, id="one of them is told twice"),
            pytest.param(pd.concat([robots((0, 13)), robots((1, 1), item=lambda _: "gone")]), 0, id="one has no known item"),
            pytest.param(pd.concat([robots((0, 14), user=" "), robots((0, 13))]), 0, id="events without a user are no user"),
            pytest.param(pd.concat([robots((0, 13)), robots((-1, 2))]), 0, id="later events are not judged"),
        ],
    )
    def test_the_count_that_is_spared_would_find_nobody(
        self, spark, settings, tmp_path: Path, monkeypatch, extra: pd.DataFrame, bots: int
    ) -> None:
        folder = build.write_source(tmp_path / "source", interactions=pd.concat([build.interactions(), extra]))
        limits = {"max_events_per_user_day": 13}  # the other users have twelve events each
        short = ingest.run(build.tiny(settings, folder, ingest=limits))
        assert short["rejected"]["interactions"].get("bot_user", 0) == bots
        chosen = build.tiny(settings, folder, ingest=limits)
        chosen.home = tmp_path / "long way"
        monkeypatch.setattr(cleaning, "_may_have_bots", lambda rows, settings: True)
        assert ingest.run(chosen) == short
        both = (Lake.of(each).read_pandas("quarantine", build.DATE) for each in (build.tiny(settings, folder), chosen))
        pd.testing.assert_frame_equal(*both)


class TestSomeTablesOnly:
    """The check before a run writes `items` alone (`tables=`), and says what the whole ingest says."""

    def source(self, folder: Path) -> Path:
        log, items = build.interactions(), build.items().assign(category=["shoes", None] * 12, available=[True, False] * 12)
        bad = [("u00", "gone", build.NOON), (None, "i01", build.NOON), ("u01", "i03", -5), tuple(log.iloc[0])]
        later = [("u02", "i03", build.NOON + build.DAY)]
        users = pd.DataFrame({"user_id": ["u00", "u01", "u00", None, "new"], "age": [30.0, 41, 5, 6, 20]})
        images = pd.DataFrame({"item_id": ["i00", None], "image": [build.picture(1), build.picture(2)]})
        build.write_source(
            folder,
            interactions=pd.concat([log, pd.DataFrame(bad + later, columns=log.columns)]),
            items=pd.concat([items, items.head(2)]),
            users=users,
            images=images,
        )
        (folder / "data.yaml").write_text("items: {attributes: {category: text}}\nusers: {attributes: {age: number}}\n")
        return folder

    def test_the_summary_and_the_table_are_those_of_all(self, spark, settings, tmp_path: Path) -> None:
        folder = self.source(tmp_path / "source")
        whole, some = build.tiny(settings, folder), build.tiny(settings, folder)
        some.home = tmp_path / "of the check"
        assert ingest.run(some, tables=("items",)) == ingest.run(whole)
        digests = [Lake.of(each).manifest("items", build.DATE)["digest"] for each in (some, whole)]
        assert digests[0] == digests[1]
        there = [table for table in ingest.TABLES if Lake.of(some).exists(table, build.DATE)]
        assert there == ["items"] and all(Lake.of(whole).exists(table, build.DATE) for table in ingest.TABLES)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"data": {"max_rejected_fraction": 0.01}}, "cannot be used"),
            ({"clusters": {"num_primary": 30}}, "30 clusters"),
            ({"ingest": {"split": "window", "holdout_days": 12}}, "no train events"),
        ],
    )
    def test_what_stops_the_one_stops_the_other(
        self, spark, settings, tmp_path: Path, changes: dict[str, dict[str, Any]], says: str
    ) -> None:
        chosen, told = build.tiny(settings, self.source(tmp_path / "source"), **changes), []
        for written in (("items",), ingest.TABLES):
            with pytest.raises(DataError, match=says) as caught:
                ingest.run(chosen, tables=written)
            told.append(str(caught.value))
        assert told[0] == told[1]
