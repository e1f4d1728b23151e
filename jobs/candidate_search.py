"""The worker's side of candidate generation: a model and an index in a folder, and the function that uses them.

It imports neither the registry nor Spark, since every Python worker of the cluster loads it.
"""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esans_core.retrieval_index import RetrievalIndex
from esans_core.sequences import Sequences, by_length
from esans_core.towers import TwoTower, UserTower

SCHEMA = "user_index long, user_id string, item_id array<string>, score array<float>"
_WEIGHTS, _SHAPES, _INPUTS, _IDS, _INDEX = "user_tower.safetensors", "shapes.json", "item_inputs.npy", "item_ids.arrow", "index"
_ITEMS_PER_BLOCK = 65_536


class CandidateSearch:
    """A trained user tower, what it reads of the items, and the index; large arrays are mapped, not loaded.

    Args:
        folder: what `save` wrote.
    """

    def __init__(self, folder: Path) -> None:
        shapes = json.loads((folder / _SHAPES).read_text())
        self.tower = UserTower(**shapes).eval()
        self.tower.load_state_dict(load_file(folder / _WEIGHTS))
        # Copy on write: torch wants memory it may write to, and never does.
        self.item_inputs = torch.from_numpy(np.load(folder / _INPUTS, mmap_mode="c", allow_pickle=False))
        with pa.memory_map(str(folder / _IDS)) as stream:
            self.item_ids = pa.ipc.open_file(stream).read_all()["item_id"].combine_chunks()
        self.index = RetrievalIndex.load(folder / _INDEX)

    @staticmethod
    def save(folder: Path, model: TwoTower, item_ids: list[str], index: RetrievalIndex) -> None:
        """Write a folder for the workers."""
        tower = model.user_tower
        save_file({name: value.contiguous() for name, value in tower.state_dict().items()}, folder / _WEIGHTS)
        shapes = {"dim": tower.query.out_features, "num_heads": tower.num_heads, "max_history": tower.max_history}
        (folder / _SHAPES).write_text(json.dumps(shapes))
        np.save(folder / _INPUTS, _by_item(model, model.item_input), allow_pickle=False)
        table = pa.table({"item_id": pa.array(item_ids, pa.large_string())})
        with pa.OSFile(str(folder / _IDS), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)
        index.save(folder / _INDEX)

    @torch.no_grad()
    def embed(self, sequences: Sequences) -> np.ndarray:
        """float32 [U, D], unit vectors: every user from the latest of all their events."""
        users, ends = torch.arange(sequences.num_users), sequences.offsets[1:]
        groups, place = by_length(sequences.histories(users, ends, self.tower.max_history))
        parts = [self.tower(nn.functional.embedding(group.clamp_min(0), self.item_inputs), group >= 0) for group in groups]
        return torch.cat(parts)[place].numpy()


@torch.no_grad()
def item_embeddings(model: TwoTower) -> np.ndarray:
    """float32 [N, D], unit vectors."""
    return _by_item(model, model.encode_items)


def sequences_of(items: pa.ListArray) -> Sequences:
    """Each user's items, oldest first, all of them known."""
    lengths = items.value_lengths().to_numpy()
    return Sequences(
        items=torch.from_numpy(items.flatten().to_numpy().astype(np.int64)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        num_train=torch.from_numpy(lengths.astype(np.int64)),
        num_validation=torch.zeros(len(lengths), dtype=torch.long),
    )


def recommender(folder: Path, k: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: batches of (block, user_index, user_id, item_index) to batches of `SCHEMA`.

    Users come sorted by block and user_index, all of a block in one partition. A block is scored as one, so that the
    last bits of a score, which depend on how many rows a matrix product has, do not depend on how Spark cut its batches.
    """

    def recommend(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        search = _loaded(folder)
        for block in _blocks(batches):
            sequences = sequences_of(block["item_index"].combine_chunks())
            seen = (sequences.offsets.numpy(), sequences.items.numpy())
            items_BK, scores_BK = search.index.search(search.embed(sequences), k, seen)
            found = items_BK >= 0
            offsets = pa.array(np.concatenate([[0], np.cumsum(found.sum(axis=1))]), pa.int32())
            ids = search.item_ids.take(pa.array(items_BK[found])).cast(pa.string())
            columns = [
                block["user_index"].combine_chunks(),
                block["user_id"].combine_chunks(),
                pa.ListArray.from_arrays(offsets, ids),
                pa.ListArray.from_arrays(offsets, pa.array(scores_BK[found])),
            ]
            yield pa.RecordBatch.from_arrays(columns, [part.split()[0] for part in SCHEMA.split(", ")])

    return recommend


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path) -> CandidateSearch:
    """Once for each Python worker, which has one core."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    return CandidateSearch(folder)


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Rows in runs of equal `block`, of which one is held at a time."""
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


@torch.no_grad()
def _by_item(model: TwoTower, encode: Callable[[Tensor], Tensor]) -> np.ndarray:
    """What `encode` makes of every item, float32 [N, D]: in blocks, and by one thread, whose sums are always the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    blocks = torch.arange(model.num_items).split(_ITEMS_PER_BLOCK)
    made = torch.cat([encode(block) for block in blocks]).numpy()
    torch.set_num_threads(threads)
    return made
