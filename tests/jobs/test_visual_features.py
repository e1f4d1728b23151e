"""The visual view: what is encoded, what is carried over, what is missing."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs import visual_features
from jobs.encoders.pictures import decode_picture
from jobs.encoders.visual import DescriptorEncoder
from jobs.feature_tables import COLUMNS
from jobs.lake import Lake
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]
COUNTS = ("encoded", "reused", "missing", "unreadable")


def with_pictures(folder: Path, pictures: dict[str, bytes | None]) -> pd.DataFrame:
    """A source with `items.image`; returns its catalogue."""
    catalogue = build.items().assign(image=[pictures.get(name) for name in build.items()["item_id"]])
    build.write_source(folder, items=catalogue)
    return catalogue


def counts(summary: dict) -> tuple[int, ...]:
    return tuple(summary[name] for name in COUNTS)


def rows(settings) -> pd.DataFrame:
    return Lake.of(settings).read_pandas("visual_features", settings.date)


def test_vectors_are_those_of_the_encoder_and_bad_pictures_are_named(settings, tmp_path: Path) -> None:
    pictures: dict[str, bytes | None] = {f"i{row:02d}": build.picture(row) for row in range(20)}
    pictures |= {"i20": b"", "i21": b"no picture", "i22": build.picture(9)[:-50]}  # i23 has none
    chosen = build.tiny(settings, tmp_path, features={"encode_batch_size": 3})
    build.publish_catalogue(chosen, with_pictures(tmp_path, pictures))
    summary = visual_features.run(chosen)
    assert counts(summary) == (20, 0, 1, 3)
    assert summary["unreadable_items"] == ["i20", "i21", "i22"]
    assert summary["missing_items"] == ["i23"]
    assert summary["dim"] == 294
    table = rows(chosen)
    assert tuple(table.columns) == COLUMNS
    assert table["item_index"].tolist() == list(range(build.NUM_ITEMS))
    assert table["status"].tolist() == ["ok"] * 20 + ["unreadable"] * 3 + ["missing"]
    expected = DescriptorEncoder().encode([decode_picture(pictures[f"i{row:02d}"] or b"") for row in range(20)])
    np.testing.assert_array_equal(np.stack(table["vector"][:20]), expected)
    assert table["vector"][20:].isna().all()
    assert table["encoder"].unique().tolist() == [DescriptorEncoder().fingerprint]


def test_only_new_or_changed_pictures_are_encoded_with_the_result_of_a_full_run(settings, tmp_path: Path) -> None:
    pictures: dict[str, bytes | None] = {f"i{row:02d}": build.picture(row) for row in range(22)} | {"i21": b"broken"}
    chosen = build.tiny(settings, tmp_path / "source")
    yesterday = chosen.model_copy(update={"date": build.DATE - dt.timedelta(days=1)})
    build.publish_catalogue(yesterday, with_pictures(tmp_path / "source", pictures).query("item_id != 'i00'"))
    assert counts(visual_features.run(yesterday)) == (20, 0, 2, 1)

    pictures |= {"i03": build.picture(99), "i22": build.picture(98), "i04": None}
    catalogue = with_pictures(tmp_path / "source", pictures)
    build.publish_catalogue(chosen, catalogue)
    # i00 and i22 are new, i03 changed, i04 lost its picture; every item_index moved by one.
    assert counts(visual_features.run(chosen)) == (3, 18, 2, 1)
    digest = Lake.of(chosen).manifest("visual_features", chosen.date)["digest"]
    visual_features.run(chosen)
    assert Lake.of(chosen).manifest("visual_features", chosen.date)["digest"] == digest

    full = chosen.model_copy(update={"home": tmp_path / "full"})
    build.publish_catalogue(full, catalogue)
    assert counts(visual_features.run(full)) == (21, 0, 2, 1)
    assert Lake.of(full).manifest("visual_features", full.date)["digest"] == digest


def test_model_encoder_by_path_and_a_change_of_encoder_encodes_all(settings, tmp_path: Path, tiny_clip: Path) -> None:
    source = tmp_path / "source"
    catalogue = build.items().assign(image_path=[f"pictures/{name}.jpg" for name in build.items()["item_id"]])
    build.write_source(source, items=catalogue)
    (source / "pictures").mkdir()
    for row, path in enumerate(catalogue["image_path"].head(10)):
        (source / path).write_bytes(build.picture(row, "JPEG"))
    plain = build.tiny(settings, source)
    yesterday = plain.model_copy(update={"date": build.DATE - dt.timedelta(days=1)})
    build.publish_catalogue(yesterday, catalogue)
    assert counts(visual_features.run(yesterday)) == (10, 0, 14, 0)
    chosen = build.tiny(settings, source, features={"visual_encoder": str(tiny_clip), "encode_batch_size": 4})
    build.publish_catalogue(chosen, catalogue)
    summary = visual_features.run(chosen)
    assert counts(summary) == (10, 0, 14, 0)
    assert summary["dim"] == 12
    norms = [np.linalg.norm(vector) for vector in rows(chosen)["vector"].dropna()]
    np.testing.assert_allclose(norms, 1, atol=1e-5)
