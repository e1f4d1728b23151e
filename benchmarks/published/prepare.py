"""Reads a public log from the folder that holds it, with its official split, and keeps what was made of it under `var`.

No model may profit from an item's number: in some files numbers ascend within a day, in another the largest one is held out.
So the rows of every catalogue are shuffled, and users of a log without order have their events in random order.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.published.content import attribute_view, text_view
from benchmarks.published.logs import LOGS, TIES, log_of
from benchmarks.quality.data import BEHAVIOUR, QualityData, sequences_from_events
from benchmarks.quality.prepare import behaviour_view, movielens, tiktok
from esans_core.sequences import Sequences
from jobs.base.files import file_digest

KEPT = Path("var/bench/published/data")
VERSION = 1  # raise it when the same files would give other data
VALIDATION_SHARE = 0.1  # of a user's training items, in a log without an official validation part
_SEED = 11
_CODES = {"train": 0, "valid": 1, "test": 2}


def prepared(data: str, folder: Path) -> QualityData:
    """A log, or a log with its ties shuffled (`TIES`), made once and then read from what was kept.

    Raises:
        SystemExit: the folder does not hold the log.
    """
    source = located(log_of(data).name, folder)
    digests = [(path.name, file_digest(path)) for path in sorted(source.glob("*.parquet"))]
    key = hashlib.sha256(repr((VERSION, data, digests)).encode()).hexdigest()[:16]
    path = KEPT / f"{data.replace('/', '-')}-{key}.npz"
    if not path.exists():
        print(f"{data}: reading {source}", flush=True)
        read(data, source).save(path)
    return _loaded(path)


@cache
def _loaded(path: Path) -> QualityData:
    return QualityData.load(path)


def located(name: str, folder: Path | None) -> Path:
    """The folder of a log: in `folder`, in its part `published`, or beside it.

    Raises:
        SystemExit: it is in none of them; the message says what to do.
    """
    places = [] if folder is None else [folder / name, folder / "published" / name, folder.parent / name]
    found = next((place for place in places if (place / "interactions.parquet").exists()), None)
    if found is None:
        looked = f"{name}/interactions.parquet is not in {folder}" if folder else "no folder was named"
        raise SystemExit(
            f"The public logs are not part of this repository, and {looked}. Type:  make bench-published "
            f'FOLDER=/path/to/logs   with a folder that holds {", ".join(LOGS)}, or name those you have: LOGS="tiktok ...". '
            "benchmarks/README.md says where each comes from and which columns are read."
        )
    return found


def read(data: str, source: Path) -> QualityData:
    """The data set of one log, from its tables."""
    name = log_of(data).name
    if name in _OTHERS:
        made = _OTHERS[name](source)
        sequences, views = made.sequences, {view: values.numpy() for view, values in made.views.items()}
    else:
        items = pd.read_parquet(source / "items.parquet").sort_values("item_id", ignore_index=True)
        log = pd.read_parquet(source / "interactions.parquet")
        sequences = split(log, items["item_id"].to_numpy(), shuffle_ties=data.endswith(TIES))
        views = _views(items) | {BEHAVIOUR: behaviour_view(sequences, len(items))}
    sequences, views = shuffled_catalogue(sequences, views)
    return QualityData.of(data, sequences, {view: torch.from_numpy(values) for view, values in views.items()})


def split(log: pd.DataFrame, item_ids: np.ndarray, *, shuffle_ties: bool = False) -> Sequences:
    """The users' events with the official split.

    A log with a column `order` is read in this order. One without has its users' events in random order. If it has no
    validation part, a tenth of each user's training events, and of three or more at least one, becomes it.

    Args:
        log: one row for each event: user_id, item_id, split, and, if there is an order, order and perhaps gap_s.
        item_ids: int64 [N], ids of the catalogue, ascending.
        shuffle_ties: put events of one user and one day in random order. The last one is then the test event, whichever it is.
    """
    draw = np.random.default_rng(_SEED)
    ordered = "order" in log
    log = log.sort_values(["user_id", "order"], ignore_index=True) if ordered else log.sample(frac=1, random_state=_SEED)
    user = np.unique(log["user_id"].to_numpy(), return_inverse=True)[1]
    item = np.searchsorted(item_ids, log["item_id"].to_numpy())
    code = log["split"].map(_CODES).to_numpy()
    if shuffle_ties:
        run = np.cumsum((log["gap_s"].to_numpy() != 0) | (np.diff(user, prepend=-1) != 0))
        item = item[np.lexsort((draw.random(len(run)), run))]
    if "valid" not in set(log["split"]):
        code = code.copy()
        code[_tenth_of_training(user, code, draw)] = _CODES["valid"]
    return sequences_from_events(user, item, code, int(user.max()) + 1)


def _tenth_of_training(user: np.ndarray, code: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Rows of the events that become validation."""
    rows = np.flatnonzero(code == _CODES["train"])
    rows = rows[np.lexsort((draw.random(len(rows)), user[rows]))]
    count = np.bincount(user[rows], minlength=int(user.max()) + 1)
    wanted = np.maximum(np.round(VALIDATION_SHARE * count).astype(np.int64), count >= 3)
    rank = np.arange(len(rows)) - (np.cumsum(count) - count)[user[rows]]
    return rows[rank < wanted[user[rows]]]


def shuffled_catalogue(sequences: Sequences, views: dict[str, np.ndarray]) -> tuple[Sequences, dict[str, np.ndarray]]:
    """The same data with the rows of the catalogue in random order."""
    row = np.random.default_rng(_SEED).permutation(len(next(iter(views.values()))))
    place = torch.from_numpy(np.argsort(row))
    moved = Sequences(place[sequences.items], sequences.offsets, sequences.num_train, sequences.num_validation)
    return moved, {view: values[row] for view, values in views.items()}


def _views(items: pd.DataFrame) -> dict[str, np.ndarray]:
    views = {}
    if "text" in items:
        views["text"] = text_view([text if isinstance(text, str) else None for text in items["text"]])
    if "attributes" in items:
        views["attributes"] = attribute_view(list(items["attributes"]))
    return views


_OTHERS: dict[str, Callable[[Path], QualityData]] = {"movielens-posters": movielens, "tiktok": tiktok}  # as in bench-quality
