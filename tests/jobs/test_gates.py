import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import gate
from jobs.errors import GateFailed
from jobs.gates.features import STATUSES
from jobs.gates.page import page as gates_page
from jobs.lake import Lake, write_json
from jobs.settings import PipelineSettings
from jobs.source import DAY_SECONDS, day_start

NUM_ITEMS, NUM_USERS, DIM = 60, 30, 4


def publish(
    settings: PipelineSettings, table: str, frame: pd.DataFrame, schema: pa.Schema | None = None, **stats: object
) -> None:
    with Lake.of(settings).write(table, settings) as pending:
        pending.path.mkdir()
        pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), pending.path / "part-0.parquet")
        pending.stats |= stats


def verdict(settings: PipelineSettings, stage: str) -> dict:
    return json.loads((settings.run_dir / "gates" / f"{stage}.json").read_text())


def failed(settings: PipelineSettings, stage: str, severity: str) -> set[tuple[str, str | None]]:
    return {(f["table"], f["column"]) for f in verdict(settings, stage)["failures"] if f["severity"] == severity}


def blocked(settings: PipelineSettings, stage: str) -> tuple[set[tuple[str, str | None]], str]:
    """Critical failures and message of a gate that must stop the run."""
    with pytest.raises(GateFailed) as caught:
        gate.run(settings, stage)
    result = verdict(settings, stage)
    assert result["success"] is False
    assert result["worst"] == "critical"
    return failed(settings, stage, "critical"), str(caught.value)


def items_frame() -> pd.DataFrame:
    index = np.arange(NUM_ITEMS)
    return pd.DataFrame(
        {"item_index": index, "item_id": [f"i{n:03d}" for n in index], "title": "t", "text": "x", "image_path": None}
    ).assign(num_train=2)


# raw ------------------------------------------------------------------------------------------------------------------


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
        ("items", "item_id")
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


# features -------------------------------------------------------------------------------------------------------------

