"""A home and a source in folders whose names Spark would take for a pattern or an escape."""

from pathlib import Path

import pytest

from jobs.lake.tables import Lake
from jobs.source import ingest
from jobs.source.tables import landed
from jobs.training import build_training_set
from tests.jobs import source_builder as build

ODD = "we[i]rd {a,b} *?^ 100% a%20b\\c"


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
def test_a_home_and_a_source_of_odd_names(settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path / ODD)
    items = build.items()
    items.to_csv(folder / "items.csv", index=False)  # landed in the home, where the log is read from the source
    (folder / "items.parquet").unlink()
    settings.home = tmp_path / f"home {ODD}"
    chosen = build.tiny(settings, folder)
    summary = ingest.run(chosen)
    assert sum(summary["events"].values()) == len(build.interactions()) and summary["items"] == len(items)
    assert [landed(chosen).tables[name].parts[0].written for name in ("interactions", "items")] == [False, True]
    assert build_training_set.run(chosen)["users"] == build.NUM_USERS
    assert Lake.of(chosen).exists("sequences", chosen.date)
