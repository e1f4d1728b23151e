"""The speed benchmark at tiny size: what its rows say, never how long anything takes."""

import math
import operator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks import table
from benchmarks.measure import beside, judged, peak_bytes, seconds
from benchmarks.record import Row
from benchmarks.speed import assignment, codebooks, edis, gpu, loss, near_clusters, plot, sampler, serving, step, syncs
from benchmarks.speed.world import World, WorldSize
from esans_core.transfer import to_device

WORLD = WorldSize(num_items=300, num_primary=6, batch=16, num_features=8, history=5, dim=8)
TINY: dict[ModuleType, Any] = {
    sampler: sampler.Size({300: 4, 900: 8}, 300, (300, 900), batch=16, batches=2, repeats=2),
    near_clusters: near_clusters.Size((8, 40), largest_dense=8, batch=16, repeats=2),
    step: step.Size(WORLD, pool=16, repeats=2),
    edis: edis.Size(batches=(16,), dim=8, repeats=2),
    loss: loss.Size(batches=(16,), dim=8, repeats=2),
    codebooks: codebooks.Size(400, 8, 6, 4, dim=8, iterations=3, repeats=2),
    assignment: assignment.Size(((500, 16, 8),), square=64, repeats=2),
    serving: serving.Size(num_items=400, num_tastes=8, num_features=8, dim=8, history=5, users=20, queries=3),
}
COMPARE = {">=": operator.ge, "<=": operator.le}


@pytest.fixture(scope="module")
def rows_of() -> dict[str, list[Row]]:
    return {case.__name__.split(".")[-1]: list(case.rows(size, peers=False)) for case, size in TINY.items()}


@pytest.mark.slow
@pytest.mark.parametrize("case", [case.__name__.split(".")[-1] for case in TINY])
def test_rows_have_one_form(rows_of: dict[str, list[Row]], case: str) -> None:
    assert rows_of[case]
    check(rows_of[case], family=case)


def check(rows: list[Row], family: str) -> None:
    values = {(row.case, row.subject, row.metric): row.value for row in rows}
    for row in rows:
        assert row.case.startswith(f"{family}: ")
        assert row.subject and row.metric and row.unit and row.repeats >= 1
        assert math.isfinite(row.value) and row.value >= 0
        assert (row.peer is None) == (row.ratio is None) and (row.bar is None) == (row.holds is None)
        if row.peer is not None:
            assert row.ratio == pytest.approx(row.value / values[row.case, row.peer, row.metric])
        if row.bar is not None:
            name, compare, limit = row.bar.split()
            assert row.holds is COMPARE[compare](getattr(row, name), float(limit))


@pytest.mark.parametrize(
    ("case", "subject", "metric", "bar"),
    [
        ("sampler", sampler.ESANS, "growth of the cost per negative", "ratio <= 1.25"),
        ("sampler", "cluster index", "memory", "value <= 24"),
        ("step", step.PAPER, "step", "ratio <= 1.10"),
        ("codebooks", codebooks.ESANS, "primary smallest cluster", "value >= 5"),
        ("assignment", assignment.ESANS, "throughput", "ratio >= 0.5"),
        ("serving", serving.ESANS, serving.P99, "value <= 20"),
        ("serving", serving.ESANS, "recall@200 of exact search", "value >= 0.98"),
    ],
)
def test_bars_are_set(rows_of: dict[str, list[Row]], case: str, subject: str, metric: str, bar: str) -> None:
    assert [row for row in rows_of[case] if (row.subject, row.metric, row.bar) == (subject, metric, bar)]


