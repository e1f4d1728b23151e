"""Forgetting a user of a small home: tables of every date, texts, interruptions, and who may not be disturbed."""

import datetime as dt
import fcntl
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.forgotten import ForgottenUsers
from jobs.base.locks import HomeBusyError, at_work
from jobs.base.places import open_dataset
from jobs.base.settings import PipelineSettings
from jobs.forget import files
from jobs.forget.erase import Request, forget
from jobs.forget.texts import UserText
from jobs.lake import tables as lake_tables
from jobs.lake.event_log import ParquetLog
from jobs.lake.tables import Lake
from tests.jobs.forget.forget_home import DATES, files_naming, publish, write_days, write_texts

USERS = ["u0001", "u0002", "u0003", "u0004"]
GONE = "u0002"


def asks(user_id: str = GONE, reason: str = "ticket 12") -> Request:
    return Request(user_id, "ada", reason)


@pytest.fixture
def alone(settings: PipelineSettings) -> PipelineSettings:
    """A home without an MLflow store."""
    return settings


def tables_of(settings: PipelineSettings, date: dt.date) -> dict[str, pd.DataFrame]:
    lake = Lake.of(settings)
    return {table: lake.read_pandas(table, date) for table in lake.tables() if lake.exists(table, date)}


def without_user(table: pd.DataFrame, index: int) -> list[dict[str, Any]]:
    return table[table["user_index"] != index].to_dict("records")


