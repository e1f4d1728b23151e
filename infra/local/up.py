"""`make up`, `make down`, `make status`: Airflow and MLflow on PostgreSQL, on this machine's loopback, until told to stop."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from croniter import croniter

from infra.local.client import AirflowClient, ApiError
from infra.local.components import start_airflow
from infra.local.daemons import daemons_of, remember_supervisor, stop_daemons
from infra.local.databases import start_databases
from infra.local.environment import REPOSITORY, USER, load_secrets, stack_environment
from infra.local.home import claim_home
from infra.local.mlflow_server import mlflow_answers, mlflow_command, mlflow_environment
from infra.local.ports import Ports
from infra.local.processes import StackError, exclusive, exit_on_signals, free_port
from infra.local.report_server import reports_answer, server_command, server_environment
from infra.local.spark_archive import java_options
from infra.local.spark_cluster import cluster_properties
from infra.local.started import NONE, Started, differences
from infra.local.status import all_up, components, status
from infra.local.supervised import Supervised
from jobs.base.errors import EXIT_BAD_DATA, DataError
from jobs.base.places import existing_folder
from jobs.base.settings import EMBEDDED

HOME = REPOSITORY / "var" / "live"
_SCHEDULE = "@daily"
_AIRFLOW_PORT, _MLFLOW_PORT, _REPORTS_PORT = 8080, 5000, 8090


@dataclass(frozen=True)
class Options:
    """How a stack is started.

    Attributes:
        data: folder or URI with the tables of the data contract; None: the home's own source, at first the embedded shop.
        port: loopback port of Airflow, 0 for any free one; None: the one it had, at first 8080.
        mlflow_port: the same for MLflow, at first 5000.
        reports_port: the same for the reports, at first 8090.
        schedule: when the daily retraining starts, as cron or a preset; `none`: only when triggered; None: as before, at first
            `@daily`.
        otel: address of the OpenTelemetry collector (OTLP over HTTP) that Airflow's metrics go to; `none`: no metrics; None: as
            before, at first none.
        spark_master: Spark master of the connection `spark_default`; None: as before, at first what the environment says.
    """

    data: str | None = None
    port: int | None = None
    mlflow_port: int | None = None
    reports_port: int | None = None
    schedule: str | None = None
    otel: str | None = None
    spark_master: str | None = None


def up(home: Path = HOME, options: Options | None = None, *, say: Callable[[str], None] = print) -> Ports:
    """Start the stack of a home, wait until every part is well, and leave it running; returns where it is.

    What is not given, in options and environment, is as it was when the home was last up. What differs from then is said. A
    stack that is up already stays as it is. If a part of it has died, the stack is stopped and started again.

    Raises:
        DataError: the source, the schedule or the collector's address cannot be used.
        StackError: another run works in the home, a port is taken, or a component does not come up.
    """
    home, options = home.expanduser().resolve(), options or Options()
    source = _checked_source(options)
    with exclusive(home):
        kept, changed = Ports.of(home), _chosen(home, options)[1]
        if kept and all_up(components(home)):
            say(f"{home} is up already; to change its settings, type `make down` first")
            for line in changed:
                say(f"  not in force: {line}")
            _tell(home, kept, say)
            return kept
        running = ", ".join(daemons_of(home))
        if stop_daemons(home):
            say(f"ended what was left of an earlier stack ({running or 'nothing whole'})")
        source = claim_home(home, source, say)
        started, changed = _chosen(home, options)
        for line in changed:
            say(f"differs from last time: {line}")
        began = time.monotonic()
        try:
            ports = _start(home, source, options, started, kept, say)
        except BaseException:
            stop_daemons(home)
            raise
        started.keep(home)
    say(f"up after {time.monotonic() - began:.0f} s")
    _tell(home, ports, say)
    return ports


def down(home: Path = HOME, *, say: Callable[[str], None] = print) -> bool:
    """Stop everything that `up` has started for a home, and nothing else; False if nothing was running.

    Tasks at work are told to end, and are tried again after the next `up`. A task that has not ended within a minute is killed.

    Raises:
        StackError: a run works in the home, or the database does not stop.
    """
    home = home.expanduser().resolve()
    stopped = False
    if home.exists():
        with exclusive(home):
            stopped = stop_daemons(home)
    say(f"{home} is down; its data stay" if stopped else f"nothing is up for {home}")
    return stopped


def client_of(home: Path) -> AirflowClient:
    """Airflow's REST interface of a home that is up, or has been up before."""
    home = home.expanduser().resolve()
    ports = Ports.of(home)
    if ports is None:
        raise StackError(f"{home} has never been up: type `make up HOME_FOLDER={home}`.")
    return AirflowClient(ports.airflow_url, load_secrets(home / "airflow")["password"])


