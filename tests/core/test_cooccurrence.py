"""Vectors of items that stand near each other, against a dense computation of the same."""

import numpy as np
import torch

from esans_core.cooccurrence import cooccurrence_vectors
from esans_core.item_input import START, ItemInput
from esans_core.sequences import Sequences

N = 30


def log() -> Sequences:
    """Two groups of items: users keep to one of them. Item 29 is in no training event."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 15, (120,), generator=generator)
    user = torch.repeat_interleave(torch.arange(120), lengths)
    items = torch.randint(14, (len(user),), generator=generator) * 2 + user % 2
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    items[offsets[1:] - 1] = N - 1  # a hold-out event, which must not be read
    return Sequences(items, offsets, lengths - 1, torch.zeros_like(lengths))


def test_products_of_vectors_are_those_of_the_mutual_information() -> None:
    data, counts = log(), np.zeros((N, N))
    for user in range(data.num_users):
        start = int(data.offsets[user])
        events = data.items[start : start + int(data.num_train[user])].tolist()
        for place, item in enumerate(events):
            for apart in range(1, 6):
                if place >= apart:
                    counts[events[place - apart], item] += 1 / apart
                    counts[item, events[place - apart]] += 1 / apart
    total = counts.sum(1)
    context = total**0.75 / (total**0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(np.maximum(np.log(counts / np.outer(total, context)), 0), neginf=0.0)
    left, strength, _ = np.linalg.svd(information)
    expected = left[:, :8] * np.sqrt(strength[:8])
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    found = cooccurrence_vectors(data, N, 8)
    assert found[N - 1].isnan().all()
    trained = torch.nonzero(torch.from_numpy(total > 0)).flatten()
    np.testing.assert_allclose(
        (found[trained] @ found[trained].T).numpy(), (expected @ expected.T)[trained][:, trained], atol=1e-3
    )
    assert torch.equal(found[trained], cooccurrence_vectors(data, N, 8)[trained])


def test_ids_start_from_vectors_at_the_size_that_ids_have_and_keep_their_own_where_there_is_none() -> None:
    torch.manual_seed(0)
    made = ItemInput(torch.zeros(N, 1), torch.ones(N, dtype=torch.bool), 8)
    before, vectors = made.id_embedding.weight.detach().clone(), cooccurrence_vectors(log(), N, 8)
    made.start_from(vectors)
    assert torch.equal(made.id_embedding.weight[N - 1 :], before[N - 1 :])
    torch.testing.assert_close(made.id_embedding.weight[:28].detach().norm(dim=1), torch.full((28,), START * 8**0.5))
    one, other = (made.id_embedding.weight[start:28:2].detach() for start in (0, 1))
    assert float((one @ one.T).mean()) > float((one @ other.T).mean())


def test_more_dimensions_than_items_and_an_empty_log_are_no_error() -> None:
    assert cooccurrence_vectors(log(), N, 40).shape == (N, 40)
    nobody = Sequences.past(torch.zeros(0, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    assert cooccurrence_vectors(nobody, 5, 3).isnan().all()
