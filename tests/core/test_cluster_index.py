from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from esans_core.cluster_index import ClusterIndex
from esans_core.clusters.cluster_index_writer import write_cluster_index
from esans_core.sampler import SemanticNegativeSampler


def test_every_item_lies_in_the_run_of_its_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    primary = torch.randint(-1, 7, (500,), generator=generator)
    secondary = torch.randint(0, 5, (500,), generator=generator)
    index = ClusterIndex.from_labels(primary, secondary, num_primary=9)
    assert index.num_primary == 9
    for p in range(9):
        run = index.order[index.primary_offsets[p] : index.primary_offsets[p + 1]]
        assert set(run.tolist()) == set(torch.nonzero(primary == p).flatten().tolist())
    for g in range(len(index.group_primary)):
        run = index.order[index.group_offsets[g] : index.group_offsets[g + 1]].long()
        assert (primary[run] == index.group_primary[g]).all()
        assert (secondary[run] == index.group_secondary[g]).all()
        assert (index.group(run) == g).all()
    assert torch.equal(index.primary(torch.arange(500)), primary.clamp_min(-1))


def test_holds_eight_bytes_per_item_and_a_little() -> None:
    labels = torch.arange(100_000)
    index = ClusterIndex.from_labels(labels % 100, labels % 7)
    assert index.nbytes / 100_000 < 8.5


def test_degenerate_catalogues() -> None:
    empty = ClusterIndex.from_labels(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long), 3)
    assert empty.num_items == 0 and empty.primary_sizes.tolist() == [0, 0, 0]
    nothing = ClusterIndex.from_labels(torch.tensor([-1, -1]), torch.tensor([-1, -1]), 2)
    assert nothing.primary(torch.tensor([0, 1])).tolist() == [-1, -1]


def test_refuses_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="not below num_primary"):
        ClusterIndex.from_labels(torch.tensor([0, 4]), torch.tensor([0, 0]), num_primary=4)
    with pytest.raises(ValueError, match="negative secondary"):
        ClusterIndex.from_labels(torch.tensor([0, 1]), torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="must both be \\[N\\]"):
        ClusterIndex.from_labels(torch.tensor([0, 1]), torch.tensor([0]))


def random_labels(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    primary = torch.randint(-1, 7, (count,), generator=generator)
    primary[primary == 3] = 5  # an empty cluster in the middle
    return primary, torch.randint(0, 5, (count,), generator=generator)


def same(left: ClusterIndex, right: ClusterIndex) -> bool:
    return all(torch.equal(getattr(left, field.name), getattr(right, field.name)) for field in fields(ClusterIndex))


@pytest.mark.parametrize("mmap", [True, False])
def test_saved_and_loaded_is_the_same_and_draws_the_same(tmp_path: Path, mmap: bool) -> None:
    index = ClusterIndex.from_labels(*random_labels(500), num_primary=9)
    index.save(tmp_path)
    loaded = ClusterIndex.load(tmp_path, mmap=mmap)
    assert same(loaded, index)
    draws = []
    for source in (index, loaded):
        sampler = SemanticNegativeSampler(source, torch.randn(9, 4, generator=torch.Generator().manual_seed(1)))
        draws.append(sampler.sample(torch.arange(500), torch.Generator().manual_seed(2)))
    for field in fields(draws[0]):
        assert torch.equal(getattr(draws[0], field.name), getattr(draws[1], field.name))


@pytest.mark.parametrize("batch", [1, 64, 1000])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_written_from_a_stream_equals_built_in_memory(tmp_path: Path, count: int, batch: int) -> None:
    primary, secondary = random_labels(count)
    pairs = list(zip(primary.int().split(batch), secondary.int().split(batch), strict=True)) if count else []
    write_cluster_index(tmp_path / "streamed", lambda: ((p.numpy(), s.numpy()) for p, s in pairs), 9)
    ClusterIndex.from_labels(primary, secondary, num_primary=9).save(tmp_path / "built")
    for path in sorted((tmp_path / "built").iterdir()):
        assert (tmp_path / "streamed" / path.name).read_bytes() == path.read_bytes(), path.name
    assert same(ClusterIndex.load(tmp_path / "streamed"), ClusterIndex.load(tmp_path / "built", mmap=False))


def test_nothing_clustered_and_labels_that_do_not_fit_a_stream(tmp_path: Path) -> None:
    none = np.full(3, -1)
    write_cluster_index(tmp_path, lambda: [(none, none)], 2)
    assert ClusterIndex.load(tmp_path).group(torch.arange(3)).tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="not below num_primary"):
        write_cluster_index(tmp_path, lambda: [(np.array([2]), np.array([0]))], 2)
    with pytest.raises(ValueError, match="secondary label below 0"):
        write_cluster_index(tmp_path, lambda: [(np.array([1]), np.array([-1]))], 2)
    once = iter([(np.array([0, 1]), np.array([0, 0]))])
    with pytest.raises(ValueError, match="second pass"):
        write_cluster_index(tmp_path, lambda: once, 2)


def test_a_mapped_index_is_never_written_back(tmp_path: Path) -> None:
    ClusterIndex.from_labels(*random_labels(50)).save(tmp_path)
    before = (tmp_path / "order.npy").read_bytes()
    ClusterIndex.load(tmp_path).order.zero_()
    assert (tmp_path / "order.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("order", lambda a: a.astype(np.int64), "expected torch.int32"),
        ("order", lambda a: a + 1, r"order holds values outside \[0, 500\)"),
        ("order", lambda a: a[:-1], "do not rise from 0 to the"),
        ("group_of_item", lambda a: a - 1, "group_of_item holds values outside"),
        ("group_secondary", lambda a: a[:-1], "groups need"),
        ("group_primary", lambda a: a[::-1], "disagree"),
        ("primary_offsets", lambda a: a * 0, "primary_offsets do not rise"),
    ],
)
def test_refuses_files_that_are_no_index(
    tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    ClusterIndex.from_labels(*random_labels(500)).save(tmp_path)
    path = tmp_path / f"{name}.npy"
    np.save(path, np.ascontiguousarray(change(np.load(path))))
    with pytest.raises(ValueError, match=reason):
        ClusterIndex.load(tmp_path)


def test_refuses_files_that_are_missing_or_cut_off(tmp_path: Path) -> None:
    ClusterIndex.from_labels(*random_labels(500)).save(tmp_path)
    path = tmp_path / "order.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"order\.npy cannot be read"):
        ClusterIndex.load(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"order\.npy cannot be read"):
        ClusterIndex.load(tmp_path)
