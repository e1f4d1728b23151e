"""Batches and metrics against plain Python loops."""

import math

import pytest
import torch

from esans_core import evaluation, towers
from esans_core.evaluation import Relevant, evaluate, retrieve
from esans_core.excerpts import excerpt_counts, target_counts
from esans_core.sequences import Sequences, by_length
from esans_core.towers import TwoTower

USERS = [  # items, training events, validation events; the rest is the hold-out
    ([3, 1, 4, 0, 5], 3, 1),
    ([2, 6], 1, 0),
    ([7], 1, 0),
    ([8, 9, 2], 0, 1),
    ([5, 3, 1, 9, 8, 2, 0], 4, 1),
]


def sequences() -> Sequences:
    lengths = torch.tensor([len(items) for items, _, _ in USERS])
    return Sequences(
        items=torch.tensor([item for items, _, _ in USERS for item in items]),
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        num_train=torch.tensor([train for _, train, _ in USERS]),
        num_validation=torch.tensor([validation for _, _, validation in USERS]),
    )


def test_training_targets_and_histories_match_a_loop() -> None:
    data = sequences()
    expected, users = [], []
    for user, (items, train, _) in enumerate(USERS):
        for place in range(1, train):
            past = items[:place][-2:]
            users.append(user)
            expected.append((past + [-1] * (2 - len(past)), items[place]))
    found, positions = data.training_targets()
    assert found.tolist() == users
    histories = data.histories(found, positions, max_history=2)
    assert list(zip(histories.tolist(), data.items[positions].tolist(), strict=True)) == expected


@pytest.mark.parametrize("max_history", [1, 2, 5, 6, 40])
def test_excerpts_are_as_many_and_have_the_targets_that_their_counts_say(max_history: int) -> None:
    num_train = torch.arange(30)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), num_train.cumsum(0)])
    data = Sequences.past(torch.arange(int(offsets[-1])), offsets)
    for ordered in (True, False):
        excerpts = data.training_excerpts(max_history, ordered=ordered)
        targets = excerpts.end - excerpts.first_target
        for user, (count, wanted) in enumerate(
            zip(
                excerpt_counts(num_train, max_history).tolist(), target_counts(num_train, ordered=ordered).tolist(), strict=True
            )
        ):
            assert int((excerpts.users == user).sum()) == count and int(targets[excerpts.users == user].sum()) == wanted
        assert (targets > 0).all() and (excerpts.end - excerpts.start <= max_history + 1).all()
        assert (excerpts.first_target >= excerpts.start + ordered).all()