def _chosen(home: Path, options: Options) -> tuple[Started, list[str]]:
    """How the stack is to be started, and in what that differs from the last time."""
    before = Started.of(home)
    given = {"SCHEDULE": options.schedule, "OTEL": options.otel, "SPARK_MASTER": options.spark_master}
    now = (before or Started()).with_given(given, os.environ)
    return now, [] if before is None else differences(before, now)


def _start(
    home: Path, source: str, options: Options, started: Started, kept: Ports | None, say: Callable[[str], None]
) -> Ports:
    folder = home / "airflow"
    keys = load_secrets(folder)
    airflow_port = _port(options.port, kept.airflow if kept else _AIRFLOW_PORT, "PORT")
    mlflow_port = _port(options.mlflow_port, kept.mlflow if kept else _MLFLOW_PORT, "MLFLOW_PORT")
    reports_port = _port(options.reports_port, (kept and kept.reports) or _REPORTS_PORT, "REPORTS_PORT")
    components = Supervised(folder, home)
    remember_supervisor(home, components.pid)
    databases = start_databases(home, keys["postgres_password"], kept, components, say)
    ports = Ports(airflow_port, mlflow_port, databases.port, reports_port)
    ports.keep(home)
    now, before = (None if one is None else f"{one.airflow}, {one.mlflow} and {one.reports}" for one in (ports, kept))
    if before not in (None, now):
        say(f"differs from last time: the ports are {now} (last time: {before})")
    environment = _environment(home, source, started, ports, keys["mlflow_password"])
    environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = databases.airflow
    if "JDK_JAVA_OPTIONS" not in environment:  # what the caller says about Java wins
        environment["JDK_JAVA_OPTIONS"] = java_options(environment, say)

    components.use(environment)
    say(f"starting MLflow, Airflow and the reports; logs in {components.logs}")
    server = mlflow_environment(environment, folder, keys, databases.mlflow, databases.users)
    components.spawn("mlflow", *mlflow_command(home, ports.mlflow), environment=server)
    components.spawn(
        "reports", *server_command(reports_port), environment=server_environment(environment, folder / "passwords.json")
    )
    client = AirflowClient(ports.airflow_url, keys["password"])
    start_airflow(components, client, sqlite=None if databases.port else folder / "airflow.db", triggerer=True)
    components.wait("MLflow", lambda: mlflow_answers(ports.mlflow, keys["mlflow_password"]))
    components.wait("the reports", lambda: reports_answer(reports_port, keys["password"]))
    return ports


