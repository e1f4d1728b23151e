"""What the check foretells of later gates: contents that many items share, and kinds that the log spells otherwise."""

from pathlib import Path

import pandas as pd
import pytest

from jobs.base.settings import PipelineSettings
from tests.jobs import source_builder as build
from tests.jobs.preflight.test_check import checked, fit

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]
SAME = build.picture(0)


def images(*of_items: list[bytes]) -> pd.DataFrame:
    rows = [(f"i{row:02d}", content) for row, contents in enumerate(of_items) for content in contents]
    return pd.DataFrame(rows, columns=["item_id", "image"])


@pytest.mark.parametrize(
    ("tables", "verdict", "says"),
    [
        ({"images": images(*[[SAME]] * 24)}, "not", "24 of 24 pictures that were compared are one and the same"),
        ({"images": images(*[[SAME]] * 22, *[[build.picture(row)] for row in (1, 2)])}, "not", "22 of 24 pictures"),
        ({"images": images(*[[SAME]] * 21, *[[build.picture(row)] for row in (1, 2, 3)])}, "but", "warns above 10%"),
        ({"images": images(*[[SAME, SAME]] * 24)}, "but", "48 of 48 pictures"),  # the gate compares items, not pictures
        ({"images": images(*[[SAME]] * 3, *[[build.picture(row)] for row in range(1, 22)])}, "fit", "fit to run"),
        ({"images": images(*[[b"<html>gone</html>"]] * 24)}, "fit", "24 that are no JPEG"),  # no vector is made of them
        ({"items": build.items().assign(title="a thing", text=None)}, "not", "24 of 24 texts that were compared are one"),
        (
            {"items": build.items().assign(title=["a thing"] * 12 + [f"n {row}" for row in range(12)], text=None)},
            "but",
            "12 of 24",
        ),
    ],
)
def test_contents_that_many_items_share(
    settings: PipelineSettings, tmp_path: Path, tables: dict[str, pd.DataFrame], verdict: str, says: str
) -> None:
    found, text = checked(fit(settings, build.write_source(tmp_path / "data", **tables)), tmp_path)
    assert found.verdict == verdict and says in text


@pytest.mark.parametrize(
    ("rules", "warns"),
    [
        ("{purchase: {weight: 8}, view: {role: history}}", "the kinds 'purchase', which no event has. Events of 'Purchase', "),
        ("{Purchase: {weight: 8}, view: {}, return: {role: cancels, cancels: purchase}}", ""),
        ("{Purchase: {weight: 8}, return: {role: cancels, cancels: purchase}}", "'purchase', 'return', which no event has"),
        ("{Purchase: {}, view: {role: cancels, cancels: purchse}}", "'view' takes back 'purchse', which no event is"),
    ],
)
def test_kinds_that_the_log_spells_otherwise(settings: PipelineSettings, tmp_path: Path, rules: str, warns: str) -> None:
    log = build.interactions().assign(kind=["Purchase", "view"] * (build.NUM_USERS * build.NUM_DAYS // 2))
    folder = build.write_source(tmp_path / "data", interactions=log)
    (folder / "data.yaml").write_text(f"kinds: {rules}")
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == ("but" if warns else "fit") and warns in text
