"""Ids to rows and back, through hashes that must not lead astray."""

from pathlib import Path

import numpy as np
import pytest

from esans_core.serving import item_ids
from esans_core.serving.item_ids import ItemIds

IDS = ["b", "a", "naïve", "", "a b", "B", "0", "漢"]


def test_rows_and_ids_are_each_others_inverse(tmp_path: Path) -> None:
    ItemIds.save(tmp_path / "ids.arrow", IDS)
    ids = ItemIds(tmp_path / "ids.arrow")
    assert len(ids) == len(IDS)
    assert ids.rows(IDS[::-1]).tolist() == list(range(len(IDS)))[::-1]
    assert ids.rows(["a", "c", "a", " a"]).tolist() == [1, -1, 1, -1]
    assert ids.rows([]).tolist() == []
    assert ids.take(np.array([2, 0])).to_pylist() == ["naïve", "b"]


def test_ids_that_share_a_hash_get_another_salt_and_strangers_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(ids: list[str], salt: bytes) -> np.ndarray:
        shift = int(salt)  # with salt 0, "b" and "B" collide
        return np.array([ord(item[:1].lower() if not shift else item[:1] or "x") if item else 0 for item in ids], np.uint64)

    monkeypatch.setattr(item_ids, "_hashes", few)
    ItemIds.save(tmp_path / "ids.arrow", ["b", "B", "c"])
    ids = ItemIds(tmp_path / "ids.arrow")
    assert ids.rows(["B", "b", "c", "cat", "Bat", "z"]).tolist() == [1, 0, 2, -1, -1, -1]


@pytest.mark.parametrize("wrong", [[], ["a", "b", "a"]])
def test_ids_that_name_nothing_or_two_things_are_refused(tmp_path: Path, wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="none twice"):
        ItemIds.save(tmp_path / "ids.arrow", wrong)
