"""Attributes as features: the same everywhere, bounded, and worth something to a new item."""

import numpy as np
import pytest
import torch

from esans_core.attributes import SIGNS, AttributeEncoder
from esans_core.loader import Loader
from esans_core.objective import NegativeConfig, RetrievalObjective
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower
from esans_core.training import train_epoch

KINDS = {"category": "text", "look": "embedding", "markets": "texts", "price": "number"}
COLUMNS = {
    "category": ["shoes", None, "hats", "shoes"],
    "look": [[0.5, 1.0, 2.0], None, [3.0, 4.0, 5.0], [0.0, 0.0, 0.0]],
    "markets": [["DE", "AT"], None, [], ["DE"]],
    "price": [9.0, None, -9.0, 0.0],
}


@pytest.fixture
def encoder() -> AttributeEncoder:
    return AttributeEncoder.of(KINDS, COLUMNS)


def test_each_attribute_has_its_own_features(encoder: AttributeEncoder) -> None:
    features = encoder.encode(COLUMNS)
    assert features.dtype == np.float32 and features.shape == (4, SIGNS + 3 + SIGNS + 1)
    category, look, markets, price = np.split(features, [SIGNS, SIGNS + 3, 2 * SIGNS + 3], axis=1)
    assert np.isnan(features[1]).all() and not np.isnan(features[[0, 2, 3]]).any()
    assert set(np.unique(category[[0, 2, 3]])) == {-1.0, 1.0}
    assert np.array_equal(category[0], category[3]) and 16 < (category[0] != category[2]).sum() < 48
    assert look[2].tolist() == [3, 4, 5]
    np.testing.assert_allclose(price[[0, 2, 3], 0], [np.log(10), -np.log(10), 0], rtol=1e-6)
    assert (markets[2] == 0).all()
    both, single = AttributeEncoder.of({"markets": "texts"}, {}), {"markets": [["DE"], ["AT"], ["AT", "DE", "DE"]]}
    germany, austria, two = both.encode(single)
    np.testing.assert_allclose(two, (germany + austria) / np.sqrt(2), rtol=1e-6)
    assert np.array_equal(markets[3], germany)


def test_the_features_of_an_item_do_not_depend_on_the_others_or_on_the_machine(encoder: AttributeEncoder) -> None:
    features, again = encoder.encode(COLUMNS), AttributeEncoder.from_fingerprint(encoder.fingerprint)
    assert encoder.fingerprint == "attributes-1 category:text:64 look:embedding:3 markets:texts:64 price:number:1"
    for row in range(4):
        alone = again.encode({name: values[row : row + 1] for name, values in COLUMNS.items()})
        np.testing.assert_array_equal(alone[0], features[row])
    # A constant: other signs would make towers that are stored read other items.
    assert encoder.encode(COLUMNS)[0, :12].tolist() == SHOES


SHOES = [-1, -1, 1, 1, -1, 1, 1, 1, -1, -1, 1, 1]


def test_categories_are_told_apart_however_many_there_are() -> None:
    names = [f"c{number}" for number in range(3000)]
    signs = AttributeEncoder.of({"category": "text"}, {}).encode({"category": names})
    assert len(np.unique(signs, axis=0)) == len(names)
    assert np.abs(signs.mean(0)).max() < 0.1  # each sign is as often + as -
    alike = np.abs(signs[:200] @ signs[:200].T / SIGNS - np.eye(200))
    assert alike.mean() < 0.15 and alike.max() < 0.7
    other = AttributeEncoder.of({"brand": "text"}, {}).encode({"brand": names[:1]})
    assert not np.array_equal(other[0], signs[0])


def test_what_does_not_fit_is_refused(encoder: AttributeEncoder) -> None:
    with pytest.raises(ValueError, match="look: expected vectors of length 3, but that of item row 0 has 2"):
        encoder.encode(COLUMNS | {"look": [[1.0, 2.0], None, None, None]})
    with pytest.raises(ValueError, match="expected attributes-1, got attributes-0"):
        AttributeEncoder.from_fingerprint("attributes-0 category:text:64")


NUM_ITEMS, CATEGORIES, NEW = 120, 6, 12


def day_one_hits(content: np.ndarray) -> float:
    """Share of the new items of the user's category among the three best new items; by chance, it is one in six.

    Each user likes one category. The last items are new: nobody has met them, so only their content tells them apart.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    old = NUM_ITEMS - NEW
    rows = [torch.randperm(old // CATEGORIES, generator=generator)[:12] * CATEGORIES + user % CATEGORIES for user in range(120)]
    count = torch.full((120,), 12)
    log = Sequences(torch.cat(rows), torch.arange(121) * 12, count, count * 0)
    known = torch.arange(NUM_ITEMS) < old
    model = TwoTower(torch.from_numpy(content), known, dim=16, num_heads=2, max_history=8, id_dropout=0.3)
    objective = RetrievalObjective(
        NegativeConfig.for_method("debiased_mns", num_pool=64), torch.full((NUM_ITEMS,), 1 / NUM_ITEMS), temperature=0.1
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for epoch in range(12):
        train_epoch(model, objective, Loader(log, batch_size=128, max_history=8), [optimizer], seed=epoch)
    model.eval()
    with torch.no_grad():
        users = model.encode_histories(torch.stack([row[-8:] for row in rows]))
        best = (users @ model.encode_items(torch.arange(old, NUM_ITEMS)).T).topk(NEW // CATEGORIES).indices
    return float(((best + old) % CATEGORIES == torch.arange(120)[:, None] % CATEGORIES).float().mean())


@pytest.mark.slow
def test_a_new_item_with_a_known_category_is_found_on_its_first_day() -> None:
    noise = np.random.default_rng(0).standard_normal((NUM_ITEMS, 32)).astype(np.float32)
    names = {"category": [f"category {item % CATEGORIES}" for item in range(NUM_ITEMS)]}
    signs = AttributeEncoder.of({"category": "text"}, names).encode(names)
    assert day_one_hits(noise) < 0.4
    assert day_one_hits(np.concatenate([noise, signs], axis=1)) > 0.9
