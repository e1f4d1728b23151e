import io

import numpy as np
import pytest
from PIL import Image

from jobs.base.settings import ShopSettings
from jobs.shop.intent_world import KINDS, IntentWorld
from jobs.shop.pictures import draw_item
from jobs.shop.texts import describe
from jobs.shop.vocabulary import MATERIALS, PALETTES, PATTERNS, STYLES


@pytest.fixture(scope="module")
def world() -> IntentWorld:
    return IntentWorld(ShopSettings(num_items=1000, num_users=800))


def test_items_of_a_leaf_differ_within_what_the_leaf_offers(world: IntentWorld) -> None:
    items = np.arange(1000)
    leaf, values = world.item_leaf(items), world.attributes(1000)
    assert (world.offers[leaf] == values[:, :, None]).any(2).all()
    assert all(len(np.unique(values[leaf == number], axis=0)) > 0.7 * (leaf == number).sum() for number in range(5))
    for kind, size in enumerate((len(PALETTES), len(PATTERNS), len(MATERIALS), len(STYLES))):
        assert len(np.unique(values[:, kind])) == size
        assert all(len(set(row)) == len(row) for row in world.offers[:, kind].tolist())


def test_a_look_says_what_the_attributes_say_and_never_changes(world: IntentWorld) -> None:
    other = IntentWorld(world.shop.model_copy(update={"num_users": 20}))
    for item in (0, 7, 999, 5_000):
        leaf = int(world.item_leaf(np.array([item]))[0])
        look, values = world.look(item, leaf), other.attributes(5_001)[item].tolist()
        assert look == other.look(item, leaf)
        found = [look.palette, list(PATTERNS).index(look.pattern), MATERIALS.index(look.material), STYLES.index(look.style)]
        assert found == values
        assert look.line == world.leaves[leaf].line and look.category == world.leaves[leaf].category


def test_pictures_and_texts_show_the_attributes(world: IntentWorld) -> None:
    items, values = np.arange(300), world.attributes(300)
    leaf = world.item_leaf(items)
    texts = [describe(world, item, world.look(item, number)) for item, number in enumerate(leaf.tolist())]
    said = [f"{text.title} {text.text}".lower() for text in texts if text.text]
    styles = [STYLES[value] for value, text in zip(values[:, 3], texts, strict=True) if text.text]
    assert len(said) > 250
    assert all(f"style: {style[0]}" in words for words, style in zip(said, styles, strict=True))
    red, blue = [(np.flatnonzero(values[:, 0] == palette))[:12] for palette in (0, 1)]

    def redness(item: int) -> float:
        pixels = np.asarray(Image.open(io.BytesIO(draw_item(world, item, int(leaf[item])))), dtype=float)
        return float((pixels[..., 0] - pixels[..., 2])[30:60, 30:66].mean())

    assert np.median([redness(item) for item in red]) > np.median([redness(item) for item in blue]) + 40


def test_likes_are_some_values_of_each_kind_and_their_weights_add_up(world: IntentWorld) -> None:
    likes = world.likes(np.arange(800))
    assert likes.shape == (800, len(KINDS), 16) and likes.min() == 0
    assert 0.17 < (likes > 0).mean() < 0.23
    weight = likes.max(2)
    assert np.median(weight.sum(1)) > 0.9 and weight.sum(1).max() < 1 + 1e-6
    assert (world.likes(np.array([5])) == likes[5]).all()


def test_complements_lie_in_another_category(world: IntentWorld) -> None:
    category = np.arange(len(world.leaves)) // world.leaves_per_category
    assert world.complements.min() >= 0 and world.complements.max() < len(world.leaves)
    assert (world.complements // world.leaves_per_category != category[:, None]).all()


def test_tastes_hardly_drift_and_projects_last_for_days(world: IntentWorld) -> None:
    users = np.arange(800)
    before, after = world.user_leaves(users, -4), world.user_leaves(users, 0)
    assert (before != after).any(1).mean() < 0.08
    assert 0.75 < (world.project(users, -1) == world.project(users, 0)).mean() < 1
    assert (world.project(users, -30) < world.project(users, 0)).all()


def test_busy_days_are_one_in_the_mean(world: IntentWorld) -> None:
    factors = np.stack([world.busy(np.arange(800), day) for day in range(0, 300, 10)])
    assert factors.min() > 0
    assert factors.mean() == pytest.approx(1, abs=0.1)
