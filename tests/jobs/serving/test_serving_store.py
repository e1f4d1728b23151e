"""The store of bundles: a bundle is whole or not there, even if a writer is killed; the history; which bundles are kept."""

import hashlib
import json
import multiprocessing
import random
import threading
import time
from pathlib import Path

import pytest

from esans_core.serving.bundle_files import BUNDLE, overall_digest
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.serving.store import ServingStore
from jobs.serving.verified import verify


def write_for_ever(root: Path, folder: Path, names: list[str]) -> None:
    store = ServingStore(root, keep=2)
    while True:
        for name in names:
            store.add(folder / name, name)
            store.activate(name, by="writer", reason="turn", version=name.split("-v")[1].split("-")[0])


def source(folder: Path, version: int, files: int = 6) -> str:
    """A folder that looks like a bundle, of a few hundred kilobytes, and its name."""
    made = folder / "making"
    (made / "index").mkdir(parents=True)
    content = random.Random(version).randbytes(60_000)
    names = [f"index/{number}.npy" for number in range(files)]
    for name in names:
        (made / name).write_bytes(content)
    digests = dict.fromkeys(names, hashlib.sha256(content).hexdigest())
    about = {"version": version}
    digest = overall_digest(about, digests)
    (made / BUNDLE).write_text(json.dumps({"about": about, "files": digests, "digest": digest}))
    name = f"2026-01-{version:02d}-v{version}-{digest[:8]}"
    made.rename(folder / name)
    return name


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, list[str]]:
    folder = tmp_path / "sources"
    return folder, [source(folder, version) for version in range(1, 13)]


def test_what_is_published_is_there_whole_in_order_and_on_record(tmp_path: Path, sources: tuple[Path, list[str]]) -> None:
    folder, names = sources
    store = ServingStore(tmp_path / "serving")
    assert (store.names(), store.current(), store.history()) == ([], None, [])
    for name in (names[9], names[1], names[0]):
        assert verify(store.add(folder / name, name))["digest"].startswith(name[-8:])
    assert store.names() == [names[0], names[1], names[9]], "by version: 10 after 2"
    assert store.current() is None
    store.activate(names[9], by="ann", reason="better; \u00fc\nsecond line", version="10")
    store.activate(names[9], by="ann", reason="again", version="10")
    store.activate(names[0], by="bob", reason="roll back", version="1")
    assert store.current() == names[0]
    kept = [(entry["name"], entry["by"], entry["version"]) for entry in ServingStore(tmp_path / "serving").history()]
    assert kept == [(names[9], "ann", "10"), (names[0], "bob", "1")]
    assert store.history()[0]["reason"] == "better; \u00fc\nsecond line"
    inode = store.path(names[0]).stat().st_ino
    assert store.add(folder / names[0], names[0]).stat().st_ino == inode, "adding twice copies once"


def test_the_newest_and_the_one_in_force_are_kept(tmp_path: Path, sources: tuple[Path, list[str]]) -> None:
    folder, names = sources
    store = ServingStore(tmp_path / "serving", keep=3)
    store.add(folder / names[0], names[0])
    store.activate(names[0], by="a", reason="first", version="1")
    for name in names[1:]:
        store.add(folder / name, name)
    assert store.names() == [names[0], *names[-3:]]
    store.add(folder / names[2], names[2])
    assert store.names() == [names[0], names[2], *names[-3:]], "what was just added is not removed for being old"
    assert not list((tmp_path / "serving").rglob(".aside-*"))


def test_the_root_and_the_number_kept_are_settings(settings: PipelineSettings, tmp_path: Path) -> None:
    assert ServingStore.of(settings).root == settings.home / "serving"
    other = settings.model_copy(
        update={"serving": str(tmp_path / "x"), "bundle": settings.bundle.model_copy(update={"keep": 4})}
    )
    assert (ServingStore.of(other).root, ServingStore.of(other).keep) == (tmp_path / "x", 4)


