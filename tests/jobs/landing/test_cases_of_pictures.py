"""Paths of pictures as exports write them."""

from pathlib import Path

import pandas as pd
import pytest

from jobs.base.places import place
from jobs.source.picture_files import EMPTY, NOT_FOUND, NOT_GIVEN, REFUSED_SCHEME, find_picture, nearest_existing
from tests.jobs import source_builder as build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `data` with the picture `img dir/pic 1.jpg`."""
    (tmp_path / "data" / "img dir").mkdir(parents=True)
    (tmp_path / "data" / "img dir" / "pic 1.jpg").write_bytes(b"a picture")
    return tmp_path / "data"


@pytest.mark.parametrize(
    "given",
    [
        "img dir/pic 1.jpg",
        "./img dir/pic 1.jpg",
        "img dir//pic 1.jpg",
        "img dir\\pic 1.jpg",
        ".\\img dir\\pic 1.jpg",
        "img%20dir/pic%201.jpg",
        "img dir/pic 1.jpg ",
        " img dir/pic 1.jpg",
        "img dir/pic 1.jpg\n",
        "data/img dir/pic 1.jpg",
        "./data/img dir/pic 1.jpg",
        "data\\img dir\\pic 1.jpg",
    ],
)
def test_what_is_there_is_found(folder: Path, given: str) -> None:
    found = find_picture(place(folder), given)
    assert (found.path, found.size, found.why) == (folder / "img dir" / "pic 1.jpg", 9, "")


def test_whole_paths_and_uris_of_this_machine(folder: Path) -> None:
    whole = folder / "img dir" / "pic 1.jpg"
    for given in (str(whole), whole.as_uri(), f"file://localhost{whole.as_uri()[7:]}", f"file://{whole}"):
        assert find_picture(place(folder), given).path == whole


def test_a_literal_name_goes_before_every_other_reading(folder: Path) -> None:
    (folder / "a%20b.jpg").write_bytes(b"literal")
    (folder / "a b.jpg").write_bytes(b"decoded")
    found = find_picture(place(folder), "a%20b.jpg")
    assert found.path is not None and found.path.read_bytes() == b"literal"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("img dir/pic 1.JPG", NOT_FOUND),
        ("~/img/13.jpg", NOT_FOUND),
        ("images/1.jpg", NOT_FOUND),
        ("https://example.org/img/6.jpg", REFUSED_SCHEME),
        ("s3://bucket/img/7.jpg", REFUSED_SCHEME),
        ("", NOT_GIVEN),
        (None, NOT_GIVEN),
    ],
)
def test_what_is_not_there_has_its_reason(folder: Path, given: str | None, why: str) -> None:
    found = find_picture(place(folder), given)
    assert (found.path, found.why) == (None, why)


def test_an_empty_file_and_the_place_that_exists(folder: Path) -> None:
    (folder / "empty.jpg").touch()
    assert find_picture(place(folder), "empty.jpg").why == EMPTY
    found = find_picture(place(folder), "images/1.jpg")
    assert found.tried == str(folder / "images" / "1.jpg")
    assert nearest_existing(found).startswith(f"{folder}, which holds ")


@pytest.mark.spark
def test_all_paths_wrong_stops_at_the_first_gate_with_an_example(settings, spark, tmp_path: Path) -> None:
    from jobs.base.errors import GateFailed
    from jobs.gates import gate

    items = build.items().assign(image_path=[f"images/{row}.jpg" for row in range(build.NUM_ITEMS)])
    source = build.write_source(tmp_path / "source", items=items)
    chosen = build.tiny(settings, source, gate={"min_evaluated_users": 5})
    with pytest.raises(GateFailed) as caught:
        gate.run(chosen, "raw")
    assert "at least one of 300 picture files is where the catalogue says" in str(caught.value)
    assert f"not found: {source}/images/" in str(caught.value) and "correct image_path" in str(caught.value)


@pytest.mark.spark
def test_every_way_to_write_a_path_goes_into_the_marks(settings, spark, tmp_path: Path) -> None:
    from jobs.source.images import mark_images
    from jobs.source.tables import read_source

    (tmp_path / "source" / "img dir").mkdir(parents=True)
    items = build.items()
    ways = ["img dir/{}.jpg", "./img dir/{}.jpg", "img dir\\{}.jpg", "img%20dir/{}.jpg", "https://example.org/{}.jpg", ""]
    items["image_path"] = pd.Series([ways[row % 6].format(row) for row in range(build.NUM_ITEMS)], dtype="string")
    for row in range(build.NUM_ITEMS):
        (tmp_path / "source" / "img dir" / f"{row}.jpg").write_bytes(build.picture(row, "JPEG"))
    source = read_source(spark, build.tiny(settings, build.write_source(tmp_path / "source", items=items)), check_log=False)
    marks = mark_images(source, 10).toPandas()
    assert (marks["status"] == "ok").sum() == 16
    why = marks["traits"].dropna().map(lambda traits: traits[0]).value_counts()
    assert why.to_dict() == {REFUSED_SCHEME: 4, NOT_GIVEN: 4}


def test_a_folder_of_picture_files_is_no_table_of_pictures(settings, tmp_path: Path) -> None:
    from tests.jobs.landing.sources import landing

    folder = build.write_source(tmp_path / "source")
    (folder / "images" / "010").mkdir(parents=True)
    assert "images" not in landing(settings, folder).tables
    (folder / "images" / "010" / "1.jpg").write_bytes(b"a picture")
    assert "images" not in landing(settings, folder).tables
    pd.DataFrame({"item_id": ["i00"], "image": [b"a picture"]}).to_parquet(folder / "images" / "part-0.parquet")
    assert landing(settings, folder).tables["images"].rows == 1