def test_repeats_take_turns_and_each_begins_a_round() -> None:
    order: list[str] = []
    taken = seconds({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"  # the first round is unmeasured
    assert list(taken) == ["a", "b", "c"]


@pytest.mark.parametrize(("value", "peer", "bar", "holds"), [
    (20.0, 2.0, "ratio >= 10", True), (19.9, 2.0, "ratio >= 10", False),
    (1.1, 1.0, "ratio <= 1.10", True), (24.5, 1.0, "value <= 24", False),
])  # fmt: skip
def test_a_bar_is_read_from_its_words(value: float, peer: float, bar: str, holds: bool) -> None:
    ours, theirs = (Row("sampler: x", name, "m", "u", number) for name, number in (("ours", value), ("theirs", peer)))
    row = beside(ours, theirs, bar)
    assert (row.peer, row.ratio, row.bar, row.holds) == ("theirs", value / peer, bar, holds)


@pytest.mark.parametrize("bar", ["ratio >= 2", "at least twice", "value > 2"])
def test_a_bar_that_cannot_be_judged_is_refused(bar: str) -> None:
    with pytest.raises(ValueError, match="expected a bar"):
        judged(Row("sampler: x", "ours", "m", "u", 1.0), bar)


def test_sampler_subjects_draw_as_many_each() -> None:
    size = TINY[sampler]
    made = sampler.catalogue(900, 8, size)
    draws = made.sampler.sample(made.positives[0])
    drawn = {name: draw(made.positives[0]) for name, draw in sampler.subjects(made).items() if name != sampler.ESANS}
    assert draws.easy_BCM[0].numel() + draws.hard_BH.shape[1] == 15
    assert {value.numel() for value in drawn.values()} == {15 * size.batch}
    assert all(value.min() >= 0 and value.max() < 900 for value in drawn.values())


def test_the_parts_of_a_step_add_up(rows_of: dict[str, list[Row]]) -> None:
    paper = {row.metric: row for row in rows_of["step"] if row.subject == step.PAPER}
    parts = [row.value for metric, row in paper.items() if metric.startswith("of which ")]
    assert len(parts) == 6 and all(value > 0 for value in parts)
    assert paper["items encoded"].value <= 16 * (1 + 15)


def test_every_method_of_the_step_trains_the_model() -> None:
    world = World(WORLD)
    clocked = step.ClockedStep(world, step.NegativeConfig.for_method("esans_paper"), [world.batch()])
    before = [parameter.clone() for parameter in world.model.parameters()]
    clocked()
    assert any(not torch.equal(old, new) for old, new in zip(before, world.model.parameters(), strict=True))


def test_uniform_draws_for_as_many_different_items() -> None:
    size = WorldSize(num_items=5_000, batch=256)
    per_positive = step.draws_for(3_000, size)
    different = len(torch.randint(size.num_items, (size.batch * (per_positive + 1),)).unique())
    assert different == pytest.approx(3_000, rel=0.05)


def test_peak_memory_counts_what_lives_at_once() -> None:
    def two_at_once() -> torch.Tensor:
        first = torch.ones(250_000)
        del first
        return torch.ones(250_000) + torch.ones(250_000).mul_(2)

    assert peak_bytes(two_at_once) == pytest.approx(3e6, rel=0.01)
    assert peak_bytes(lambda: None) == 0


def test_virtual_logits_and_vectors_learn_the_same() -> None:
    one = edis.Step(8, 8)
    for ours, theirs in zip(one.learn(one.logits), one.learn(one.vectors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_in_batch_loss_is_cross_entropy() -> None:
    users, items = torch.randn(2, 12, 6)
    cosines = torch.nn.functional.cosine_similarity(users[:, None], items[None], dim=-1)
    expected = torch.nn.functional.cross_entropy(cosines / loss.TEMPERATURE, torch.arange(12))
    torch.testing.assert_close(loss.in_batch(users, items), expected)
    torch.testing.assert_close(loss.in_batch_in_blocks(users, items), expected)


def test_the_gpu_script_measures_the_same_things_anywhere() -> None:
    where: dict[str, dict[str, int]] = {}
    size = gpu.Size(world=WORLD, catalogue={300: 4}, repeats=2, modes=("eager",))
    rows = list(gpu.rows(size, torch.device("cpu"), where))
    check([row for row in rows if row.case.startswith("sampler")], family="sampler")
    check([row for row in rows if row.case.startswith("step")], family="step")
    assert {row.case.split(", ", 2)[2] for row in rows if row.case.startswith("step")} == {"float32, eager", "bfloat16, eager"}
    assert not where


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_waits_are_found() -> None:
    x = torch.ones(3, device="cuda")
    assert sum(syncs.waiting_places(lambda: x.sum().item()).values()) == 1
    assert not syncs.never_waits(lambda: x.sum().item())
    assert syncs.never_waits(lambda: x + 1) and not syncs.waiting_places(lambda: x + 1)
    host = torch.ones(3)
    assert not syncs.never_waits(lambda: host.to("cuda")) and syncs.never_waits(lambda: to_device(host, x.device))


def test_the_readme_table_keeps_the_largest_size_and_every_miss_with_what_it_was_compared_to() -> None:
    def memory(items: str, value: float) -> list[dict[str, Any]]:
        row = Row(f"sampler: {items} items", "cluster index", "memory", "bytes/item", value)
        rows = (judged(row, "value <= 24"), replace(row, peer="a list", ratio=value / 100))
        return [{key: part for key, part in vars(row).items() if part is not None} for row in rows]

    page = table.block({"rows": [*memory("10,000", 30.0), *memory("100,000", 9.0), *memory("1,000,000", 8.25)]})
    assert "| 0.3 | a list |  | 30.0 bytes/item | 10,000 items |" in page
    assert "value <= 24: **missed** | 30.0 bytes/item | 10,000 items |" in page
    assert "value <= 24: holds | 8.25 bytes/item | 1,000,000 items |" in page
    assert "100,000 items" not in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12_345_678.0, "12.3 M x"),
        (12_345.0, "12,345 x"),
        (1.2345, "1.23 x"),
        (0.04117, "0.0412 x"),
        (0.0, "0 x"),
        (999.6, "1,000 x"),
    ],
)
def test_quantities_have_three_digits(value: float, shown: str) -> None:
    assert table.quantity(value, "x") == shown


def test_terminal_table_and_picture(rows_of: dict[str, list[Row]], tmp_path: Path) -> None:
    rows = rows_of["sampler"]
    lines = table.text([{key: part for key, part in vars(row).items() if part is not None} for row in rows]).splitlines()
    assert len(lines) == len(rows)
    plot.sampler_throughput(rows, tmp_path / "images" / "throughput.png")
    assert (tmp_path / "images" / "throughput.png").read_bytes().startswith(b"\x89PNG")
