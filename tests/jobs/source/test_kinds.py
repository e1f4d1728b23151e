"""Kinds of events: roles, weights, refunds, dislikes, ratings, repeats and sessions, from the source to what training reads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from jobs.base.errors import DataError
from jobs.lake.event_log import of_kinds, of_repeats
from jobs.lake.tables import Lake
from jobs.source import ingest
from jobs.source.tables import read_source
from jobs.training import build_training_set
from jobs.training.data import open_log
from tests.jobs import source_builder as build

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]
NOON, DAY = build.NOON, build.DAY


def with_mapping(settings, folder: Path, log: pd.DataFrame, mapping: dict):
    build.write_source(folder, interactions=log)
    (folder / "data.yaml").write_text(yaml.safe_dump(mapping))
    return build.tiny(settings, folder, ingest={"split": "window"})


def events(*rows: tuple) -> pd.DataFrame:
    """The plain log of views, and further rows (user, item, time, kind)."""
    plain = build.interactions().assign(kind="view")
    return pd.concat([plain, pd.DataFrame(rows, columns=plain.columns)], ignore_index=True)


def used(settings) -> pd.DataFrame:
    lake = Lake.of(settings)
    tables = {name: lake.read_pandas(name, settings.date) for name in ("interactions", "users", "items")}
    return tables["interactions"].merge(tables["users"]).merge(tables["items"], on="item_index")


def of(rows: pd.DataFrame, user: str, item: str) -> pd.DataFrame:
    return rows[(rows["user_id"] == user) & (rows["item_id"] == item)]


def test_one_action_told_as_several_kinds_is_its_strongest_kind(settings, tmp_path: Path) -> None:
    log = events()
    log = pd.concat([log, log.assign(kind="cart"), log.assign(kind="buy")])
    kinds = {"view": {"role": "history"}, "cart": {"weight": 3}, "buy": {"weight": 8}}
    chosen = with_mapping(settings, tmp_path, log, {"kinds": kinds})
    summary = ingest.run(chosen)
    assert summary["not_used"] == {"told_again": 288}
    rows = used(chosen)
    assert set(rows["kind"]) == {"buy"} and set(rows["weight"]) == {8.0} and len(rows) == 144
    read = summary["rows_read"]["interactions"]
    assert read == len(log) == sum(summary["events"].values()) + sum(summary["not_used"].values())


def test_a_purchase_counts_and_the_view_before_it_does_not(settings, tmp_path: Path) -> None:
    first = build.interactions().iloc[0]
    log = events((first["user_id"], first["item_id"], first["timestamp"] + 3 * DAY, "buy"))
    chosen = with_mapping(settings, tmp_path, log, {"kinds": {"view": {"role": "history"}, "buy": {"weight": 8}}})
    summary = ingest.run(chosen)
    assert summary["not_used"] == {"repeated_pair": 1}
    pair = of(used(chosen), first["user_id"], first["item_id"])
    assert pair[["kind", "weight", "timestamp"]].values.tolist() == [["buy", 8.0, first["timestamp"] + 3 * DAY]]
    assert set(used(chosen).query("kind == 'view'")["weight"]) == {0.0}


@pytest.mark.parametrize(
    ("times", "left"),
    [
        ("b r", []),
        ("r b", ["b"]),  # a return of what was not bought takes back nothing
        ("b b r", [0]),  # the latest one is taken back
        ("b r b", [2]),
        ("b b r r", []),
        ("b r r b", [3]),
    ],
)
def test_a_return_takes_back_the_latest_purchase(settings, tmp_path: Path, times: str, left: list) -> None:
    kinds = [{"b": "buy", "r": "return"}[word] for word in times.split()]
    rows = [("u00", "i01", NOON - (10 - place) * DAY, kind) for place, kind in enumerate(kinds)]
    rules = {"buy": {"weight": 2}, "return": {"role": "cancels", "cancels": "buy"}, "view": {"role": "history"}}
    other = ("u02", "i05", NOON - 9 * DAY, "buy")  # a log in which all is taken back has nothing to learn
    chosen = with_mapping(settings, tmp_path, events(*rows, other), {"kinds": rules, "repeats": "again"})
    summary = ingest.run(chosen)
    kept = of(used(chosen), "u00", "i01").query("kind == 'buy'")["timestamp"].tolist()
    expected = [rows[place][2] for place in (range(len(rows)) if left == ["b"] else left) if kinds[int(place)] == "buy"]
    assert kept == expected
    assert summary["not_used"]["cancels_another"] == kinds.count("return")
    assert summary["not_used"].get("cancelled", 0) == kinds.count("buy") - len(expected)


def test_what_a_user_dislikes_is_no_positive_and_is_never_found(settings, tmp_path: Path) -> None:
    first, second = build.interactions().iloc[0], build.interactions().iloc[1]
    log = events(
        (first["user_id"], first["item_id"], first["timestamp"] + DAY, "dislike"),
        (second["user_id"], second["item_id"], second["timestamp"] - DAY, "dislike"),  # liked again afterwards
        ("u00", "i23", NOON, "dislike"),
    )
    chosen = with_mapping(settings, tmp_path, log, {"kinds": {"dislike": {"role": "negative"}}})
    summary = ingest.run(chosen)
    assert summary["not_used"] == {"known_negative": 2, "of_a_known_negative": 1, "negative_overruled": 1}
    assert summary["unwanted"] == 2
    rows = used(chosen)
    assert of(rows, first["user_id"], first["item_id"])["split"].tolist() == ["unwanted"]
    assert "unwanted" not in set(of(rows, second["user_id"], second["item_id"])["split"])
    build_training_set.run(chosen)
    log_of = open_log(chosen)
    sequences = log_of.read(0)
    seen_row, seen_item = sequences.seen(sequences.evaluation_users("holdout"), "holdout")
    item = used(chosen).set_index("item_id")["item_index"]["i23"]
    users = Lake.of(chosen).read_pandas("users", chosen.date).set_index("user_id")["user_index"]
    assert (users["u00"], int(item[0] if isinstance(item, pd.Series) else item)) in {
        (int(sequences.evaluation_users("holdout")[row]), int(found))
        for row, found in zip(seen_row.tolist(), seen_item.tolist(), strict=True)
    }


def test_ratings_below_the_threshold(settings, tmp_path: Path) -> None:
    log = build.interactions().assign(rating=lambda rows: np.where(rows["item_id"] == "i03", 2.0, 5.0))
    low = int((log["rating"] == 2).sum())
    ignored = with_mapping(settings, tmp_path / "a", log, {"rating": {"at_least": 4}})
    assert ingest.run(ignored)["not_used"] == {"ignored_kind": low}
    history = with_mapping(settings, tmp_path / "b", log, {"rating": {"at_least": 4, "below": "history"}})
    ingest.run(history)
    rows = used(history)
    assert set(rows.query("item_id == 'i03'")["weight"]) == {0.0} and set(rows.query("item_id != 'i03'")["weight"]) == {1.0}


def test_a_low_rating_may_be_a_known_negative(settings, tmp_path: Path) -> None:
    log = build.interactions().assign(rating=lambda rows: np.where(rows["item_id"] == "i03", 2.0, 5.0))
    low = int((log["rating"] == 2).sum())
    chosen = with_mapping(settings, tmp_path, log, {"rating": {"at_least": 4, "below": "negative"}})
    summary = ingest.run(chosen)
    assert summary["not_used"] == {"known_negative": low} and summary["unwanted"] == low
    rows = used(chosen)
    assert set(rows.query("item_id == 'i03'")["split"]) == {"unwanted"}
    assert "unwanted" not in set(rows.query("item_id != 'i03'")["split"])
    build_training_set.run(chosen)
    sequences = Lake.of(chosen).read_pandas("sequences", chosen.date)
    assert sum(len(items) for items in sequences["unwanted"]) == low
    assert sum(len(items) for items in sequences["item_index"]) == len(log) - low


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("kinds: {view: {role: history}, buy: {role: history}}", "none of 144 events is one that a model can learn to find"),
        ("kinds: {view: {role: ignored}, buy: {role: ignored}}", "144 more are left out by kinds or rating in data.yaml"),
        ("rating: {at_least: 4}", "144 more are left out by kinds or rating"),
    ],
)
def test_a_log_without_a_target_stops(settings, tmp_path: Path, rules: str, says: str) -> None:
    log = build.interactions().assign(kind=["view", "buy"] * 72, rating=3.0)
    folder = build.write_source(tmp_path / "source", interactions=log)
    (folder / "data.yaml").write_text(rules)
    with pytest.raises(DataError, match=says) as caught:
        ingest.run(build.tiny(settings, folder))
    assert "rating.at_least" in caught.value.remedy


def test_repeats_are_kept_where_people_come_again(settings, tmp_path: Path) -> None:
    log = build.interactions()
    later = log[log["timestamp"] < NOON - 6 * DAY].assign(timestamp=lambda rows: rows["timestamp"] + 6 * DAY)
    whole = pd.concat([log, later], ignore_index=True)
    once = with_mapping(settings, tmp_path / "once", whole, {"repeats": "once"})
    assert ingest.run(once)["not_used"] == {"repeated_pair": len(later)}
    again = with_mapping(settings, tmp_path / "again", whole, {"repeats": "again"})
    assert ingest.run(again)["not_used"] == {}
    build_training_set.run(again)
    data = open_log(again)
    assert data.again and data.num_evaluated("holdout") == build.NUM_USERS
    sequences = data.read(0)
    assert len(sequences.seen(sequences.evaluation_users("holdout"), "holdout")[0]) == 0, "what was met may be found again"
    new, repeated = (of_repeats(data, repeated=flag).read(0).target_weights().sum() for flag in (False, True))
    assert (int(new), int(repeated)) == (len(log), len(later))


def test_weights_and_kinds_reach_what_training_reads(settings, tmp_path: Path) -> None:
    log = events().assign(kind=lambda rows: np.where(rows.index % 4 == 3, "buy", "view"))
    kinds = {"view": {"role": "history"}, "buy": {"weight": 8}}
    chosen = with_mapping(settings, tmp_path, log, {"kinds": kinds})
    ingest.run(chosen)
    build_training_set.run(chosen)
    data = open_log(chosen)
    sequences = data.read(0)
    bought = int((log["kind"] == "buy").sum())
    assert sorted(set(sequences.target_weights().tolist())) == [0.0, 8.0]
    assert int((sequences.target_weights() > 0).sum()) == bought == int((data.kinds(0) == "buy").sum())
    history = data.num_history_only(0)
    assert history is not None and history.tolist() == sequences.num_history_only(0).tolist()
    assert of_kinds(data, ["view"]).read(0).target_weights().sum() == 0
    assert of_kinds(data, ["buy"]).num_evaluated("holdout") == data.num_evaluated("holdout") > 0


def test_sessions_stand_for_users_and_are_joined_to_known_ones(spark, settings, tmp_path: Path) -> None:
    log = build.interactions()
    log["session_id"] = "s" + log.index.astype(str)
    log.loc[[0, 1, 2], "session_id"] = "one"
    log.loc[[1, 2, 5], "user_id"] = None  # two of a session with a known user, and a session of nobody
    chosen = build.tiny(settings, build.write_source(tmp_path, interactions=log))
    rows = read_source(spark, chosen, check_log=False).interactions.select("user_id").toPandas()
    assert rows["user_id"].isna().sum() == 0
    assert (rows["user_id"] == "session s5").sum() == 1
    whole = build.interactions()["user_id"].value_counts().to_dict()
    assert rows["user_id"].value_counts().to_dict() == whole | {"session s5": 1, whole_user(5): whole[whole_user(5)] - 1}


def whole_user(row: int) -> str:
    return str(build.interactions()["user_id"][row])
