"""The assign_clusters job in a real Spark session, compared with the library's own assignment."""

import datetime as dt
import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fit_codebooks import feature_vectors, write_features

from esans_core.cluster_index import ClusterIndex
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.clusters import assign_clusters, fit_codebooks
from jobs.clusters.codebook_store import load_codebooks
from jobs.gate import RECIPES
from jobs.gates import gate
from jobs.gates.stages import STAGES
from jobs.lake.tables import Lake
from jobs.lake.views import read_views
from jobs.step.runtime import run_job

pytest.importorskip("faiss")
pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

COUNT = 700  # more than one Arrow batch


def test_spark_equals_the_library_and_other_tasks_change_nothing(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.of(settings)
    write_features(settings, feature_vectors(COUNT))
    fit_codebooks.run(settings)
    summary = assign_clusters.run(settings)
    table = lake.read("clusters", settings.date)
    assert {field.name: str(field.type) for field in table.schema} == {
        "item_index": "int64",
        "item_id": "string",
        "primary": "int32",
        "secondary": "int32",
        "has_visual": "bool",
        "has_text": "bool",
        "has_behaviour": "bool",
        "distance": "float",
    }
    heads, codebooks, _ = load_codebooks(lake.path("codebooks", settings.date))
    views = read_views(settings, np.arange(COUNT))
    expected = codebooks.assign(heads.align(views.arrays, views.present), views.present)
    assert table["item_index"].to_pylist() == list(range(COUNT))
    assert table["item_id"][5].as_py() == "item-00005"
    assert np.array_equal(table["primary"].to_numpy(), expected.primary)
    assert np.array_equal(table["secondary"].to_numpy(), expected.secondary)
    assert np.array_equal(table["distance"].to_numpy(), expected.distance, equal_nan=True)
    flags = np.stack([table[f"has_{name}"].to_numpy() for name in ("visual", "text", "behaviour")], axis=1)
    assert np.array_equal(flags, views.present)
    last = table.slice(COUNT - 1).to_pylist()[0]
    assert (last["primary"], last["secondary"], last["distance"], last["has_text"]) == (-1, -1, None, False)

    assert (summary["items"], summary["without_view"], summary["churn"]) == (COUNT, 1, None)
    assert summary["primary"]["smallest"] >= settings.clusters.min_cluster_size
    json.dumps(summary)

    index = ClusterIndex.load(lake.path("cluster_index", settings.date))
    built = ClusterIndex.from_labels(torch.from_numpy(expected.primary), torch.from_numpy(expected.secondary), 8)
    for field in fields(ClusterIndex):
        assert torch.equal(getattr(index, field.name), getattr(built, field.name)), field.name

    before = {table: lake.manifest(table, settings.date)["digest"] for table in ("clusters", "cluster_index")}
    write_features(settings, feature_vectors(COUNT), row_group_size=100)  # other row groups, so other tasks
    monkeypatch.setattr(assign_clusters, "_SPAN_ROWS", 150)
    assert assign_clusters.run(settings) == summary
    assert {table: lake.manifest(table, settings.date)["digest"] for table in before} == before


def test_churn_counts_unchanged_items_only(settings: PipelineSettings) -> None:
    tomorrow = settings.model_copy(update={"date": settings.date + dt.timedelta(days=1)})
    vectors = feature_vectors(200)
    write_features(settings, vectors)
    fit_codebooks.run(settings)
    assign_clusters.run(settings)

    later = feature_vectors(230)
    for item in range(10):  # ten items get the picture of an item of another group
        later["visual_features"][item] = [1.0 + value for value in later["visual_features"][100 + item] or [0.0] * 12]
    write_features(tomorrow, later)
    fit_codebooks.run(tomorrow)
    churn = assign_clusters.run(tomorrow)["churn"]
    # Ten of 200 items changed. The last one had no view at first, so it changed too.
    assert churn["since"] == settings.ds and churn["unchanged_items"] == 189
    assert churn["primary"] <= churn["primary_or_secondary"]
    lake = Lake.of(settings)
    old, new = (lake.read_pandas("clusters", day.date)["primary"].to_numpy()[10:199] for day in (settings, tomorrow))
    assert churn["primary"] == pytest.approx(float((old != new).mean())) and churn["primary"] < 0.1
    inputs = lake.manifest("clusters", tomorrow.date)["inputs"]
    assert inputs[f"clusters@{settings.ds}"] == lake.manifest("clusters", settings.date)["digest"]


def test_a_refit_that_nobody_asked_for_is_refused_and_forgotten(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    days = [settings.model_copy(update={"date": settings.date + dt.timedelta(days=day)}) for day in range(3)]
    vectors = feature_vectors(200)
    broken = {table: rows[3:199] + rows[:3] + rows[199:] for table, rows in vectors.items()}  # of the third item after each
    for day, today in zip(days, (vectors, broken, vectors), strict=True):
        write_features(day, today, content=vectors)
        fit, labelled = fit_codebooks.run(day), assign_clusters.run(day)
        if day is days[1]:
            (tmp_path / "settings.json").write_text(day.model_dump_json())
            monkeypatch.setattr(sys, "argv", ["gate", "clusters", "--settings", str(tmp_path / "settings.json")])
            with pytest.raises(SystemExit) as caught:
                run_job("gate", gate.run, choice=("stage", STAGES), recipe=RECIPES)
            assert caught.value.code == 65
            message = json.loads((day.run_dir / "steps" / "gate_clusters.json").read_text())["message"]
            assert f"items with the picture and text of {settings.ds} moved, warm from {settings.ds}" in message
            assert "nobody asked for a refit" in message
            assert "set clusters.force_refit for this run or raise gate.max_label_churn" in message
            assert labelled["churn"]["primary"] > 0.5 and labelled["churn"]["labelled_items"] == 199
    # The third day goes on from the first, as if there had been no second.
    assert fit["previous_date"] == labelled["churn"]["since"] == settings.ds and labelled["churn"]["primary"] < 0.1
    inputs = Lake.of(settings).manifest("clusters", days[2].date)["inputs"]
    assert f"clusters@{settings.ds}" in inputs and f"clusters@{days[1].ds}" not in inputs


def test_bad_features_stop_the_job_and_publish_nothing(settings: PipelineSettings) -> None:
    vectors = feature_vectors(120)
    write_features(settings, vectors)
    fit_codebooks.run(settings)

    vectors["behaviour_features"][4] = [float("nan")] * 6
    write_features(settings, vectors)
    with pytest.raises(DataError, match=r"behaviour_features, column 'vector', rows \['item-00004'\]"):
        assign_clusters.run(settings)

    vectors["behaviour_features"][4] = [0.5] * 7
    write_features(settings, vectors)
    with pytest.raises(DataError, match=r"behaviour_features, column 'vector'.*lengths \[6, 7\]"):
        assign_clusters.run(settings)

    vectors = feature_vectors(120)
    write_features(settings, vectors | {"text_features": vectors["text_features"][:100]})
    with pytest.raises(DataError, match="should be the same items"):
        assign_clusters.run(settings)
    assert not Lake.of(settings).exists("clusters", settings.date)


def test_assignment_without_codebooks(settings: PipelineSettings) -> None:
    write_features(settings, feature_vectors(50))
    with pytest.raises(DataError, match="no table 'codebooks'"):
        assign_clusters.run(settings)
