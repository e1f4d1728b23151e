"""The pictures of items on the report, and which items stand beside each other there."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.report import posters
from jobs.report.images import load_images


def jpeg(colour: str, size: tuple[int, int] = (40, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG")
    return stream.getvalue()


LOG = pa.table({"user_id": ["u"], "item_id": ["1"], "timestamp": [1_769_600_000]})


def test_pictures_come_from_the_images_table_then_bytes_then_paths(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    write_json(settings.run_dir / "source.json", {"uri": folder.as_uri(), "kind": "folder"})
    pq.write_table(LOG, folder / "interactions.parquet")
    (folder / "data.yaml").write_text("images: {source: photos.parquet, columns: {item_id: sku, image_path: file}}")
    photos = {"sku": [1, 2, 1, 6], "image": [jpeg("red"), b"no picture", jpeg("blue"), None], "file": [None] * 3 + ["six.jpg"]}
    pq.write_table(pa.table(photos), folder / "photos.parquet")
    (folder / "six.jpg").write_bytes(jpeg("black"))
    bytes_of_items = [jpeg("blue"), jpeg("lime"), None, None, None]
    pq.write_table(pa.table({"item_id": [1, 2, 3, 4, 5], "image": bytes_of_items}), folder / "items.parquet")
    (folder / "three.jpg").write_bytes(jpeg("white", (800, 400)))
    (folder / "four.jpg").write_bytes(b"")
    found = load_images(settings, {"1": None, "2": None, "3": "three.jpg", "4": "four.jpg", "5": "gone.jpg", "6": None})
    assert {item: picture.getpixel((20, 20)) for item, picture in found.items()} == {
        "1": (254, 0, 0),
        "2": (0, 255, 1),
        "3": (255, 255, 255),
        "6": (0, 0, 0),
    }
    assert found["3"].size == (256, 128)


def test_a_source_that_has_gone_gives_no_pictures_and_no_error(settings: PipelineSettings, tmp_path: Path) -> None:
    write_json(settings.run_dir / "source.json", {"uri": (tmp_path / "gone").as_uri(), "kind": "folder"})
    assert load_images(settings, {"1": "x.jpg"}) == {}


def test_neighbours_are_the_nearest_by_brute_force() -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(60, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    catalogue = pd.DataFrame({"item_index": range(60), "item_id": [f"i{n:02d}" for n in range(60)], "has_visual": True})
    catalogue = catalogue.assign(primary=np.arange(60) % 12, num_train=random.integers(0, 100, 60))
    rows = posters.choose_neighbours(catalogue, vectors)
    assert len(rows) == posters.QUERIES
    assert len({int(row.query[1:]) % 12 for row in rows}) == posters.QUERIES
    for row in rows:
        query = int(row.query[1:])
        others = sorted((n for n in range(60) if n != query), key=lambda n, q=query: -float(vectors[n] @ vectors[q]))
        assert [int(item[1:]) for item in row.neighbours] == others[: posters.NEIGHBOURS]


def test_neighbours_of_a_tiny_catalogue_are_all_the_others() -> None:
    catalogue = pd.DataFrame(
        {"item_index": [0, 1], "item_id": ["a", "b"], "has_visual": True, "primary": 0, "num_train": [2, 1]}
    )
    [row] = posters.choose_neighbours(catalogue, np.eye(2, dtype=np.float32))
    assert row == posters.NeighbourRow("a", ("b",))


def test_the_champions_neighbours_come_from_the_items_it_knows() -> None:
    count = 12
    catalogue = pd.DataFrame({"item_index": range(count), "item_id": [f"i{n:02d}" for n in range(count)], "has_visual": True})
    catalogue = catalogue.assign(primary=np.arange(count) % 2, num_train=range(count))
    after, before = np.eye(count, dtype=np.float32), np.eye(count, dtype=np.float32) + 0.1
    before[10] = 0  # an item of the first cluster that came after the champion, and the most popular there
    first, second = posters.choose_neighbours(catalogue, after, before)
    assert (first.query, second.query) == ("i11", "i10")
    assert len(first.neighbours) == posters.NEIGHBOURS and "i10" not in first.before and len(first.before) == 10
    assert second.before == () and len(second.neighbours) == posters.NEIGHBOURS


def test_a_cluster_row_holds_the_largest_groups_and_their_popular_items() -> None:
    rows = [("a", 5, 0, 1), ("b", 9, 0, 1), ("c", 1, 0, 2), ("d", 1, 0, -1), ("e", 3, -1, -1), ("f", 7, 1, 0)]
    catalogue = pd.DataFrame(rows, columns=["item_id", "num_train", "primary", "secondary"]).assign(has_visual=True)
    catalogue.loc[3, "has_visual"] = False
    first, second = posters.choose_clusters(catalogue)
    assert first == posters.ClusterRow(primary=0, size=4, groups=((1, ("b", "a")), (2, ("c",))))
    assert second == posters.ClusterRow(primary=1, size=1, groups=((0, ("f",)),))
