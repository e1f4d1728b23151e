"""The benchmark of the check at tiny size: its sources are what they say, and its rows stand beside those of the peers."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.check import FORMS, OURS, PANDAS, Size, make_tables, rows_of, write_source
from benchmarks.scale.process import Measured
from benchmarks.table import block
from tests.jobs.landing.sources import landing


@pytest.mark.parametrize("form", FORMS)
def test_every_format_holds_the_same_log(settings, tmp_path: Path, form: str) -> None:
    size = Size(3_000, 200)
    log, items = make_tables(size)
    found = landing(settings, write_source(tmp_path / "source", form, log, items)).tables
    assert (found["interactions"].rows, found["items"].rows) == (size.rows, size.items)
    days = pd.to_datetime(log["timestamp"], unit="s").dt.strftime("%Y-%m-%d")
    assert found["interactions"].days == days.value_counts().sort_index().to_dict()
    assert set(log["item_id"]) <= set(items["item_id"]) and log["user_id"].nunique() > 50
    (part,) = found["interactions"].parts
    assert not part.told and not {"user_id", "item_id", "timestamp", "kind"} & set(part.missing)


def test_ours_stands_beside_each_peer() -> None:
    found = {OURS: Measured(30.0, 200, 800, 0, 50.0), PANDAS: Measured(5.0, 500, 0, 0, 4.0)}
    rows = list(rows_of("check: 10 rows", found))
    ours = [row for row in rows if row.subject == OURS]
    assert [(row.metric, row.value) for row in ours[::2]] == [("time", 30), ("CPU time", 50), ("peak memory", 1_000)]
    assert [row.ratio for row in ours[1::2]] == [6, 12.5, 2]
    assert ours[0].holds
    plain = [{key: value for key, value in vars(row).items() if value is not None} for row in rows]
    assert "A look before a run: make check, peak memory | 2.00 | pandas, read and describe" in block({"rows": plain})
