"""What else tables hold is named in comments: they change nothing, and mean what they say once they are none."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.base.places import place
from jobs.base.settings import PipelineSettings
from jobs.landing.mapping import DataMapping, read_mapping
from jobs.preflight.check import suggest
from jobs.preflight.suggest import suggestions
from tests.jobs.landing.sources import csv_source, landing, log

ITEM = {"title": "a", "category": "c", "tags": ["x", "y"], "price": 2.5, "vector": [0.1, 0.2], "sale": True, "brand_name": "b"}
LEFT_OUT = {
    "sku_url": "https://a.example",
    "odd name": "x",
    "sizes": [1, 2],
    "added_at": "2026-01-28",
    "more": {"a": 1},
    "empty": None,
}
MEANT = {"category": "text", "tags": "texts", "price": "number", "vector": "embedding", "sale": "text", "brand_name": "text"}


def source(folder: Path, form: str = "jsonl") -> Path:
    csv_source(folder, log().assign(kind=["view", "buy"] * 280))
    (folder / "items.csv").unlink()
    rows: list[dict[str, Any]] = [{"item_id": str(100 + row)} | ITEM | LEFT_OUT | {"text": f"words {row}"} for row in range(60)]
    if form == "jsonl":
        (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "items.parquet")
    (folder / "users.csv").write_text("user_id,age,country,first_name,email\n" + "1,30,DE,Ann,a@b.example\n" * 9)
    return folder


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_comments_name_attributes_and_kinds(settings: PipelineSettings, tmp_path: Path, form: str) -> None:
    folder = source(tmp_path / "data", form)
    text = suggestions(place(folder), DataMapping())
    assert all(line.startswith("#") for line in text.splitlines())
    (folder / "data.yaml").write_text(text)
    assert read_mapping(place(folder), settings) == DataMapping()
    lines = (line[2:] if re.match(r"# ( |[a-z]+:)", line) else line for line in text.splitlines())
    (folder / "data.yaml").write_text("\n".join(lines))
    meant = read_mapping(place(folder), settings)
    assert meant.items.attributes == MEANT and meant.users.attributes == {"age": "number", "country": "text"}
    assert {kind: rule.weight for kind, rule in meant.kinds.items()} == {"buy": 1.0, "view": 1.0}
    told = [sentence for table in landing(settings, folder).tables.values() for part in table.parts for sentence in part.told]
    assert not any("cannot be read" in sentence for sentence in told)


def test_what_is_mapped_already_is_not_named_again(tmp_path: Path) -> None:
    folder = source(tmp_path / "data")
    mapping = {"items": {"columns": {"text": "category"}, "attributes": {"price": "number"}}, "kinds": {"view": 1}}
    text = suggestions(place(folder), DataMapping.model_validate(mapping))
    assert "tags: texts" in text and not any(word in text for word in ("category", "price", "kinds:"))


def test_nothing_is_written_where_there_is_nothing_or_somebody_has_said_it(settings: PipelineSettings, tmp_path: Path) -> None:
    proposal = tmp_path / "proposed" / "data.yaml"
    settings.data.source = str(csv_source(tmp_path / "plain"))
    assert suggest(settings, proposal) is None
    folder = source(tmp_path / "data")
    (folder / "items.jsonl").write_text((folder / "items.jsonl").read_text().replace('"text"', '"description"'))
    settings.data.source = str(folder)
    assert suggest(settings, proposal) == proposal
    assert "#     category: text" in proposal.read_text() and "#     text: description" in proposal.read_text()
    (tmp_path / "data" / "data.yaml").write_text("repeats: again\n")
    assert suggest(settings, proposal.with_name("other.yaml")) is None