FEATURE_SCHEMA = pa.schema(
    [
        ("item_index", pa.int64()),
        ("item_id", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("status", pa.string()),
        ("content_hash", pa.string()),
        ("encoder", pa.string()),
    ]
)


def feature_frame(seed: int) -> pd.DataFrame:
    vectors = np.random.default_rng(seed).normal(size=(NUM_ITEMS, DIM)).astype("float32")
    frame = items_frame()[["item_index", "item_id"]]
    return frame.assign(vector=list(vectors), status="ok", content_hash=None, encoder="e1")


def publish_features(settings: PipelineSettings, **changed: pd.DataFrame) -> None:
    publish(settings, "items", items_frame())
    for seed, view in enumerate(STATUSES):
        publish(settings, f"{view}_features", changed.get(view, feature_frame(seed)), FEATURE_SCHEMA)


@pytest.mark.spark
def test_features_pass_and_block(settings: PipelineSettings, spark: object) -> None:
    bare = feature_frame(1).assign(vector=None, status="missing")
    publish_features(settings, text=bare)
    gate.run(settings, "features")
    assert failed(settings, "features", "warning") == {("text_features", "vector_length")}

    visual, text, behaviour = (feature_frame(seed) for seed in range(3))
    visual.at[3, "vector"] = np.array([1, np.nan, 0, 0], "float32")
    visual.at[4, "vector"] = np.array([1, np.inf, 0, 0], "float32")
    visual.at[5, "vector"] = np.ones(DIM + 1, "float32")
    visual.loc[6, "item_index"] = 7
    visual.loc[8, "status"] = "fine"
    visual.loc[9, "encoder"] = "e2"
    text["vector"] = [np.ones(DIM, "float32")] * NUM_ITEMS
    text.loc[0, "item_index"] = NUM_ITEMS
    text.loc[1, "status"] = "missing"
    behaviour["vector"] = [np.zeros(DIM, "float32")] * 40 + list(behaviour["vector"][40:])
    behaviour["encoder"] = None
    publish_features(settings, visual=visual, text=text, behaviour=behaviour)
    columns, message = blocked(settings, "features")
    assert columns == {
        ("visual_features", "item_index"),
        ("visual_features", "num_not_finite"),
        ("visual_features", "vector_length"),
        ("visual_features", "status"),
        ("visual_features", "status_agrees"),
        ("visual_features", "encoder"),
        ("text_features", "item_index"),
        ("text_features", "identical_share"),
        ("text_features", "status_agrees"),
        ("behaviour_features", "norm"),
        ("behaviour_features", "has_encoder"),
        ("views", "num_missing_rows"),
    }
    not_finite = next(f for f in verdict(settings, "features")["failures"] if f["column"] == "num_not_finite")
    assert set(not_finite["examples"]) == {"item i003 (1)", "item i004 (1)"}


@pytest.mark.spark
def test_features_without_any_view_block(settings: PipelineSettings, spark: object) -> None:
    words = {"visual": "missing", "text": "missing", "behaviour": "too_few_events"}
    publish_features(settings, **{v: feature_frame(0).assign(vector=None, status=word) for v, word in words.items()})
    settings = settings.model_copy(update={"gate": settings.gate.model_copy(update={"min_view_coverage": 0.0})})
    assert blocked(settings, "features")[0] == {("views", "num_views")}


@pytest.mark.spark
def test_a_missing_table_is_a_critical_failure(settings: PipelineSettings, spark: object) -> None:
    publish(settings, "items", items_frame())
    _, message = blocked(settings, "features")
    assert "visual_features" in message
    assert verdict(settings, "features")["checked"] == 0


# clusters -------------------------------------------------------------------------------------------------------------


def cluster_frame() -> pd.DataFrame:
    index = np.arange(NUM_ITEMS)
    return items_frame()[["item_index", "item_id"]].assign(
        primary=(index % 8).astype("int32"),
        secondary=(index % 4).astype("int32"),
        has_visual=True,
        has_text=True,
        has_behaviour=False,
        distance=np.float32(0.5),
    )


@pytest.mark.spark
def test_clusters_pass_and_block(settings: PipelineSettings, spark: object) -> None:
    publish(settings, "items", items_frame())
    publish(settings, "clusters", cluster_frame(), churn={"primary": 0.6})
    gate.run(settings, "clusters")
    assert failed(settings, "clusters", "warning") == {("labelling", "label_churn")}

    bad = cluster_frame()
    bad.loc[:40, "primary"] = 0  # one cluster holds most items, and the others become too small
    bad.loc[41:53, ["primary", "secondary"]] = -1  # more than a fifth without a cluster, though they have views
    bad.loc[54, "primary"] = 8
    bad.loc[55, "secondary"] = 4
    bad.loc[56, "distance"] = np.float32("nan")
    bad.loc[57, "item_index"] = 58
    publish(settings, "clusters", bad, churn=None)
    columns, message = blocked(settings, "clusters")
    assert columns == {
        ("clusters", "item_index"),
        ("clusters", "primary"),
        ("clusters", "secondary"),
        ("clusters", "label_agrees"),
        ("clusters", "distance_not_finite"),
        ("cluster_sizes", "items"),
        ("cluster_sizes", "share"),
        ("labelling", "unlabelled_items"),
    }
    assert "item i057" in message
    assert ("labelling", "balance") in failed(settings, "clusters", "warning")


# training set ---------------------------------------------------------------------------------------------------------


def sequence_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """`sequences` of six events a user (4 + 1 + 1, one a day), and the `interactions` that agree with them."""
    sequences = pd.DataFrame(
        {
            "user_index": np.arange(NUM_USERS),
            "item_index": [[(user + step * 7) % NUM_ITEMS for step in range(6)] for user in range(NUM_USERS)],
            "timestamp": [[1_700_000_000 + step * DAY_SECONDS + user for step in range(6)] for user in range(NUM_USERS)],
        }
    )
    counts = {"num_train": 4, "num_validation": 1, "num_holdout": 1}
    sequences = sequences.assign(**{name: np.int32(count) for name, count in counts.items()})
    log = sequences[["user_index", "item_index", "timestamp"]].explode(["item_index", "timestamp"])
    log["split"] = (["train"] * 4 + ["validation", "holdout"]) * NUM_USERS
    return sequences, log.astype({"item_index": "int64", "timestamp": "int64"})


def publish_sequences(settings: PipelineSettings, sequences: pd.DataFrame, log: pd.DataFrame, items: pd.DataFrame) -> None:
    publish(settings, "items", items)
    publish(settings, "interactions", log, split="window")
    publish(settings, "sequences", sequences)


@pytest.mark.spark
def test_training_set_passes_and_blocks(settings: PipelineSettings, spark: object) -> None:
    sequences, log = sequence_tables()
    publish_sequences(settings, sequences, log, items_frame())
    gate.run(settings, "training_set")
    assert failed(settings, "training_set", "warning") == {("training_set", "evaluated_users")}

    bad = sequences.copy()
    bad.loc[0, "num_train"] = 3  # splits no longer add up
    bad.at[1, "item_index"] = [0, 1, 2, 3, 4, NUM_ITEMS]
    bad.at[2, "timestamp"] = list(reversed(bad.at[2, "timestamp"]))  # trained on what comes after the hold-out
    bad.at[3, "item_index"] = [5, 1, 2, 3, 4, 5]
    bad.at[3, "timestamp"] = [9, 1, 2, 3, 4, 9]  # the hold-out event is trained on as well
    bad.at[4, "item_index"], bad.at[4, "timestamp"] = [], []
    bad.loc[5, "user_index"] = 6
    bad.loc[7, "num_validation"] = -1
    bad.at[8, "item_index"] = [0, -1, 2, 3, 4, 5]
    leaked = log.assign(split=log["split"].where(log["split"] != "holdout", "train"))
    publish_sequences(settings, bad, leaked, items_frame().assign(num_train=3))
    columns, message = blocked(settings, "training_set")
    assert columns == {
        ("sequences", name)
        for name in (
            "user_index",
            "num_events",
            "length_difference",
            "least_count",
            "first_item",
            "last_item",
            "in_order",
            "seconds_to_holdout",
            "shared_events",
        )
    } | {
        ("training_set", name)
        for name in ("train_difference", "holdout_difference", "popularity_difference", "seconds_to_window")
    }
    leak = next(f for f in verdict(settings, "training_set")["failures"] if f["column"] == "seconds_to_holdout")
    assert "user 2 " in leak["message"]


# model ----------------------------------------------------------------------------------------------------------------


def metrics(**changes: object) -> dict[str, object]:
    return {
        "recall_50": 0.2,
        "recall_200": 0.4,
        "ndcg_50": 0.1,
        "head_recall_50": 0.2,
        "tail_recall_50": 0.1,
        "new_item_recall_50": None,
        "coverage_50": 0.6,
        "embedding_norm_mean": 1.0,
        "embedding_std": 0.2,
        "finite": True,
    } | changes


def publish_metrics(settings: PipelineSettings, *, users: int = 100, loss: float = 1.0, **changes: object) -> None:
    lake = Lake.of(settings)
    for table in ("baseline", "challenger", "evaluation"):
        with lake.write(table, settings) as pending:
            write_json(
                pending.path / "curves.json", {"epochs": [{"epoch": 1, "train_loss": loss, "validation_recall_50": 0.1}]}
            )
    models = {"challenger": metrics(**changes), "champion": None, "baseline": metrics(recall_50=0.15)}
    write_json(settings.run_dir / "metrics.json", {"users": users, "models": models, "popularity": {"recall_50": 0.1}})


def test_model_passes_without_spark(settings: PipelineSettings) -> None:
    publish_metrics(settings)
    assert gate.run(settings, "model")["warnings"] == 0
    assert set(verdict(settings, "model")["digests"]) == {"challenger", "baseline", "evaluation"}
    publish_metrics(settings, recall_50=0.04, coverage_50=0.01)
    gate.run(settings, "model")
    warnings = [f["column"] for f in verdict(settings, "model")["failures"]]
    assert warnings == ["recall_50", "recall_50", "coverage_50"]
    assert "(at least 0.15); observed 1 of 1 rows (100.00%), such as challenger (0.04)" in str(verdict(settings, "model"))


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"recall_50": float("nan")}, "recall_50"),
        ({"recall_200": 1.2}, "recall_200"),
        ({"ndcg_50": None}, "ndcg_50"),
        ({"embedding_std": 1e-4}, "embedding_spread"),
        ({"embedding_norm_mean": 3.0}, "embedding_norm_mean"),
        ({"finite": False}, "finite"),
        ({"users": 3}, "users"),
        ({"loss": float("inf")}, "train_loss"),
        ({"recall_200": 0.1}, "recall_gain_200"),
    ],
)
def test_model_blocks(settings: PipelineSettings, changes: dict, column: str) -> None:
    publish_metrics(settings, **changes)
    assert column in {name for _, name in blocked(settings, "model")[0]}


