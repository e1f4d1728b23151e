"""A small home with days of tables and texts in which a user is named, and a look for that user in every file."""

import datetime as dt
import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake

DATES = (dt.date(2026, 1, 27), dt.date(2026, 1, 28))
NUM_ITEMS = 12
_COUNTS = {"num_train": 3, "num_validation": 1, "num_holdout": 1}
_SPLITS = ["train"] * 3 + ["validation", "holdout"]


def write_days(settings: PipelineSettings, user_ids: list[str], dates: tuple[dt.date, ...] = DATES) -> None:
    """Tables of some dates as the steps leave them: each user has five events, and one event of each user was set aside."""
    for date in dates:
        _write_day(settings.model_copy(update={"date": date}), sorted(user_ids))


def _write_day(settings: PipelineSettings, user_ids: list[str]) -> None:
    users = np.arange(len(user_ids))
    events = [[(3 * user + step) % NUM_ITEMS for step in range(5)] for user in users]
    log = pd.DataFrame(
        {
            "user_index": np.repeat(users, 5),
            "item_index": np.concatenate(events),
            "timestamp": np.tile(np.arange(5), len(users)),
            "split": _SPLITS * len(users),
        }
    )
    popularity = log[log["split"] == "train"]["item_index"].value_counts().reindex(range(NUM_ITEMS), fill_value=0)
    item_ids = [f"i{item}" for item in range(NUM_ITEMS)]
    publish(settings, "items", {"item_index": range(NUM_ITEMS), "item_id": item_ids, "num_train": popularity.to_numpy()})
    publish(settings, "users", {"user_index": users, "user_id": user_ids} | dict(_COUNTS))
    publish(settings, "interactions", log)
    aside = {"table": "interactions", "column": "user_id", "reason": "bot_user"}
    publish(settings, "quarantine", {"key": [f"log.parquet:{user}" for user in users], "value": user_ids} | aside)
    counts = {name: np.int32(count) for name, count in _COUNTS.items()}
    lists = {"item_index": events, "timestamp": [list(range(5))] * len(users)}
    publish(settings, "sequences", {"user_index": users} | lists | counts, inputs=("interactions", "users"))
    scores = {"model": np.repeat(["challenger", "baseline"], len(users)), "user_index": np.tile(users, 2), "recall_50": 0.5}
    publish(settings, "evaluation", scores, inputs=("sequences", "items"))
    publish(settings, "candidates", {"user_index": users, "user_id": user_ids, "item_id": [["i1", "i2"]] * len(users)})


def publish(settings: PipelineSettings, table: str, rows: object, inputs: tuple[str, ...] = ()) -> None:
    with Lake.of(settings).write(table, settings, inputs=inputs) as pending:
        pending.path.mkdir()
        # Two row groups, so that one is read and the other is left as it is.
        frame = pd.DataFrame(rows)
        frame.to_parquet(pending.path / "part-0.parquet", index=False, row_group_size=max(1, len(frame) // 2))


def write_texts(home: Path, user_id: str, date: dt.date = DATES[-1]) -> None:
    """Records, pages, logs and a database that name the user, as gates, Airflow and MLflow write them."""
    said = (
        f"interactions.item_id: expected that every event names its item; observed 1 row, such as row 5, user_id {user_id}, ..."
    )
    failure = {"severity": "warning", "message": said, "examples": [f"row 5, user_id {user_id}, item_id (none) (None)"]}
    run = home / "runs" / date.isoformat()
    for path, values in {
        run / "gates" / "raw.json": {"stage": "raw", "success": True, "checked": 14, "failures": [failure]},
        run / "steps" / "gate_raw.json": {"state": "success", "exit_status": 0, "message": said},
        home / "gx" / "uncommitted" / "validations" / "raw.json": {
            "success": False,
            "result": {
                "partial_unexpected_list": [user_id],
                "partial_unexpected_index_list": [{"row": said, "user_id": user_id}],
            },
        },
    }.items():
        _write(path, json.dumps(values))
    from html import escape

    page = f"<tr><td>interactions</td><td>bot user</td><td>user_id</td><td><code>{escape(user_id)}</code></td></tr>"
    _write(home / "reports" / date.isoformat() / "index.html", f"<p>{escape(said)}</p><table>{page}</table>")
    line = json.dumps({"event": f"gate_raw\nuser_id {user_id}: see above", "level": "warning"})
    _write(home / "airflow" / "logs" / "dag_id=x" / "attempt=1.log", f"{line}\n{line}\n")
    (home / "old.log.gz").write_bytes(gzip.compress(f"user_id {user_id}\n".encode()))
    _write(home / "serving" / "history.jsonl", json.dumps({"name": "b", "reason": f"asked by user_id {user_id}"}) + "\n")
    (home / "landing").mkdir()
    pq.write_table(pa.table({"user_id": [user_id]}), home / "landing" / "log.parquet")
    (home / "truth").mkdir()
    pq.write_table(pa.table({"user_id": [user_id, "another"]}), home / "truth" / "users.parquet")
    (home / "checkpoints" / "challenger-0").mkdir(parents=True)
    (home / "tuning" / date.isoformat() / "recalls").mkdir(parents=True)
    with closing(sqlite3.connect(home / "airflow" / "airflow.db")) as database:
        database.execute("create table dag_run (id integer primary key, state text, conf text)")
        conf = json.dumps({"user": user_id, "reason": "ticket 3"})
        database.execute("insert into dag_run (state, conf) values ('success', ?), ('running', '{}')", (conf,))
        database.execute("create table log (id integer primary key, event text, extra text)")
        database.execute("insert into log (event, extra) values ('trigger', ?)", (json.dumps({"conf": json.loads(conf)}),))
        database.execute("insert into log (event, extra) values ('gate', ?)", (said,))
        database.commit()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def files_naming(home: Path, user_id: str, *, but: tuple[str, ...] = ()) -> list[str]:
    """Every file of a home in which the id stands: in Parquet's columns, in SQLite, compressed, or in plain bytes."""
    found = []
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        name = path.relative_to(home).as_posix()
        if name.startswith(but):
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        spellings = {user_id, json.dumps(user_id)[1:-1]}
        named = any(spelling.encode() in content for spelling in spellings)
        if path.suffix == ".parquet":
            named = named or user_id in _texts(pq.read_table(path).to_pydict())
        elif content.startswith(b"SQLite format 3"):
            named = named or any(user_id in text for text in _database_texts(path))
        if named:
            found.append(name)
    return found


def _texts(value: object) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(_texts(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(_texts(inner) for inner in value))
    return {value} if isinstance(value, str) else set()


def _database_texts(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        queries = [f'select * from "{table}"' for table in tables]  # noqa: S608
        return [str(value) for query in queries for row in database.execute(query) for value in row]
