"""The compact cluster index: which items lie in which cluster, sorted so that every cluster is one contiguous run.

Items are ordered by (primary, secondary, item). A (primary, secondary) pair that holds items is a *group*; the groups of a
primary cluster lie next to one another, so "same primary, other secondary" is one run with one gap.
Memory: 8 bytes per item (`order` and `group_of_item`, int32 each) plus a few arrays as long as the number of groups.
On disk each array is one `.npy` file. The processes of a host can map it into memory and share it.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ClusterIndex:
    """Items by cluster in compressed-row form. N items, C of them clustered, G groups, K_p primary clusters.

    Attributes:
        order: int32 [C], clustered items sorted by (primary, secondary, item).
        group_of_item: int32 [N], group of each item; -1 for an item without a cluster.
        group_offsets: int64 [G + 1], run of each group in `order`.
        group_primary: int64 [G], primary cluster of each group.
        group_secondary: int64 [G], secondary cluster of each group.
        primary_offsets: int64 [K_p + 1], run of each primary cluster in `order`.
    """

    order: Tensor
    group_of_item: Tensor
    group_offsets: Tensor
    group_primary: Tensor
    group_secondary: Tensor
    primary_offsets: Tensor

    @classmethod
    def from_labels(cls, primary: Tensor, secondary: Tensor, num_primary: int | None = None) -> "ClusterIndex":
        """Build the index from cluster labels.

        Args:
            primary: integer [N], primary cluster of each item; negative for an item without a cluster.
            secondary: integer [N], secondary cluster of each item.
            num_primary: K_p; the largest label plus one unless given (clusters may be empty).

        Raises:
            ValueError: the two lengths differ, there are more than 2^31 - 1 items, or a label is out of range.
        """
        if primary.shape != secondary.shape or primary.dim() != 1:
            raise ValueError(f"primary and secondary must both be [N], got {list(primary.shape)} and {list(secondary.shape)}")
        if len(primary) >= 2**31:
            raise ValueError(f"{len(primary):,} items: the index holds at most 2^31 - 1")
        primary, secondary = primary.long(), secondary.long()
        largest = int(primary.max()) if len(primary) else -1
        num_primary = largest + 1 if num_primary is None else num_primary
        if largest >= num_primary:
            raise ValueError(f"primary label {largest} is not below num_primary = {num_primary}")
        clustered = primary >= 0
        if bool((secondary[clustered] < 0).any()):
            raise ValueError("a clustered item has a negative secondary label")
        num_secondary = int(secondary.max()) + 1 if len(secondary) else 1
        key = torch.where(clustered, primary * num_secondary + secondary, -1)
        sorted_key, order = torch.sort(key, stable=True)
        first = int((~clustered).sum())
        sorted_key, order = sorted_key[first:], order[first:]
        groups, group_rank, sizes = torch.unique_consecutive(sorted_key, return_inverse=True, return_counts=True)
        group_of_item = torch.full_like(primary, -1, dtype=torch.int32)
        group_of_item[order] = group_rank.int()
        group_primary = groups // num_secondary
        primary_sizes = torch.zeros(num_primary, dtype=torch.long, device=primary.device)
        primary_sizes.scatter_add_(0, group_primary, sizes)
        return cls(
            order=order.int(),
            group_of_item=group_of_item,
            group_offsets=_offsets(sizes),
            group_primary=group_primary,
            group_secondary=groups % num_secondary,
            primary_offsets=_offsets(primary_sizes),
        )

    def save(self, folder: Path) -> None:
        """Write each array to `<folder>/<name>.npy`; the same index gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name).cpu().numpy(), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, *, mmap: bool = True) -> "ClusterIndex":
        """The index that `save` or `write_cluster_index` wrote, on the CPU.

        Args:
            folder: where it was written.
            mmap: map the files instead of reading them. The processes of a host then share one copy of the pages. The
                files must stay as they are while the index is in use. If you write into a tensor, neither the files nor
                other processes see it.

        Raises:
            ValueError: a file is missing or cut off, or the arrays do not make up an index.
        """
        index = cls(**{field.name: torch.from_numpy(_read_array(folder / f"{field.name}.npy", mmap)) for field in fields(cls)})
        if problem := index._problem():
            raise ValueError(f"{folder} is not a cluster index: {problem}; write it again")
        return index

    def _problem(self) -> str | None:
        """The reason why the arrays cannot be an index, or None. Arrays as long as the catalogue are read once."""
        for name in (field.name for field in fields(self)):
            array, wanted = getattr(self, name), torch.int32 if name in _PER_ITEM else torch.int64
            if array.dim() != 1 or array.dtype != wanted:
                return f"{name} is {array.dtype} {list(array.shape)}, expected {wanted} of one dimension"
        groups = len(self.group_primary)
        for name, length in (("group_offsets", groups + 1), ("group_secondary", groups)):
            if len(getattr(self, name)) != length:
                return f"{name} has {len(getattr(self, name))} values, {groups} groups need {length}"
        for name in ("group_offsets", "primary_offsets"):
            offsets = getattr(self, name)
            if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(self.order) or bool((offsets.diff() < 0).any()):
                return f"{name} do not rise from 0 to the {len(self.order)} clustered items"
        bounds = torch.searchsorted(self.group_primary, torch.arange(self.num_primary + 1))
        if bool((self.group_primary.diff() < 0).any()) or not torch.equal(self.group_offsets[bounds], self.primary_offsets):
            return "group_primary and primary_offsets disagree"
        for name, low, limit in (("order", 0, self.num_items), ("group_of_item", -1, groups)):
            array = getattr(self, name)
            if len(array) and not low <= int(array.min()) <= int(array.max()) < limit:
                return f"{name} holds values outside [{low}, {limit})"
        return None

    @property
    def num_items(self) -> int:
        """N, clustered or not."""
        return len(self.group_of_item)

    @property
    def num_primary(self) -> int:
        """K_p, empty clusters included."""
        return len(self.primary_offsets) - 1

    @property
    def device(self) -> torch.device:
        """Where the index lives."""
        return self.order.device

    @property
    def primary_sizes(self) -> Tensor:
        """int64 [K_p], items in each primary cluster."""
        return self.primary_offsets.diff()

    @property
    def group_sizes(self) -> Tensor:
        """int64 [G], items in each (primary, secondary) group."""
        return self.group_offsets.diff()

    @property
    def nbytes(self) -> int:
        """Bytes held by all arrays."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def group(self, items: Tensor) -> Tensor:
        """int64, shape of `items`: group of each item, -1 where it has none."""
        return self.group_of_item[items].long()

    def primary(self, items: Tensor) -> Tensor:
        """int64, shape of `items`: primary cluster of each item, -1 where it has none."""
        group = self.group(items)
        if len(self.group_primary) == 0:
            return group
        return torch.where(group >= 0, self.group_primary[group.clamp_min(0)], -1)

    def to(self, device: torch.device | str) -> "ClusterIndex":
        """The same index on another device."""
        return ClusterIndex(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


_PER_ITEM = ("order", "group_of_item")


def _read_array(path: Path, mmap: bool) -> np.ndarray:
    try:
        # Copy-on-write, because PyTorch has no read-only tensors.
        return np.load(path, mmap_mode="c" if mmap else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an array ({error}); write the cluster index again") from error


def _offsets(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
