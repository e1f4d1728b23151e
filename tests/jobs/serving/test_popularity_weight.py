"""How much the popularity of items counts in an answer, against the scores of the towers that the bundle was built from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import write_challenger

from esans_core.serving.bundle import ServingBundle
from esans_core.towers import TwoTower
from jobs.base.settings import PipelineSettings, ServingSettings
from jobs.serving import bundle as module
from jobs.serving.bundle import build_bundle

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow

HISTORIES = [["i0003", "i0004"], ["i0077"], []]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TwoTower, ServingBundle]:
    home = tmp_path_factory.mktemp("home")
    settings = PipelineSettings(home=home, bundle=ServingSettings(k=10, max_k=120))
    model = write_challenger(settings, popularity=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TIMED_QUERIES", 5)
        build_bundle(settings, home / "bundle")
    return model, ServingBundle(home / "bundle")


@torch.no_grad()
def scores(model: TwoTower, history: list[str], weight: float) -> np.ndarray:
    """float32 [N], -inf for items of the history."""
    rows = torch.tensor([[int(item[1:]) for item in history]])
    items_ND = model.encode_items(torch.arange(model.num_items))
    user_D = model.encode_users(rows)[0]
    found = items_ND[:, :-1] @ user_D[:-1] + weight * items_ND[:, -1]
    found[rows[0]] = -torch.inf
    return found.numpy()


@pytest.mark.parametrize("weight", [0, 0.5, 1, 4.0])
def test_scores_contain_the_popularity_as_often_as_asked(made: tuple[TwoTower, ServingBundle], weight: float) -> None:
    model, bundle = made
    known = HISTORIES[:2]
    for history, answer in zip(known, bundle.recommend(known, 10, popularity=weight), strict=True):
        expected = scores(model, history, weight)
        best = np.argsort(-expected, kind="stable")[:10]
        assert answer.item_ids == [f"i{row:04d}" for row in best]
        np.testing.assert_allclose(answer.scores, expected[best], atol=1e-5)


def test_it_changes_answers_but_not_those_to_new_users(made: tuple[TwoTower, ServingBundle]) -> None:
    _, bundle = made
    plain, tasteful = bundle.recommend(HISTORIES, 10), bundle.recommend(HISTORIES, 10, popularity=0)
    assert [one.item_ids == other.item_ids for one, other in zip(plain, tasteful, strict=True)] == [False, False, True]


@pytest.mark.parametrize("weight", [-0.1, 10.5, float("nan"), float("inf"), "1", True, None])
def test_a_weight_out_of_bounds_is_refused(made: tuple[TwoTower, ServingBundle], weight: object) -> None:
    with pytest.raises(ValueError, match="popularity: expected a number from 0 to 10"):
        made[1].recommend(HISTORIES, popularity=weight)  # type: ignore[arg-type]


def test_a_model_without_popularity_says_so(
    made: tuple[TwoTower, ServingBundle], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, bundle = made
    monkeypatch.setitem(bundle._retriever.preprocessing, "popularity", False)
    assert bundle.recommend(HISTORIES, 10, popularity=1)
    with pytest.raises(ValueError, match="have none that could be weighed"):
        bundle.recommend(HISTORIES, 10, popularity=0.5)
