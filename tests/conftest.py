"""Fixtures shared by all tests. Slow kinds carry markers: spark, airflow, mlflow, browser, gpu."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from jobs.settings import PipelineSettings

# A pytest-xdist worker's main module has no file; PySpark takes that for a doctest run and ends the process.
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = __file__

torch.set_num_threads(1)  # tensors here are tiny: more threads than one only wait for each other


# The two that work with a whole stack: one first and one last, so that with two workers they do not meet and none waits long.
FIRST, LAST = "test_operations.py", "test_end_to_end.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests at both ends."""
    items.sort(key=lambda item: {FIRST: 0, LAST: 2}.get(item.path.name, 1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What runs beside a whole stack gives way to it; the stack, started by its own worker, keeps its priority."""
    if item.path.name not in (FIRST, LAST) and os.environ.get("PYTEST_XDIST_WORKER") and os.nice(0) == 0:
        os.nice(5)


@pytest.fixture
def settings(tmp_path: Path) -> PipelineSettings:
    """Settings with a home of their own, small enough for a test."""
    return PipelineSettings(
        home=tmp_path / "home",
        shop={"num_items": 200, "num_users": 150, "num_days": 14},
        clusters={"num_primary": 8, "num_secondary": 4, "alignment_epochs": 3},
        training={"embedding_dim": 16, "batch_size": 128, "epochs": 2, "num_heads": 2},
    )


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One local Spark session for the whole test run; jobs that ask for a session get this one."""
    from jobs.spark import spark_session

    home = tmp_path_factory.mktemp("spark")
    settings = PipelineSettings(home=home, spark={"master": "local[2]", "shuffle_partitions": 2})
    with pytest.MonkeyPatch.context() as patch, ExitStack() as open_session:
        # Tables here are tiny: the second compiler would cost more than it brings, and so would a collector with threads.
        patch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        session = open_session.enter_context(spark_session(settings, "tests"))
        patch.undo()
        yield session
