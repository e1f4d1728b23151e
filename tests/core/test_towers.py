import math

import pytest
import torch
from torch.nn import functional

from esans_core import user_towers
from esans_core.item_input import POPULARITY, ItemInput
from esans_core.loader import Batch, Loader
from esans_core.mask_dropout import MaskDropout
from esans_core.sequences import Sequences
from esans_core.towers import Order, TwoTower

ORDERS = pytest.mark.parametrize("order", ["sequence", "set"])


def make(order: Order = "sequence", num_items: int = 30) -> TwoTower:
    torch.manual_seed(0)
    content = torch.randn(num_items, 12)
    content[3, :6] = float("nan")
    known = torch.ones(num_items, dtype=torch.bool)
    known[5] = False
    return TwoTower(content, known, order=order, dim=16, num_heads=4, max_history=8, id_dropout=0.5, popularity=True).eval()


def history(*rows: list[int]) -> torch.Tensor:
    return torch.tensor([row + [-1] * (8 - len(row)) for row in rows])


@ORDERS
def test_both_towers_give_unit_vectors(order: Order) -> None:
    model = make(order)
    users, items = model.encode_users(history([1, 2, 3], [4])), model.encode_items(torch.arange(30))
    assert users.shape == (2, 17) and items.shape == (30, 17)  # the last number is the popularity, or what meets it
    for vectors in (users, items):
        torch.testing.assert_close(vectors[:, :16].norm(dim=-1), torch.ones(len(vectors)))


@ORDERS
def test_padding_never_changes_a_user_and_an_empty_history_is_the_zero_vector(order: Order) -> None:
    model = make(order)
    long = model.encode_users(history([7, 1, 9]))
    short = model.encode_users(torch.tensor([[7, 1, 9]]))
    torch.testing.assert_close(long, short)
    assert model.encode_users(history([]))[:, :16].eq(0).all()


@ORDERS
def test_only_the_tower_of_sequences_sees_the_order(order: Order) -> None:
    model = make(order)
    one, other = model.encode_users(history([1, 2, 3])), model.encode_users(history([3, 2, 1]))
    assert torch.allclose(one, other, atol=1e-6) == (order == "set")


def excerpts(order: Order) -> Batch:
    """Five users' events in one batch: three, more than a history holds, two, five and one."""
    lengths = torch.tensor([3, 21, 2, 5, 1])
    items = torch.randint(30, (int(lengths.sum()),), generator=torch.Generator().manual_seed(3))
    log = Sequences.past(items, torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]))
    (batch,) = Loader(log, batch_size=1000, max_history=8, ordered=order == "sequence").epoch(0).batches()
    return batch


@ORDERS
def test_one_pass_over_an_excerpt_gives_each_targets_user_as_if_it_were_encoded_alone(order: Order) -> None:
    model, batch = make(order), excerpts(order)
    expected = []
    for row, place in torch.nonzero(batch.is_target_wE).tolist():
        items = batch.items_wE[row][batch.items_wE[row] >= 0].tolist()
        context = items[:place] if order == "sequence" else items[:place] + items[place + 1 :]
        expected.append(model.encode_users(torch.tensor([context]))[0])
    assert len(expected) == {"sequence": 27, "set": 31}[order]
    torch.testing.assert_close(model.encode_contexts(batch)[0], torch.stack(expected), rtol=1e-4, atol=1e-5)


@ORDERS
def test_a_target_is_never_in_its_own_context(order: Order) -> None:
    model, batch = make(order), excerpts(order)
    for number, (row, place) in enumerate(torch.nonzero(batch.is_target_wE).tolist()):
        changed = batch.items_wE.clone()
        changed[row, place] = (changed[row, place] + 1) % 30
        other = Batch(batch.users, changed, batch.is_target_wE)
        torch.testing.assert_close(model.encode_contexts(other)[0][number], model.encode_contexts(batch)[0][number])


