import pytest

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.gates import gate, model
from jobs.lake.tables import Lake
from tests.jobs.gates.judging import blocked, publish_metrics, verdict


def test_model_passes_without_spark(settings: PipelineSettings) -> None:
    publish_metrics(settings)
    assert gate.run(settings, "model")["warnings"] == 0
    assert set(verdict(settings, "model")["digests"]) == {"challenger", "baseline", "evaluation"}
    publish_metrics(settings, recall_50=0.04, coverage_50=0.01)
    gate.run(settings, "model")
    warnings = [f["column"] for f in verdict(settings, "model")["failures"]]
    assert warnings == ["recall_50", "recall_50", "coverage_50"]
    assert "(at least 0.15); this does not hold for challenger (0.04)" in str(verdict(settings, "model"))


def test_a_small_catalogue_is_judged_at_its_own_depth(settings: PipelineSettings) -> None:
    publish_metrics(settings, ks=[6])
    assert "recall_6" in {name for _, name in blocked(settings, "model")[0]}, "nobody measured it"
    columns = [getattr(expectation, "column", "") for suite in model.suites(settings) for expectation in suite.expectations]
    assert "recall_6" in columns and "coverage_6" in columns and not any("50" in str(name) for name in columns)


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


@pytest.mark.parametrize(("recall", "passes"), [({}, True), ({"validation_recall_50": None}, False)])
def test_a_model_that_nobody_could_be_validated_on_passes_and_one_without_a_number_does_not(
    settings: PipelineSettings, recall: dict, passes: bool
) -> None:
    publish_metrics(settings)
    with Lake.of(settings).write("challenger", settings) as pending:
        write_json(pending.path / "curves.json", {"epochs": [{"epoch": 1, "train_loss": 1.0} | recall]})
    if passes:
        gate.run(settings, "model")
        assert verdict(settings, "model")["success"] is True
    else:
        blocked(settings, "model")


def test_model_without_metrics_blocks(settings: PipelineSettings) -> None:
    assert "run evaluate" in blocked(settings, "model")[1]
