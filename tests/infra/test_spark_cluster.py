"""The DAG's Spark steps on a real standalone cluster: the tables of local mode, also when a worker is killed at work."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from infra.local.environment import MARKER, REPOSITORY, stack_environment
from infra.local.processes import StackError, end_processes, stack_processes
from infra.local.spark_archive import java_options
from infra.local.spark_cluster import SparkCluster, cluster_properties
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from tests.infra.command_lines import command_line
from tests.jobs import source_builder as build

NUM_ITEMS, NUM_USERS = 240, 40
TIMEOUT = 900  # seconds; a minute or two on idle cores

# A task of the DAG, executed with the connection of the environment.
PROBE = """
import sys
from collections import defaultdict
from datetime import datetime
from types import SimpleNamespace
from dags.esans_daily_retraining import dag

context = {"params": dag.params.dump(), "dag_run": SimpleNamespace(conf={})}
context["data_interval_start"] = datetime.fromisoformat(sys.argv[1])
context["outlet_events"] = defaultdict(SimpleNamespace)
task = dag.get_task(sys.argv[2])
task.render_template_fields(context)
task.execute(context)
"""
TABLES = {
    "ingest": ("items", "users", "interactions", "quarantine"),
    "visual_features": ("visual_features",),
    "text_features": ("text_features", "text_encoder"),
    "behaviour_features": ("behaviour_features",),
    "fit_codebooks": ("codebooks",),
    "assign_clusters": ("clusters",),
    "build_training_set": ("sequences",),
}


def test_properties_belong_to_one_master(tmp_path: Path) -> None:
    path = tmp_path / "spark-defaults.conf"
    assert cluster_properties("spark://127.0.0.1:7077", tmp_path) is None
    path.write_text("spark.master spark://127.0.0.1:7077\n")
    assert cluster_properties("spark://127.0.0.1:7077", tmp_path) == path
    assert cluster_properties("spark://127.0.0.1:70", tmp_path) is None
    assert cluster_properties("local[*]", tmp_path) is None


@dataclass(frozen=True)
class Running:
    """A cluster, its URL, and settings of a home whose steps run on it."""

    cluster: SparkCluster
    url: str
    settings: PipelineSettings

    @contextmanager
    def by_hand(self, *steps: str) -> "Iterator[subprocess.Popen[str]]":
        """Steps at work in one session, by the settings' file and the cluster's properties; done when the block has ended."""
        command = ["-m", "tests.infra.cluster_steps", str(self.settings.run_dir / "settings.json"), self.url, *steps]
        with self._at_work({"SPARK_CONF_DIR": str(self.cluster.folder)}, *command) as process:
            yield process

    def task(self, name: str) -> None:
        """Run a task of the DAG."""
        with self._at_work({}, "-c", PROBE, self.settings.ds, name):
            pass

    @contextmanager
    def _at_work(self, further: dict[str, str], *command: str) -> "Iterator[subprocess.Popen[str]]":
        home, properties = self.settings.home, self.cluster.properties
        environment = stack_environment(home, port=9, spark_master=self.url, spark_properties=properties) | further
        environment["JDK_JAVA_OPTIONS"] = java_options(environment, lambda text: None)
        try:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            yield process
            output, _ = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, output[-6000:]
        finally:
            end_processes(home)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SparkCluster, str]]:
    """A cluster as small as can be, and its URL."""
    folder = tmp_path_factory.mktemp("cluster")
    made = SparkCluster(folder, workers=2, slots=1, memory_mb=512, executor_memory_mb=512)
    url = made.start(port=0, say=lambda text: None)
    try:
        yield made, url
        assert any(path.name.startswith("spark-") for path in (folder / "scratch").iterdir())
    finally:
        made.stop()
    assert stack_processes(folder) == [] and not (folder / "scratch").exists()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log, and a catalogue with pictures that take a few seconds to encode."""
    items = build.items(NUM_ITEMS)
    items["image"] = [build.picture(row, size=(480, 640)) for row in range(NUM_ITEMS)]
    log = build.interactions(NUM_USERS, NUM_ITEMS)
    return build.write_source(tmp_path_factory.mktemp("source"), items=items, interactions=log)


