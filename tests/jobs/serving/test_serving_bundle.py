"""A bundle against brute force over the towers it was built from; its digest; what is refused."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from bundles import build, write_challenger
from source_builder import publish

from esans_core.serving.bundle import ServingBundle
from esans_core.serving.bundle_writer import write_bundle
from esans_core.serving.retrieval_index import RetrievalIndex
from esans_core.serving.retriever import item_embeddings
from esans_core.towers import TwoTower
from jobs.base.errors import DataError
from jobs.base.settings import CandidateSettings, PipelineSettings, ServingSettings
from jobs.lake.tables import Lake
from jobs.serving import bundle as module
from jobs.serving.bundle import build_bundle
from jobs.serving.index import index_kind, shared
from jobs.serving.verified import verify

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow  # to export towers takes seconds each time

NUM_ITEMS = 120


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMED_QUERIES", 5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineSettings, TwoTower, Path]:
    home = tmp_path_factory.mktemp("home")
    settings = PipelineSettings(home=home, bundle=ServingSettings(k=10, max_k=NUM_ITEMS))
    model = write_challenger(settings)
    build_bundle(settings, home / "bundle")
    return settings, model, home / "bundle"


def ids(*rows: int) -> list[str]:
    return [f"i{row:04d}" for row in rows]


@torch.no_grad()
def brute_force(model: TwoTower, rows: list[int], k: int) -> tuple[list[str], np.ndarray]:
    score = (model.encode_items(torch.arange(NUM_ITEMS)) @ model.encode_users(torch.tensor([rows[-8:]]))[0]).numpy()
    score[rows] = -np.inf
    best = np.argsort(-score, kind="stable")[:k]
    best = best[np.isfinite(score[best])]
    return ids(*best), score[best]


def test_answers_are_those_of_a_loop_over_the_towers(made: tuple[PipelineSettings, TwoTower, Path]) -> None:
    _, model, folder = made
    bundle, generator = ServingBundle(folder), np.random.default_rng(0)
    histories = [generator.integers(0, NUM_ITEMS, length).tolist() for length in (1, 3, 8, 30, 5)]
    histories.append(list(range(NUM_ITEMS - 4)))  # nearly all: four are left
    for k in (1, 10, NUM_ITEMS):
        answers = bundle.recommend([ids(*rows) for rows in histories], k)
        for rows, answer in zip(histories, answers, strict=True):
            expected, scores = brute_force(model, rows, k)
            assert answer.item_ids == expected and not answer.fallback
            np.testing.assert_allclose(answer.scores, scores, atol=1e-5)
    assert len(bundle.recommend([ids(3)])[0].item_ids) == 10, "the bundle's own k"
    assert len(answers[-1].item_ids) == 4


def test_unknown_items_are_passed_over_and_new_users_get_what_is_popular(made: tuple[PipelineSettings, TwoTower, Path]) -> None:
    settings, _, folder = made
    bundle = ServingBundle(folder)
    plain, mixed, unknown, empty, later = bundle.recommend(
        [ids(5, 6), ["x", "i0005", "", "i0006", "i9999"], ["nobody", "knows"], [], ids(9)], 7
    )
    assert mixed.item_ids == plain.item_ids and not mixed.fallback
    assert unknown.item_ids == empty.item_ids and unknown.fallback and empty.fallback and not later.fallback
    assert mixed.unknown_ids == ["x", "", "i9999"] and unknown.unknown_ids == ["nobody", "knows"]
    assert plain.unknown_ids == empty.unknown_ids == later.unknown_ids == []
    items = Lake.of(settings).read_pandas("items", settings.date).sort_values("num_train", ascending=False, kind="stable")
    assert empty.item_ids == items["item_id"].head(7).tolist()
    np.testing.assert_allclose(empty.scores, items["num_train"].head(7) / items["num_train"].sum(), rtol=1e-6)
    assert bundle.recommend([]) == []
    everything = bundle.recommend([ids(*range(NUM_ITEMS))])[0]
    assert (everything.item_ids, everything.fallback) == ([], False)


def test_items_out_of_stock_are_in_no_answer_but_in_histories(
    made: tuple[PipelineSettings, TwoTower, Path], tmp_path: Path
) -> None:
    settings, model, _ = made
    home = settings.model_copy(update={"home": tmp_path})
    write_challenger(home)
    gone = np.arange(NUM_ITEMS) % 3 == 0
    items = Lake.of(home).read_pandas("items", home.date)
    publish(home, "stock", items[["item_id"]].assign(available=~gone))
    histories = [[0, 3, 4], [1], list(range(40)), np.flatnonzero(~gone).tolist()]
    for kind in ("exact", "ivf"):
        chosen = home.model_copy(update={"candidates": CandidateSettings(index=kind, min_index_recall=0)})
        content = build_bundle(chosen, tmp_path / kind)
        assert (content["about"]["items"], content["about"]["items_in_answers"]) == (NUM_ITEMS, (~gone).sum())
        answers = ServingBundle(tmp_path / kind).recommend([*(ids(*rows) for rows in histories), []], 30)
        for rows, answer in zip(histories, answers[:-1], strict=True):
            left = np.setdiff1d(np.flatnonzero(~gone), rows)
            expected = [item for item in brute_force(model, rows, NUM_ITEMS)[0] if item in ids(*left)][:30]
            assert len(answer.item_ids) == len(expected) and set(answer.item_ids) <= set(ids(*left))
            assert answer.item_ids == expected or kind == "ivf"
            assert not answer.fallback and not answer.unknown_ids
        popular = items[~gone].sort_values("num_train", ascending=False, kind="stable")
        assert answers[-1].fallback and answers[-1].item_ids == popular["item_id"].head(30).tolist()


@pytest.mark.parametrize("again", [False, True])
def test_what_a_user_does_not_want_is_in_no_answer_to_this_user(
    made: tuple[PipelineSettings, TwoTower, Path], again: bool
) -> None:
    bundle = ServingBundle(made[2])
    bundle.about["again"] = again
    histories = [ids(5, 6), [], ids(5, 6), ["nobody"], ids(9)]
    plain = bundle.recommend(histories, 5)
    unwanted = [[*plain[0].item_ids[:2], "x", plain[0].item_ids[0], "i0005"], plain[1].item_ids[:3], [], ["i0001"], ids(9)]
    answers = bundle.recommend(histories, 5, unwanted=unwanted)
    for number, (answer, refused) in enumerate(zip(answers, unwanted, strict=True)):
        assert len(answer.item_ids) == 5 and not set(answer.item_ids) & set(refused), number
        assert answer.fallback == plain[number].fallback
    assert answers[0].item_ids[:3] == [item for item in plain[0].item_ids if item not in unwanted[0]][:3]
    assert answers[1].item_ids[:2] == plain[1].item_ids[3:], "a new user's popular items"
    assert answers[2] == plain[2], "somebody else's dislikes change nothing"
    assert bundle.recommend(histories, 5, unwanted=[[]] * 5) == plain
    alone = [
        bundle.recommend([history], 5, unwanted=[refused])[0] for history, refused in zip(histories, unwanted, strict=True)
    ]
    assert [answer.item_ids for answer in alone] == [answer.item_ids for answer in answers]
    with pytest.raises(ValueError, match="unwanted: expected one for each of the 5 histories, got 1"):
        bundle.recommend(histories, unwanted=[[]])
    with pytest.raises(ValueError, match="unwanted 1: expected a list of item ids"):
        bundle.recommend(histories, unwanted=[[], "i0001", [], [], []])


def test_items_may_come_again_where_the_log_says_so(settings: PipelineSettings, tmp_path: Path) -> None:
    model = write_challenger(settings)
    sequences = Lake.of(settings).read_pandas("sequences", settings.date)
    with Lake.of(settings).write("sequences", settings) as pending:
        pending.path.mkdir()
        sequences.to_parquet(pending.path / "part-0.parquet", index=False)
        pending.stats["again"] = True
    content = build_bundle(settings, tmp_path / "bundle")
    assert content["about"]["again"] is True
    (found,) = ServingBundle(tmp_path / "bundle").recommend([ids(5, 6)], 100)
    with torch.no_grad():
        user = model.encode_users(torch.tensor([[5, 6]]))[0]
        score = (model.encode_items(torch.arange(NUM_ITEMS)) @ user).numpy()
    assert found.item_ids == ids(*np.argsort(-score, kind="stable")[:100])
    assert ServingBundle(tmp_path / "bundle").recommend([ids(5, 6)], 100, exclude=ids(5))[0].item_ids.count("i0005") == 0


@pytest.fixture(scope="module")
def filterable(tmp_path_factory: pytest.TempPathFactory) -> tuple[TwoTower, dict[str, ServingBundle], pd.DataFrame]:
    """Bundles with attributes, one with each kind of index, and the attributes of their items."""
    home = tmp_path_factory.mktemp("filterable")
    settings = PipelineSettings(home=home, bundle=ServingSettings(k=10, max_k=NUM_ITEMS))
    model, rows = write_challenger(settings), np.arange(NUM_ITEMS)
    table = pd.DataFrame(
        {
            "category": [None if row % 10 == 9 else ("shoes", "hats", "socks")[row % 3] for row in rows],
            "markets": [["DE", "AT"][: row % 3] for row in rows],
            "price": [float(row) for row in rows],
            "look": [np.array([row, 1.0], np.float32) for row in rows],
        }
    )
    items = Lake.of(settings).read_pandas("items", settings.date)
    publish(settings, "stock", items[["item_id"]].assign(available=rows % 7 != 0))
    items = items.assign(attributes=table.to_dict("records"))
    publish(settings, "items", items.sample(frac=1, random_state=0))
    bundles = {}
    for kind in ("exact", "ivf"):
        chosen = settings.model_copy(update={"candidates": CandidateSettings(index=kind)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jobs.serving.index._FIRST_PROBES", NUM_ITEMS)  # all lists
            patch.setattr(module, "_TIMED_QUERIES", 5)
            assert build_bundle(chosen, home / kind)["about"]["index"]["index"] == kind
        bundles[kind] = ServingBundle(home / kind)
    return model, bundles, table.assign(available=rows % 7 != 0)


@pytest.mark.parametrize(
    ("wanted", "exclude", "passing"),
    [
        ({"category": ["shoes"]}, [], lambda items: items["category"] == "shoes"),
        (
            {"price": {"min": 20, "max": 60}},
            ids(21, 22, 23),
            lambda items: items["price"].between(24, 60) | (items["price"] == 20),
        ),
        ({"markets": ["AT"], "category": ["hats", "socks"]}, [], lambda items: items["price"] % 3 == 2),
        ({"category": ["gloves"]}, [], lambda items: items["price"] < 0),
        (None, ["i9999", "", *ids(*range(100))], lambda items: items["price"] >= 100),
        ({}, ["i9999"], lambda items: items["price"] >= 0),
        (None, ids(*range(NUM_ITEMS)), lambda items: items["price"] < 0),
    ],
)
def test_answers_hold_only_items_that_pass_and_k_of_them(
    filterable: tuple[TwoTower, dict[str, ServingBundle], pd.DataFrame], wanted: Any, exclude: list[str], passing: Any
) -> None:
    model, bundles, items = filterable
    passes = items["available"] & passing(items)
    if wanted and "category" in wanted:
        passes &= items["category"].isin(wanted["category"])
    histories = [[0, 7, 8], [3], list(range(50))]
    for k in (5, NUM_ITEMS):
        asked = [*(ids(*rows) for rows in histories), []]
        exact, near = (bundles[kind].recommend(asked, k, exclude=exclude, filter=wanted) for kind in ("exact", "ivf"))
        for rows, answer in zip(histories, exact[:-1], strict=True):
            there = set(ids(*np.flatnonzero(passes)))
            assert answer.item_ids == [item for item in brute_force(model, rows, NUM_ITEMS)[0] if item in there][:k]
        assert exact[-1].fallback and set(exact[-1].item_ids) <= set(ids(*np.flatnonzero(passes)))
        for ours, theirs in zip(exact, near, strict=True):
            assert ours.item_ids == theirs.item_ids


def test_a_filter_of_the_popular_items_reaches_beyond_the_most_popular(
    filterable: tuple[TwoTower, dict[str, ServingBundle], pd.DataFrame],
) -> None:
    bundle = filterable[1]["exact"]
    everything = bundle.recommend([[]], NUM_ITEMS)[0].item_ids
    least = everything[-3:]
    assert bundle.recommend([[]], 3, exclude=everything[:-3])[0].item_ids == least


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"filter": {"colour": ["red"]}}, r"no attribute 'colour'; attributes: category \(text\), markets \(texts\), price"),
        ({"filter": {"look": [1.0]}}, "no attribute 'look'"),
        ({"filter": {"price": 3}}, "price is a number"),
        ({"filter": "category"}, "expected attributes"),
        ({"exclude": "i0001"}, "exclude: expected a list of item ids"),
        ({"exclude": [1]}, "exclude: expected a list of item ids"),
    ],
)
def test_what_no_query_can_ask_is_refused(
    filterable: tuple[TwoTower, dict[str, ServingBundle], pd.DataFrame], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        filterable[1]["exact"].recommend([[]], **asked)


def test_a_bundle_without_attributes_excludes_but_cannot_filter(made: tuple[PipelineSettings, TwoTower, Path]) -> None:
    bundle = ServingBundle(made[2])
    first = bundle.recommend([ids(1)], 3)[0].item_ids
    assert bundle.attributes is None and not set(first) & set(bundle.recommend([ids(1)], 9, exclude=first)[0].item_ids)
    assert bundle.recommend([ids(1)], 3, filter={})[0].item_ids == first
    with pytest.raises(ValueError, match="no attribute 'category'; attributes: none"):
        bundle.recommend([ids(1)], filter={"category": ["shoes"]})


def test_a_bundle_that_lists_the_popular_items_by_id_still_answers(
    made: tuple[PipelineSettings, TwoTower, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(made[2], tmp_path / "old")
    expected = ServingBundle(folder).recommend([[], ids(3)])
    table = pa.table({"item_id": expected[0].item_ids, "share": np.array(expected[0].scores, np.float32)})
    with pa.OSFile(str(folder / "popular.arrow"), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    assert ServingBundle(folder).recommend([[], ids(3)]) == expected


def test_every_unknown_id_is_listed_once_with_its_own_history(
    made: tuple[PipelineSettings, TwoTower, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, generator = ServingBundle(made[2]), np.random.default_rng(0)
    monkeypatch.setattr("esans_core.serving.bundle._AT_ONCE", 16)
    names = [*ids(*range(NUM_ITEMS)), *(f"x{number}" for number in range(NUM_ITEMS))]
    histories = [[names[row] for row in generator.integers(0, 2 * NUM_ITEMS, length)] for length in range(50)]
    for history, answer in zip(histories, bundle.recommend(histories, 3), strict=True):
        assert answer.unknown_ids == list(dict.fromkeys(item for item in history if item.startswith("x")))


def test_strict_refuses_a_history_with_an_unknown_id_by_its_number(
    made: tuple[PipelineSettings, TwoTower, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = ServingBundle(made[2])
    monkeypatch.setattr("esans_core.serving.bundle._AT_ONCE", 2)
    fine = [ids(1, 2), [], ids(3)]
    assert bundle.recommend(fine, 5, strict=True) == bundle.recommend(fine, 5)
    with pytest.raises(
        ValueError, match=r"history 3: 2 ids are not in the catalogue of this bundle, such as \['new', 'other'\]"
    ):
        bundle.recommend([*fine, ["new", *ids(4), "other", "new"]], 5, strict=True)


def test_a_new_item_is_served_whatever_a_feature_that_was_constant_in_training_says_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    content = torch.randn(40, 6)
    content[:, 2] = 0.3
    trained = TwoTower(content, torch.ones(40, dtype=torch.bool), dim=16, num_heads=2, max_history=8, popularity=True)
    today = torch.cat([content, content[[7, 7]]])
    today[41, 2] = 1.3  # another value at last
    model = trained.for_catalogue(torch.arange(42).masked_fill(torch.arange(42) >= 40, -1), today).eval()
    index = RetrievalIndex.build(item_embeddings(model), "exact")
    names = [f"i{row:04d}" for row in range(42)]
    write_bundle(tmp_path, model, names, index, events=np.arange(42), k=41, max_k=42)
    bundle = ServingBundle(tmp_path)
    answer = bundle.recommend([["i0003"]])[0]
    scores = dict(zip(answer.item_ids, answer.scores, strict=True))
    assert scores["i0041"] == pytest.approx(scores["i0040"], abs=1e-6), "as its twin, but for that feature"
    first, second = bundle.recommend([["i0040"], ["i0041"]], 10)
    common = set(first.item_ids) & set(second.item_ids)
    assert len(common) >= 9 and not first.fallback and not second.fallback
    inputs, vectors = torch.export.load(tmp_path / "item_tower.pt2").module()(today[[40, 41]])
    torch.testing.assert_close(vectors[1], vectors[0])
    torch.testing.assert_close(inputs, model.item_input(torch.tensor([40, 41])))


def test_one_answer_does_not_depend_on_the_others_or_on_threads(
    made: tuple[PipelineSettings, TwoTower, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = ServingBundle(made[2])
    monkeypatch.setattr("esans_core.serving.bundle._AT_ONCE", 16)
    histories = [ids(*range(start, start + 1 + start % 7)) for start in range(40)]
    together = bundle.recommend(histories)
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(lambda history: bundle.recommend([history])[0], histories))
    assert [answer.item_ids for answer in alone] == [answer.item_ids for answer in together]


@pytest.mark.parametrize(
    ("histories", "k", "message"),
    [
        ([[]], 0, "from 1 to 120"),
        ([[]], 121, "from 1 to 120"),
        (["i0001"], 5, "history 0"),
        ([["a"], [3]], 5, "history 1"),
        ([None], 5, "got 'None'"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    made: tuple[PipelineSettings, TwoTower, Path], histories: Any, k: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ServingBundle(made[2]).recommend(histories, k)


def test_a_bundle_says_what_it_is_and_the_same_inputs_give_the_same_digest(
    made: tuple[PipelineSettings, TwoTower, Path], tmp_path: Path
) -> None:
    settings, _, folder = made
    content = verify(folder)
    lake = Lake.of(settings)
    assert content["about"]["data"]["codebooks"] == lake.manifest("codebooks", settings.date)["digest"]
    assert content["about"]["index"] == {"index": "exact"} and content["about"]["items"] == NUM_ITEMS
    assert content["measured"]["recall_200"] == 1 and content["measured"]["p99_ms"] > 0
    assert {"user_tower.pt2", "item_tower.pt2", "item_ids.arrow", "codebooks/codebooks.safetensors"} <= content["files"].keys()
    preprocessing = json.loads((folder / "preprocessing.json").read_text())
    assert preprocessing["encoders"] == {"visual": "visual:1", "text": "text:1"} and preprocessing["max_history"] == 8
    assert build_bundle(settings, tmp_path / "again")["digest"] == content["digest"]
    other = settings.model_copy(update={"bundle": ServingSettings(k=9, max_k=NUM_ITEMS)})
    assert build_bundle(other, tmp_path / "other")["digest"] != content["digest"]


def test_lists_are_measured_or_given_up(
    made: tuple[PipelineSettings, TwoTower, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, model, _ = made
    ivf = settings.model_copy(update={"candidates": CandidateSettings(index="ivf", min_index_recall=0)})
    content = build_bundle(ivf, tmp_path / "ivf")
    assert content["about"]["index"]["index"] == "ivf" and content["about"]["index"]["probes"] == 8
    assert 0 < content["measured"]["recall_200"] <= 1
    assert len(ServingBundle(tmp_path / "ivf").recommend([ids(1, 2)], 20)[0].item_ids) == 20
    strict = CandidateSettings(index="ivf", min_index_recall=1)
    monkeypatch.setattr("jobs.serving.index.shared", lambda *_: 0.5)
    given_up = build_bundle(settings.model_copy(update={"candidates": strict}), tmp_path / "exact")["about"]["index"]
    assert given_up == {"index": "exact", "index_given_up": "ivf"}


def test_shared_counts_the_exact_answers_alone() -> None:
    exact, near = np.array([[1, 2, 3], [4, -1, -1]]), np.array([[3, 1, 9], [5, 2, -1]])
    assert shared(exact, near, 10) == 0.5
    assert shared(exact, exact, 10) == 1 and shared(np.full((1, 2), -1), exact[:1, :2], 10) == 1


def test_auto_searches_small_catalogues_exactly() -> None:
    auto = CandidateSettings(exact_up_to=10)
    assert [index_kind(auto, size) for size in (10, 11)] == ["exact", "ivf"]
    assert index_kind(CandidateSettings(index="exact", exact_up_to=1), 99) == "exact"


def test_a_bundle_that_was_changed_is_refused(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = build(settings, tmp_path / "bundle")
    file, text = folder / "index" / "index.json", (folder / "bundle.json").read_text()
    before = file.read_text()
    file.write_text(before.replace("8", "9"))
    with pytest.raises(DataError, match=r"index/index\.json missing, changed or too many.*Remedy"):
        verify(folder)
    file.unlink()
    with pytest.raises(DataError, match=r"index/index\.json"):
        verify(folder)
    file.write_text(before)
    verify(folder)
    (folder / "more").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="more missing, changed"):
        verify(folder)
    (folder / "more").unlink()
    for changed in (text.replace('"k": 100', '"k": 99'), text.replace("user_tower.pt2", "../user_tower.pt2"), "{", "[1]"):
        (folder / "bundle.json").write_text(changed)
        with pytest.raises(DataError, match="was changed|cannot be read"):
            verify(folder)


def test_a_date_without_events_is_named(settings: PipelineSettings, tmp_path: Path) -> None:
    write_challenger(settings)
    lake = Lake.of(settings)
    table = lake.read_pandas("sequences", settings.date)
    table["item_index"] = [items[:0] for items in table["item_index"]]
    with lake.write("sequences", settings) as pending:
        pending.path.mkdir()
        table.to_parquet(pending.path / "part-0.parquet")
    with pytest.raises(DataError, match=r"no event.*Remedy"):
        build_bundle(settings, tmp_path / "bundle")