def test_without_their_filter_the_layers_are_pytorchs_encoder_with_a_causal_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_towers, "_FILTER_SHARE", 0.0)
    model = make()
    tower, past = model.user_tower, history([1, 2, 3, 9, 4, 8, 7, 5])
    tower.windows.data.normal_()
    events = states = tower.norm(model.item_input(past) + tower.position.weight)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(8)
    for layer in tower.layers:
        peer = torch.nn.TransformerEncoderLayer(16, 4, 64, dropout=0.0, activation="gelu", batch_first=True).eval()
        peer.load_state_dict(
            {
                "self_attn.in_proj_weight": layer.query_key_value.weight,
                "self_attn.in_proj_bias": torch.zeros(48),
                "self_attn.out_proj.weight": layer.out.weight,
                "self_attn.out_proj.bias": layer.out.bias,
                **{f"linear1.{name}": value for name, value in layer.wide.named_parameters()},
                **{f"linear2.{name}": value for name, value in layer.narrow.named_parameters()},
                **{f"norm1.{name}": value for name, value in layer.norms[0].named_parameters()},
                **{f"norm2.{name}": value for name, value in layer.norms[2].named_parameters()},
            }
        )
        states = peer(states, src_mask=mask, is_causal=True)
    means = [events[:, -1], events[:, -5:].mean(1), events.mean(1), events.mean(1)]  # of 1, 5, 20 and all events
    expected = states[:, -1] + sum(share * mean for share, mean in zip(tower.windows, means, strict=True))
    torch.testing.assert_close(model.encode_users(past)[:, :16], functional.normalize(expected, dim=-1))


def test_the_filter_is_the_mean_of_the_latest_events_and_a_share_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_towers, "_LATEST", 3)
    model, x = make(), torch.randn(2, 8, 16)
    for layer in model.user_tower.layers:
        slow = torch.stack([x[:, max(0, place - 2) : place + 1].mean(1) for place in range(8)], 1)
        torch.testing.assert_close(layer.filter(x), slow + layer.filter.fast**2 * (x - slow))


def test_a_set_has_vectors_of_its_own_for_items_in_a_history() -> None:
    model = make("set")
    assert model.context_input is not model.item_input
    with torch.no_grad():
        model.context_input.id_embedding.weight[:25] += 0.1
    moved = model.for_catalogue(torch.arange(30), model.item_input.content)
    expected = model.context_input.id_embedding.weight[[1, 2]] + model.context_input.content_projection(
        model.item_input.content[[1, 2]]
    )
    torch.testing.assert_close(model.encode_users(history([1, 2]))[0, :16], functional.normalize(expected.sum(0), dim=0))
    assert torch.equal(moved.context_input.id_embedding.weight[:5], model.context_input.id_embedding.weight[:5])


@ORDERS
def test_a_popularity_is_added_to_every_users_cosine_and_a_new_item_has_that_of_the_unknown(order: Order) -> None:
    content = torch.randn(30, 4)
    torch.manual_seed(0)
    model = TwoTower(content, torch.arange(30) < 29, order=order, dim=16, num_heads=4, max_history=8, popularity=True).eval()
    users, items = model.encode_users(history([1, 2], [3])), model.encode_items(torch.arange(30))
    before = users @ items.T
    with torch.no_grad():
        model.item_input.popularity.weight.copy_(torch.arange(31.0)[:, None])
    after = model.encode_users(history([1, 2], [3])) @ model.encode_items(torch.arange(30)).T
    added = POPULARITY * torch.arange(30.0)
    added[29] = POPULARITY * 30
    torch.testing.assert_close(after - before, added.expand(2, -1))
    usual = TwoTower(content, torch.arange(30) < 29, order=order, dim=16, max_history=8)
    assert (usual.item_input.popularity is not None) == (order == "set"), (
        "by default, only items of a log without order have one"
    )
    moved = model.for_catalogue(torch.tensor([4, -1]), content[:2])
    assert moved.encode_items(torch.tensor([0, 1]))[:, -1].tolist() == [POPULARITY * 4, POPULARITY * 30]