def test_grouping_by_length_changes_no_user() -> None:
    generator = torch.Generator().manual_seed(0)
    history = torch.randint(10, (200, 20), generator=generator)
    history = history.masked_fill(torch.arange(20) >= torch.randint(1, 21, (200, 1), generator=generator), -1)
    groups = by_length(history)
    assert [width for _, width in groups] == [4, 8, 16, 20]
    assert torch.equal(torch.cat([rows for rows, _ in groups]).sort().values, torch.arange(200))
    for rows, width in groups:
        length = (history[rows] >= 0).sum(1)
        assert (length <= width).all() and (width == 4 or bool((length > width // 2).all()))
    torch.manual_seed(0)
    model = TwoTower(torch.randn(10, 4), torch.ones(10, dtype=torch.bool), dim=8, num_heads=2, max_history=20).eval()
    torch.testing.assert_close(model.encode_histories(history), model.encode_users(history))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("padded_events", [0, 1 << 18])
def test_a_gpu_encodes_histories_as_a_cpu_does(padded_events: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(towers, "_PADDED_EVENTS", padded_events)
    torch.manual_seed(0)
    model = TwoTower(torch.randn(10, 4), torch.ones(10, dtype=torch.bool), dim=8, num_heads=2, max_history=20).eval()
    history = torch.randint(10, (64, 20)).masked_fill(torch.arange(20) >= torch.randint(21, (64, 1)), -1)
    expected = model.encode_users(history)
    torch.testing.assert_close(model.to("cuda").encode_histories(history).cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("items_at_once", [3, 4, 1000])
@pytest.mark.parametrize("split", ["validation", "holdout"])
def test_evaluation_matches_a_brute_force_ranking(split: str, items_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_SCORED_ITEMS", items_at_once)
    monkeypatch.setattr(evaluation, "_ENCODED_ITEMS", items_at_once)
    data = sequences()
    torch.manual_seed(0)
    model = TwoTower(torch.randn(10, 4), torch.ones(10, dtype=torch.bool), dim=8, num_heads=2, max_history=4).eval()
    odd = torch.arange(10) % 2 == 1
    result = evaluate(model, data, split, ks=(2, 4), slices={"odd": odd}, users_per_block=2)
    vectors = model.encode_items(torch.arange(10))
    row, retrieved = 0, set()
    for user, (items, train, validation) in enumerate(USERS):
        known = items[:train] if split == "validation" else items[: train + validation]
        relevant = items[train : train + validation] if split == "validation" else items[train + validation :]
        if train == 0 or not relevant:
            continue
        past = known[-4:]
        scores = (model.encode_users(torch.tensor([past])) @ vectors.T)[0]
        ranking = sorted((i for i in range(10) if i not in known), key=lambda i: -scores[i].item())
        assert result.users[row] == user
        retrieved |= set(ranking[:2])
        for k in (2, 4):
            hits = [item in relevant for item in ranking[:k]]
            assert float(result.recall[k][row]) == pytest.approx(sum(hits) / len(relevant))
            dcg = sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits))
            best = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))
            assert float(result.ndcg[k][row]) == pytest.approx(dcg / best)
        wanted = [item for item in relevant if item % 2 == 1]
        share = float(result.slice_recall["odd"][row])
        if wanted:
            assert share == pytest.approx(sum(item in ranking[:2] for item in wanted) / len(wanted))
        else:
            assert math.isnan(share)
        row += 1
    assert row == len(result.users) > 1
    assert torch.nonzero(result.retrieved).flatten().tolist() == sorted(retrieved)


def test_the_catalogue_in_blocks_gives_the_same_top(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(9, 6, generator=generator), torch.randn(101, 6, generator=generator)
    seen = torch.randint(9, (70,), generator=generator), torch.randint(101, (70,), generator=generator)
    scores = users @ items.T
    scores[seen] = -torch.inf
    monkeypatch.setattr(evaluation, "_SCORED_ITEMS", 20)
    for k in (1, 20, 30, 60):
        assert torch.equal(retrieve(users, items, seen, k), scores.topk(k, dim=1).indices)
    everything = retrieve(users, items, seen, 500)
    assert torch.equal(everything.sort(dim=1).values, torch.arange(101).expand(9, -1)), "seen items come last, each once"


def test_hits_are_those_of_a_dense_table() -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.cat([torch.arange(6), torch.randint(6, (20,), generator=generator)])
    item = torch.randint(30, (26,), generator=generator)
    relevant_BN = torch.zeros(6, 30, dtype=torch.bool)
    relevant_BN[row, item] = True
    top = torch.stack([torch.randperm(30, generator=generator)[:12] for _ in range(6)])
    relevant, odd = Relevant(row, item, 6, 30), torch.arange(30) % 2 == 1
    assert torch.equal(relevant.hits(top), relevant_BN.gather(1, top))
    assert torch.equal(relevant.count(), relevant_BN.sum(1))
    assert torch.equal(relevant.count(odd), (relevant_BN & odd).sum(1))


def test_seen_items_are_left_out() -> None:
    top = retrieve(torch.eye(2), torch.eye(2), (torch.tensor([0]), torch.tensor([0])), k=1)
    assert top.tolist() == [[1], [1]]


def make_towers() -> TwoTower:
    return TwoTower(torch.randn(10, 4), torch.ones(10, dtype=torch.bool), dim=8, num_heads=2, max_history=4)


NOBODY = Sequences(*(torch.zeros(size, dtype=torch.long) for size in (0, 1, 0, 0)))


@pytest.mark.parametrize(("split", "log", "count"), [("holdout", None, 5), ("validation", None, 5), ("holdout", NOBODY, 0)])
def test_an_empty_split_or_log_is_refused_and_the_mode_restored(split: str, log: Sequences | None, count: int) -> None:
    data = sequences()
    log = log or Sequences(data.items, data.offsets, data.offsets.diff(), torch.zeros(5, dtype=torch.long))
    for training in (True, False):
        model = make_towers().train(training)
        with pytest.raises(
            ValueError, match=f"none of the {count} users has both a training history and an event in the {split}"
        ):
            evaluate(model, log, split)
        assert model.training is training and model.item_input.training is training


def test_an_error_in_the_middle_leaves_the_model_in_its_mode() -> None:
    model = make_towers().train()
    with pytest.raises((IndexError, RuntimeError)):
        evaluate(model, sequences(), "holdout", slices={"short": torch.ones(3, dtype=torch.bool)})
    assert model.training and model.user_tower.training
    model.item_input.content_projection = torch.nn.Linear(3, 8)
    with pytest.raises(RuntimeError):
        evaluation.encode_catalogue(model)
    assert model.training and model.user_tower.training


def test_bad_counts_are_refused() -> None:
    data = sequences()
    with pytest.raises(ValueError, match="exceeds the length"):
        Sequences(torch.tensor([1]), torch.tensor([0, 1]), torch.tensor([1]), torch.tensor([1]))
    with pytest.raises(ValueError, match="validation"):
        data.seen(torch.tensor([0]), "test")
