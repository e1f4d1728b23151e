"""Sequences against a plain loop over the log."""

import pandas as pd
import pytest

from jobs.lake.tables import Lake
from jobs.training import build_training_set
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]
SPLITS = ("train", "validation", "holdout")


def test_sequences_are_the_events_in_time_order_with_the_borders_of_the_split(settings) -> None:
    events = {
        0: [
            (5, 10, "train"),
            (2, 10, "train"),
            (9, 20, "train"),
            (1, 30, "validation"),
            (4, 40, "holdout"),
            (3, 40, "holdout"),
        ],
        1: [(7, 35, "holdout")],  # no history at all
        2: [(6, 5, "train")],
    }
    log = pd.DataFrame(
        [(user, *event) for user, rows in events.items() for event in rows],
        columns=["user_index", "item_index", "timestamp", "split"],
    )
    users = pd.DataFrame(
        [(user, f"u{user}", *(sum(row[2] == split for row in rows) for split in SPLITS)) for user, rows in events.items()],
        columns=["user_index", "user_id", *(f"num_{split}" for split in SPLITS)],
    )
    chosen = build.tiny(settings, "")
    build.publish(chosen, "interactions", log.sample(frac=1, random_state=0))
    build.publish(chosen, "users", users)
    summary = build_training_set.run(chosen)
    table = Lake.of(chosen).read("sequences", chosen.date)
    assert {name: str(table.schema.field(name).type) for name in ("user_index", "num_train", "num_holdout")} == {
        "user_index": "int64",
        "num_train": "int32",
        "num_holdout": "int32",
    }
    for row in table.to_pylist():
        borders = [split for split in SPLITS for _ in range(row[f"num_{split}"])]
        made = list(zip(row["item_index"], row["timestamp"], borders, strict=True))
        assert row["timestamp"] == sorted(row["timestamp"])
        assert sorted(made) == sorted(events[row["user_index"]]), "events of one second may stand in any order within a split"
    assert table["user_index"].to_pylist() == [0, 1, 2]
    assert summary == {
        "users": 3,
        "users_with_history_and_holdout": 1,
        "num_train": 4,
        "num_validation": 1,
        "num_holdout": 3,
        "longest": 6,
        "tied_share": 2 / 5,
        "again": False,
    }
    digest = Lake.of(chosen).manifest("sequences", chosen.date)["digest"]
    build_training_set.run(chosen)
    assert Lake.of(chosen).manifest("sequences", chosen.date)["digest"] == digest
