"""The daily DAG as Airflow reads it: graph, gates in the way, docs, time-outs, retries, and the form."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.base.settings import PipelineSettings
from jobs.step.runtime import load_settings

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("graph_snapshot.json")
GATES = (
    "prepare.gate_raw",
    "features.gate_features",
    "clusters.gate_clusters",
    "training.gate_training_set",
    "training.gate_model",
)

pytestmark = pytest.mark.airflow


@pytest.fixture
def dag(dags: dict[str, Any]) -> Any:
    return dags["esans_daily_retraining"]


def test_graph_is_the_one_agreed_on(dag: Any) -> None:
    graph = {
        task.task_id: {
            "operator": type(task).__name__,
            "after": sorted(task.upstream_task_ids),
            "reads": sorted(asset.name for asset in task.inlets),
            "writes": sorted(asset.name for asset in task.outlets),
        }
        for task in dag.tasks
    }
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(graph, indent=2, sort_keys=True) + "\n")
    assert graph == json.loads(SNAPSHOT.read_text()), "meant? then: UPDATE_SNAPSHOT=1 pytest " + str(Path(__file__).name)


def test_every_gate_stands_before_the_registry(dag: Any) -> None:
    # With the trigger rule all_success, held below, a task waits for everything upstream of it.
    before = {task.task_id for task in dag.get_task("registry.register").get_flat_relatives(upstream=True)}
    assert set(GATES) <= before


def test_no_alias_moves_before_the_verdict_and_the_review(dag: Any) -> None:
    from dags import assets as a

    assert dag.get_task("registry.promote").upstream_task_ids == {"registry.review"}
    assert dag.get_task("registry.review").upstream_task_ids == {"registry.judge"}
    assert dag.get_task("registry.judge").upstream_task_ids == {"registry.register"}
    assert [task.task_id for task in dag.tasks if a.CHAMPION in task.outlets] == ["registry.promote"]


def test_the_training_set_and_the_baseline_wait_for_no_clusters(dag: Any) -> None:
    before = {task.task_id for task in dag.get_task("training.train_baseline").get_flat_relatives(upstream=True)}
    assert {"training.gate_training_set", "features.gate_features"} <= before
    assert not [task for task in before if task.startswith("clusters.")]


def test_every_asset_read_is_written_by_an_earlier_task(dag: Any) -> None:
    for task in dag.tasks:
        made = {asset.name for earlier in task.get_flat_relatives(upstream=True) for asset in earlier.outlets}
        assert {asset.name for asset in task.inlets} <= made, task.task_id


def test_every_task_has_docs_a_time_out_an_owner_and_retries_that_spare_bad_data(dag: Any) -> None:
    for task in dag.tasks:
        assert task.doc_md and task.owner != "airflow", task.task_id
        assert task.execution_timeout is not None and task.execution_timeout.total_seconds() >= 600, task.task_id
        assert task.retries == 2 and task.retry_exponential_backoff and task.has_retry_policy, task.task_id
        assert task.has_on_failure_callback, task.task_id
        # A review that is skipped must not keep a version that needs none from its promotion; a failed one must.
        assert task.trigger_rule == ("none_failed" if task.task_id == "registry.promote" else "all_success"), task.task_id


def test_training_alone_takes_a_slot_of_the_gpu(dag: Any) -> None:
    pooled = {task.task_id for task in dag.tasks if task.pool == "gpu"}
    assert pooled == {"training.train_baseline", "training.train_challenger"}


def test_a_run_outlives_the_longest_review_and_is_told_of_after_a_day(dag: Any) -> None:
    longest = PipelineSettings.model_fields["registry"].annotation.model_fields["review_hours"].metadata
    hours = next(bound.le for bound in longest if hasattr(bound, "le"))
    assert dag.dagrun_timeout.total_seconds() >= (hours + 24) * 3600
    (deadline,) = dag.deadline
    assert deadline.callback.path == "dags.alerts.AlertNotifier"
    assert dag.has_on_failure_callback


def test_airflow_reads_the_deadline_when_a_run_is_made_and_when_it_is_cleared(dag: Any) -> None:
    from airflow.serialization.decoders import decode_deadline_alert
    from airflow.serialization.encoders import encode_deadline_alert

    (deadline,) = dag.deadline
    stored = json.loads(json.dumps(encode_deadline_alert(deadline)))
    assert decode_deadline_alert(stored).interval == timedelta(hours=24)
    # A run that is cleared gets its new deadline from the bare column, with these words (apache/airflow #70368).
    assert timedelta(seconds=stored["interval"]) == timedelta(hours=24)


def test_tasks_are_named_after_the_steps_they_record(dag: Any) -> None:
    from dags.days import DAY

    names = [task.task_id.rsplit(".", 1)[-1] for task in dag.tasks]
    assert len(set(names)) == len(names)
    for task in dag.tasks:
        if task.task_id != "prepare.prepare":
            assert f"/runs/{DAY}/settings.json" in " ".join(getattr(task, "application_args", None) or task.arguments)
        assert task.record.endswith(f"/runs/{DAY}/steps/{task.task_id.rsplit('.', 1)[-1]}.json")


def test_form_offers_every_setting_with_its_default(dag: Any) -> None:
    flat = PipelineSettings().flat()
    deployment = {"spark.master", "spark.driver_host", "registry.tracking_uri", "run.records"}
    search = {name for name in flat if name.startswith("tuning.")}
    assert set(dag.params) == set(flat) - {"date", "home", "lake", "serving"} - deployment - search
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.value == flat[name], name
        assert param.description and param.schema["type"], name


def test_form_begins_with_what_is_changed_most(dag: Any) -> None:
    from dags.params import COMMON

    assert list(dag.params)[: len(COMMON)] == list(COMMON)
    # What has no section is shown first and open, each section is closed.
    assert [name for name in dag.params if "section" not in dag.params.get_param(name).schema] == list(COMMON)
    assert dag.params.get_param("registry.promotion").schema["enum"] == ["auto", "review", "never"]


def test_a_form_that_is_sent_as_it_came_changes_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.params import dag_params, settings_flags

    monkeypatch.setenv("ESANS_DATA__SOURCE", "/data/shop")
    monkeypatch.setenv("ESANS_TRAINING__EPOCHS", "3")
    monkeypatch.setenv("ESANS_REGISTRY__TRACKING_URI", "http://127.0.0.1:5000")
    sent = {name: param.value for name, param in dag_params().items()}
    assert sent["data.source"] == "/data/shop" and sent["training.epochs"] == 3
    assert load_settings(settings_flags(sent)) == load_settings([])


def test_a_form_shows_the_agreed_settings_so_that_sending_it_as_it_came_leaves_them_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dags.params import dag_params, settings_flags
    from tests.agreements import agree

    monkeypatch.setenv("ESANS_HOME", str(tmp_path))
    agree(tmp_path, {"training.temperature": 0.05, "training.dropout": 0.3})
    sent = {name: param.value for name, param in dag_params().items()}
    assert sent["training.temperature"] == 0.05 and sent["training.dropout"] == 0.3
    settings = load_settings(settings_flags(sent))
    assert settings == load_settings([]) and settings.agreement()["otherwise"] == {}
    changed = load_settings(settings_flags(sent | {"training.dropout": 0.5}))  # a person's own value wins, and the run says so
    assert changed.training.dropout == 0.5 and changed.agreement()["otherwise"] == {"training.dropout": 0.5}


def test_a_form_never_decides_where_passwords_are_sent() -> None:
    from dags.params import settings_flags

    with pytest.raises(ValueError, match=r"no parameter named 'registry\.tracking_uri'"):
        settings_flags({"registry.tracking_uri": "http://elsewhere"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training.epochs", 0),
        ("training.epochs", "3"),
        ("training.epochs", 2.5),
        ("training.learning_rate", 1),
        ("gate.confidence", 0.5),
        ("sampling.method", "magic"),
        ("registry.model_name", "a b"),
        ("clusters.alignment", "yes"),
        ("data.max_rejected_fraction", 1.01),
        ("registry.promotion", "sometimes"),
        ("registry.review_hours", 0),
    ],
)
def test_form_refuses_what_the_schema_refuses(name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from dags.params import dag_params

    with pytest.raises(ParamValidationError):
        dag_params()[name].resolve(value)


def test_form_accepts_bounds_that_are_inclusive() -> None:
    from dags.params import dag_params

    assert dag_params()["training.epochs"].resolve(1) == 1
    assert dag_params()["spark.executor_memory"].resolve(None) is None


def test_flags_bring_a_conf_back_as_the_same_settings(tmp_path: Path) -> None:
    from dags.params import settings_flags

    conf = {
        "training.epochs": 3,
        "training.learning_rate": 0.01,
        "clusters.alignment": False,
        "clusters.force_refit": True,
        "sampling.lambda_low": -0.5,
        "data.source": "/data/with space; rm -rf $HOME",
        "spark.executor_memory": None,
    }
    flat = load_settings([f"--home={tmp_path}", *settings_flags(conf)]).flat()
    expected = {name: value for name, value in conf.items() if value is not None}
    assert {name: flat[name] for name in expected} == expected
    changed = {name for name, value in flat.items() if value != PipelineSettings().flat()[name]}
    assert changed == set(expected) | {"home"}


def test_flags_take_a_nested_conf_and_no_conf() -> None:
    from dags.params import settings_flags

    assert settings_flags({"training": {"epochs": 3}}) == ["--training.epochs=3"]
    assert settings_flags(None) == settings_flags({}) == []


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"training.epoch": 3}, "no parameter named 'training.epoch' (the nearest is 'training.epochs')"),
        ({"epochs": 3}, "no parameter named 'epochs' (the nearest is 'training.epochs')"),
        ({"shop": {"num_item": 400}}, "no parameter named 'shop.num_item' (the nearest is 'shop.num_items')"),
        ({"trainign.epochs": None}, "no parameter named 'trainign.epochs' (the nearest is 'training.epochs')"),
        ({"trainign": {}}, "no parameter named 'trainign'"),
        ({"a.b": 1, "gate.k": 2}, "'a.b'"),
        ({"a.b": 1, "gate.k": 2}, "none named 'gate.k'"),
        ({"home": "/elsewhere"}, "no parameter named 'home'"),
        ({"date": "2020-01-01"}, "no parameter named 'date'"),
        ({"training.epochs": 0}, "training.epochs: Input should be greater than or equal to 1 (got 0)"),
        ({"sampling.lambda_low": 0.5}, "lambda_low (0.5) must not exceed lambda_high (0.1)"),
        ({"training.embedding_dim": 31}, "must be divisible by training.num_heads (2)"),
    ],
)
def test_flags_refuse_with_a_reason(conf: dict[str, Any], reason: str) -> None:
    from dags.params import settings_flags

    with pytest.raises(ValueError) as refusal:
        settings_flags(conf)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_dag_file_is_quick_to_parse_and_loads_no_engine(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "started = time.process_time()\n"
        "import airflow.sdk, airflow.sdk.exceptions, airflow.providers.common.compat.sdk\n"
        "between = time.process_time()\n"
        "import dags.esans_daily_retraining\n"
        "heavy = {'pyspark', 'torch', 'mlflow', 'pandas', 'pyarrow', 'great_expectations', 'faiss'} & set(sys.modules)\n"
        "print(between - started, time.process_time() - between, sorted(heavy))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    airflow, ours, heavy = done.stdout.splitlines()[-1].split(" ", 2)
    assert heavy == "[]"
    # Beside Airflow's own import, not in seconds: a busy machine slows both. It is about 0.2 s beside 1.2 s.
    assert float(ours) < 0.8 * float(airflow)
