"""Exported towers against the towers they came from: any batch, any length, the same bytes, nothing pickled."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from esans_core.serving.export import export_item_tower, export_user_tower
from esans_core.towers import Order, TwoTower

pytestmark = pytest.mark.slow  # an export takes seconds


def towers(max_history: int = 9, order: Order = "sequence") -> TwoTower:
    torch.manual_seed(0)
    content = torch.randn(30, 12)
    content[4, :6] = torch.nan
    return TwoTower(
        content, torch.arange(30) < 25, order=order, dim=8, num_heads=2, max_history=max_history, popularity=True
    ).eval()


@pytest.mark.parametrize("order", ["sequence", "set"])
@pytest.mark.parametrize("max_history", [1, 2, 9])
def test_the_user_tower_takes_any_number_of_users_and_events(tmp_path: Path, max_history: int, order: Order) -> None:
    model = towers(max_history, order)
    export_user_tower(model, tmp_path / "user.pt2")
    program = torch.export.load(tmp_path / "user.pt2").module()
    for users, length in ((1, 1), (1, max_history), (5, max_history), (700, 1)):
        inputs, mask = torch.randn(users, length, 8), torch.arange(length) < torch.randint(length + 1, (users, 1))
        expected = model.user_tower(inputs, mask)
        expected = torch.cat([expected, torch.ones(users, 1)], 1)  # the number that meets the items' popularity
        torch.testing.assert_close(program(inputs, mask), expected)


@pytest.mark.parametrize("order", ["sequence", "set"])
def test_the_item_tower_serves_an_item_that_training_never_met(tmp_path: Path, order: Order) -> None:
    model = towers(order=order)
    export_item_tower(model, tmp_path / "item.pt2")
    raw = torch.randn(3, 12)
    raw[1, 6:] = torch.nan
    moved = model.for_catalogue(torch.full((3,), -1), raw)
    inputs, vectors = torch.export.load(tmp_path / "item.pt2").module()(raw)
    torch.testing.assert_close(inputs, moved.context_input(torch.arange(3)))
    torch.testing.assert_close(vectors, moved.encode_items(torch.arange(3)))


def test_the_exported_item_tower_bounds_its_input_and_reads_no_feature_that_was_constant(tmp_path: Path) -> None:
    torch.manual_seed(0)
    content = torch.randn(30, 12)
    content[:, 0] = 0.3
    model = TwoTower(content, torch.arange(30) < 25, dim=8, num_heads=2, max_history=4, popularity=True).eval()
    export_item_tower(model, tmp_path / "item.pt2")
    program = torch.export.load(tmp_path / "item.pt2").module()
    raw = content[:1].repeat(4, 1)
    raw[1, 0] = 1.3  # a million deviations, were there one to divide by
    raw[2, 5], raw[3, 5] = 1e30, torch.inf
    inputs, vectors = program(raw)
    torch.testing.assert_close(vectors[1], vectors[0])
    torch.testing.assert_close(vectors[3], vectors[2])
    moved = model.for_catalogue(torch.full((3,), -1), raw[:3])
    torch.testing.assert_close(inputs[:3], moved.item_input(torch.arange(3)))
    assert inputs.abs().max() < 50 and vectors.isfinite().all()


def test_the_same_weights_give_the_same_bytes_and_hold_no_pickle(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    code = (
        "from pathlib import Path\nfrom tests.core.serving.test_export import towers\n"
        "from esans_core.serving.export import export_user_tower\n"
        f"export_user_tower(towers(), Path({str(tmp_path / 'other')!r}) / 'user.pt2')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)
    export_user_tower(towers(), tmp_path / "user.pt2")
    assert (tmp_path / "user.pt2").read_bytes() == (tmp_path / "other" / "user.pt2").read_bytes()
    with zipfile.ZipFile(tmp_path / "user.pt2") as archive:
        assert not any(b"\x80\x02" in archive.read(name)[:2] for name in archive.namelist())
        assert archive.read("user/data/sample_inputs/model.pt") == b""
        assert str(Path(__file__).parents[3]).encode() not in archive.read("user/models/model.json")
