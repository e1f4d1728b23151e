"""The parts of `make run` that need no Airflow: dates, conf, home, secrets, lock, processes, log reading."""

import argparse
import datetime as dt
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.local import check, client, faults, processes, run
from infra.local.components import Components
from infra.local.environment import MARKER, REPOSITORY, load_secrets, stack_environment
from infra.local.home import claim_home
from infra.local.processes import StackError, end_processes, exclusive, free_port, stack_processes
from infra.local.progress import RunResult, last_error, last_event, last_job_line
from infra.local.run import main, make_plan
from infra.local.stack import LocalStack
from jobs.base.errors import EXIT_BAD_DATA, DataError, doing
from jobs.base.places import existing_folder
from jobs.base.settings import PipelineSettings
from jobs.landing.dates import last_event_date
from jobs.landing.land import land
from jobs.registry import promote
from jobs.serving.store import ServingStore
from tests.jobs.serving_days import enter_with_bundle

TODAY = dt.date(2026, 6, 1)
NOON = int(dt.datetime(2026, 5, 3, 12, tzinfo=dt.UTC).timestamp())
YEAR = 365 * 86_400


def _shop(folder: Path, timestamps: pa.Array, name: str = "interactions.parquet") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    count = len(timestamps)
    table = pa.table({"user_id": ["u"] * count, "item_id": ["i"] * count, "timestamp": timestamps})
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name)
    pq.write_table(pa.table({"item_id": ["i"]}), folder / "items.parquet")
    return str(folder)


def _last_date(source: str, home: Path, unit: str = "s") -> dt.date:
    settings = PipelineSettings(home=home, data={"source": source, "timestamp_unit": unit})
    return last_event_date(land(existing_folder(source), settings, home / "landing"), settings, today=TODAY)


def _arguments(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**({"data": None, "date": None, "set": [], "home": None} | given))


# Default date


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_last_date_in_each_unit(tmp_path: Path, unit: str, factor: int) -> None:
    source = _shop(tmp_path, pa.array([(NOON - 9) * factor, NOON * factor, 5]))
    assert _last_date(source, tmp_path / "home", unit) == dt.date(2026, 5, 3)


def test_last_date_of_floats_and_of_timestamps(tmp_path: Path) -> None:
    assert _last_date(_shop(tmp_path / "a", pa.array([NOON + 0.5, None])), tmp_path / "home") == dt.date(2026, 5, 3)
    when = dt.datetime(2026, 5, 3, 23, 59, 59)
    for kind in (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ms", tz="UTC")):
        source = _shop(tmp_path / str(kind).replace("/", ""), pa.array([when], kind))
        assert _last_date(source, tmp_path / "home") == dt.date(2026, 5, 3)


def test_last_date_of_part_files_of_csv_and_by_uri(tmp_path: Path) -> None:
    _shop(tmp_path / "a b", pa.array([NOON]), "interactions.parquet/part-0.parquet")
    _shop(tmp_path / "a b", pa.array([NOON + 86_400]), "interactions.parquet/part-1.parquet")
    assert _last_date((tmp_path / "a b").as_uri(), tmp_path / "home") == dt.date(2026, 5, 4)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "items.jsonl").write_text('{"item_id": "i"}\n')
    (tmp_path / "c" / "interactions.csv").write_text(f"user_id,item_id,timestamp\nu,i,{NOON}\nu,j,{NOON - 86_400}\n")
    assert _last_date(str(tmp_path / "c"), tmp_path / "home") == dt.date(2026, 5, 3)


def test_events_in_the_future_do_not_set_the_date(tmp_path: Path) -> None:
    end_of_today = int(dt.datetime(2026, 6, 1, 23, 59, 59, tzinfo=dt.UTC).timestamp())
    source = _shop(tmp_path, pa.array([NOON, NOON + YEAR]))
    assert _last_date(source, tmp_path / "home") == dt.date(2026, 5, 3)
    source = _shop(tmp_path, pa.array([NOON, end_of_today, end_of_today + 1]))
    assert _last_date(source, tmp_path / "home") == TODAY


