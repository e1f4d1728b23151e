"""Airflow reads its configuration when it is first imported, so these tests give it an empty home before that."""

import atexit
import os
import shutil
import tempfile

_HOME = tempfile.mkdtemp(prefix="esans-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": _HOME,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}
