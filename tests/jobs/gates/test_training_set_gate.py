import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from jobs.base.settings import PipelineSettings
from jobs.gates import gate
from jobs.lake.tables import Lake
from jobs.lake.user_features import AttributeHealth, attribute_health
from jobs.source.tables import DAY_SECONDS
from tests.jobs.gates.judging import NUM_ITEMS, NUM_USERS, blocked, failed, items_frame, verdict
from tests.jobs.records import publish_frame


def sequence_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """`sequences` with six events for each user (4 + 1 + 1, one on each day), and the `interactions` that agree with them."""
    sequences = pd.DataFrame(
        {
            "user_index": np.arange(NUM_USERS),
            "item_index": [[(user + step * 7) % NUM_ITEMS for step in range(6)] for user in range(NUM_USERS)],
            "timestamp": [[1_700_000_000 + step * DAY_SECONDS + user for step in range(6)] for user in range(NUM_USERS)],
        }
    )
    counts = {"num_train": 4, "num_validation": 1, "num_holdout": 1}
    sequences = sequences.assign(**{name: np.int32(count) for name, count in counts.items()})
    log = sequences[["user_index", "item_index", "timestamp"]].explode(["item_index", "timestamp"])
    log["split"] = (["train"] * 4 + ["validation", "holdout"]) * NUM_USERS
    return sequences, log.astype({"item_index": "int64", "timestamp": "int64"})


def publish_sequences(settings: PipelineSettings, sequences: pd.DataFrame, log: pd.DataFrame, items: pd.DataFrame) -> None:
    publish_frame(settings, "items", items)
    publish_frame(settings, "interactions", log, split="window")
    users = sorted(set(sequences["user_index"]))
    publish_frame(settings, "users", pd.DataFrame({"user_index": users, "user_id": [f"u{user}" for user in users]}))
    publish_frame(settings, "sequences", sequences)


@pytest.mark.spark
def test_training_set_passes_and_blocks(settings: PipelineSettings, spark: object) -> None:
    sequences, log = sequence_tables()
    publish_sequences(settings, sequences, log, items_frame())
    gate.run(settings, "training_set")
    assert failed(settings, "training_set", "warning") == {("training_set", "evaluated_users")}

    bad = sequences.copy()
    bad.loc[0, "num_train"] = 3  # splits no longer add up
    bad.at[1, "item_index"] = [0, 1, 2, 3, 4, NUM_ITEMS]
    bad.at[2, "timestamp"] = list(reversed(bad.at[2, "timestamp"]))  # trained on what comes after the hold-out
    bad.at[3, "item_index"] = [5, 1, 2, 3, 4, 5]
    bad.at[3, "timestamp"] = [9, 1, 2, 3, 4, 9]  # the hold-out event is trained on as well
    bad.at[4, "item_index"], bad.at[4, "timestamp"] = [], []
    bad.loc[5, "user_index"] = 6
    bad.loc[7, "num_validation"] = -1
    bad.at[8, "item_index"] = [0, -1, 2, 3, 4, 5]
    leaked = log.assign(split=log["split"].where(log["split"] != "holdout", "train"))
    publish_sequences(settings, bad, leaked, items_frame().assign(num_train=3))
    columns, message = blocked(settings, "training_set")
    assert columns == {
        ("sequences", name)
        for name in (
            "user_index",
            "num_events",
            "length_difference",
            "least_count",
            "first_item",
            "last_item",
            "in_order",
            "seconds_to_holdout",
            "shared_events",
        )
    } | {
        ("training_set", name)
        for name in ("train_difference", "holdout_difference", "popularity_difference", "seconds_to_window")
    }
    leak = next(f for f in verdict(settings, "training_set")["failures"] if f["column"] == "seconds_to_holdout")
    assert "user 2 " in leak["message"]


@pytest.mark.spark
def test_attributes_of_users_that_are_missing_or_have_moved_are_told(settings: PipelineSettings, spark: object) -> None:
    sequences, log = sequence_tables()
    sequences["features"] = [[1.0, 2.0, 3.0]] * NUM_USERS
    sequences.at[0, "item_index"], sequences.at[0, "timestamp"] = [], []  # known, without any event
    sequences.loc[0, ["num_train", "num_validation", "num_holdout"]] = 0
    log = log[log["user_index"] != 0]
    items = items_frame().assign(num_train=log[log["split"] == "train"].groupby("item_index").size().reindex(range(NUM_ITEMS)))

    def about(known: int, *means: float) -> dict:
        found = {"known": NUM_USERS, "mean": [0.5], "std": [0.1]}
        country = {"known": known, "mean": list(means), "std": [1.0, 0.5]}
        return {"users": NUM_USERS, "encoder": "", "attributes": {"age": found, "country": country}}

    before = settings.model_copy(update={"date": settings.date - dt.timedelta(days=1)})
    publish_frame(before, "sequences", sequences, user_features=about(NUM_USERS, 0.0, 1.0))
    publish_sequences(settings, sequences, log, items.fillna(0).astype({"num_train": "int64"}))
    publish_frame(settings, "sequences", sequences, user_features=about(NUM_USERS // 4, 0.0, 1.5))
    health = {found.name: found for found in attribute_health(Lake.of(settings), settings.date)}
    assert health["age"] == AttributeHealth("age", 1.0, 0.0)
    assert health["country"] == AttributeHealth("country", NUM_USERS // 4 / NUM_USERS, pytest.approx(0.5**0.5))
    assert attribute_health(Lake.of(before), before.date)[1].drift is None
    gate.run(settings, "training_set")
    told = failed(settings, "training_set", "warning")
    assert told == {("training_set", "evaluated_users"), ("user_attributes", "known"), ("user_attributes", "drift")}
    assert "attribute country" in json.dumps(verdict(settings, "training_set"))


@pytest.mark.spark
def test_users_whose_holdout_holds_no_target_are_not_evaluated(settings: PipelineSettings, spark: object) -> None:
    sequences, log = sequence_tables()
    least = settings.gate.min_evaluated_users
    for evaluated in (least - 1, least):
        weights = [[1.0] * 5 + [float(user < evaluated)] for user in range(NUM_USERS)]
        publish_sequences(settings, sequences.assign(weight=weights), log, items_frame())
        if evaluated < least:
            columns, message = blocked(settings, "training_set")
            assert columns == {("training_set", "evaluated_users")} and f"({least - 1})" in message
        else:
            gate.run(settings, "training_set")
