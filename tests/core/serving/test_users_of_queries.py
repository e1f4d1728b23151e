"""What a query says of its user: the answer is that of the towers, and what does not fit is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esans_core.attributes import AttributeEncoder
from esans_core.sequences import Sequences
from esans_core.serving.bundle import ServingBundle
from esans_core.serving.bundle_writer import write_bundle
from esans_core.serving.retrieval_index import RetrievalIndex
from esans_core.serving.retriever import item_embeddings
from esans_core.serving.user_attributes import encoded_users
from esans_core.towers import TwoTower
from tests.tutorials import blocks

pytest.importorskip("faiss")
ITEMS = 40
ENCODER = AttributeEncoder({"age": ("number", 1), "country": ("text", 64), "taste": ("embedding", 2), "likes": ("texts", 64)})
IDS = [f"i{row}" for row in range(ITEMS)]


def written(folder: Path, order: Any, *, known: bool = True) -> tuple[TwoTower, ServingBundle]:
    torch.manual_seed(0)
    features = 131 if known else 0
    model = TwoTower(
        torch.randn(ITEMS, 3), torch.ones(ITEMS) > 0, order=order, dim=8, max_history=4, num_user_features=features
    )
    if model.user_input is not None:
        model.user_input.standardise_by(torch.zeros(features), torch.ones(features))
        torch.nn.init.normal_(model.user_input.projection.weight, std=1.0)
    folder.mkdir()
    about = {"encoders": {"users": ENCODER.fingerprint}} if known else {}
    index = RetrievalIndex.build(item_embeddings(model.eval()), "exact")
    write_bundle(folder, model, IDS, index, events=np.arange(ITEMS), k=5, max_k=ITEMS, preprocessing=about)
    return model, ServingBundle(folder)


@torch.no_grad()
def best(model: TwoTower, history: list[int], features: np.ndarray) -> list[str]:
    users = model.encode_users(torch.tensor([history or [-1]]), torch.from_numpy(features[None]))
    score = (users @ model.encode_items(torch.arange(ITEMS)).T)[0]
    score[history] = -torch.inf
    return [IDS[row] for row in score.topk(5).indices]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["sequence", "set"])
def test_answers_are_those_of_the_towers_also_without_any_history(tmp_path: Path, order: str) -> None:
    model, bundle = written(tmp_path / "bundle", order)
    assert bundle.user_attributes == {"age": "number", "country": "text", "taste": "embedding", "likes": "texts"}
    users = [{"age": 30, "country": "DE"}, {"country": "AT", "taste": [1.0, -2]}, {"likes": ["a", "b"]}, None, {}]
    histories = [[], [3, 1], [2, 5, 7], [4], []]
    encoded = encoded_users(users, ENCODER)
    answers = bundle.recommend([[IDS[row] for row in history] for history in histories], users=users)
    for number in range(4):
        assert answers[number].item_ids == best(model, histories[number], encoded[number]) and not answers[number].fallback
    assert answers[4].fallback and answers[4].item_ids == [f"i{ITEMS - 1 - row}" for row in range(5)]
    assert bundle.recommend([["i4"]])[0].item_ids == answers[3].item_ids
    assert bundle.recommend([[]], users=[{"country": "never seen"}])[0].fallback is False
    (of_the_docs,) = (block.text for block in blocks("../serving.md") if block.kind == "users")
    exec(of_the_docs, {"bundle": bundle})


@pytest.mark.slow
def test_a_bundle_that_knows_no_users_says_so(tmp_path: Path) -> None:
    model, bundle = written(tmp_path / "bundle", "set", known=False)
    assert bundle.user_attributes == {} and model.user_input is None
    assert bundle.recommend([["i4"], []], users=[{}, None])[1].fallback
    with pytest.raises(ValueError, match="users have no attribute 'country'; attributes: none"):
        bundle.recommend([["i4"]], users=[{"country": "DE"}])
    with pytest.raises(ValueError, match="expected one for each of the 1 histories, got 2"):
        bundle.recommend([["i4"]], users=[None, None])


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"city": "Bonn"}, r"user 1: users have no attribute 'city'; attributes: age \(number\), country \(text\), taste"),
        ({"age": "30"}, "user 1: age takes a number; got '30'"),
        ({"age": True}, "age takes a number"),
        ({"age": float("nan")}, "age takes a number"),
        ({"country": ["DE"]}, 'country takes a text, such as "DE"'),
        ({"likes": "a"}, "likes takes a list of texts"),
        ({"taste": [1.0]}, "taste takes a list of 2 numbers"),
        ("DE", "user 1: expected attributes with values, got 'DE'"),
    ],
)
def test_what_does_not_fit_is_refused(user: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoded_users([None, user], ENCODER)


def test_none_is_a_missing_value() -> None:
    assert np.isnan(encoded_users([{"age": None}, None], ENCODER)).all()
    assert encoded_users([None], None).shape == (1, 0)
    assert Sequences.past(torch.tensor([1]), torch.tensor([0, 1])).features is None
