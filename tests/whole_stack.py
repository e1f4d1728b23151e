"""A finished day of `make run` and a live stack. Tests of the whole pipeline share them, because each takes minutes to make.

`WHOLE_STACK` in `tests/conftest.py` names the files that use them. They run on one worker, in the order given there.
"""

import gzip
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from infra.local.environment import REPOSITORY, load_secrets
from infra.local.ports import Ports
from infra.local.processes import stack_processes, tail
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake

DAY = date(2026, 1, 28)

# The shop is so small that its recall says little. So the floors are open, but the comparison of models is real.
CONF: dict[str, Any] = {
    "shop.generator": "v1",  # it has more events, so that even so small a shop has a hold-out
    "shop.num_items": 200,
    "shop.num_users": 200,
    "shop.num_days": 14,
    "ingest.min_holdout_users": 20,
    "features.text_dim": 16,
    "features.behaviour_dim": 16,
    "clusters.dim": 16,
    "clusters.alignment_epochs": 2,
    "clusters.num_primary": 6,
    "clusters.num_secondary": 4,
    "training.embedding_dim": 16,
    "training.num_heads": 2,
    "training.batch_size": 256,
    "training.epochs": 1,
    "sampling.num_pool": 64,
    "gate.bootstrap_samples": 100,
    "gate.max_relative_loss": 1.0,
    "gate.allow_below_baseline": True,
    "gate.min_recall": 0.0,
    "gate.min_head_recall": 0.0,
    "gate.min_coverage": 0.0,
    "gate.max_cluster_share": 1.0,
}
SPARK_MASTER = "local[2]"
_SOURCE = "source"  # the folder of a home that holds the embedded shop


@dataclass(frozen=True)
class Kept:
    """The state of a home, to see that nothing has changed: digests of the lake, versions and alias of the registry."""

    tables: dict[str, str]
    versions: tuple[str, ...]
    champion: str | None


def kept(settings: PipelineSettings) -> Kept:
    """The state of a home now."""
    from mlflow import MlflowClient

    lake = Lake.of(settings)
    tables = {
        f"{folder.name}/{date}": lake.manifest(folder.name, date)["digest"]
        for folder in sorted(lake.root.iterdir())
        for date in lake.dates(folder.name)
    }
    client, name = MlflowClient(settings.tracking_uri, settings.tracking_uri), settings.registry.model_name
    versions = tuple(sorted(str(version.version) for version in client.search_model_versions(f"name='{name}'")))
    champion = client.get_registered_model(name).aliases.get("champion")
    return Kept(tables, versions, None if champion is None else str(champion))


def step_records(run_dir: Path) -> dict[str, dict[str, Any]]:
    """The records that the steps of a run have left, by the step's name."""
    return {path.stem: json.loads(path.read_text()) for path in (run_dir / "steps").glob("*.json")}


def reused(run_dir: Path) -> set[str]:
    """The steps of a run that took over earlier results."""
    return {name for name, record in step_records(run_dir).items() if record["reused"]}


@dataclass(frozen=True)
class FinishedDay:
    """The first day of a tiny shop, as `make run` leaves it.

    Attributes:
        home: its home folder. Most tests only look at it. A test that works in it calls `restore` first.
        untouched: a copy of the home folder, without its source, that nothing changes.
        command: the command behind `make run`, with its settings.
        output: the whole output of the command.
        kept: state of the home after the run.
    """

    home: Path
    untouched: Path
    command: tuple[str, ...]
    output: str
    kept: Kept

    @property
    def run_dir(self) -> Path:
        """The run's folder, as the run left it."""
        return self.untouched / "runs" / str(DAY)

    def read(self, name: str) -> Any:
        """A JSON file of the run's folder."""
        return json.loads((self.run_dir / name).read_text())

    def restore(self) -> None:
        """Stop all that works in the home, and bring it back to its state after the run; the registry's paths stay valid.

        The source stays where it is, because a copied picture counts as a changed one. Later days only add to the source.
        """
        from infra.local.up import down

        down(self.home)
        for path in self.home.iterdir():
            if path.is_dir() and path.name != _SOURCE:
                shutil.rmtree(path)
            elif path.name != _SOURCE:
                path.unlink()
        shutil.copytree(self.untouched, self.home, symlinks=True, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def finished_day() -> Iterator[FinishedDay]:
    """One whole day, run once for all tests that need a finished day."""
    given = [f"{name}={value}" for name, value in (CONF | {"spark.master": SPARK_MASTER}).items()]
    # Not below pytest's own folder: nobody else may enter it, and if we are root, PostgreSQL runs under another account.
    with TemporaryDirectory(prefix="esans-day-") as folder:
        Path(folder).chmod(0o711)
        home, untouched = Path(folder) / "home", Path(folder) / "untouched"
        command = (sys.executable, "-m", "infra.local.run", "--home", str(home), "--date", str(DAY), "--set", *given)
        done = subprocess.run(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=1800
        )
        logs = [f"{log.name}: {tail(log)}" for log in (home / "airflow" / "logs" / "components").glob("*.log")]
        assert done.returncode == 0, "\n".join([*logs, done.stdout[-6000:]])
        assert stack_processes(home) == []
        shutil.copytree(home, untouched, symlinks=True)
        shutil.rmtree(untouched / _SOURCE)
        yield FinishedDay(home, untouched, command, done.stdout, kept(PipelineSettings(home=home, date=DAY)))


@dataclass(frozen=True)
class Ears:
    """An HTTP server that keeps the alerts and the names of the metrics that a stack sends."""

    port: int
    alerts: list[dict[str, Any]] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def _listening() -> Iterator[Ears]:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/alerts":
                heard.alerts.append(json.loads(body))
            elif self.path == "/v1/metrics":
                request = ExportMetricsServiceRequest()
                request.ParseFromString(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                scopes = (scope for resource in request.resource_metrics for scope in resource.scope_metrics)
                heard.metrics.update(metric.name for scope in scopes for metric in scope.metrics)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        heard = Ears(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield heard
        server.shutdown()


@dataclass(frozen=True)
class LiveStack:
    """A home whose stack is up: its addresses, its passwords, and the alerts and metrics that it sends."""

    home: Path
    ports: Ports
    keys: dict[str, str]
    heard: Ears


def _deployment(heard: Ears) -> dict[str, str]:
    defaults = {f"ESANS_{name.replace('.', '__').upper()}": str(value) for name, value in CONF.items()}  # the form shows them
    return defaults | {"AIRFLOW_CONN_ESANS_ALERTS": f"{heard.url}/alerts", "OTEL_METRIC_EXPORT_INTERVAL": "10000"}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def live_stack(finished_day: FinishedDay) -> Iterator[LiveStack]:
    """`make up` on a home in which `make run` has worked before; `operations/test_live_ways_back.py` takes it down."""
    from infra.local.up import Options, down, up

    home = finished_day.home
    finished_day.restore()
    with _listening() as heard:
        with _environment(_deployment(heard)):
            ports = up(home, Options(port=0, mlflow_port=0, reports_port=0, schedule="none", otel=heard.url))
        try:
            yield LiveStack(home, ports, load_secrets(home / "airflow"), heard)
        finally:
            down(home)