def test_milliseconds_read_as_seconds_are_pointed_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data.timestamp_unit=ms"):
        _last_date(_shop(tmp_path, pa.array([NOON * 1000])), tmp_path / "home")


def test_missing_folder_table_column_and_wrong_type_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the source folder does not exist"):
        _last_date(str(tmp_path / "nowhere"), tmp_path / "home")
    (tmp_path / "ratings.csv").write_text("a\n1\n")
    with pytest.raises(
        DataError, match=r"no interactions\.parquet, interactions\.csv or interactions\.jsonl; found: ratings\.csv"
    ):
        _last_date(str(tmp_path), tmp_path / "home")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,when\nu,i,5\n")
    with pytest.raises(DataError, match="column 'timestamp': a column is missing; columns found: user_id, item_id, when"):
        _last_date(str(tmp_path), tmp_path / "home")
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nu,i,yesterday\n")
    with pytest.raises(DataError, match="the column holds no value that is a time"):
        _last_date(str(tmp_path), tmp_path / "home")
    (tmp_path / "interactions.csv").unlink()
    (tmp_path / "interactions.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        _last_date(str(tmp_path), tmp_path / "home")


# Plan


def test_plan_of_the_embedded_shop() -> None:
    plan = make_plan(_arguments(), today=TODAY)
    assert (plan.home, plan.date, plan.conf) == (REPOSITORY / "var" / "embedded", dt.date(2026, 1, 28), {})


def test_plan_of_a_folder_takes_its_last_date_and_a_home_of_its_name(tmp_path: Path) -> None:
    source = _shop(tmp_path / "My Shop", pa.array([NOON]))
    settings = ["training.epochs=3", "clusters.alignment=false", "spark.master=local[1]"]
    plan = make_plan(_arguments(data=source, set=settings), today=TODAY)
    assert plan.home == REPOSITORY / "var" / "my-shop"
    assert plan.date == dt.date(2026, 5, 3)
    assert plan.conf == {"clusters.alignment": False, "data.source": source, "training.epochs": 3}
    assert plan.spark_master == "local[1]"
    plan = make_plan(_arguments(data=source, date="2026-05-01", home=str(tmp_path / "h")), today=TODAY)
    assert (plan.home, plan.date) == (tmp_path / "h", dt.date(2026, 5, 1))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"set": ["training.epochs=0"]}, "training.epochs: Input should be greater than or equal to 1"),
        ({"set": ["training.epoch=3"]}, "training.epoch: there is no such setting \\(the nearest is training.epochs\\)"),
        ({"set": ["training.epochs=3", "training.epochs=4"]}, "training.epochs is given twice"),
        ({"set": ["home=/tmp/other"]}, "home is not a setting of one run.*HOME_FOLDER"),
        ({"set": ["training.epochs"]}, "NAME=VALUE"),
        ({"date": "28.1.2026"}, "date: "),
        ({"date": "2026-06-02"}, "lies in the future"),
        ({"set": ["registry.promotion=review"]}, "waits for a person.*make up"),
        ({"set": ["registry.tracking_uri=http://127.0.0.1:5000"]}, "not a setting of one run.*ESANS_REGISTRY__TRACKING_URI"),
    ],
)
def test_plan_refuses_before_anything_starts(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        make_plan(_arguments(**arguments), today=TODAY)


def test_refusal_ends_with_the_status_of_bad_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path / "home"), "--set", "training.epochs=0"]) == EXIT_BAD_DATA
    assert "training.epochs" in capsys.readouterr().out
    assert not (tmp_path / "home").exists()


def test_tables_under_other_names_get_a_proposed_mapping_without_a_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, home = tmp_path / "export", tmp_path / "home"
    source.mkdir()
    (source / "events.csv").write_text(f"visitorid,itemid,timestamp\n1,2,{NOON}\n")
    (source / "products.csv").write_text("product_id,name\n2,Chair\n")
    assert main(["--data", str(source), "--home", str(home)]) == EXIT_BAD_DATA
    first, *more = capsys.readouterr().out.splitlines()
    assert "cannot run" in first and "there is no interactions.parquet" in first
    assert str(home / "data.yaml") in more[0] and "make check" in more[-1]
    (home / "data.yaml").rename(source / "data.yaml")
    assert make_plan(_arguments(data=str(source)), today=TODAY).date == dt.date(2026, 5, 3)


