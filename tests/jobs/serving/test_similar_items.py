"""Similar items, and the reasons for an answer, against cosines of the towers that the bundle was built from."""

import numpy as np
import pandas as pd
import pytest
import torch
from bundles import write_challenger
from source_builder import publish

from esans_core.serving.bundle import ServingBundle
from esans_core.towers import TwoTower
from jobs.base.settings import PipelineSettings, ServingSettings
from jobs.lake.tables import Lake
from jobs.serving import bundle as module
from jobs.serving.bundle import build_bundle

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow

NUM_ITEMS = 120
GONE = (5, 6)  # rows of items that are out of stock


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TwoTower, ServingBundle]:
    home = tmp_path_factory.mktemp("home")
    settings = PipelineSettings(home=home, bundle=ServingSettings(k=10, max_k=NUM_ITEMS))
    model = write_challenger(settings, popularity=30)  # so large that it would change every answer
    items = Lake.of(settings).read_pandas("items", settings.date)
    publish(settings, "items", items.assign(attributes=[{"price": float(row)} for row in range(len(items))]))
    publish(
        settings,
        "stock",
        pd.DataFrame({"item_id": items["item_id"], "available": [row not in GONE for row in range(len(items))]}),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TIMED_QUERIES", 5)
        build_bundle(settings, home / "bundle")
    return model, ServingBundle(home / "bundle")


@torch.no_grad()
def cosines(model: TwoTower) -> np.ndarray:
    """float32 [N, N]"""
    vectors = model.encode_items(torch.arange(NUM_ITEMS))[:, : model.options["dim"]]
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    return (vectors @ vectors.T).numpy()


def ids(*rows: int) -> list[str]:
    return [f"i{row:04d}" for row in rows]


def nearest(model: TwoTower, row: int, left_out: set[int], k: int) -> list[str]:
    order = np.argsort(-cosines(model)[row], kind="stable")
    return ids(*[other for other in order if other not in left_out | {row, *GONE}][:k])


def test_similar_items_are_the_nearest_by_cosine_and_pass_what_is_asked(made: tuple[TwoTower, ServingBundle]) -> None:
    model, bundle = made
    found = bundle.similar(ids(3, 40, 7), 6)
    assert [answer.item_ids for answer in found] == [nearest(model, row, set(), 6) for row in (3, 40, 7)]
    best = int(found[0].item_ids[0][1:])
    assert found[0].scores[0] == pytest.approx(cosines(model)[3, best], abs=1e-5)
    narrow = bundle.similar(ids(3), 6, exclude=found[0].item_ids[:2], filter={"price": {"min": 50}})
    assert narrow[0].item_ids == nearest(model, 3, {*range(50), *(int(item[1:]) for item in found[0].item_ids[:2])}, 6)
    assert len(bundle.similar(ids(3))[0].item_ids) == 10


def test_an_item_out_of_stock_has_alternatives_and_an_unknown_one_the_most_popular(
    made: tuple[TwoTower, ServingBundle],
) -> None:
    _, bundle = made
    gone, unknown, known = bundle.similar([*ids(5), "nobody", *ids(9)], 4)
    assert gone == bundle.recommend([ids(5)], 4)[0] and not gone.fallback and not set(ids(*GONE)) & set(gone.item_ids)
    assert unknown.fallback and unknown.unknown_ids == ["nobody"] and len(unknown.item_ids) == 4
    assert not known.fallback and known == bundle.similar(ids(9), 4)[0]
    assert bundle.similar([], 4) == []


def test_reasons_are_the_nearest_items_of_the_history(made: tuple[TwoTower, ServingBundle]) -> None:
    model, bundle = made
    history, near = [11, 60, 11, 5, 90], cosines(model)
    (answer,) = bundle.recommend([[*ids(*history), "nobody"]], 5, why=2)
    for item, reasons in zip(answer.item_ids, answer.because, strict=True):
        assert reasons == ids(*sorted({11, 60, 90}, key=lambda row: -near[int(item[1:]), row])[:2])
    assert bundle.recommend([ids(*history)], 5)[0].because == []
    assert bundle.recommend([[]], 3, why=2)[0].because == [[], [], []], "nothing is known that could be a reason"
    for wrong in (-1, 21, True, 1.5):
        with pytest.raises(ValueError, match="why: expected a whole number from 0 to 20"):
            bundle.recommend([ids(3)], 5, why=wrong)