def _environment(home: Path, source: str, started: Started, ports: Ports, mlflow_password: str) -> dict[str, str]:
    master, otel = started.options.get("SPARK_MASTER"), started.options.get("OTEL")
    schedule = started.options.get("SCHEDULE", _SCHEDULE)
    properties = cluster_properties(master) if master else None
    inherited = started.inherited(os.environ)
    made = stack_environment(home, ports.airflow, spark_master=master, spark_properties=properties, inherited=inherited)
    made |= {
        # This stack is meant for scheduled retraining, so DAGs start unpaused. A DAG that a person pauses stays paused.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "ESANS_SCHEDULE": "" if schedule == NONE else schedule,
        "ESANS_REGISTRY__TRACKING_URI": ports.mlflow_url,
        "ESANS_MLFLOW_UI": ports.mlflow_url,
        "ESANS_AIRFLOW_UI": ports.airflow_url,
        "ESANS_REPORTS_UI": ports.reports_url,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": mlflow_password,
    }
    if source != EMBEDDED:
        made["ESANS_DATA__SOURCE"] = source
    if otel:
        made["AIRFLOW__METRICS__OTEL_ON"] = "True"
        made["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] = f"{otel.rstrip('/')}/v1/metrics"
    return made


def _checked_source(options: Options) -> str | None:
    if options.schedule not in (None, NONE) and not croniter.is_valid(options.schedule):
        raise DataError(
            f"the schedule '{options.schedule}' is neither cron nor a preset.",
            remedy=f"write it like '0 3 * * *' or '@daily', or '{NONE}' for runs by hand only (SCHEDULE=).",
        )
    if options.otel not in (None, NONE) and (
        urlsplit(options.otel).scheme not in ("http", "https") or not urlsplit(options.otel).hostname
    ):
        raise DataError(
            f"the collector's address '{options.otel}' is not http.", remedy="write it like OTEL=http://127.0.0.1:4318."
        )
    if options.data in (None, EMBEDDED):
        return options.data
    folder = existing_folder(options.data)
    return str(folder) if isinstance(folder, Path) else options.data


def _port(given: int | None, kept: int, name: str) -> int:
    try:
        return free_port(kept if given is None else given)
    except StackError as error:
        raise StackError(f"{error} Add it to `make up`:  {name}=<a free port>") from error


def _tell(home: Path, ports: Ports, say: Callable[[str], None]) -> None:
    secrets = home / "airflow" / "secrets.json"
    say(f"  Airflow  {ports.airflow_url}  user {USER}, password: 'password' in {secrets}")
    say(f"  MLflow   {ports.mlflow_url}  user {USER}, password: 'mlflow_password' in the same file")
    say(f"  reports  {ports.reports_url}  user and password of Airflow")
    where = "" if home == HOME else f" HOME_FOLDER={home}"
    say(f"  what is up: make status{where}    stop it: make down{where}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `up`, `down` or `status`; returns the exit status.

    0: done, or all is up; 65: an option cannot be used; 1: it failed, or only a part is up; 3: nothing is up; 128+n: signal n.
    """
    exit_on_signals()
    given = _arguments(argv)
    try:
        if given.action == "status":
            found = status(given.home)
            _say(str(found) if found.exit_code != 3 else f"nothing is up for {given.home}")
            return found.exit_code
        if given.action == "down":
            down(given.home, say=_say)
            return 0
        options = {name: value for name, value in vars(given).items() if name not in ("action", "home")}
        up(given.home, Options(**options), say=_say)
        return 0
    except DataError as error:
        _say(f"cannot start: {error}")
        return EXIT_BAD_DATA
    except (StackError, ApiError) as error:
        _say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted: what had been started is stopped")
        return 128 + signal.SIGINT


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local.up", description=__doc__)
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--home", type=Path, default=HOME, metavar="FOLDER", help="where everything is kept")
    parser.add_argument("--data", metavar="FOLDER", help="folder with your tables; default: the home's own, or 'embedded'")
    parser.add_argument("--port", type=int, help=f"loopback port of Airflow (0: any); default: as before, or {_AIRFLOW_PORT}")
    parser.add_argument("--mlflow-port", type=int, help=f"the same for MLflow; default: as before, or {_MLFLOW_PORT}")
    parser.add_argument("--reports-port", type=int, help=f"the same for the reports; default: as before, or {_REPORTS_PORT}")
    parser.add_argument("--schedule", help=f"schedule of the daily retraining, or '{NONE}'; default: as before, or {_SCHEDULE}")
    collector = f"OpenTelemetry collector for Airflow's metrics, or '{NONE}': http://127.0.0.1:4318; default: as before"
    parser.add_argument("--otel", metavar="URL", help=collector)
    parser.add_argument("--spark-master", metavar="URL", help=f"Spark master, or '{NONE}'; default: as before, or local[*]")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
