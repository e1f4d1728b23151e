from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from jobs.base.errors import GateFailed
from jobs.base.settings import PipelineSettings
from jobs.gates import gate, raw
from jobs.source.tables import DAY_SECONDS, day_start
from tests.jobs.gates.judging import NUM_ITEMS, NUM_USERS, blocked, failed, verdict


def source_tables(settings: PipelineSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    start = day_start(settings.date)
    log = pd.DataFrame(
        [
            {"user_id": f"u{user}", "item_id": f"i{(user * 7 + day) % NUM_ITEMS:03d}", "timestamp": start - day * DAY_SECONDS}
            for user in range(NUM_USERS)
            for day in range(9)
        ]
    )
    items = pd.DataFrame({"item_id": [f"i{n:03d}" for n in range(NUM_ITEMS)], "title": "a thing", "image_path": "p.png"})
    return log, items


def write_source(settings: PipelineSettings, log: pd.DataFrame, items: pd.DataFrame) -> None:
    folder = settings.home / "source" / f"date={settings.ds}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "p.png").write_bytes(b"a picture")
    log.to_parquet(folder / "interactions.parquet", index=False)
    items.to_parquet(folder / "items.parquet", index=False)


@pytest.mark.spark
def test_raw_passes_warns_and_blocks(settings: PipelineSettings, spark: object) -> None:
    log, items = source_tables(settings)
    write_source(settings, log, items)
    summary = gate.run(settings, "raw")
    assert summary["warnings"] == 0
    assert summary["checked"] == verdict(settings, "raw")["checked"] > 20
    assert set(verdict(settings, "raw")["digests"]) == {"source/interactions", "source/items"}

    few = log[(log["timestamp"] < day_start(settings.date)) | (log["user_id"] < "u12")].copy()
    few.loc[few.index[:2], "item_id"] = "gone"
    write_source(settings, few, items.assign(image_path=None))
    gate.run(settings, "raw")
    assert verdict(settings, "raw")["worst"] == "warning"
    assert failed(settings, "raw", "warning") == {
        ("daily_volume", "share_of_usual"),
        ("interactions", "known_item"),
        ("items", "has_image"),
    }

    log.loc[log.index[:20], "item_id"] = None
    log.loc[log.index[30:50], "user_id"] = None
    log.loc[log.index[60:100], "item_id"] = "gone"
    log.loc[log.index[100:130], "timestamp"] = 4_000_000_000
    log.loc[log.index[130:150], "timestamp"] = None
    write_source(settings, log, pd.concat([items.iloc[:30], items.iloc[:5]]))
    columns, message = blocked(settings, "raw")
    assert columns == {("interactions", name) for name in ("item_id", "user_id", "known_item", "timestamp")} | {
        ("items", name) for name in ("first_of_id", "item_id")
    }
    assert "table interactions" in message
    assert "20 of 270 rows" in message
    assert "row 30, user_id (none)" in message
    assert "Remedy:" in message


@pytest.mark.spark
def test_a_source_that_cannot_be_read_is_a_critical_failure(settings: PipelineSettings, spark: object) -> None:
    log, items = source_tables(settings)
    write_source(settings, log, items.rename(columns={"item_id": "sku"}))
    columns, message = blocked(settings, "raw")
    assert "item_id" in message
    assert verdict(settings, "raw")["failures"][0]["expectation"] == "table_is_available"


@pytest.mark.spark
def test_no_picture_where_the_catalogue_says_blocks_and_names_the_places(settings: PipelineSettings, spark: object) -> None:
    log, items = source_tables(settings)
    write_source(settings, log, items.assign(image_path="elsewhere/" + items["item_id"] + ".png"))
    columns, message = blocked(settings, "raw")
    assert columns == {("pictures", "found")}
    assert message.count("not found: ") >= 3
    assert f"date={settings.ds}/elsewhere/i0" in message and "what exists is" in message


@pytest.mark.spark
def test_the_gate_and_the_ingest_count_repeated_ids_alike(settings: PipelineSettings, spark: object) -> None:
    log, items = source_tables(settings)
    lost = settings.data.max_rejected_fraction
    repeated = int(len(items) * lost / (1 - lost))  # just below the limit; each repeated row counts once
    write_source(settings, log, pd.concat([items, items.iloc[:repeated]]))
    gate.run(settings, "raw")
    assert failed(settings, "raw", "warning") == {("items", "first_of_id")}


@pytest.mark.spark
def test_paths_of_items_that_have_a_picture_in_the_images_table_do_not_matter(
    settings: PipelineSettings, spark: object
) -> None:
    log, items = source_tables(settings)
    write_source(settings, log, items.assign(image_path="elsewhere/" + items["item_id"] + ".png"))
    images = pd.DataFrame({"item_id": items["item_id"], "image": [b"a picture"] * len(items)})
    images.to_parquet(settings.home / "source" / f"date={settings.ds}" / "images.parquet", index=False)
    assert gate.run(settings, "raw")["warnings"] == 0


@pytest.mark.spark
@pytest.mark.parametrize("bad", [0, 3, 60])
def test_a_log_that_is_read_again_is_judged_as_one_that_is_kept(
    settings: PipelineSettings, spark: Any, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    log, items = source_tables(settings)
    log.loc[log.index[:bad], "item_id"] = "gone"
    write_source(settings, log, items)
    kept_before = spark.sparkContext._jsc.getPersistentRDDs().size()

    def judged() -> dict:
        try:
            gate.run(settings, "raw")
        except GateFailed:
            assert bad == 60
        assert spark.sparkContext._jsc.getPersistentRDDs().size() == kept_before
        return verdict(settings, "raw")

    again, tables = judged(), raw.tables
    assert len(again["failures"]) == (bad > 0) + (bad == 60)
    assert tables(settings, spark).read_again
    monkeypatch.setattr(raw, "tables", lambda *given: replace(tables(*given), read_again=frozenset()))
    assert judged() == again