def test_the_rows_go_and_everybody_else_stays_who_they_were(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    before = tables_of(alone, DATES[0])
    found = forget(alone, asks())
    after = tables_of(alone, DATES[0])
    assert after["users"]["user_id"].tolist() == ["u0001", "", "u0003", "u0004"]
    assert after["users"].loc[1, ["num_train", "num_validation", "num_holdout"]].tolist() == [0, 0, 0]
    for table in ("interactions", "evaluation", "candidates"):
        assert str(after[table].to_dict("records")) == str(without_user(before[table], 1)), table
    assert after["sequences"]["user_index"].tolist() == [0, 1, 2, 3]
    assert [len(events) for events in after["sequences"]["item_index"]] == [5, 0, 5, 5]
    assert str(without_user(after["sequences"], 1)) == str(without_user(before["sequences"], 1))
    assert after["quarantine"]["value"].tolist() == ["u0001", "u0003", "u0004"]
    counted = after["interactions"].query("split == 'train'").groupby("item_index").size()
    items = after["items"].set_index("item_index")["num_train"]
    assert items[items > 0].to_dict() == counted.to_dict()
    rows = {"candidates": 1, "evaluation": 2, "interactions": 5, "quarantine": 1, "sequences": 1, "users": 1}
    for date in DATES:
        assert {table: done["rows"] for table, done in found["tables"][date.isoformat()].items()} == rows


def test_a_rewritten_date_is_a_version_like_any_other_and_the_one_before_is_gone(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    lake = Lake.of(alone)
    before = {table: lake.manifest(table, DATES[1]) for table in lake.tables()}
    forget(alone, asks())
    for table, old in before.items():
        new = lake.manifest(table, DATES[1])
        assert lake.intact(table, DATES[1]) and new["digest"] != old["digest"]
        assert {name: new[name] for name in ("inputs", "stats", "config_hash", "written_at")} == {
            name: old[name] for name in ("inputs", "stats", "config_hash", "written_at")
        }
        assert [change["digest_before"] for change in new["rewritten"]] == [old["digest"]]
        if table != "items":
            folder = lake.root / table / f"date={DATES[1]}"
            assert sorted(path.name for path in folder.iterdir()) == sorted(["CURRENT", new["version"]])


def test_rows_set_aside_because_of_an_item_of_the_same_id_stay(alone: PipelineSettings) -> None:
    write_days(alone, ["6", "7"])
    quarantine = Lake.of(alone).read_pandas("quarantine", DATES[0])
    about_items = quarantine.assign(column="item_id", reason="unknown_item")
    publish(alone.model_copy(update={"date": DATES[0]}), "quarantine", pd.concat([quarantine, about_items], ignore_index=True))
    forget(alone, asks("7"))
    left = tables_of(alone, DATES[0])["quarantine"][["column", "value"]].values.tolist()
    assert left == [["user_id", "6"], ["item_id", "6"], ["item_id", "7"]]


def test_training_reads_the_log_with_an_empty_row(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    forget(alone, asks())
    log = ParquetLog(open_dataset(Lake.of(alone).path("sequences", DATES[1])))
    assert log.num_users == 4 and log.num_evaluated("holdout") == 3
    assert log.read(0).offsets.diff().tolist() == [5, 0]


def test_replaced_versions_and_what_killed_writers_left_go_too(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    publish(alone, "users", {"user_index": [0, 1], "user_id": ["u0001", "u0003"]})  # a rerun that knows the user no more
    folder = Lake.of(alone).root / "users" / f"date={alone.ds}"
    shutil.copytree(next(folder.glob("v-*")), folder / "v-20260128T000000-0123abcd")
    unfinished = Lake.of(alone).root / "user_vectors" / f"date={alone.ds}" / "v-20260128T000000-0123abcd"
    shutil.copytree(next(folder.glob("v-*")), unfinished)
    forget(alone, asks())
    assert not unfinished.exists() and len(list(folder.glob("v-*"))) == 1
    assert files_naming(alone.home, GONE) == []


def test_a_table_that_numbers_users_in_another_way_goes_as_a_whole(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    lake = Lake.of(alone)
    day = alone.model_copy(update={"date": DATES[1]})
    counts = {"num_train": 3, "num_validation": 1, "num_holdout": 1}
    publish(day, "users", {"user_index": [0, 1], "user_id": ["u0002", "u0003"]} | counts)  # ingest again, and no other step
    found = forget(alone, asks())["tables"]
    assert {table for table, done in found[str(DATES[1])].items() if done["removed_as_a_whole"]} == {
        "interactions",
        "sequences",
        "evaluation",
    }
    assert not lake.exists("sequences", DATES[1]) and lake.exists("sequences", DATES[0])
    assert files_naming(alone.home, GONE) == []


def with_known_negatives(settings: PipelineSettings, date: dt.date) -> None:
    """Add to the log of a date what ingest writes of items that a user does not want: rows that count as no event."""
    log = Lake.of(settings).read_pandas("interactions", date)
    negatives = log.groupby("user_index", as_index=False).first().assign(item_index=11, split="unwanted")
    publish(settings.model_copy(update={"date": date}), "interactions", pd.concat([log, negatives], ignore_index=True))


def test_a_log_with_known_negatives_is_rewritten_and_not_withdrawn(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    with_known_negatives(alone, DATES[0])
    before = tables_of(alone, DATES[0])["interactions"]
    for number, user_id in enumerate((GONE, "u0003")):
        done = forget(alone, asks(user_id))["tables"][str(DATES[0])]["interactions"]
        assert done == {"rows": 6, "removed_as_a_whole": False}, number
    after = tables_of(alone, DATES[0])["interactions"]
    assert str(after.to_dict("records")) == str(before[before["user_index"].isin([0, 3])].to_dict("records"))
    assert "unwanted" in set(after["split"])


def test_two_users_one_after_the_other_and_one_twice(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    forget(alone, asks())
    forget(alone, asks("u0003"))
    digests = {table: Lake.of(alone).manifest(table, DATES[0])["digest"] for table in Lake.of(alone).tables()}
    again = forget(alone, asks())
    assert again["tables"] == {}
    assert digests == {table: Lake.of(alone).manifest(table, DATES[0])["digest"] for table in Lake.of(alone).tables()}
    after = tables_of(alone, DATES[0])
    assert after["users"]["user_id"].tolist() == ["u0001", "", "", "u0004"]
    assert set(after["interactions"]["user_index"]) == set(after["evaluation"]["user_index"]) == {0, 3}


def test_a_person_known_by_a_session_alone_is_named_by_it(alone: PipelineSettings) -> None:
    write_days(alone, ["session v9", "u0001", "u0003"])
    write_texts(alone.home, "session v9")
    found = forget(alone, asks("v9"))
    assert {done["users"]["rows"] for done in found["tables"].values()} == {1}
    assert any("that of a session" in note for note in found["notes"])
    assert files_naming(alone.home, "session v9") == []
    assert ForgottenUsers.of(alone).hold("session v9")
    assert "was forgotten before" in forget(alone, asks("v9"))["message"]


def test_the_id_of_a_user_is_not_that_of_a_session(alone: PipelineSettings) -> None:
    write_days(alone, ["session u0002", *USERS])
    found = forget(alone, asks())
    assert tables_of(alone, DATES[0])["users"]["user_id"].tolist() == ["session u0002", "u0001", "", "u0003", "u0004"]
    assert any('give the id with "session " in front' in note for note in found["notes"])
    forget(alone, asks("session u0002"))
    assert tables_of(alone, DATES[0])["users"]["user_id"].tolist() == ["", "u0001", "", "u0003", "u0004"]


def test_it_says_so_if_nothing_was_found(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    message = forget(alone, asks("u9999"))["message"]
    assert "nothing was found under this id" in message and "is forgotten" not in message
    assert "exactly as the source writes it" in message


@pytest.mark.parametrize(
    "user_id", ["u0002", "a b", 'O\'Brien "x" 7', "Jörg Müller-9", "../../u9", "-rf *9", "a'; drop table 9", "7", "success"]
)
def test_any_string_may_be_an_id(alone: PipelineSettings, user_id: str) -> None:
    write_days(alone, ["aaa", user_id, "zzz"])
    write_texts(alone.home, user_id)
    found = forget(alone, asks(user_id))
    assert {done["users"]["rows"] for done in found["tables"].values()} == {1}
    if UserText(user_id).distinctive or user_id == "a b":
        assert files_naming(alone.home, user_id) == []
        assert not [note for note in found["notes"] if "still stands" in note]
    assert any("plain word" in note for note in found["notes"]) == (not UserText(user_id).distinctive)
    run = alone.home / "runs" / str(DATES[-1])
    record, gate = (
        json.loads((run / "steps" / "gate_raw.json").read_text()),
        json.loads((run / "gates" / "raw.json").read_text()),
    )
    assert (record["state"], record["exit_status"], gate["checked"]) == ("success", 0, 14)
    for text in (record["message"], gate["failures"][0]["examples"][0]):
        assert "user_id (forgotten), " in text
    assert sorted(path.name for path in alone.home.parent.iterdir()) == ["home"]  # nothing beside the home
    assert not (alone.home / "mlflow").exists()  # and no store is made to be looked at
    assert any("no MLflow store" in note for note in found["notes"])


def test_what_only_saves_time_is_removed_and_a_running_runs_conf_stays(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    write_texts(alone.home, GONE)
    forget(alone, asks())
    for gone in ("landing", "checkpoints", f"tuning/{DATES[-1]}/recalls"):
        assert not (alone.home / gone).exists()
    with sqlite3.connect(alone.home / "airflow" / "airflow.db") as database:
        runs = database.execute("select conf from dag_run order by id").fetchall()
    assert json.loads(runs[0][0]) == {"user": "(forgotten)", "reason": "ticket 3"} and runs[1] == ("{}",)


def test_the_record_and_the_hash_do_not_name_the_user(alone: PipelineSettings) -> None:
    write_days(alone, USERS)
    found = forget(alone, asks())
    folder = alone.home / "forgotten"
    assert (folder / "key").stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700
    assert files_naming(alone.home, GONE) == []
    (record,) = folder.glob("2*.json")
    kept = json.loads(record.read_text())
    assert (kept["state"], kept["by"], kept["reason"], str(record)) == ("finished", "ada", "ticket 12", found["record"])
    forgotten = ForgottenUsers.of(alone)
    assert forgotten.hold(GONE) and not forgotten.hold("u0001") and len(forgotten.hashes) == 1
    other = ForgottenUsers(b"0" * 32, forgotten.hashes)
    assert not other.hold(GONE)  # without the key nobody is recognised
    (folder / "key").unlink()
    with pytest.raises(DataError, match="key is gone"):
        ForgottenUsers.of(alone)


class Killed(BaseException):
    """Stands for a kill: no code of the job catches it."""


def _interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> Callable[[], int]:
    """Let every change on disk count, and kill the job before one of them; returns how many there have been."""
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if count == after:
                raise Killed
            count += 1
            return call(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(lake_tables, "replace_text", counted(lake_tables.replace_text))
    monkeypatch.setattr(lake_tables, "remove_folder", counted(lake_tables.remove_folder))
    monkeypatch.setattr(files, "_replace", counted(files._replace))
    monkeypatch.setattr(files.shutil, "rmtree", counted(files.shutil.rmtree))
    monkeypatch.setattr(files, "clean_database", counted(files.clean_database))
    monkeypatch.setattr(files, "_overwrite", counted(files._overwrite))
    monkeypatch.setattr("jobs.forget.record.write_json", counted(write_json))
    return lambda: count


def _state(settings: PipelineSettings) -> dict[str, Any]:
    lake = Lake.of(settings)
    state: dict[str, Any] = {
        f"{table}/{date}": lake.manifest(table, date)["digest"] for table in lake.tables() for date in lake.dates(table)
    }
    for path in sorted(settings.home.rglob("*")):
        name = path.relative_to(settings.home).as_posix()
        if path.is_file() and not name.startswith(("lake/", "forgotten/", "airflow/airflow.db")):
            state[name] = path.read_bytes()
    return state


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_state_from_which_the_same_command_finishes(
    alone: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(alone, USERS, DATES[-1:])
    write_texts(alone.home, GONE)
    untouched = tmp_path / "untouched"
    shutil.copytree(alone.home, untouched)
    whole = forget(alone, asks())
    expected, after = _state(alone), 0
    while True:
        shutil.rmtree(alone.home)
        shutil.copytree(untouched, alone.home)
        with monkeypatch.context() as patch:
            seen = _interrupted(patch, after)
            try:
                forget(alone, asks())
                assert seen() <= after
                break
            except Killed:
                pass
        lake = Lake.of(alone)
        assert all(lake.intact(table, DATES[-1]) for table in lake.tables()), after  # a reader finds old or new
        found = forget(alone, asks())
        assert _state(alone) == expected, after
        assert files_naming(alone.home, GONE) == [], after
        rows = {table: done["rows"] for table, done in found["tables"].get(str(DATES[-1]), {}).items()}
        most = {table: done["rows"] for table, done in whole["tables"][str(DATES[-1])].items()}
        # A kill between a change and its note leaves one count out; no row is ever counted twice.
        assert rows.items() <= most.items() and len(most) - len(rows) <= 1, after
        assert len(list((alone.home / "forgotten").glob("2*.json"))) == 1
        after += 1
    assert after > 25


def test_nobody_at_work_is_disturbed(alone: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_days(alone, USERS)
    with at_work(alone.home), at_work(alone.home), pytest.raises(HomeBusyError, match="step is at work"):
        forget(alone, asks())
    with (alone.home / ".lock").open("w") as handle:  # as `make run` holds it
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(HomeBusyError, match="a run is at work"):
            forget(alone, asks())
        monkeypatch.setenv("ESANS_LOCAL_STACK", str(alone.home))
        assert forget(alone, asks())["state"] == "finished"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (asks(" "), "blank"),
        (asks("x" * 1001), "at most 1000"),
        (asks("\udcff7aa"), "no text in UTF-8"),
        (asks(reason="u0002 asked"), "name a ticket"),
    ],
)
def test_what_cannot_be_meant_is_refused(alone: PipelineSettings, request_: Request, said: str) -> None:
    with pytest.raises(DataError, match=said):
        forget(alone, request_)
    assert not (alone.home / "forgotten").exists()
