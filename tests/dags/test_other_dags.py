"""The DAGs beside the daily one: what starts them, what their forms refuse, and what they tell their jobs."""

import json
import runpy
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.airflow
ROOT = Path(__file__).resolve().parents[2]

RUN = SimpleNamespace(triggering_user_name="ada", conf={})


def _arguments(task: Any, params: dict[str, Any], run: Any = RUN) -> list[str]:
    """The command line that Airflow would make of a task's templates."""
    rendered = task.render_template(task.arguments, {"params": params, "run_id": "manual__2026", "dag_run": run})
    task.arguments, kept = rendered, task.arguments
    try:
        return task.command_arguments({})
    finally:
        task.arguments = kept


def test_there_are_these_dags_and_each_is_described(dags: dict[str, Any]) -> None:
    names = {"daily_retraining", "features", "promote", "publish", "rollback", "tune", "revoke_settings", "forget"}
    assert set(dags) == {f"esans_{name}" for name in names}
    for dag in dags.values():
        assert dag.doc_md and dag.description and "esans" in dag.tags and not dag.catchup, dag.dag_id
        assert dag.max_active_runs == 1 and dag.dagrun_timeout, dag.dag_id
        for task in dag.tasks:
            assert task.doc_md and task.execution_timeout and task.has_on_failure_callback, task.task_id


def test_promotion_by_hand_names_version_reason_and_person(dags: dict[str, Any]) -> None:
    from dags.operators import HOME

    (task,) = dags["esans_promote"].tasks
    assert task.job == "promote_version"
    for version in (3, "3", "3 | 2026-01-28 | Recall@50 0.412 | kept champion"):
        found = _arguments(task, {"version": version, "reason": "better; rm -rf / {{ run_id }}"})
        assert found == [
            f"--home={HOME}",
            "--action=manual__2026",
            "--by=ada",
            "--version=3",
            "--reason=better; rm -rf / {{ run_id }}",
        ]


def test_rollback_goes_to_the_bundle_named_or_leaves_the_choice_to_the_job(dags: dict[str, Any]) -> None:
    (task,) = dags["esans_rollback"].tasks
    for bundle in ("2026-01-28-v3-0a1b2c3d", "2026-01-28-v3-0a1b2c3d | Recall@50 0.412 | never in force"):
        named = _arguments(task, {"bundle": bundle, "reason": "worse"})
        assert named[3:] == ["--to=2026-01-28-v3-0a1b2c3d", "--reason=worse"]
    assert _arguments(task, {"bundle": None, "reason": "worse"})[3:] == ["--reason=worse"]


def test_publishing_follows_the_champion_and_the_clock(dags: dict[str, Any]) -> None:
    from dags import assets as a
    from dags.operators import HOME

    dag = dags["esans_publish"]
    (task,) = dag.tasks
    assert a.CHAMPION in task.inlets
    assert dag.timetable.asset_condition == a.CHAMPION
    assert dag.timetable.timetable.expression == "0 * * * *"
    nobody = SimpleNamespace(triggering_user_name=None, conf={})
    assert _arguments(task, {}, nobody) == [f"--home={HOME}", "--action=manual__2026", "--by=scheduler"]


def test_a_search_runs_for_the_date_and_the_minutes_of_its_form_and_has_none_of_the_daily_settings(
    dags: dict[str, Any],
) -> None:
    from dags.days import DAY
    from dags.operators import HOME
    from jobs.base.settings import TuningSettings

    dag = dags["esans_tune"]
    assert set(dag.params) == {f"tuning.{name}" for name in TuningSettings.model_fields}
    assert not [name for name in dag.params if "section" in dag.params.get_param(name).schema]  # a closed form of four fields
    task = dag.get_task("tuning")
    assert task.command_arguments({"dag_run": SimpleNamespace(conf={"tuning.minutes": 5})}) == [
        f"--date={DAY}",
        f"--home={HOME}",
        "--tuning.minutes=5",
    ]
    assert task.record == f"{HOME}/tuning/{DAY}/steps/tuning.json" and task.pool == "gpu"
    longest = dag.params.get_param("tuning.minutes").schema["maximum"]
    assert task.execution_timeout.total_seconds() > 60 * longest
    week = 7 * 24 * 3600
    assert dag.dagrun_timeout.total_seconds() > task.execution_timeout.total_seconds() + week


