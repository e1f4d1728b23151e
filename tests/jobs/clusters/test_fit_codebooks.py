"""The fit_codebooks job on small feature tables that are written directly into the lake."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.clusters import fit_codebooks
from jobs.clusters.codebook_store import load_codebooks
from jobs.lake.tables import Lake
from jobs.lake.views import FEATURE_TABLES, dense_view, read_views
from tests.jobs.records import publish_frame

pytest.importorskip("faiss")

NEXT_DAY = {"date": dt.date(2026, 1, 29)}


def feature_vectors(count: int, *, seed: int = 0) -> dict[str, list[list[float] | None]]:
    """Three views of `count` items in eight groups. Some are missing, the last item has none. A larger count adds items."""
    rng = np.random.default_rng(seed)
    maps = [rng.standard_normal((8, size)) for size in (12, 10, 6)]
    groups = rng.standard_normal((8, 8)) * 2
    tables: dict[str, list[list[float] | None]] = {name: [] for name in FEATURE_TABLES}
    for item in range(count):
        own = np.random.default_rng([seed, item])
        hidden = groups[item % 8] + own.standard_normal(8) * 0.4
        missing = own.random(3) < 0.15
        missing[:] = item == count - 1 or (missing & ~missing.all())
        for table, matrix, absent in zip(FEATURE_TABLES, maps, missing, strict=True):
            tables[table].append(None if absent else (hidden @ matrix).astype(np.float32).tolist())
    return tables


def write_features(
    settings: PipelineSettings,
    vectors: dict[str, list[list[float] | None]],
    encoders: dict[str, str] | None = None,
    *,
    row_group_size: int | None = None,
    content: dict[str, list[list[float] | None]] | None = None,
) -> None:
    """Publish them and `items`. `content` stands for pictures and texts, if these are not to follow from the vectors."""
    count = len(next(iter(vectors.values())))
    items = {
        "item_index": range(count),
        "item_id": [f"item-{index:05d}" for index in range(count)],
        "num_train": [1000 // (index + 1) for index in range(count)],
    }
    publish_frame(settings, "items", pd.DataFrame(items))
    for table, rows in vectors.items():
        hashed = [None if row is None else str(hash(tuple(row))) for row in (content or vectors)[table]]
        columns = {
            "item_index": pa.array(range(len(rows)), pa.int64()),
            "item_id": pa.array([f"item-{index:05d}" for index in range(len(rows))]),
            "vector": pa.array(rows, pa.list_(pa.float32())),
            "status": pa.array(["missing" if row is None else "ok" for row in rows]),
            "content_hash": pa.array(hashed, pa.string()),
            "encoder": pa.array([(encoders or {}).get(table, f"{table}:1")] * len(rows)),
        }
        with Lake.of(settings).write(table, settings) as pending:
            pending.path.mkdir()
            pq.write_table(pa.table(columns), pending.path / "part-0.parquet", row_group_size=row_group_size)


def digest(settings: PipelineSettings) -> str:
    return Lake.of(settings).manifest("codebooks", settings.date)["digest"]


def test_codebooks_are_written_and_reported(settings: PipelineSettings) -> None:
    write_features(settings, feature_vectors(200))
    summary = fit_codebooks.run(settings)
    assert summary["items_fitted"] == 200 and summary["primary"]["num_items"] == 199
    assert summary["primary"]["smallest"] >= settings.clusters.min_cluster_size
    assert summary["warm"] is False and summary["cold_because"] == "no earlier codebooks"
    assert summary["alignment_epochs"] == 3
    json.dumps(summary)

    folder = Lake.of(settings).path("codebooks", settings.date)
    heads, codebooks, about = load_codebooks(folder)
    assert list(heads.input_dims.items()) == [("visual", 12), ("text", 10), ("behaviour", 6)]
    assert codebooks.primary_PD.shape == (8, 64) and codebooks.secondary_CSE.shape == (1, 4, 192)
    views = read_views(settings, np.arange(200))
    assigned = codebooks.assign(heads.align(views.arrays, views.present), views.present)
    assert np.bincount(assigned.primary[:-1], minlength=8).tolist() == about["fit"]["sizes"]
    assert about["encoders"] == {"visual": "visual_features:1", "text": "text_features:1", "behaviour": "behaviour_features:1"}
    assert len(about["alignment_losses"]) == 3 and "repairs" in about["fit"]


def test_a_rerun_gives_the_same_bytes_cold_and_warm(settings: PipelineSettings) -> None:
    tomorrow = settings.model_copy(update=NEXT_DAY)
    digests = []
    for _ in range(2):
        write_features(settings, feature_vectors(200))
        fit_codebooks.run(settings)
        write_features(tomorrow, feature_vectors(220))
        summary = fit_codebooks.run(tomorrow)
        assert summary["warm"] and summary["previous_date"] == "2026-01-28"
        digests.append((digest(settings), digest(tomorrow)))
    assert digests[0] == digests[1]
    inputs = Lake.of(settings).manifest("codebooks", tomorrow.date)["inputs"]
    assert inputs["codebooks@2026-01-28"] == digests[0][0] and set(FEATURE_TABLES) < set(inputs)


def labels(settings: PipelineSettings, count: int) -> np.ndarray:
    heads, codebooks, _ = load_codebooks(Lake.of(settings).path("codebooks", settings.date))
    views = read_views(settings, np.arange(count))
    return codebooks.assign(heads.align(views.arrays, views.present), views.present).primary


def test_warm_start_keeps_labels_and_force_refit_does_not(settings: PipelineSettings) -> None:
    tomorrow = settings.model_copy(update=NEXT_DAY)
    for day, count in ((settings, 200), (tomorrow, 230)):
        write_features(day, feature_vectors(count))
        fit_codebooks.run(day)
    before, warm = labels(settings, 200)[:199], labels(tomorrow, 230)[:199]
    assert (before != warm).mean() < 0.05

    refit = tomorrow.model_copy(update={"clusters": settings.clusters.model_copy(update={"force_refit": True, "seed": 5})})
    assert fit_codebooks.run(refit)["cold_because"] == "clusters.force_refit is set"
    assert (before != labels(refit, 230)[:199]).mean() > 0.3


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"warm_start": False}, "clusters.warm_start is off"),
        ({"dim": 32}, "clusters.dim was 64 on 2026-01-28"),
        ({"num_primary": 7}, "clusters.num_primary was 8 on 2026-01-28"),
    ],
)
def test_a_cold_start_says_why(settings: PipelineSettings, update: dict[str, int], reason: str) -> None:
    write_features(settings, feature_vectors(100))
    fit_codebooks.run(settings)
    tomorrow = settings.model_copy(update=NEXT_DAY | {"clusters": settings.clusters.model_copy(update=update)})
    write_features(tomorrow, feature_vectors(100))
    summary = fit_codebooks.run(tomorrow)
    assert not summary["warm"] and summary["cold_because"] == summary["refit_asked_by"] == reason


def test_the_head_of_a_changed_encoder_starts_afresh(settings: PipelineSettings) -> None:
    tomorrow = settings.model_copy(update=NEXT_DAY)
    write_features(settings, feature_vectors(200))
    fit_codebooks.run(settings)
    write_features(tomorrow, feature_vectors(200), {"behaviour_features": "behaviour_features:2"})
    summary = fit_codebooks.run(tomorrow)
    assert summary["warm"] and summary["heads_kept"] == ["visual", "text"] and summary["alignment_epochs"] == 3
    assert summary["refit_asked_by"] is None  # behaviour is learnt anew each day
    write_features(tomorrow, feature_vectors(200), {"text_features": "text_features:2"})
    assert fit_codebooks.run(tomorrow)["refit_asked_by"] == "the text encoder has changed since 2026-01-28"


def test_without_alignment_the_projection_is_fixed(settings: PipelineSettings) -> None:
    settings = settings.model_copy(update={"clusters": settings.clusters.model_copy(update={"alignment": False})})
    write_features(settings, feature_vectors(100))
    summary = fit_codebooks.run(settings)
    assert summary["alignment_epochs"] == 0 and summary["alignment_loss_last"] is None


def test_a_view_nobody_has_is_left_out(settings: PipelineSettings) -> None:
    vectors = feature_vectors(100)
    vectors["visual_features"] = [None] * 100
    write_features(settings, vectors)
    assert fit_codebooks.run(settings)["items_per_view"].keys() == {"text", "behaviour"}
    for table in ("text_features", "behaviour_features"):
        vectors[table] = [None] * 100
    write_features(settings, vectors)
    with pytest.raises(DataError, match="no item has a view of any kind"):
        fit_codebooks.run(settings)


def test_a_large_catalogue_is_sampled(settings: PipelineSettings) -> None:
    settings = settings.model_copy(update={"clusters": settings.clusters.model_copy(update={"max_train_items": 100})})
    write_features(settings, feature_vectors(180))
    summary = fit_codebooks.run(settings)
    assert summary["items_fitted"] == summary["primary"]["num_items"] == 100


def test_fewer_items_than_clusters(settings: PipelineSettings) -> None:
    write_features(settings, feature_vectors(30))
    with pytest.raises(
        DataError, match="fewer items than clusters need: 29 items.*need 40.*set clusters.num_primary to at most 5"
    ):
        fit_codebooks.run(settings)
    assert not Lake.of(settings).exists("codebooks", settings.date)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_names_table_and_items(settings: PipelineSettings, value: float) -> None:
    vectors = feature_vectors(100)
    vectors["text_features"][7] = [value] * 10
    write_features(settings, vectors)
    with pytest.raises(DataError, match=r"text_features, column 'vector', rows \['item-00007'\].*NaN or infinity"):
        fit_codebooks.run(settings)


def test_tables_that_do_not_fit(settings: PipelineSettings) -> None:
    vectors = feature_vectors(100)
    write_features(settings, vectors | {"text_features": vectors["text_features"][:90]})
    with pytest.raises(DataError, match="text_features': 90.*should be the same items"):
        fit_codebooks.run(settings)
    vectors["text_features"][3] = [1.0, 2.0]
    write_features(settings, vectors)
    with pytest.raises(DataError, match=r"text_features.*lengths \[2, 10\]"):
        fit_codebooks.run(settings)


def test_dense_view_of_a_slice() -> None:
    vectors = pa.array([[9.0, 9.0], [1.0, 2.0], None, [3.0, None]], pa.list_(pa.float32())).slice(1)
    values, present = dense_view(vectors)
    assert present.tolist() == [True, False, True]
    np.testing.assert_array_equal(values, np.array([[1, 2], [0, 0], [3, np.nan]], np.float32))
    assert dense_view(pa.array([None, None], pa.list_(pa.float32())))[0].shape == (2, 0)
