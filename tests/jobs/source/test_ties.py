"""Events of one time have no order that anybody knows, and ids must not stand in for it."""

from pathlib import Path

import numpy as np
import pytest

from jobs.gates import gate
from jobs.lake.tables import Lake
from jobs.source import ingest
from jobs.training import build_training_set
from tests.jobs import source_builder as build

SPLITS = ("train", "validation", "holdout")


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
def test_what_is_held_out_of_one_moment_does_not_depend_on_the_ids(settings, tmp_path: Path) -> None:
    log = build.interactions(num_users=60, num_items=40, num_days=20).drop(columns="timestamp")
    folder = build.write_source(tmp_path / "source", interactions=log, items=build.items(40))
    (folder / "data.yaml").write_text(f"interactions: {{constants: {{timestamp: {build.DATE}}}}}")
    chosen = build.tiny(settings, folder, gate={"min_evaluated_users": 20}, ingest={"max_events_per_user_day": 10})
    summary = ingest.run(chosen)
    assert summary["split"] == "per_user_tail"
    assert summary["rejected"]["interactions"] == {}, "one moment for all events makes nobody a bot"
    build_training_set.run(chosen)
    gate.run(chosen, "training_set")

    lake = Lake.of(chosen)
    events = lake.read_pandas("interactions", build.DATE)
    rank = events["item_index"].rank(pct=True)
    held = rank[events["split"] == "holdout"]
    assert len(held) == 60 * 4
    assert abs(held.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(held)), "five standard errors; the largest ids would give 0.9"
    sequences = lake.read_pandas("sequences", build.DATE).set_index("user_index")
    for user, of_user in events.groupby("user_index"):
        row, start = sequences.loc[user], 0
        for split in SPLITS:
            end = start + row[f"num_{split}"]
            assert set(row["item_index"][start:end]) == set(of_user.loc[of_user["split"] == split, "item_index"])
            start = end
    later = np.concatenate([np.diff(items) > 0 for items in sequences["item_index"]])
    assert 0.4 < later.mean() < 0.6, "a model could read the next item from a growing index"
