"""Airflow reads its configuration when it is first imported, so these tests give it an empty home before that."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

_DAGS = Path(__file__).resolve().parents[2] / "dags"
_HOME = tempfile.mkdtemp(prefix="esans-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": _HOME,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(_DAGS / "plugins"),
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}


@pytest.fixture(scope="session")
def dags() -> dict[str, Any]:
    """Every DAG of the project, as Airflow reads it."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(_DAGS))
    assert bag.import_errors == {}
    return dict(bag.dags)
