"""The textual view: one fit is kept over the days, changes are encoded, and items without text stay empty."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.features import text_features
from jobs.features.encoders.text import HashedTextEncoder
from jobs.lake.tables import Lake
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]
COUNTS = ("encoded", "reused", "missing")


def counts(summary: dict) -> tuple[int, ...]:
    return tuple(summary[name] for name in COUNTS)


def rows(settings) -> pd.DataFrame:
    return Lake.of(settings).read_pandas("text_features", settings.date)


def test_title_and_text_are_joined_and_items_without_both_are_missing(settings) -> None:
    catalogue = build.items()
    catalogue.loc[0, ["title", "text"]] = [None, "  "]
    catalogue.loc[1, ["title", "text"]] = ["Only a title", None]
    catalogue.loc[2, ["title", "text"]] = ["Blue", "steel hammer"]
    chosen = build.tiny(settings, "")
    build.publish_catalogue(chosen, catalogue)
    summary = text_features.run(chosen)
    assert counts(summary) == (23, 0, 1)
    assert summary["missing_items"] == ["i00"]
    table = rows(chosen)
    assert table["vector"][0] is None
    assert table["status"].tolist() == ["missing"] + ["ok"] * 23
    encoder = HashedTextEncoder.load(Lake.of(chosen).path("text_encoder", chosen.date))
    texts = ["Only a title", "Blue\nsteel hammer", *catalogue["text"][3:]]
    np.testing.assert_array_equal(np.stack(table["vector"][1:]), encoder.encode(texts))
    assert table["encoder"].unique().tolist() == [encoder.fingerprint]


def test_encoder_is_kept_and_only_changes_are_encoded(settings, tmp_path: Path) -> None:
    chosen = build.tiny(settings, "")
    yesterday = chosen.model_copy(update={"date": build.DATE - dt.timedelta(days=1)})
    catalogue = build.items()
    build.publish_catalogue(yesterday, catalogue.iloc[1:])
    assert counts(text_features.run(yesterday)) == (23, 0, 0)
    catalogue.loc[5, "text"] = "Item 5. Green paper thing"
    catalogue.loc[6, ["title", "text"]] = [None, None]
    build.publish_catalogue(chosen, catalogue)
    assert counts(text_features.run(chosen)) == (2, 21, 1)
    lake = Lake.of(chosen)
    assert lake.dates("text_encoder") == [yesterday.date]
    assert f"text_encoder/date={yesterday.date}" in lake.manifest("text_features", chosen.date)["inputs"]
    old, new = rows(yesterday).set_index("item_id")["vector"], rows(chosen).set_index("item_id")["vector"]
    np.testing.assert_array_equal(new["i07"], old["i07"])
    expected = HashedTextEncoder.load(lake.path("text_encoder", yesterday.date)).encode([catalogue.loc[5, "text"]])
    np.testing.assert_array_equal(new["i05"], expected[0])
    # An item that was away yesterday comes back with its vector.
    third = chosen.model_copy(update={"date": build.DATE + dt.timedelta(days=1)})
    build.publish_catalogue(third, catalogue.assign(text=build.items()["text"], title=build.items()["title"]))
    assert counts(text_features.run(third)) == (1, 23, 0)  # i05 is as it was two days ago; i06 was kept while it had no text
    np.testing.assert_array_equal(rows(third).set_index("item_id")["vector"]["i06"], old["i06"])
    # Another dimension means another encoder: it is fitted anew, and nothing is carried over.
    wider = build.tiny(settings, "", features={"text_dim": 9})
    assert counts(text_features.run(wider)) == (23, 0, 1)
    assert lake.dates("text_encoder") == [yesterday.date, chosen.date]


def test_catalogue_without_any_text(settings) -> None:
    chosen = build.tiny(settings, "")
    build.publish_catalogue(chosen, build.items()[["item_id"]])
    summary = text_features.run(chosen)
    assert counts(summary) == (0, 0, build.NUM_ITEMS)
    assert summary["dim"] == 0
    assert not Lake.of(chosen).exists("text_encoder", chosen.date)


def test_model_encoder(settings, tiny_bert: Path) -> None:
    chosen = build.tiny(settings, "", features={"text_encoder": str(tiny_bert), "encode_batch_size": 5})
    build.publish_catalogue(chosen, build.items())
    summary = text_features.run(chosen)
    assert (summary["encoded"], summary["dim"]) == (build.NUM_ITEMS, 16)
    assert not Lake.of(chosen).exists("text_encoder", chosen.date)
