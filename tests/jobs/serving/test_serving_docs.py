"""docs/serving.md, followed as it is written, with the ids, the port and the folders of the test in place of its own.

`test_end_to_end.py` asks what a real `make run` has left.

`test_serving_pyfunc.py` follows what it says of the registry, and `test_users_of_queries.py` what it says of users.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import write_challenger
from source_builder import publish

from esans_core.serving.bundle import ServingBundle, checked
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.serving import bundle as module
from jobs.serving.bundle import build_bundle
from jobs.serving.store import ServingStore
from tests.tutorials import ROOT, blocks, serving

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow


def texts(kind: str) -> list[str]:
    """The blocks of a kind, with the test's ids."""
    found = [block.text for block in blocks("../serving.md") if block.kind == kind]
    assert found
    return [text.replace("item-17", "i0017").replace("item-4", "i0004").replace("item-3", "i0003") for text in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository after a first run: `var/embedded`, with a bundle in force."""
    folder = tmp_path_factory.mktemp("repository")
    settings = PipelineSettings(home=folder / "var" / "embedded")
    write_challenger(settings)
    items = Lake.of(settings).read_pandas("items", settings.date)
    attributes = [{"category": ["shoes", "hats"][row % 2], "price": float(row)} for row in range(len(items))]
    publish(settings, "items", items.assign(attributes=attributes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TIMED_QUERIES", 5)
        build_bundle(settings, folder / "bundle")
    store, name = ServingStore.of(settings), f"{settings.ds}-v1-{checked(folder / 'bundle')['digest'][:8]}"
    store.add(folder / "bundle", name)
    store.activate(name, by="ann", reason="the first", version="1")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    """The port of a server that `make serve` has started."""
    with serving(folder) as port:
        yield port


def test_over_http(folder: Path, port: int) -> None:
    (text,) = texts("http")
    done = subprocess.run(
        ["bash", "-euc", text.replace("8085", str(port))], cwd=folder, capture_output=True, text=True, check=True
    )
    decoder, said = json.JSONDecoder(), done.stdout
    recommended, end = decoder.raw_decode(said)
    similar, _ = decoder.raw_decode(said[end:].strip())
    bundle = ServingBundle(folder / "bundle")
    known, new = recommended["answers"]
    (expected,) = bundle.recommend([["i0017", "i0004"]], 5, why=1)
    assert (known["item_id"], known["because"]) == (expected.item_ids, expected.because) and new["fallback"]
    assert similar["answers"][0]["item_id"] == bundle.similar(["i0017"], 5, exclude=["i0004"])[0].item_ids


def test_from_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {}
    monkeypatch.chdir(folder)
    for text in (*texts("library"), *texts("bundle")):
        exec(compile(text, "serving.md", "exec"), names)
    shutil.copy(folder / "bundle" / "popular.arrow", folder / "bundle" / "stranger")
    with pytest.raises(ValueError, match="stranger"):
        exec(compile(texts("library")[0], "serving.md", "exec"), {})