@ORDERS
def test_dropout_follows_from_the_step_however_a_batch_is_shared_out(order: Order) -> None:
    model, batch = make(order).train(), excerpts(order)
    model.begin_step(5)
    whole = model.encode_contexts(batch)[0]
    torch.manual_seed(1)
    model.begin_step(5)
    parts = [Batch(batch.users[rows], batch.items_wE[rows], batch.is_target_wE[rows], rows.start) for rows in PARTS]
    torch.testing.assert_close(torch.cat([model.encode_contexts(part)[0] for part in parts]), whole)
    model.begin_step(6)
    assert not torch.allclose(model.encode_contexts(batch)[0], whole)


PARTS = (slice(0, 2), slice(2, 100))


@pytest.mark.parametrize("keys", [None, torch.arange(20_000)])
def test_a_dropout_keeps_its_share_and_the_mean(keys: torch.Tensor | None) -> None:
    dropout = MaskDropout(16, 0.3, site=1)
    kept = dropout(torch.ones(20_000, 16), keys)
    error = math.sqrt(0.3 * 0.7 / 4096 / 16)  # there are 4,096 masks
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=5 * error)
    assert float(kept.max()) == pytest.approx(1 / 0.7)
    assert torch.equal(dropout.eval()(kept, keys), kept)
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        MaskDropout(16, 1.0, site=0)


def test_asking_for_more_items_than_there_are_gives_the_same_vectors() -> None:
    model = make()
    many = torch.randint(30, (10, 20))
    torch.testing.assert_close(model.encode_items(many), model.encode_items(torch.arange(30))[many])


def test_an_unknown_item_depends_on_its_content_alone() -> None:
    model = make()
    before = model.encode_items(torch.tensor([5]))
    with torch.no_grad():
        model.item_input.id_embedding.weight[5] += 1.0
    torch.testing.assert_close(model.encode_items(torch.tensor([5])), before)


def constant_content(num_items: int = 30) -> torch.Tensor:
    """Content whose features 0, 1 and 2 are constant, up to rounding; the others are not."""
    torch.manual_seed(1)
    content = torch.randn(num_items, 12)
    content[:, 0], content[:, 1] = 0.0, 0.3
    content[:, 2] = 0.02 + 1e-9 * torch.randn(num_items)
    return content


def test_content_is_centred_and_a_missing_view_is_the_mean() -> None:
    content = torch.randn(100, 5) * 3 + 1
    content[::7, :2] = torch.nan
    found = ItemInput(content, torch.ones(100, dtype=torch.bool), 8).content
    assert found[::7, :2].eq(0).all() and found.mean(0).abs().max() < 1e-5


