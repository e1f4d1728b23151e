"""Items with several pictures: one vector of all, one unreadable picture costs nothing, one new picture is encoded alone."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.features import visual_features
from jobs.features.encoders.visual import DescriptorEncoder
from jobs.features.several_pictures import mean_vector
from jobs.lake.tables import Lake
from tests.jobs import source_builder as build
from tests.jobs.source.picture_server import picture_server

COUNTS = ("encoded", "reused", "retried", "ok", "missing", "unreadable")


def vector_of(*seeds: int) -> np.ndarray:
    encoder = DescriptorEncoder()
    vectors = encoder.encode([encoder.prepare(build.picture(seed)).image for seed in seeds])
    return mean_vector(list(vectors))


def test_the_mean_counts_every_picture_alike() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    lengths = [float(np.sqrt((row.astype(float) ** 2).sum())) for row in rows]
    direction = sum(row / length for row, length in zip(rows, lengths, strict=True))
    expected = direction / np.sqrt((direction**2).sum()) * np.mean(lengths)
    np.testing.assert_allclose(mean_vector(list(rows)), expected, rtol=1e-5)
    np.testing.assert_allclose(mean_vector([rows[0]]), rows[0], rtol=1e-6)
    scaled = [rows[0] * 100, rows[1]]  # a long vector does not outweigh a short one
    cosine = np.dot(mean_vector(scaled), mean_vector(list(rows[:2])))
    assert cosine == pytest.approx(np.linalg.norm(mean_vector(scaled)) * np.linalg.norm(mean_vector(list(rows[:2]))))
    np.testing.assert_array_equal(mean_vector([rows[0], -rows[0]]), rows[0])


@pytest.mark.spark
def test_pictures_in_files_day_by_day(spark, settings, tmp_path: Path) -> None:
    names = {f"{seed}.png": build.picture(seed) for seed in range(6)}
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in (names | {"broken.png": b"no picture", "copy.png": names["1.png"]}).items():
        (folder / name).write_bytes(content)
    days = [build.tiny(settings, folder).model_copy(update={"date": build.DATE + dt.timedelta(days=n)}) for n in range(2)]
    catalogue = build.items(5)
    catalogue["image_path"] = ["0.png", None, None, None, None]
    lists = [["3.png"], ["1.png", "broken.png", "2.png"], ["4.png", "absent.png"], ["absent.png", "broken.png"], None]

    def run(day: int) -> tuple[dict, pd.DataFrame]:
        build.write_source(folder, items=catalogue.assign(image_paths=lists))
        build.publish_catalogue(days[day], catalogue)
        summary = visual_features.run(days[day])
        return summary, Lake.of(settings).read_pandas("visual_features", days[day].date).set_index("item_id")

    summary, first = run(0)
    assert tuple(summary[name] for name in COUNTS) == (5, 0, 0, 3, 1, 1)
    assert summary["lost_pictures"] == {"no_picture": 1, "not_found": 1} and summary["pictures"] == 9
    assert (summary["missing_items"], summary["unreadable_items"]) == (["i04"], ["i03"])
    for item, seeds in {"i00": (0, 3), "i01": (1, 2), "i02": (4,)}.items():
        np.testing.assert_allclose(first.loc[item, "vector"], vector_of(*seeds), rtol=1e-5, atol=1e-7)
    assert list(first.loc["i01", "traits"]) == ["no_picture"] and first.loc["i04", "pictures"] is None

    # i01 gets a new picture in front and a copy of an old one, and i00 changes the order: one picture is encoded.
    lists[0], catalogue.loc[0, "image_path"] = ["0.png"], "3.png"
    lists[1] = ["5.png", *(lists[1] or []), "copy.png"]
    summary, second = run(1)
    assert tuple(summary[name] for name in COUNTS) == (1, 6, 2, 3, 1, 1)  # the copy is read, and is known by its content
    np.testing.assert_allclose(second.loc["i00", "vector"], first.loc["i00", "vector"], rtol=1e-5)
    np.testing.assert_allclose(second.loc["i01", "vector"], vector_of(5, 1, 2), rtol=1e-5, atol=1e-7)
    assert len(second.loc["i01", "pictures"]) == 4

    digest = Lake.of(settings).manifest("visual_features", days[1].date)["digest"]
    summary, _ = run(1)
    assert summary["encoded"] == summary["retried"] == 0
    assert Lake.of(settings).manifest("visual_features", days[1].date)["digest"] == digest


@pytest.mark.spark
def test_several_rows_of_the_images_table(spark, settings, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "7.png").write_bytes(build.picture(7))
    rows = [("i00", build.picture(1), None), ("i00", build.picture(2), "7.png"), ("i01", None, "7.png"), ("i02", None, None)]
    images = pd.DataFrame(rows, columns=["item_id", "image", "image_path"])
    catalogue = build.items(4).assign(image=build.picture(3))
    build.write_source(folder, items=catalogue, images=images)
    chosen = build.tiny(settings, folder)
    build.publish_catalogue(chosen, catalogue)
    assert visual_features.run(chosen)["encoded"] == 5  # the picture of i02 and i03 is that of the catalogue
    table = Lake.of(settings).read_pandas("visual_features", chosen.date)
    for item, seeds in enumerate([(1, 2), (7,), (3,), (3,)]):
        np.testing.assert_allclose(table["vector"][item], vector_of(*seeds), rtol=1e-5, atol=1e-7)
    only_one = build.tiny(settings, folder, pictures={"per_item": 1}).model_copy(update={"home": tmp_path / "other"})
    build.publish_catalogue(only_one, catalogue)
    visual_features.run(only_one)
    table = Lake.of(only_one).read_pandas("visual_features", chosen.date)
    np.testing.assert_allclose(table["vector"][0], vector_of(1), rtol=1e-5)
    assert "pictures" not in table


@pytest.mark.spark
def test_pictures_by_url_are_those_of_files(spark, settings, tmp_path: Path) -> None:
    with picture_server() as server:
        server.pages |= {"/1.png": build.picture(1), "/page": b"<html>"}
        paths = [["/1.png"], ["/1.png", "/gone.png"], ["/page"], ["/gone.png"]]
        lists = [[server.url(path) for path in row] for row in paths] + [["http://elsewhere.example.com/a.png"]]
        catalogue = build.items(5)
        folder = build.write_source(tmp_path / "source", items=catalogue.assign(image_paths=lists))
        chosen = build.tiny(settings, folder, pictures={"hosts": server.host, "retries": 0})
        build.publish_catalogue(chosen, catalogue)
        summary = visual_features.run(chosen)
        assert summary["fetched"] == {"fetched": 2, "not_found": 1, "refused_host": 1}
        assert sorted(server.paths()) == ["/1.png", "/gone.png", "/page"]
        assert tuple(summary[name] for name in COUNTS) == (2, 0, 0, 2, 2, 1)
        assert summary["traits"] == {"no_picture": 1, "not_found": 2, "refused_host": 1}
        table = Lake.of(settings).read_pandas("visual_features", chosen.date)
        for item in (0, 1):
            np.testing.assert_allclose(table["vector"][item], vector_of(1), rtol=1e-5, atol=1e-7)
        assert visual_features.run(chosen)["encoded"] == 0 and len(server.asked) == 3
