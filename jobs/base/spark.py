"""The Spark session that every Spark job uses."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from jobs.base.errors import StepKilled
from jobs.base.scratch import spark_scratch
from jobs.base.settings import PipelineSettings

_ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def spark_session(settings: PipelineSettings, name: str, java_options: str = "") -> Iterator[SparkSession]:
    """A session for one job, stopped at the end. If a session is running already, it is used and left running.

    Args:
        settings: the section `spark` is used, and the home folder.
        name: of the job, for Spark's own pages.
        java_options: of the driver's JVM. Those of `spark-defaults.conf` come after them.

    Under `spark-submit` the master given there stays in force. Workers run `PYSPARK_PYTHON`, by default this very interpreter,
    with this checkout on their path, so that they can import `jobs` and `esans_core`. All that is not set here, such as event
    logs or an object store, can be set in the `spark-defaults.conf` of `SPARK_CONF_DIR`.

    The driver's temporary files lie in a folder of their own (`jobs.base.scratch`), unless `spark.local.dir` names another.

    Raises:
        StepKilled: the driver's JVM has ended, whatever the job was doing.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    host = settings.spark.driver_host
    if host:
        os.environ.setdefault("SPARK_LOCAL_IP", host)
    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if part)
    os.environ["PYTHONPATH"] = path
    conf = SparkConf().setAppName(name)
    asked = {
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "512",
        "spark.executorEnv.PYTHONPATH": path,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(settings.home / "spark-warehouse"),
        "spark.driver.bindAddress": host,
        "spark.driver.host": host,
        "spark.driver.defaultJavaOptions": java_options,
        "spark.executor.memory": settings.spark.executor_memory,
        "spark.executor.cores": str(settings.spark.executor_cores or ""),
    }
    if "SPARK_ENV_LOADED" not in os.environ:  # set by spark-submit, which brings its own master
        asked["spark.master"] = settings.spark.master
    for key, value in asked.items():
        if value:
            conf.set(key, value)
    try:
        _tidy(conf)
        session = SparkSession.builder.config(conf=conf).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        try:
            yield session
        finally:
            session.stop()
    except Exception as error:
        if _java_has_ended():
            raise StepKilled(
                f"Spark's Java process has ended under the step ({type(error).__name__}). A time-out or a person stopped it, "
                "or the machine had no memory left."
            ) from error
        raise


def _java_has_ended() -> bool:
    """Whether the JVM with which this process talks does not answer any more."""
    gateway: Any = SparkContext._gateway
    port = os.environ.get("PYSPARK_GATEWAY_PORT") or (gateway and gateway.gateway_parameters.port)  # spark-submit gives it
    if not port:
        return False
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", int(port))) != 0


def _tidy(conf: SparkConf) -> None:
    """Let the driver's JVM, which is started if it does not run yet, keep its temporary files where they are swept."""
    SparkContext._ensure_initialized(conf=conf)
    root = Path(SparkContext.getSystemProperty("java.io.tmpdir"))
    if (folder := spark_scratch(root)) == root:  # an earlier session of this process has done it
        return
    SparkContext.setSystemProperty("java.io.tmpdir", str(folder))
    # The launcher has made one folder before this could be said. It stays empty, unless files are sent to the cluster.
    java: Any = SparkContext._jvm
    for left in root.glob("spark-*"):
        if java.org.apache.spark.util.ShutdownHookManager.hasShutdownDeleteDir(java.java.io.File(str(left))):
            with suppress(OSError):
                left.rmdir()