@pytest.fixture(scope="module")
def settings_in(source: Path) -> Callable[[Path], PipelineSettings]:
    def make(home: Path) -> PipelineSettings:
        base = PipelineSettings(home=home, clusters={"alignment_epochs": 1, "num_secondary": 4})
        settings = build.tiny(base, source)
        settings.run_dir.mkdir(parents=True)
        (settings.run_dir / "settings.json").write_text(settings.model_dump_json())
        return settings

    return make


@pytest.fixture(scope="module")
def running(
    cluster: tuple[SparkCluster, str],
    tmp_path_factory: pytest.TempPathFactory,
    settings_in: Callable[[Path], PipelineSettings],
) -> Running:
    """A cluster on which every step has run once: the first by the DAG's task, the others by hand in one session.

    At work on the first of the others, `visual_features`, one of the two workers was killed.
    """
    made = Running(*cluster, settings_in(tmp_path_factory.mktemp("home")))
    first, *others = TABLES
    made.task(f"{first}.{first}")
    with made.by_hand(*others) as steps:
        victim = _worker_at_work(made.cluster, steps)
        for process in [victim, *victim.children(recursive=True)]:
            process.kill()
        assert not Lake.of(made.settings).exists(TABLES[others[0]][0], made.settings.date) and steps.poll() is None
    return made


@pytest.mark.spark
@pytest.mark.airflow
@pytest.mark.slow
def test_every_table_is_that_of_local_mode_although_a_worker_was_killed(
    running: Running, settings_in: Callable[[Path], PipelineSettings], tmp_path: Path, spark: object
) -> None:
    assert len(_workers(running.cluster)) == 1
    local = settings_in(tmp_path / "home")
    for step, tables in TABLES.items():
        __import__(f"jobs.{step}", fromlist=["run"]).run(local)
        for table in tables:
            there, here = (Lake.of(settings).manifest(table, local.date) for settings in (running.settings, local))
            assert there["rows"] == here["rows"], table
            assert there["digest"] == here["digest"], table


@pytest.mark.spark
@pytest.mark.slow
def test_secret_and_loopback(cluster: tuple[SparkCluster, str], tmp_path: Path) -> None:
    spark, url = cluster
    path = spark.properties
    secret = dict(line.split(" ", 1) for line in path.read_text().splitlines())["spark.authenticate.secret"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    processes = stack_processes(spark.folder)
    assert not [process for process in processes if secret in command_line(process)]
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
    with pytest.raises(StackError, match="running already"):
        spark.start(port=0)
    # Without the secret no job gets in: it would try for a minute, but the master has said so at once.
    program = "from pyspark.sql import SparkSession as S; S.builder.getOrCreate()"
    environment = os.environ | {"PYSPARK_SUBMIT_ARGS": f"--master {url} pyspark-shell", "SPARK_LOCAL_IP": "127.0.0.1"}
    outsider = subprocess.Popen([sys.executable, "-c", program], env=environment | {MARKER: str(tmp_path)})
    try:
        while "Expected SaslMessage" not in (spark.folder / "logs" / "master.log").read_text():
            assert outsider.poll() is None
            time.sleep(0.2)
    finally:
        end_processes(tmp_path)
        outsider.wait()


def _workers(cluster: SparkCluster) -> list[psutil.Process]:
    worker = "org.apache.spark.deploy.worker.Worker"
    return [process for process in stack_processes(cluster.folder) if worker in command_line(process)]


def _worker_at_work(cluster: SparkCluster, step: "subprocess.Popen[str]") -> psutil.Process:
    """The first worker below whose executor a Python process computes: it has used a fifth of a second."""
    while step.poll() is None:
        for worker in _workers(cluster):
            try:
                for process in worker.children(recursive=True):
                    if "pyspark.daemon" in command_line(process) and process.cpu_times().user > 0.2:
                        return worker
            except psutil.Error:  # one of them has ended; look again
                continue
        time.sleep(0.1)  # looking takes a core as well
    raise AssertionError(f"the step ended before a worker was seen at work:\n{step.communicate()[0][-6000:]}")
