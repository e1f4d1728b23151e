"""The steps of a date after a user was forgotten: on the tables that are left, once more from the source, and a day later."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest
import yaml

from jobs.base.forgotten import forgotten_digest, hash_of, remember
from jobs.base.settings import PipelineSettings
from jobs.forget.tables import LakeEraser
from jobs.gates import gate
from jobs.lake.tables import Lake
from jobs.ranking import evaluate
from jobs.source import ingest
from jobs.training import build_training_set, train
from jobs.training.data import open_log
from tests.jobs import source_builder as build
from tests.jobs.training_tables import NUM_USERS, write_training_tables

GONE, ROW = "u05", 5
NEXT = build.DATE + dt.timedelta(days=1)


def forget(settings: PipelineSettings, user_id: str) -> None:
    """What the command does to the lake, without the rest of the home."""
    remember(settings, hash_of(settings, user_id))
    eraser = LakeEraser(Lake.of(settings), user_id, "request")
    for date in eraser.dates():
        eraser.erase(date, lambda table, done: None)


def log_with_faults() -> pd.DataFrame:
    """The log of two days, with two events of the user that cannot be used."""
    log = build.interactions()
    later = build.interactions().assign(timestamp=lambda rows: rows["timestamp"] + build.NUM_DAYS * build.DAY).iloc[::3]
    bad = pd.DataFrame([(GONE, None, build.NOON), (GONE, "unheard-of", build.NOON)], columns=log.columns)
    return pd.concat([log, later, bad], ignore_index=True)


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
def test_a_rerun_and_the_next_day_leave_the_user_out_whom_the_source_still_holds(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    folder = build.write_source(tmp_path / "source", interactions=log_with_faults())
    gates = {"min_evaluated_users": 1, "min_volume_share": 0.0}
    chosen = build.tiny(settings, folder, ingest={"split": "window"}, gate=gates)
    lake = Lake.of(chosen)
    before = ingest.run(chosen)
    build_training_set.run(chosen)
    gate.run(chosen, "training_set")
    assert before["forgotten"] == 0 and forgotten_digest(chosen) == {}
    assert before["rejected"]["interactions"] == {"missing_id": 1, "unknown_item": 1}

    forget(chosen, GONE)
    rewritten = lake.read_pandas("sequences", chosen.date)
    gate.run(chosen, "training_set")  # an empty row of a user who was forgotten is no fault
    build_training_set.run(chosen)  # from the tables of ingest as they were left
    pd.testing.assert_frame_equal(lake.read_pandas("sequences", chosen.date), rewritten)
    assert rewritten["user_index"].tolist() == list(range(build.NUM_USERS)) and len(rewritten["item_index"][ROW]) == 0

    assert forgotten_digest(chosen) != {}  # so neither ingest nor the gate takes an earlier result
    gate.run(chosen, "raw")
    assert GONE not in (chosen.run_dir / "gates" / "raw.json").read_text()
    again = ingest.run(chosen)
    assert again["forgotten"] == sum(log_with_faults()["user_id"] == GONE)
    assert again["rejected"]["interactions"] == {} and again["users"] == build.NUM_USERS - 1
    assert again["rows_read"]["interactions"] == before["rows_read"]["interactions"] - build.NUM_DAYS - 2
    build_training_set.run(chosen)
    gate.run(chosen, "training_set")

    tomorrow = chosen.model_copy(update={"date": NEXT})
    assert ingest.run(tomorrow)["users"] == build.NUM_USERS - 1
    for date in (chosen.date, NEXT):
        users = lake.read_pandas("users", date)
        others = sorted(set(log_with_faults()["user_id"]) - {GONE})
        assert users["user_id"].tolist() == others and users["user_index"].tolist() == list(range(len(others)))
        assert not lake.read_pandas("quarantine", date).isin([GONE]).any(axis=None)


def mapped_log() -> pd.DataFrame:
    """A clickstream with other names: views, buys and dislikes; some sessions have no user."""
    log = build.interactions().assign(what="view")
    log.loc[::4, "what"] = "buy"
    dislikes = [(user, "i23", build.NOON, "dislike") for user in ("u00", "u02", GONE)]
    log = pd.concat([log, pd.DataFrame(dislikes, columns=log.columns)], ignore_index=True)
    log["visit"] = "v" + log["user_id"]
    log.loc[log["user_id"].isin(["u07", "u09"]), "user_id"] = None  # sessions of nobody
    return log.rename(columns={"user_id": "visitor", "item_id": "sku", "timestamp": "at"})


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("gone", [GONE, "session vu07"])
def test_mapped_data_with_kinds_dislikes_and_sessions_keep_everybody_else(
    settings: PipelineSettings, tmp_path: Path, gone: str
) -> None:
    folder = build.write_source(tmp_path / "source")
    (folder / "interactions.parquet").unlink()
    mapped_log().to_csv(folder / "clicks.csv", index=False)
    columns = {"user_id": "visitor", "item_id": "sku", "timestamp": "at", "session_id": "visit", "kind": "what"}
    kinds = {"view": {"role": "history"}, "buy": {"weight": 8}, "dislike": {"role": "negative"}}
    mapping = {"interactions": {"source": "clicks.csv", "columns": columns}, "kinds": kinds}
    (folder / "data.yaml").write_text(yaml.safe_dump(mapping))
    chosen = build.tiny(settings, folder, ingest={"split": "window"})
    lake = Lake.of(chosen)
    ingest.run(chosen)
    build_training_set.run(chosen)
    before = {table: lake.read_pandas(table, chosen.date) for table in ("users", "interactions", "sequences")}
    row = int(before["users"].set_index("user_id")["user_index"][gone])

    forget(chosen, gone)
    after = {table: lake.read_pandas(table, chosen.date) for table in before}
    for table in ("interactions", "sequences"):
        others = before[table]["user_index"] != row
        assert str(after[table].query(f"user_index != {row}").to_dict("records")) == str(
            before[table][others].to_dict("records")
        )
    assert row not in set(after["interactions"]["user_index"])
    (empty,) = after["sequences"].query(f"user_index == {row}").to_dict("records")
    lists = ("item_index", "timestamp", "weight", "kind", "unwanted")
    assert [len(empty[name]) for name in lists] == [0] * 5 and empty["num_history_only"] == 0
    sequences = open_log(chosen).read(0)  # what training reads
    assert len(sequences.target_weights()) == len(sequences.items) and sequences.offsets.diff()[row] == 0


@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_training_and_evaluation_go_on_with_the_other_users(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    forget(settings, "u0005")
    lake = Lake.of(settings)
    for role in ("baseline", "challenger"):
        train.run(settings, role)
    evaluate.run(settings)
    evaluated = lake.read_pandas("evaluation", settings.date)
    assert set(evaluated["user_index"]) == set(range(NUM_USERS)) - {5}
    forget(settings, "u0006")  # trained and evaluated meanwhile
    assert set(lake.read_pandas("evaluation", settings.date)["user_index"]) == set(range(NUM_USERS)) - {5, 6}