@pytest.mark.parametrize("command", ["make check", "make run"])
def test_a_fault_of_the_program_is_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        with doing("reading the table items from items.csv"):
            raise KeyError("no such thing\nand more")

    monkeypatch.setattr(faults, "REPOSITORY", tmp_path)
    monkeypatch.setattr(check, "check", fails)
    monkeypatch.setattr(run, "make_plan", fails)
    assert (check.main if command == "make check" else main)(["--data", str(tmp_path)]) == 1
    told, errors = capsys.readouterr()
    (kept,) = (tmp_path / "var" / "faults").iterdir()
    assert f"{command} stopped while it was reading the table items from items.csv" in told and str(kept) in told
    assert "fault of the program" in told and "KeyError" in told and "Traceback" not in told + errors
    assert "Traceback" in kept.read_text()


@pytest.mark.parametrize("command", ["make check", "make run"])
def test_a_command_that_a_signal_ends_has_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def ended(*args: object, **kwargs: object) -> None:
        try:
            raise SystemExit(143)
        finally:
            raise KeyError("Spark has ended, too")

    monkeypatch.setattr(check, "check", ended)
    monkeypatch.setattr(run, "make_plan", ended)
    with pytest.raises(SystemExit) as caught:
        (check.main if command == "make check" else main)(["--data", str(tmp_path)])
    assert caught.value.code == 143 and "fault" not in capsys.readouterr().out


def test_a_home_stays_with_its_source(tmp_path: Path) -> None:
    assert claim_home(tmp_path, None) == "embedded"
    with pytest.raises(DataError, match="belongs to the source embedded, not /a/shop"):
        claim_home(tmp_path, "/a/shop")
    assert claim_home(tmp_path / "other", "/a/shop") == claim_home(tmp_path / "other", None) == "/a/shop"


def test_home_belongs_to_one_source(tmp_path: Path) -> None:
    claim_home(tmp_path, "/a/shop")
    claim_home(tmp_path, "/a/shop")
    with pytest.raises(DataError, match="belongs to the source /a/shop, not /b/shop"):
        claim_home(tmp_path, "/b/shop")


# Environment


def test_secrets_are_private_lasting_and_different_in_each_home(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "a" / "airflow")
    assert load_secrets(tmp_path / "a" / "airflow") == first
    assert set(first.values()).isdisjoint(load_secrets(tmp_path / "b" / "airflow").values())
    for name in ("secrets.json", "passwords.json"):
        assert stat.S_IMODE((tmp_path / "a" / "airflow" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "airflow").stat().st_mode) == 0o700
    assert len(first["jwt_secret"]) >= 64


