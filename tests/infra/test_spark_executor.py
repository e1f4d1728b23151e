"""The entry point of an executor's pod, started as Kubernetes would start it, against a real driver."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local.spark_cluster import SparkCluster
from tests.infra.deployment import INFRA

pytestmark = [pytest.mark.spark, pytest.mark.slow]

# A driver that waits for an executor, says where it can be reached, and gives it something to do in Python.
DRIVER = """
import sys
from pyspark.sql import SparkSession
session = SparkSession.builder.master(sys.argv[1]).config("spark.cores.max", 2).getOrCreate()
context = session.sparkContext
at = context.getConf()
print("driver", at.get("spark.driver.host"), at.get("spark.driver.port"), context.applicationId, flush=True)
print("sum", context.parallelize(range(100), 4).map(lambda number: number * 2).sum(), flush=True)
members = context._jsc.sc().getExecutorMemoryStatus().size()
print("executors", members - 1, flush=True)  # the driver is one of them
session.stop()
"""


@contextmanager
def started(*command: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_an_executor_finds_its_driver_and_works_for_it(tmp_path: Path, short_jvm: str) -> None:
    cluster = SparkCluster(tmp_path / "cluster", workers=0)  # a master, so that the driver is of the kind that has executors
    url = cluster.start(port=0, say=lambda _: None)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    common = os.environ | {"PATH": path, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    common |= {"SPARK_CONF_DIR": str(cluster.folder), "JDK_JAVA_OPTIONS": short_jvm}
    try:
        with started(sys.executable, "-c", DRIVER, url, environment=common) as driver:
            assert driver.stdout
            _, host, port, application = driver.stdout.readline().split()
            secret = dict(line.split(maxsplit=1) for line in cluster.properties.read_text().splitlines())
            options = [f"-Dspark.driver.port={port}", "-Dmarker=a b=c", "-Xlog:disable"]
            pod = {f"SPARK_JAVA_OPT_{number}": option for number, option in enumerate(options)} | {
                "SPARK_DRIVER_URL": f"spark://CoarseGrainedScheduler@{host}:{port}",
                "SPARK_EXECUTOR_ID": "1",
                "SPARK_EXECUTOR_CORES": "2",
                "SPARK_EXECUTOR_MEMORY": "512m",
                "SPARK_APPLICATION_ID": application,
                "SPARK_EXECUTOR_POD_IP": "127.0.0.1",
                "SPARK_EXECUTOR_POD_NAME": "executor-1",
                "SPARK_RESOURCE_PROFILE_ID": "0",
                "_SPARK_AUTH_SECRET": secret["spark.authenticate.secret"],  # as Spark on Kubernetes hands it over
            }
            entry = str(INFRA / "images" / "spark-executor.sh")
            pod["SPARK_JAVA_OPT_3"] = "-Dspark.authenticate=true"
            with started(entry, "executor", environment=common | pod):
                said, _ = driver.communicate(timeout=240)
    finally:
        cluster.stop()
    assert said.split("\n")[:2] == ["sum 9900", "executors 1"]
