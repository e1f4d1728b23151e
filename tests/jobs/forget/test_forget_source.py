"""The note about the source: it is read as its `data.yaml` says, and where it is not looked at, the note says that."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.base.places import place
from jobs.base.settings import PipelineSettings
from jobs.forget import source
from jobs.forget.source import source_note
from jobs.landing.land import land
from tests.jobs.landing.sources import catalogue, log

HELD, NOT_HELD, UNKNOWN = "The source still holds the user", "does not hold the user", "was not looked at"
COLUMNS = {"columns": {"user_id": "visitor", "item_id": "sku", "timestamp": "at"}}


def write(folder: Path, mapping: dict[str, Any] | None = None, **files: bytes | str) -> Path:
    folder.mkdir(parents=True)
    catalogue().to_csv(folder / "items.csv", index=False)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content if isinstance(content, bytes) else content.encode())
    if mapping is not None:
        (folder / "data.yaml").write_text(yaml.safe_dump(mapping))
    return folder


def clicks() -> Any:
    return log(4, 3).rename(columns={"user_id": "visitor", "item_id": "sku", "timestamp": "at"})


def csv(frame: Any) -> str:
    return frame.to_csv(index=False)


def lines(frame: Any) -> str:
    return frame.to_json(orient="records", lines=True)


SOURCES: dict[str, tuple[dict[str, Any] | None, dict[str, bytes | str]]] = {
    "plain": (None, {"interactions__csv": csv(log(4, 3))}),
    "gzip": (None, {"interactions__csv__gz": gzip.compress(csv(log(4, 3)).encode())}),
    "lines": (None, {"interactions__jsonl": lines(log(4, 3))}),
    "other names": ({"interactions": COLUMNS | {"source": "clicks.csv"}}, {"clicks__csv": csv(clicks())}),
    "several tables": (
        {"interactions": [COLUMNS | {"source": "a.csv"}, COLUMNS | {"source": "b.jsonl"}]},
        {"a__csv": csv(clicks().query("visitor != 3")), "b__jsonl": lines(clicks())},
    ),
    "unwanted rows": (
        {"interactions": COLUMNS | {"source": "a.csv", "where": {"visitor": [0]}}},
        {"a__csv": csv(clicks())},
    ),
    "users": (
        {"users": {"attributes": {"country": "text"}}},
        {"interactions__csv": csv(log(2, 3)), "users__csv": "user_id,country\n3,DE\n"},
    ),
    "sessions": (
        {"interactions": {"columns": {"session_id": "visit"}}},
        {"interactions__csv": csv(log(2, 3).assign(user_id=None, visit=lambda rows: rows["item_id"] % 2 + 2))},
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("frozen", [True, False])
def test_it_is_read_as_data_yaml_says(settings: PipelineSettings, tmp_path: Path, kind: str, frozen: bool) -> None:
    mapping, files = SOURCES[kind]
    folder = write(tmp_path / "source", mapping, **files)
    settings.data.source = str(folder)
    if frozen:  # as the first step of a run leaves it
        about = {"uri": str(folder), "landing": land(place(folder), settings, tmp_path / "landing").as_json()}
        run = settings.home / "runs" / "2026-01-28"
        run.mkdir(parents=True)
        (run / "source.json").write_text(json.dumps(about))
        (folder / "data.yaml").unlink(missing_ok=True)
        settings = PipelineSettings(home=settings.home)
    before = "session " if kind == "sessions" else ""
    assert HELD in source_note(settings, f"{before}3")
    assert NOT_HELD in source_note(settings, f"{before}77")


def test_where_it_was_not_looked_at_the_note_says_why(
    settings: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert UNKNOWN in source_note(settings, "3")
    query = {"interactions": {"database": "postgresql://esans@127.0.0.1:9/shop", "query": "select 1"}}
    for name, mapping, files, why in (
        ("query", query, {}, "a query to a database"),
        ("other names", None, {"interactions__csv": csv(clicks())}, "cannot be read"),
        ("no file", None, {}, "cannot be read"),
    ):
        settings.data.source = str(write(tmp_path / name, mapping, **files))
        note = source_note(settings, "3")
        assert UNKNOWN in note and why in note and NOT_HELD not in note, name
    monkeypatch.setattr(source, "_CHEAP", 10)
    settings.data.source = str(write(tmp_path / "large", None, interactions__csv=csv(log(4, 3))))
    assert UNKNOWN in source_note(settings, "3")