def test_environment_is_closed_to_a_foreign_airflow_and_to_proxies(tmp_path: Path) -> None:
    foreign = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", "AIRFLOW_HOME": "/else", "NO_PROXY": "intranet", "PATH": "/bin"}
    made = stack_environment(tmp_path, 1234, inherited=foreign)
    assert made["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert made["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert made["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert made["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/bin"
    assert made["AIRFLOW__API__HOST"] == "127.0.0.1" and "1234" in made["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]


def test_spark_connection_is_one_setting_away(tmp_path: Path) -> None:
    def host(**given: str) -> str:
        master = given.pop("master", None)
        made = stack_environment(tmp_path, 1, spark_master=master, inherited=given)["AIRFLOW_CONN_SPARK_DEFAULT"]
        return str(json.loads(made)["host"])

    cluster = json.dumps({"conn_type": "spark", "host": "spark://cluster:7077"})
    assert host() == "local[*]"
    assert host(AIRFLOW_CONN_SPARK_DEFAULT=cluster) == "spark://cluster:7077"
    assert host(AIRFLOW_CONN_SPARK_DEFAULT=cluster, master="local[1]") == "local[1]"


def test_metrics_are_the_callers_say_and_the_rest_of_airflow_is_not(tmp_path: Path) -> None:
    given = {"AIRFLOW__METRICS__STATSD_ON": "True", "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", "AIRFLOW_CONN_X": "http://x"}
    made = stack_environment(tmp_path, 1, inherited=given)
    assert made["AIRFLOW__METRICS__STATSD_ON"] == "True"
    assert made["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert made["AIRFLOW_CONN_X"] == "http://x"


def test_secrets_of_an_older_home_are_kept_and_completed(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"password": "old", "fernet_key": "f"}))
    made = load_secrets(tmp_path)
    assert (made["password"], made["fernet_key"]) == ("old", "f")
    assert len(made["postgres_password"]) > 20 and load_secrets(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "passwords.json").read_text()) == {"admin": "old"}


# Lock and processes


@contextmanager
def _holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    program = (
        "import pathlib, sys, time\nfrom infra.local.processes import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_runs_of_one_home_refuse_each_other_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    with _holder(tmp_path) as other:
        with pytest.raises(StackError, match=f"process {other.pid}"), exclusive(tmp_path):
            pass
        with exclusive(tmp_path / "another"):
            pass
        other.kill()
        other.wait()
        with exclusive(tmp_path):
            pass


def test_every_process_of_a_home_is_ended_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 1.0)
    # A child that leaves its parent, its session and its group, changes its title, and ignores SIGTERM.
    program = (
        "import os, signal, time\nimport setproctitle\n"
        "if os.fork():\n    os._exit(0)\n"
        "os.setsid()\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsetproctitle.setproctitle('x' * 500)\n"
        "open('ready', 'w').close()\ntime.sleep(300)\n"
    )
    home, other = tmp_path / "home", tmp_path / "other"
    for place in (home, other):
        environment = os.environ | {MARKER: str(place), "SPT_NOENV": "1"}
        place.mkdir()
        subprocess.run([sys.executable, "-c", program], cwd=place, env=environment, check=True)
    # A new process shows its environment a moment after it was started, so this one says when it runs.
    waiting = "import time; open('running', 'w').close(); time.sleep(300)"
    plain = subprocess.Popen([sys.executable, "-c", waiting], cwd=home, env=os.environ | {MARKER: str(home)})
    try:
        deadline = time.monotonic() + 60
        while not all(said.exists() for said in (home / "ready", other / "ready", home / "running")):
            assert time.monotonic() < deadline, "a child has not said within a minute that it runs"
            time.sleep(0.05)
        assert len(stack_processes(home)) == 2
        survivors = stack_processes(other)
        assert end_processes(home) == 2
        assert stack_processes(home) == []
        assert [process.pid for process in stack_processes(other)] == [process.pid for process in survivors] != []
        assert not psutil.pid_exists(plain.pid)
    finally:
        end_processes(other)
        plain.kill()


def test_an_api_server_that_has_ended_is_named_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ATTEMPTS", 1)
    stack = LocalStack(tmp_path, say=lambda text: None)
    stack._components = Components(stack.folder, os.environ)
    stack._components.spawn("api-server", "there_is_no_such_module")
    stack._components.running["api-server"].wait(60)
    with pytest.raises(StackError, match=r"the api-server ended with status 1; see [\s\S]*there_is_no_such_module"):
        stack.run(TODAY, {})


# What is promoted is put in force


def _a_promoted_day(home: Path, verdict: str) -> PipelineSettings:
    """A home with one version, judged and promoted, as the steps of a run leave it."""
    settings = PipelineSettings(home=home, date=dt.date(2026, 1, 28))
    enter_with_bundle(settings)
    promote.run(settings)
    path = settings.run_dir / "verdict.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": verdict}))
    (settings.run_dir / "summary.json").write_text("{}")
    return settings


