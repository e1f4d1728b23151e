"""Random logs with random meanings: the check says what a run does, and every row is accounted for.

Each log takes seconds, so one is tried. `FUZZ_EXAMPLES=100` tries more.
"""

import datetime as dt
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.gates import gate
from jobs.preflight.check import check
from jobs.source import ingest
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.usefixtures("spark")]
TODAY = dt.date(2026, 2, 1)
KINDS = ["view", "buy", "return", "hide", "Größe 5", "nan"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "EST"]
FORMS = ["%d/%m/%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%m/%d/%Y %I:%M:%S %p"]

RULE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["target", "history", "negative", "cancels", "ignored"]),
        "weight": st.sampled_from([0.5, 3, 1000]),
        "cancels": st.sampled_from(["", "buy", "no such kind"]),
    },
)
MEANING = st.fixed_dictionaries(
    {},
    optional={
        "kinds": st.dictionaries(st.sampled_from(KINDS), RULE, max_size=4),
        "rating": st.fixed_dictionaries(
            {"at_least": st.sampled_from([-1, 3, 3.5, 99])},
            optional={"below": st.sampled_from(["ignored", "history", "negative"])},
        ),
        "repeats": st.sampled_from(["once", "again"]),
    },
)
ODDITY = st.sampled_from(
    ["no user", "no item", "unknown item", "no time", "far time", "later time", "told twice", "bot", "no kind", "no rating"]
)


def odd_log(oddities: dict[str, int], seed: int) -> pd.DataFrame:
    """A log with kinds, ratings and sessions, some rows of which are odd. Times are seconds, as objects."""
    draw = np.random.default_rng(seed)
    log = build.interactions(num_users=16, num_days=14).astype({"timestamp": object})
    log["kind"], log["rating"] = draw.choice(KINDS, len(log)), draw.integers(0, 6, len(log)).astype(object)
    log["session_id"] = [f"s{user[1:]}-{row % 3}" for row, user in enumerate(log["user_id"])]
    values: dict[str, tuple[str, Any]] = {
        "no user": ("user_id", None),
        "no item": ("item_id", " "),
        "unknown item": ("item_id", "gone"),
        "no time": ("timestamp", None),
        "far time": ("timestamp", 2**33),
        "later time": ("timestamp", build.NOON + 3 * build.DAY),
        "bot": ("user_id", "u00"),
        "no kind": ("kind", None),
        "no rating": ("rating", None),
    }
    for oddity, count in oddities.items():
        rows = draw.choice(len(log), count, replace=False)
        if oddity == "told twice":
            log = pd.concat([log, log.iloc[rows]], ignore_index=True)
        else:
            column, value = values[oddity]
            log.loc[rows, column] = value
    return log.iloc[draw.permutation(len(log))].reset_index(drop=True)


def written(folder: Path, log: pd.DataFrame, form: str, time: str, zone: str, parts: int) -> dict[str, Any]:
    """Write a log, and give the mapping that it needs."""
    mapping: dict[str, Any] = {"columns": {"user_id": "Customer No."}, "timezone": zone}
    moments = pd.to_datetime(log["timestamp"].astype("Int64"), unit="s", utc=True)
    if time in ("s", "ms", "us"):
        log["timestamp"] = log["timestamp"].astype("Int64") * {"s": 1, "ms": 10**3, "us": 10**6}[time]
        mapping["timestamp_unit"] = time
    else:
        mapping["timestamp_format"] = time
        log["timestamp"] = moments.dt.tz_convert(zone).dt.strftime(time)
    log = log.rename(columns={"user_id": "Customer No."}).convert_dtypes()
    (folder / "interactions").mkdir()
    for part in range(parts):
        rows, path = log.iloc[part::parts], folder / "interactions" / f"part {part}.{form}"
        if form == "parquet":
            rows.to_parquet(path)
        elif form == "jsonl":
            rows.to_json(path, orient="records", lines=True)
        else:
            rows.to_csv(path, index=False, sep=";" if form == "csv.gz" else ",")
    return mapping


@hypothesis_settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", 1)),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    MEANING,
    st.dictionaries(ODDITY, st.integers(1, 20), max_size=4),
    st.sampled_from(["csv", "csv.gz", "jsonl", "parquet"]),
    st.sampled_from(["s", "ms", "us", *FORMS]),
    st.sampled_from(ZONES),
    st.integers(1, 3),
    st.sampled_from([1.0, 0.05]),
    st.integers(0, 9),
)
def test_the_check_says_what_a_run_does(
    settings: PipelineSettings,
    tmp_path: Path,
    meaning: dict,
    oddities: dict,
    form: str,
    time: str,
    zone: str,
    parts: int,
    max_rejected: float,
    seed: int,
) -> None:
    shutil.rmtree(settings.home, ignore_errors=True)
    folder = tmp_path / "source"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    build.items().to_csv(folder / "items.csv", index=False)
    log = odd_log(oddities, seed)
    num_rows = len(log)
    mapping = meaning | {"interactions": written(folder, log, form, time, zone, parts)}
    (folder / "data.yaml").write_text(json.dumps(mapping))
    chosen = build.tiny(
        settings,
        folder,
        data={"max_rejected_fraction": max_rejected},
        gate={"min_evaluated_users": 1, "min_view_coverage": 0.0},
    )
    found = check(chosen, date=build.DATE, today=TODAY, cache=None, proposal=tmp_path / "data.yaml", say=lambda line: None)
    event(found.verdict)
    try:
        gate.run(chosen, "raw")
        summary = ingest.run(chosen)
    except DataError as error:
        assert found.verdict == "not", f"the check says {found.verdict}, and a run stops: {error}"
        assert error.remedy
        event(f"stopped: {error.problem[:60]}")
        return
    assert found.verdict != "not", found.reasons
    counted = [*summary["events"].values(), *summary["not_used"].values(), *summary["rejected"]["interactions"].values()]
    assert sum(counted) == num_rows == summary["rows_read"]["interactions"]
    for name in ("events", "not_used", "rejected", "rows_read", "items", "users"):
        assert summary[name] == found.ingest[name], name
