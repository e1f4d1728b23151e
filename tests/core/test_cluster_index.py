import pytest
import torch

from esans_core.cluster_index import ClusterIndex


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
    with pytest.raises(ValueError, match="alike"):
        ClusterIndex.from_labels(torch.tensor([0, 1]), torch.tensor([0]))