@pytest.mark.mlflow
@pytest.mark.parametrize("verdict", ["promoted", "kept_champion"])
def test_a_run_that_promotes_puts_its_bundle_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verdict: str
) -> None:
    settings = _a_promoted_day(tmp_path / "home", verdict)
    monkeypatch.setattr(LocalStack, "__enter__", lambda self: self)
    monkeypatch.setattr(LocalStack, "__exit__", lambda self, *error: None)
    monkeypatch.setattr(LocalStack, "run", lambda self, date, conf: RunResult("local", True, 1.0, []))
    assert main(["--home", str(settings.home), "--date", settings.ds]) == 0
    store, said = ServingStore.of(settings), capsys.readouterr().out
    if verdict == "promoted":
        assert str(store.current()).startswith(f"{settings.ds}-v1-") and store.history()[-1]["by"] == "make run"
        assert f"bundle {store.current()} is in force" in said and f'make serve HOME_FOLDER="{settings.home}"' in said
    else:
        assert store.current() is None and "make serve" not in said


# A date that has been run before


class _Airflow:
    """The calls of a client about one failed run; `status` is how it answers to a clear."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.calls: list[str] = []

    def runs(self, *, date: dt.date) -> list[dict[str, Any]]:
        return [{"dag_run_id": f"local__{date}", "conf": {}, "state": "failed"}]

    def clear(self, run_id: str) -> None:
        self.calls.append("clear")
        if self.status != 200:
            raise client.ApiError("refused", self.status)

    def delete(self, run_id: str) -> None:
        self.calls.append("delete")

    def trigger(self, run_id: str, date: dt.date, conf: dict[str, Any]) -> None:
        self.calls.append("trigger")

    def run(self, run_id: str) -> dict[str, Any]:
        return {"state": "success"}

    def task_instances(self, run_id: str) -> list[dict[str, Any]]:
        return []


@pytest.mark.parametrize(("status", "calls"), [(200, ["clear"]), (500, ["clear", "delete", "trigger"])])
def test_a_failed_run_starts_again_even_if_airflow_cannot_clear_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, calls: list[str]
) -> None:
    stack, airflow = LocalStack(tmp_path, say=lambda text: None), _Airflow(status)
    monkeypatch.setattr(stack, "client", airflow)
    monkeypatch.setattr(stack, "_components", Components(stack.folder, os.environ), raising=False)
    assert stack.run(TODAY, {}).success
    assert airflow.calls == calls


def test_a_clear_that_airflow_refuses_is_an_error_and_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, airflow = LocalStack(tmp_path, say=lambda text: None), _Airflow(409)
    monkeypatch.setattr(stack, "client", airflow)
    with pytest.raises(client.ApiError):
        stack.run(TODAY, {})
    assert airflow.calls == ["clear"]


# Logs


def test_error_and_last_line_of_a_task_log(tmp_path: Path) -> None:
    log = tmp_path / "attempt=1.log"
    assert (last_event(log), last_error(log)) == ("", ("", ""))
    error = {"event": "Task failed", "error_detail": [{"exc_type": "BadInputError", "exc_value": "ingest: the table is empty"}]}
    lines = [
        'cut": "off"}',
        json.dumps({"event": "epoch 3"}),
        json.dumps(error),
        json.dumps({"event": " "}),
        "[1]",
        '{"event": "c',
    ]
    log.write_text("\n".join(lines))
    assert last_error(log) == ("BadInputError", "ingest: the table is empty")
    assert last_event(log) == "Task failed"
    assert last_job_line(log) == ""
    for module in ("jobs.training.data", "__main__"):  # a job that runs as a command is the main module
        chatter = [f"10:00:00 INFO {module}: epoch 3 of 12", "26/01/28 INFO BlockManager: ready", "WARNING: incubator modules"]
        log.write_text("\n".join(json.dumps({"event": text}) for text in chatter))
        assert last_job_line(log) == "epoch 3 of 12"


def test_a_free_port_is_one_that_the_kernel_gives_to_nobody_else() -> None:
    first = int(processes._KERNEL_PORTS.read_text().split()[0])
    assert all(processes._LOWEST_PORT <= free_port() < first for _ in range(20))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port := free_port()))
        taken.listen()
        with pytest.raises(StackError, match=f"port {port} of 127.0.0.1 is not free"):
            free_port(port)
    assert free_port(port) == port