def test_settings_come_into_force_only_after_a_review_and_in_the_name_of_who_approved(dags: dict[str, Any]) -> None:
    from dags.operators import HOME

    dag = dags["esans_tune"]
    assert dag.get_task("review").upstream_task_ids == {"tuning"}
    task = dag.get_task("adopt_settings")
    assert task.upstream_task_ids == {"review"} and task.trigger_rule == "all_success"
    answer = {"by": "bob", "reason": "two per cent more; rm -rf / {{ run_id }}", "proposal": "0a1b2c3d4e5f"}
    about = {"data_interval_start": datetime(2026, 1, 28, tzinfo=UTC), "run_id": "manual__2026", "dag_run": RUN}
    ti = SimpleNamespace(xcom_pull=lambda task_ids: {"review": answer}[task_ids])
    assert task.render_template(task.arguments, about | {"ti": ti}) == [
        f"--home={HOME}",
        "--action=manual__2026",
        "--by=bob",
        "--date=2026-01-28",
        "--proposal=0a1b2c3d4e5f",
        "--reason=two per cent more; rm -rf / {{ run_id }}",
    ]


def test_taking_settings_back_names_person_and_reason(dags: dict[str, Any]) -> None:
    (task,) = dags["esans_revoke_settings"].tasks
    assert _arguments(task, {"reason": "worse in production"})[1:] == [
        "--action=manual__2026",
        "--by=ada",
        "--revoke",
        "--reason=worse in production",
    ]


