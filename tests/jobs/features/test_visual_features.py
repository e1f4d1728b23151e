"""The visual view: what is encoded, what is carried over, what is missing."""

import datetime as dt
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jobs.features import visual_features
from jobs.features.encoders.visual import DescriptorEncoder
from jobs.features.feature_tables import CONTENT_COLUMNS
from jobs.lake.tables import Lake
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]
COUNTS = ("encoded", "reused", "missing", "unreadable")


def with_pictures(folder: Path, pictures: dict[str, bytes | None]) -> pd.DataFrame:
    """A source with `items.image`; returns its catalogue."""
    catalogue = build.items().assign(image=[pictures.get(name) for name in build.items()["item_id"]])
    build.write_source(folder, items=catalogue)
    return catalogue


def in_grey(picture: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("L").save(stream, "PNG")
    return stream.getvalue()


def counts(summary: dict) -> tuple[int, ...]:
    return tuple(summary[name] for name in COUNTS)


def rows(settings) -> pd.DataFrame:
    return Lake.of(settings).read_pandas("visual_features", settings.date)


def test_vectors_are_those_of_the_encoder_and_bad_pictures_are_named(settings, tmp_path: Path) -> None:
    pictures: dict[str, bytes | None] = {f"i{row:02d}": build.picture(row) for row in range(20)}
    pictures["i07"] = in_grey(pictures["i07"] or b"")
    pictures |= {"i20": b"", "i21": b"no picture", "i22": build.picture(9)[:-50]}  # i23 has none
    chosen = build.tiny(settings, tmp_path, features={"encode_batch_size": 3})
    build.publish_catalogue(chosen, with_pictures(tmp_path, pictures))
    summary = visual_features.run(chosen)
    assert counts(summary) == (20, 0, 1, 3)
    assert summary["unreadable_items"] == ["i20", "i21", "i22"]
    assert summary["missing_items"] == ["i23"]
    assert summary["traits"] == {"empty": 1, "grey": 1, "no_picture": 1, "not_given": 1, "truncated": 1}
    assert summary["dim"] == 294
    table = rows(chosen)
    assert tuple(table.columns) == CONTENT_COLUMNS
    assert table["item_index"].tolist() == list(range(build.NUM_ITEMS))
    assert table["status"].tolist() == ["ok"] * 20 + ["unreadable"] * 3 + ["missing"]
    encoder = DescriptorEncoder()
    expected = encoder.encode([encoder.prepare(pictures[f"i{row:02d}"] or b"").image for row in range(20)])
    np.testing.assert_array_equal(np.stack(table["vector"][:20]), expected)
    assert table["vector"][20:].isna().all()
    assert table["encoder"].unique().tolist() == [DescriptorEncoder().fingerprint]


def test_only_new_or_changed_pictures_are_encoded_with_the_result_of_a_full_run(
    settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures: dict[str, bytes | None] = {f"i{row:02d}": build.picture(row) for row in range(22)} | {"i21": b"broken"}
    chosen = build.tiny(settings, tmp_path / "source")
    yesterday = chosen.model_copy(update={"date": build.DATE - dt.timedelta(days=1)})
    build.publish_catalogue(yesterday, with_pictures(tmp_path / "source", pictures).query("item_id != 'i00'"))
    assert counts(visual_features.run(yesterday)) == (20, 0, 2, 1)

    pictures |= {"i03": build.picture(99), "i22": build.picture(98), "i04": None}
    catalogue = with_pictures(tmp_path / "source", pictures)
    build.publish_catalogue(chosen, catalogue)
    # i00 and i22 are new, i03 changed, i04 lost its picture, i21 is tried once more; every item_index moved by one.
    summary = visual_features.run(chosen)
    assert counts(summary) == (3, 18, 2, 1) and summary["retried"] == 1
    digest = Lake.of(chosen).manifest("visual_features", chosen.date)["digest"]
    (lost,) = Lake.of(chosen).read_pandas("visual_retired", chosen.date).to_dict("records")
    assert (lost["item_id"], lost["left_on"]) == ("i04", chosen.date)
    monkeypatch.setattr(DescriptorEncoder, "prepare", None)  # a rerun decodes nothing, not even broken pictures
    again = visual_features.run(chosen)
    monkeypatch.undo()
    assert counts(again) == (0, 21, 2, 1) and again["retried"] == 0
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


def test_files_are_read_only_where_they_changed_and_gone_items_come_back_with_their_vectors(settings, tmp_path: Path) -> None:
    source = tmp_path / "source"
    catalogue = build.items(6).assign(image_path=[f"{name}.jpg" for name in build.items(6)["item_id"]])
    build.write_source(source, items=catalogue)
    for row, path in enumerate(catalogue["image_path"]):
        (source / path).write_bytes(build.picture(row, "JPEG"))
    days = [build.tiny(settings, source).model_copy(update={"date": build.DATE + dt.timedelta(days=n)}) for n in range(4)]

    build.publish_catalogue(days[0], catalogue)
    assert counts(visual_features.run(days[0])) == (6, 0, 0, 0)
    first = rows(days[0]).set_index("item_id")

    # i01 leaves; i02 is touched, i03 rewritten, i04 unreachable.
    (source / "i02.jpg").touch()
    (source / "i03.jpg").write_bytes(build.picture(33, "JPEG"))
    (source / "i04.jpg").rename(source / "elsewhere.jpg")
    build.publish_catalogue(days[1], catalogue.query("item_id != 'i01'"))
    assert counts(visual_features.run(days[1])) == (1, 3, 1, 0)
    second = rows(days[1]).set_index("item_id")
    assert (first.loc["i02", "vector"] == second.loc["i02", "vector"]).all()
    assert first.loc["i02", "file_stamp"] != second.loc["i02", "file_stamp"]
    assert (first.loc["i03", "vector"] != second.loc["i03", "vector"]).any()
    kept = Lake.of(settings).read_pandas("visual_retired", days[1].date)
    assert kept["item_id"].tolist() == ["i01", "i04"]

    # No item comes back: the vectors are still kept, with the day on which the items left.
    build.publish_catalogue(days[2], catalogue.query("item_id != 'i01'"))
    assert counts(visual_features.run(days[2])) == (0, 4, 1, 0)
    kept = Lake.of(settings).read_pandas("visual_retired", days[2].date)
    assert kept["left_on"].tolist() == [days[1].date] * 2

    (source / "elsewhere.jpg").rename(source / "i04.jpg")
    build.publish_catalogue(days[3], catalogue)
    assert counts(visual_features.run(days[3])) == (0, 6, 0, 0)
    third = rows(days[3]).set_index("item_id")
    for name in ("i01", "i04"):
        assert (third.loc[name, "vector"] == first.loc[name, "vector"]).all()
    assert Lake.of(settings).read("visual_retired", days[3].date).num_rows == 0
    assert "visual_retired/date=" + days[2].ds in Lake.of(settings).manifest("visual_features", days[3].date)["inputs"]

    # Kept for one day only, i01 is no longer there on the third day. All files are read, and only i01 is encoded again.
    sections = {"keep_retired_days": 1, "read_unchanged_files": True}
    short = days[2].model_copy(update={"features": days[2].features.model_copy(update=sections)})
    visual_features.run(short)
    assert Lake.of(settings).read("visual_retired", days[2].date).num_rows == 0
    later = days[3].model_copy(update={"features": short.features, "home": settings.home})
    Lake.of(settings).path("visual_features", days[3].date).parent.joinpath("CURRENT").unlink()
    assert counts(visual_features.run(later)) == (1, 5, 0, 0)


def test_a_damaged_table_of_the_date_is_not_carried_over(settings, tmp_path: Path) -> None:
    chosen = build.tiny(settings, tmp_path)
    build.publish_catalogue(chosen, with_pictures(tmp_path, {f"i{row:02d}": build.picture(row) for row in range(3)}))
    visual_features.run(chosen)
    lake = Lake.of(chosen)
    digest = lake.manifest("visual_features", chosen.date)["digest"]
    (part,) = lake.path("visual_features", chosen.date).glob("*.parquet")
    part.write_bytes(part.read_bytes()[:500])
    assert counts(visual_features.run(chosen)) == (3, 0, build.NUM_ITEMS - 3, 0)
    assert lake.manifest("visual_features", chosen.date)["digest"] == digest