def test_a_feature_constant_in_training_stays_zero_through_training_and_in_tomorrows_catalogue() -> None:
    content = constant_content()
    model = TwoTower(content, torch.ones(30, dtype=torch.bool), dim=16, num_heads=4, max_history=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        users, items = model.encode_users(history([1, 2, 3], [4])), model.encode_items(torch.arange(30))
        (users @ items.T).logsumexp(1).sum().backward()
        optimizer.step()
    model.eval()
    before = model.encode_items(torch.tensor([7]))
    today = torch.cat([content, content[7:8], content[7:8]])
    today[30, :3] = torch.tensor([1.0, -5.0, 1e6])  # differs where training never did
    today[31, 5] = 1e9
    moved = model.for_catalogue(torch.arange(32).masked_fill(torch.arange(32) >= 30, -1), today).eval()
    assert moved.item_input.content[:, :3].eq(0).all()
    assert moved.item_input.content.abs().max() == 10.0
    torch.testing.assert_close(moved.encode_items(torch.tensor([7])), before)
    new, twin = moved.item_input.content[30], moved.item_input.content[7]
    torch.testing.assert_close(new, twin)
    # Once more from there: the next day's catalogue, in which those features vary, starts from the same statistics.
    later = moved.for_catalogue(torch.arange(32), today)
    assert torch.equal(later.item_input.content, moved.item_input.content)
    assert torch.equal(later.item_input.content_std, model.item_input.content_std)


def test_towers_saved_with_a_clamped_deviation_are_read_as_if_it_were_infinite() -> None:
    content, known = constant_content(), torch.ones(30, dtype=torch.bool)
    model = TwoTower(content, known, dim=16, num_heads=4, max_history=8).eval()
    state = model.state_dict()
    state["item_input.content_std"] = state["item_input.content_std"].clamp(min=1e-6, max=1e9)
    state["item_input.content_std"][:3] = 1e-6  # as version 0.1 saved it
    other = TwoTower(torch.zeros(30, 12), known, dim=16, num_heads=4, max_history=8).eval()
    other.load_state_dict(state)
    today = content.clone()
    today[:, :3] += 1
    moved = other.for_catalogue(torch.arange(30), today)
    torch.testing.assert_close(moved.encode_items(torch.arange(30)), model.encode_items(torch.arange(30)))


def test_infinite_content_is_refused_in_training_and_in_another_catalogue() -> None:
    model, broken = make(), torch.randn(4, 12)
    broken[2, 3] = torch.inf
    with pytest.raises(ValueError, match="feature 3 of item row 2 is inf"):
        model.for_catalogue(torch.arange(4), broken)
    with pytest.raises(ValueError, match="finite"):
        ItemInput(broken, torch.ones(4, dtype=torch.bool), 8)


def test_ids_are_hidden_in_training_only() -> None:
    model = make()
    items = torch.arange(30)
    assert torch.equal(model.encode_items(items), model.encode_items(items))
    model.train()
    assert not torch.equal(model.encode_items(items), model.encode_items(items))


def test_another_catalogue_keeps_known_items_and_serves_new_ones_from_content() -> None:
    model = make()
    rows = torch.tensor([4, -1, 2, 5])
    content = model.item_input.content * model.item_input.content_std + model.item_input.content_mean
    today = torch.cat([content[4:5], torch.randn(1, 12), content[2:3], content[5:6]])
    moved = model.for_catalogue(rows, today)
    old = model.encode_items(torch.arange(30))
    new = moved.encode_items(torch.arange(4))
    torch.testing.assert_close(new[[0, 2, 3]], old[[4, 2, 5]], rtol=1e-4, atol=1e-5)
    assert new[1].isfinite().all()
    torch.testing.assert_close(
        moved.encode_users(torch.tensor([[0, 2]])), model.encode_users(torch.tensor([[4, 2]])), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="features"):
        model.for_catalogue(rows, torch.zeros(4, 3))


def test_sparse_ids_give_the_same_gradient_and_change_only_the_rows_used() -> None:
    content, known = torch.randn(50, 4), torch.ones(50, dtype=torch.bool)
    models = []
    for sparse in (False, True):
        torch.manual_seed(0)
        models.append(
            TwoTower(content, known, dim=8, num_heads=2, max_history=4, dropout=0.0, id_dropout=0.0, sparse_ids=sparse)
        )
    history = torch.tensor([[3, 4, 4, -1], [9, -1, -1, -1]])
    for model in models:
        (model.encode_users(history) * model.encode_items(torch.tensor([4, 12]))).sum().backward()
    dense, sparse = (model.item_input.id_embedding.weight for model in models)
    assert dense.grad is not None and sparse.grad is not None and sparse.grad.is_sparse
    torch.testing.assert_close(sparse.grad.to_dense(), dense.grad)
    before = sparse.detach().clone()
    torch.optim.SparseAdam([sparse], lr=0.1).step()
    changed = torch.nonzero((sparse.detach() != before).any(1)).flatten()
    assert changed.tolist() == torch.nonzero(dense.grad.abs().sum(1)).flatten().tolist() == [3, 4, 9, 12]