def test_forgetting_hands_the_id_over_where_nobody_sees_it(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import forget_operator
    from dags.operators import HOME, JobProcess

    task = dags["esans_forget"].get_task("forget")
    params = {"user": "Jörg 'x' {{ run_id }}", "reason": "ticket 12"}
    assert _arguments(task, params) == [f"--home={HOME}", "--action=manual__2026", "--by=ada", "--reason=ticket 12"]
    kept = json.dumps({name: getattr(task, name) for name in task.template_fields})  # what Airflow shows and keeps of a task
    assert "user" not in kept.replace("triggering_user_name", "")
    started: list[Any] = []
    masked: list[str] = []
    monkeypatch.setattr(forget_operator, "mask_secret", masked.append)
    monkeypatch.setattr(JobProcess, "run", lambda *arguments: started.append(arguments[1:]))
    task.execute({"dag_run": SimpleNamespace(conf=params), "params": params})
    ((job, arguments, _, variables),) = started
    assert job == "forget" and params["user"] not in str(arguments)
    assert variables == {"ESANS_FORGET_USER": params["user"]} and masked == [params["user"]]


def test_forgetting_waits_for_all_other_dags(dags: dict[str, Any]) -> None:
    task, ended = dags["esans_forget"].get_task("forget"), dags["esans_forget"].get_task("wait")
    assert task.upstream_task_ids == {"wait"} and set(ended.dags) == set(dags) - {"esans_forget"} and ended.mode == "reschedule"
    at_work = {"esans_tune": 1}
    ti = SimpleNamespace(get_dr_count=lambda dag_id, states: at_work.get(dag_id, 0) if states == ["running"] else None)
    assert not ended.poke({"ti": ti})
    at_work.clear()
    assert ended.poke({"ti": ti})


def test_the_conf_of_a_run_that_has_forgotten_somebody_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a database of Airflow's own tables, by the plugin that the scheduler loads."""
    from airflow.models import DagRun, Log
    from sqlalchemy import create_engine, select
    from sqlalchemy.orm import Session

    plugin = runpy.run_path(str(ROOT / "dags" / "plugins" / "forget_conf.py"))
    (listener,) = plugin["ForgetConfPlugin"].listeners
    body = {"dag_run_id": "m1", "conf": {"user": "u0002", "reason": "ticket 12"}, "method": "POST"}
    engine = create_engine("sqlite://")
    Log.__table__.create(engine)
    with Session(engine) as session:
        for dag, conf in (("esans_forget", body["conf"]), ("esans_forget", {"user": "u0003"}), ("esans_tune", body["conf"])):
            session.add(Log(event="trigger_dag_run", dag_id=dag, extra=json.dumps(body | {"conf": conf})))
        session.add(Log(event="cli", dag_id="esans_forget", extra="no JSON"))
        session.flush()
        run = DagRun(dag_id="esans_forget", run_id="m1", conf=body["conf"], run_type="manual")
        monkeypatch.setattr("sqlalchemy.orm.object_session", lambda one: session)
        listener.on_dag_run_success(run, "success")
        assert run.conf == {"user": "(forgotten)", "reason": "ticket 12"}
        extras = [entry.extra for entry in session.scalars(select(Log).order_by(Log.id))]
        assert json.loads(extras[0]) == body | {"conf": run.conf}
        assert "u0003" in extras[1] and "u0002" in extras[2] and extras[3] == "no JSON"
        other = DagRun(dag_id="esans_tune", run_id="m1", conf={"user": "u0002"}, run_type="manual")
        listener.on_dag_run_success(other, "success")
        assert other.conf == {"user": "u0002"}


def test_the_plugin_is_no_dag_and_every_deployment_loads_it() -> None:
    from infra.local.environment import stack_environment

    assert {"plugins/", "forget_operator.py"} <= set((ROOT / "dags" / ".airflowignore").read_text().split())
    with tempfile.TemporaryDirectory() as home:
        found = stack_environment(Path(home), port=9)["AIRFLOW__CORE__PLUGINS_FOLDER"]
    assert Path(found) == ROOT / "dags" / "plugins"
    for image in ("airflow", "jobs"):
        text = (ROOT / "infra" / "images" / f"{image}.Dockerfile").read_text()
        assert "AIRFLOW__CORE__PLUGINS_FOLDER=/opt/esans/dags/plugins" in text


@pytest.mark.parametrize(
    ("dag", "name", "value"),
    [
        ("esans_promote", "version", 0),
        ("esans_promote", "version", "v3"),
        ("esans_promote", "version", "3; rm"),
        ("esans_promote", "version", None),
        ("esans_promote", "reason", ""),
        ("esans_promote", "reason", "    "),
        ("esans_rollback", "reason", None),
        ("esans_forget", "user", None),
        ("esans_forget", "user", "  "),
        ("esans_forget", "user", 7),
        ("esans_forget", "reason", ""),
        ("esans_revoke_settings", "reason", " "),
        ("esans_tune", "tuning.minutes", 0),
        ("esans_tune", "tuning.minutes", 1441),
        ("esans_tune", "tuning.keep", "training.order; rm"),
        ("esans_rollback", "bundle", "../../etc"),
        ("esans_rollback", "bundle", "2026-01-28-v0-0a1b2c3d"),
    ],
)
def test_forms_refuse(dags: dict[str, Any], dag: str, name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dags[dag].params.get_param(name).resolve(value)


@pytest.mark.parametrize(
    ("dag", "conf", "said"),
    [
        ("esans_promote", {"version": 3, "reasons": "better"}, "'reasons' (the nearest is 'reason')"),
        ("esans_rollback", {"bundles": "2026-01-28-v3-0a1b2c3d", "reason": "worse"}, "'bundles' (the nearest is 'bundle')"),
        ("esans_publish", {"version": 3}, "'version' (this DAG takes none)"),
        ("esans_tune", {"tuning.minuets": 3}, "'tuning.minuets' (the nearest is 'tuning.minutes')"),
        ("esans_tune", {"training": {"epochs": 3}}, "'training.epochs'"),  # what runs today, and nothing else, is compared
        ("esans_features", {"features.text_dimm": 9}, "'features.text_dimm' (the nearest is 'features.text_dim')"),
        ("esans_features", {"training": {"epochs": 3}}, "'training.epochs'"),  # of the daily DAG, and no use here
        ("esans_daily_retraining", {"training.epoch": 3}, "'training.epoch' (the nearest is 'training.epochs')"),
    ],
)
def test_a_run_with_an_unknown_name_is_refused_before_its_first_job_starts(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dag: str, conf: dict[str, Any], said: str
) -> None:
    from dags.operators import BadInputError, JobProcess

    first = dags[dag].roots[0]
    record, started = tmp_path / "steps" / "first.json", list[Any]()
    monkeypatch.setattr(first, "record", str(record))
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__1")
    monkeypatch.setattr(JobProcess, "run", lambda *arguments: started.append(arguments))
    run = SimpleNamespace(conf=conf, run_type="manual", triggering_user_name="ada")
    with pytest.raises(BadInputError) as refusal:
        first.execute({"dag_run": run})
    assert said in str(refusal.value) and "Remedy" in str(refusal.value) and not started
    left = json.loads(record.read_text())
    assert (left["step"], left["state"], left["run"]) == ("first", "failed", "manual__1") and said in left["message"]
    record.unlink()
    first.execute({"dag_run": SimpleNamespace(conf=None, run_type="manual")})
    assert len(started) == 1


def test_a_backfill_of_features_has_a_run_folder_of_its_own_and_works_in_order(dags: dict[str, Any]) -> None:
    from dags.days import DAY
    from dags.operators import HOME

    dag = dags["esans_features"]
    prepare = dag.get_task("prepare.prepare")
    assert "--run.records=feature_runs" in prepare.arguments and not prepare.scheduled
    for task in dag.tasks:
        assert f"{HOME}/feature_runs/{DAY}/" in task.record, task.task_id
        # Vectors are taken over from the date before. The rest needs no order, and a run that is skipped must not wait for one.
        assert task.depends_on_past == task.task_id.endswith(("visual_features", "text_features", "behaviour_features"))
    assert dag.timetable.can_be_scheduled  # which Airflow asks of what it backfills
    assert not [name for name in dag.params if name.startswith(("training.", "registry."))]


def test_features_are_made_as_in_the_daily_run(dags: dict[str, Any]) -> None:
    daily = dags["esans_daily_retraining"]
    for task in dags["esans_features"].tasks:
        same = daily.get_task(task.task_id)
        assert type(task) is type(same) and task.upstream_task_ids == same.upstream_task_ids
        assert task.inlets == same.inlets and task.outlets == same.outlets
