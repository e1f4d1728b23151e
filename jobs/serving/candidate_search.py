"""Finds candidates on the workers: the function that answers blocks of users from a folder (`Retriever`).

It imports neither the registry nor Spark, because every Python worker of the cluster loads it.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import torch

from esans_core.sequences import Sequences
from esans_core.serving.retriever import Retriever
from jobs.lake.event_log import features_of

SCHEMA = "user_index long, user_id string, item_id array<string>, score array<float>"


def sequences_of(
    items: pa.ListArray,
    unwanted: pa.ListArray | None = None,
    *,
    again: bool = False,
    features: np.ndarray | None = None,
) -> Sequences:
    """Each user's items, oldest first, all of them as history.

    Args:
        items: of each user.
        unwanted: items that must not be found for each user.
        again: whether items of the history may be found.
        features: float32 [U, G], what is known of each user beside events.
    """
    ends = np.cumsum(items.value_lengths().to_numpy())
    past = Sequences.past(
        torch.from_numpy(items.flatten().to_numpy().astype(np.int64)), torch.from_numpy(np.concatenate([[0], ends]))
    )
    past = replace(past, features=None if features is None else torch.from_numpy(features))
    if unwanted is None:
        return replace(past, again=again)
    of_user = torch.from_numpy(np.repeat(np.arange(len(unwanted)), unwanted.value_lengths().to_numpy()))
    return replace(past, unwanted=(of_user, torch.from_numpy(unwanted.flatten().to_numpy().astype(np.int64))), again=again)


def recommender(
    folder: Path, k: int, *, again: bool = False, user_features: int = 0
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: it maps batches of (block, user_index, user_id, item_index) to batches of `SCHEMA`.

    A further column `unwanted` holds items that must not be found, and `features` lists of `user_features` numbers. With
    `again`, items of the history may be found.

    Users must be sorted by block and user_index, with all users of a block in one partition. A block is scored at once, because
    the last bits of a score depend on how many rows a matrix product has. So they do not depend on how Spark cuts its batches.
    """

    def recommend(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        retriever = _loaded(folder)
        for block in _blocks(batches):
            unwanted = block["unwanted"].combine_chunks() if "unwanted" in block.schema.names else None
            features = features_of(block["features"], user_features) if user_features else None
            users = sequences_of(block["item_index"].combine_chunks(), unwanted, again=again, features=features)
            items_BK, scores_BK = retriever.search(users, k)
            found = items_BK >= 0
            offsets = pa.array(np.concatenate([[0], np.cumsum(found.sum(axis=1))]), pa.int32())
            ids = retriever.item_ids.take(items_BK[found])
            columns = [
                block["user_index"].combine_chunks(),
                block["user_id"].combine_chunks(),
                pa.ListArray.from_arrays(offsets, ids),
                pa.ListArray.from_arrays(offsets, pa.array(scores_BK[found])),
            ]
            yield pa.RecordBatch.from_arrays(columns, [part.split()[0] for part in SCHEMA.split(", ")])

    return recommend


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path) -> Retriever:
    """The retriever, loaded once for each Python worker, which has one core."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    return Retriever(folder)


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of one `block` after the other. Only one block is held at a time."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        blocks = batch["block"].to_numpy()
        cuts = [0, *(np.flatnonzero(np.diff(blocks)) + 1), len(blocks)]
        for start, end in zip(cuts, cuts[1:], strict=False):
            if held and end > start and held[0]["block"][0].as_py() != blocks[start]:
                yield pa.Table.from_batches(held)
                held = []
            if end > start:
                held.append(batch.slice(start, end - start))
    if held:
        yield pa.Table.from_batches(held)