def test_model_without_metrics_blocks(settings: PipelineSettings) -> None:
    assert "run evaluate" in blocked(settings, "model")[1]


def test_the_page_tells_what_the_code_checks() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "gates.md"
    assert page.read_text() == gates_page(), "run python -m jobs.gates.page > docs/gates.md"


# the checkpoint itself ------------------------------------------------------------------------------------------------


def test_an_expectation_that_raises_or_is_not_evaluated_is_critical(settings: PipelineSettings) -> None:
    import great_expectations.expectations as gxe

    from jobs.gates.checkpoint import run_checkpoint
    from jobs.gates.checks import Judged, Suite, check

    suite = Suite.of("t", check(gxe.ExpectColumnValuesToNotBeNull, "no_such_column", "warning", "x is there", "add x."))
    result = run_checkpoint(settings, "model", [suite], Judged({"t": pd.DataFrame({"row": ["a"]})}))
    assert [(f.column, f.severity) for f in result.failures] == [("no_such_column", "critical")]
    assert "could not be evaluated" in result.failures[0].message

    result = run_checkpoint(settings, "model", [suite], Judged({}))
    assert [(f.expectation, f.severity) for f in result.failures] == [("all_expectations_are_evaluated", "critical")]

    empty = pd.DataFrame({"row": pd.Series(dtype=str), "no_such_column": pd.Series(dtype=float)})
    result = run_checkpoint(settings, "model", [suite], Judged({"t": empty}))
    assert [f.expectation for f in result.failures if f.severity == "critical"] == ["expect_table_row_count_to_be_between"]


