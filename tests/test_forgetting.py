"""One real user of the finished day is forgotten, on a copy of its home: afterwards no file of the home holds the id."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.base.places import open_dataset
from jobs.lake.event_log import ParquetLog
from jobs.lake.tables import Lake
from tests.jobs.forget.forget_home import files_naming
from tests.whole_stack import DAY, FinishedDay

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.mlflow, pytest.mark.slow]


def test_no_file_of_the_home_holds_the_id_of_a_forgotten_user(finished_day: FinishedDay, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished_day.untouched, home, symlinks=True)
    lake = Lake(home / "lake")
    users = lake.read_pandas("users", DAY)
    chosen = users[(users["num_train"] > 2) & (users["num_holdout"] > 0)].iloc[7]
    user_id, index = str(chosen["user_id"]), int(chosen["user_index"])
    # The shop's log has no fault, so nothing quotes a user. Files of the kinds that would are made to.
    said = f"observed 1 row, such as row 5, user_id {user_id}, item_id i3"
    for kind in ("airflow/logs/dag_id=*/**/*.log", "mlflow/artifacts/**/report.html", "gx/uncommitted/**/*.html"):
        path = next(home.glob(kind))
        path.write_text(path.read_text() + said + "\n")
    gate = home / "runs" / str(DAY) / "gates" / "raw.json"
    gate.write_text(json.dumps(json.loads(gate.read_text()) | {"failures": [{"severity": "warning", "message": said}]}))
    before = files_naming(home, user_id)
    assert {"users", "candidates"} <= {name.split("/")[1] for name in before} and len(before) >= 6

    command = [sys.executable, "-m", "jobs.forget", "--home", str(home), "--user", "-", "--by", "ada", "--reason", "ticket 12"]
    done = subprocess.run(command, input=user_id, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert user_id not in done.stdout + done.stderr
    assert files_naming(home, user_id) == []

    found = json.loads(done.stdout)
    rows = {table: done["rows"] for table, done in found["tables"][str(DAY)].items()}
    assert rows["interactions"] == int(chosen[["num_train", "num_validation", "num_holdout"]].sum())
    assert rows | {"interactions": 0} == {"candidates": 1, "evaluation": 2, "interactions": 0, "sequences": 1, "users": 1}
    assert [(model["name"], model["in_force"]) for model in found["models"] if model["kind"] == "version"] == [
        ("esans-retrieval 1", True)
    ]
    log = ParquetLog(open_dataset(lake.path("sequences", DAY)))
    assert log.num_users == len(users) and lake.manifest("users", DAY)["rows"] == len(users)
    assert index not in set(lake.read_pandas("evaluation", DAY)["user_index"])
    assert all(lake.intact(table, DAY) for table in lake.tables() if lake.exists(table, DAY))