@pytest.mark.parametrize(
    "name", ["", "latest", "../2026-01-01-v1-00000000", "2026-01-01-v1-0000000g", "2026-01-01-v1-00000000\n"]
)
def test_other_names_are_refused(tmp_path: Path, sources: tuple[Path, list[str]], name: str) -> None:
    folder, names = sources
    store = ServingStore(tmp_path / "serving")
    with pytest.raises(DataError, match="named like"):
        store.add(folder / names[0], name)
    with pytest.raises(DataError, match="named like"):
        store.activate(name, by="a", reason="b", version="1")


def test_what_is_not_what_was_built_is_neither_added_nor_put_in_force(tmp_path: Path, sources: tuple[Path, list[str]]) -> None:
    folder, names = sources
    store = ServingStore(tmp_path / "serving")
    store.add(folder / names[0], names[0])
    store.activate(names[0], by="a", reason="b", version="1")
    with pytest.raises(DataError, match="there is no bundle"):
        store.activate(names[1], by="a", reason="b", version="2")
    with pytest.raises(DataError, match="by its own digest"):
        store.add(folder / names[1], f"2026-01-02-v2-{names[0][-8:]}")
    (folder / names[2] / "index" / "3.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="changed"):
        store.add(folder / names[2], names[2])
    assert store.names() == [names[0]]
    (store.add(folder / names[1], names[1]) / "index" / "0.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="changed"):
        store.activate(names[1], by="a", reason="b", version="2")
    with pytest.raises(DataError, match="changed"):
        store.add(folder / names[1], names[1])
    assert store.current() == names[0] and len(store.history()) == 1


def test_a_writer_killed_after_the_pointer_or_within_a_line_loses_no_history(
    tmp_path: Path, sources: tuple[Path, list[str]]
) -> None:
    folder, names = sources
    store = ServingStore(tmp_path / "serving")
    for number, name in enumerate(names[:3], 1):
        store.add(folder / name, name)
        store.activate(name, by="a", reason="b", version=str(number))
    file = tmp_path / "serving" / "history.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    for cut in ("".join(lines[:2]), "".join(lines[:2]) + lines[2][:20]):
        file.write_text(cut)
        assert [entry["name"] for entry in store.history()] == names[:3]
    store.activate(names[0], by="a", reason="back", version="1")
    assert [json.loads(line)["name"] for line in file.read_text().splitlines()] == [*names[:3], names[0]]


@pytest.mark.slow
def test_killed_writers_and_readers_beside_them_see_whole_bundles_only(tmp_path: Path, sources: tuple[Path, list[str]]) -> None:
    folder, names = sources
    root, stop = tmp_path / "serving", threading.Event()
    problems: list[Exception] = []
    reads: list[bool] = []
    store = ServingStore(root, keep=2)
    processes = multiprocessing.get_context("forkserver")  # which imports once, and then forks
    processes.set_forkserver_preload(["jobs.serving.store"])

    def read() -> None:
        while not stop.is_set():
            name = store.current()
            try:
                if name is not None:
                    reads.append(verify(store.path(name))["digest"].startswith(name[-8:]))
            except (DataError, OSError) as error:
                if name in (store.current(), *store.names()):  # else it was removed meanwhile, as too old
                    problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(8):
            writer = processes.Process(target=write_for_ever, args=(root, folder, names[turn:] + names[:turn]))
            writer.start()
            before = len(store.history())
            deadline = time.monotonic() + 60
            while len(store.history()) == before and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(random.Random(turn).uniform(0, 0.2))
            writer.kill()
            writer.join()
            assert len(store.history()) > before
            for name in store.names():
                assert verify(store.path(name))["digest"].startswith(name[-8:])
            if store.current() is not None:
                assert store.current() in store.names()
                assert store.history()[-1]["name"] == store.current()
    finally:
        stop.set()
        reader.join()
    assert not problems and all(reads) and len(reads) > 3
    name = names[-1]
    store.add(folder / name, name)
    store.activate(name, by="me", reason="after the storm", version="12")
    assert store.current() == name
    assert not list(root.rglob(".aside-*"))
    entries = [json.loads(line) for line in (root / "history.jsonl").read_text().splitlines()]
    assert entries == store.history()
    assert all(before["name"] != after["name"] for before, after in zip(entries, entries[1:], strict=False))
