"""The Spark session that every Spark job uses."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

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
    builder = (
        SparkSession.builder.appName(name)
        .config("spark.driver.memory", settings.spark.driver_memory)
        .config("spark.sql.shuffle.partitions", settings.spark.shuffle_partitions)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "512")
        .config("spark.executorEnv.PYTHONPATH", path)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.warehouse.dir", str(settings.home / "spark-warehouse"))
    )
    asked = {
        "spark.driver.bindAddress": host,
        "spark.driver.host": host,
        "spark.driver.defaultJavaOptions": java_options,
        "spark.executor.memory": settings.spark.executor_memory,
        "spark.executor.cores": settings.spark.executor_cores,
    }
    for name, value in asked.items():
        if value:
            builder = builder.config(name, value)
    if "SPARK_ENV_LOADED" not in os.environ:  # set by spark-submit, which brings its own master
        builder = builder.master(settings.spark.master)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()
