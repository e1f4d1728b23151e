"""Fixtures shared by all tests. Slow kinds carry markers: spark, airflow, mlflow, browser, gpu."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# Tensors here are tiny: more threads than one only wait for each other, in this process and in those that tests start. The
# README's example took 10 CPU seconds with two threads on two busy cores, and takes 2 with one. Libraries read this when they
# are loaded.
os.environ["OMP_NUM_THREADS"] = "1"

from jobs.base.settings import PipelineSettings

# A pytest-xdist worker's main module has no file; PySpark takes that for a doctest run and ends the process.
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = __file__

pytest_plugins = ["tests.whole_stack"]

# Files that share a finished day or a live stack. They run on one worker, before all others, and in this order: files that only
# look at them, then those of the stack from its start to its end, then those that go on in the home of the finished day.
WHOLE_STACK = (
    "tests/test_forgetting.py",
    "tests/infra/test_up.py",
    "tests/operations/test_live_decisions.py",
    "tests/operations/test_live_pages.py",
    "tests/operations/test_live_ways_back.py",
    "tests/test_end_to_end.py",
)


def _file(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the whole stack first, then files that start a tool or train long. Only short files are left for the end."""
    kinds = ("slow", "spark", "airflow", "mlflow", "browser")
    long = {_file(item) for item in items if any(item.get_closest_marker(kind) for kind in kinds)}
    for item in items:
        if _file(item) not in WHOLE_STACK and {"finished_day", "live_stack"} & set(getattr(item, "fixturenames", ())):
            raise pytest.UsageError(f"{_file(item)} uses the shared day or stack: name it in WHOLE_STACK of tests/conftest.py")

    def place(item: pytest.Item) -> tuple[int, int]:
        file = _file(item)
        return (0, WHOLE_STACK.index(file)) if file in WHOLE_STACK else (1 if file in long else 2, 0)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file as a whole to one worker, and all files of the whole stack to the same worker."""
    from xdist.scheduler import LoadFileScheduling

    class ByRoom(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "whole stack" if file in WHOLE_STACK else file

    return ByRoom(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lower the priority of tests that run next to a whole stack. The stack has a worker of its own and keeps its priority."""
    if _file(item) not in WHOLE_STACK and os.environ.get("PYTEST_XDIST_WORKER") and os.nice(0) == 0:
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
def short_jvm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Options that make a short-lived JVM of Spark quick, as a value of `JDK_JAVA_OPTIONS`; the local stack gives them too."""
    from infra.local.environment import stack_environment
    from infra.local.spark_archive import java_options

    return java_options(stack_environment(tmp_path_factory.mktemp("jvm"), port=9), lambda text: None)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory, short_jvm: str) -> Iterator[object]:
    """One local Spark session for the whole test run; jobs that ask for a session get this one."""
    from jobs.base.spark import spark_session

    home = tmp_path_factory.mktemp("spark")
    settings = PipelineSettings(home=home, spark={"master": "local[2]", "shuffle_partitions": 2})
    with pytest.MonkeyPatch.context() as patch, ExitStack() as open_session:
        patch.setenv("JDK_JAVA_OPTIONS", short_jvm)
        session = open_session.enter_context(spark_session(settings, "tests"))
        patch.undo()
        # To compile a query takes longer than to run it over a hundred rows; it took a quarter of the time of these tests. The
        # whole stack compiles its queries, and the test on a cluster compares the results of both ways.
        session.conf.set("spark.sql.codegen.wholeStage", "false")
        session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        yield session