def test_a_rerun_replaces_its_results_and_docs_need_no_network(settings: PipelineSettings) -> None:
    publish_metrics(settings)

    def files(suffix: str) -> set[Path]:
        return set((settings.home / "gx").rglob(f"*{suffix}"))

    index = Path(gate.run(settings, "model")["data_docs"])
    first = files(".json") | files(".html")
    ids = (settings.home / "gx" / "great_expectations.yml").read_text()
    gate.run(settings, "model")
    assert files(".json") | files(".html") == first
    assert (settings.home / "gx" / "great_expectations.yml").read_text() == ids
    links = re.findall(r'href="(validations/[^"]+)">([^<]+)<', index.read_text())
    assert [word for _, word in links] == ["all expectations hold"] * 3
    assert all((index.parent / link).exists() for link, _ in links)
    for page in [index, *files(".html")]:
        text = page.read_text()
        assert "esans-offline" in text
        assert 'src="https://' not in text
        assert not any("stylesheet" in line and "https://" in line for line in text.splitlines())


def test_a_failed_gate_leaves_no_older_pass_behind(settings: PipelineSettings) -> None:
    publish_metrics(settings)
    gate.run(settings, "model")
    (settings.run_dir / "metrics.json").write_text("{ half")
    with pytest.raises(json.JSONDecodeError):
        gate.run(settings, "model")
    assert not (settings.run_dir / "gates" / "model.json").exists()
