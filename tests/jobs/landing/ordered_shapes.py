"""More shapes of `export_shapes`, without times, as public sets for research have: an order, lines in order, or neither."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd

from tests.jobs.landing.export_shapes import NUM_ITEMS, base, expected, words

SEQUENCES = int(dt.datetime(2014, 1, 1, tzinfo=dt.UTC).timestamp())
SETS = int(dt.datetime(2020, 1, 1, tzinfo=dt.UTC).timestamp())


def ordered(folder: Path) -> pd.DataFrame:
    """The events of each user are numbered from 0."""
    log = base()
    log["order"] = log.groupby("user").cumcount()
    columns = {"user_id": log["user"], "item_id": log["item"], "order": log["order"], "split": "train"}
    pd.DataFrame(columns).sort_values(["user_id", "order"]).to_csv(folder / "sequences.csv", index=False)
    titles = pd.DataFrame({"item_id": range(NUM_ITEMS), "title": [words(row) for row in range(NUM_ITEMS)]})
    titles.to_csv(folder / "titles.csv", index=False)
    return expected(log["user"].astype(str), log["item"].astype(str), SEQUENCES + log["order"])


def lines(folder: Path) -> pd.DataFrame:
    """A user and an item on each line, one user after the other, and nothing else."""
    log = base().sort_values(["user", "second"], kind="stable")
    (folder / "Beauty.txt").write_text("".join(f"{row.user} {row.item}\n" for row in log.itertuples()))
    return expected(log["user"].astype(str), log["item"].astype(str), SEQUENCES + 1 + np.arange(len(log)))


def sets(folder: Path) -> pd.DataFrame:
    """Pairs of user and item, each once, in no order; items are known by vectors alone."""
    log = base().drop_duplicates(["user", "item"]).sample(frac=1, random_state=0)
    pd.DataFrame({"user_id": log["user"], "item_id": log["item"]}).to_csv(folder / "train.csv", index=False)
    draw = np.random.default_rng(0)
    vectors = [draw.normal(row % 4, 1, 8).astype(np.float32) for row in range(NUM_ITEMS)]
    pd.DataFrame({"item_id": range(NUM_ITEMS), "visual": vectors}).to_parquet(folder / "item_features.parquet")
    return expected(log["user"].astype(str), log["item"].astype(str), [SETS] * len(log))
