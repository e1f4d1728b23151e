"""One data set of the quality benchmark, with its split and its views, in one file. Reading it takes only torch and numpy.

Shape legend: N items, U users, E events, F content features, L liked leaves.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from esans_core.defaults import HEAD_SHARE
from esans_core.sequences import Sequences

DATA = Path("var/bench/quality/data")
BEHAVIOUR = "behaviour"
SPLITS = ("train", "validation", "holdout")  # the order of the codes in `sequences_from_events`


@dataclass(frozen=True)
class QualityData:
    """One data set. Its learnt parts (`num_train`, the behaviour view) come from training events only.

    Attributes:
        name: name of the data set.
        content: float32 [N, F], all views except behaviour side by side, NaN where a view is missing.
        num_train: int64 [N], training events of each item.
        sequences: events of each user, oldest first: training, validation, hold-out.
        views: name of each view, "behaviour" among them -> float32 [N, d], NaN rows where it is missing.
        leaf: int64 [N], planted leaf of each item; None if there is no planted truth.
        liked_leaves: int64 [U, L], leaves that each user truly likes at the end of training, padded with -2; or None.
    """

    name: str
    content: Tensor
    num_train: Tensor
    sequences: Sequences
    views: dict[str, Tensor]
    leaf: Tensor | None = None
    liked_leaves: Tensor | None = None

    @classmethod
    def of(
        cls,
        name: str,
        sequences: Sequences,
        views: dict[str, Tensor],
        leaf: Tensor | None = None,
        liked_leaves: Tensor | None = None,
    ) -> "QualityData":
        """A data set from its views. Content and counts follow from them; views are rounded to bfloat16."""
        rounded = {view: values.bfloat16().float() for view, values in views.items()}
        of_content = [view for view in rounded if view != BEHAVIOUR]
        nothing = torch.zeros(len(next(iter(views.values()))), 0)
        content = torch.cat([nothing, *(rounded[view] for view in of_content)], dim=1)
        # Views are parts of the content, not copies, because they take 2 GB at a million items.
        parts = content.split([rounded[view].shape[1] for view in of_content], dim=1) if of_content else ()
        rounded |= dict(zip(of_content, parts, strict=True))
        num_items = len(content)
        num_train = torch.bincount(sequences.items[in_split(sequences, "train")], minlength=num_items)
        return cls(name, content, num_train, sequences, rounded, leaf, liked_leaves)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.num_train)

    def save(self, path: Path) -> None:
        """Write one .npz, whole or not at all; the same data gives the same bytes."""
        arrays = {
            "name": np.array(self.name),
            "items": self.sequences.items.numpy().astype(np.int32),
            "offsets": self.sequences.offsets.numpy(),
            "users_num_train": self.sequences.num_train.numpy(),
            "users_num_validation": self.sequences.num_validation.numpy(),
            **{f"view.{name}": values.bfloat16().view(torch.int16).numpy() for name, values in self.views.items()},
        }
        if self.leaf is not None and self.liked_leaves is not None:
            arrays |= {"leaf": self.leaf.numpy(), "liked_leaves": self.liked_leaves.numpy()}
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> "QualityData":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != "name"}
            name = str(file["name"])
        sequences = Sequences(
            arrays["items"].long(), arrays["offsets"], arrays["users_num_train"], arrays["users_num_validation"]
        )
        views = {
            key.removeprefix("view."): values.view(torch.bfloat16) for key, values in arrays.items() if key.startswith("view.")
        }
        return cls.of(name, sequences, views, arrays.get("leaf"), arrays.get("liked_leaves"))

    def digest(self) -> str:
        """16 hex digits that depend only on the content of the data set, not on its file."""
        sequences = self.sequences
        found = hashlib.sha256(self.name.encode())
        for values in (sequences.items, sequences.offsets, sequences.num_train, sequences.num_validation, *self.views.values()):
            found.update(np.ascontiguousarray(values.numpy()).tobytes())
        return found.hexdigest()[:16]


def slices(data: QualityData) -> dict[str, Tensor]:
    """bool [N] each: head, the most popular fifth of the catalogue; tail, others with training events; new, items without."""
    head = torch.zeros(data.num_items, dtype=torch.bool)
    head[data.num_train.argsort(descending=True, stable=True)[: max(1, int(data.num_items * HEAD_SHARE))]] = True
    head &= data.num_train > 0
    return {"head": head, "tail": ~head & (data.num_train > 0), "new": data.num_train == 0}


def in_split(sequences: Sequences, split: str) -> Tensor:
    """bool [E], True for the events of one split."""
    return event_splits(sequences) == SPLITS.index(split)


def event_splits(sequences: Sequences) -> Tensor:
    """int64 [E], split of each event: its place in `SPLITS`."""
    lengths = sequences.offsets.diff()
    rank = torch.arange(len(sequences.items)) - torch.repeat_interleave(sequences.offsets[:-1], lengths)
    train_end = torch.repeat_interleave(sequences.num_train, lengths)
    known_end = torch.repeat_interleave(sequences.num_train + sequences.num_validation, lengths)
    return (rank >= train_end).long() + (rank >= known_end).long()


def event_users(sequences: Sequences) -> Tensor:
    """int64 [E], user of each event."""
    return torch.repeat_interleave(torch.arange(sequences.num_users), sequences.offsets.diff())


def sequences_from_events(user: np.ndarray, item: np.ndarray, split: np.ndarray, num_users: int) -> Sequences:
    """Sequences from events that are sorted from old to new.

    Args:
        user: int64 [E].
        item: int64 [E].
        split: int64 [E], place in `SPLITS` of each event.
        num_users: U; users without events have empty sequences.
    """
    order = np.lexsort((split, user))  # stable: within a split, the order given
    counts = [np.bincount(user[split == code], minlength=num_users) for code in range(len(SPLITS))]
    return Sequences(
        items=torch.from_numpy(item[order].astype(np.int64)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(sum(counts))])).long(),
        num_train=torch.from_numpy(counts[0]).long(),
        num_validation=torch.from_numpy(counts[1]).long(),
    )


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed .npz, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)
