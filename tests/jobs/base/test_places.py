"""Places on this machine and elsewhere: what a URI names, what Spark calls it, and what is refused with a remedy."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.base.errors import DataError
from jobs.base.files import write_text
from jobs.base.places import existing_folder, files_below, hadoop_uri, local_file, place, uri_of


def test_paths_and_file_uris_are_real_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    for uri in (str(folder), "a b", folder.as_uri(), f"file://localhost{folder}".replace(" ", "%20")):
        found = place(uri)
        assert isinstance(found, Path) and found == folder == existing_folder(uri)
    assert uri_of(place(folder)) == folder.as_uri()
    assert hadoop_uri(place(folder)) == f"file://{folder}"


@pytest.mark.parametrize(
    ("uri", "hadoop"),
    [
        ("webhdfs://node:9870/lake/a=1", "webhdfs://node:9870/lake/a=1"),
        ("webhdfs://me@node:9870/lake", "webhdfs://node:9870/lake"),
        ("s3://bucket/lake", "s3a://bucket/lake"),
        ("gs://bucket/lake", "gs://bucket/lake"),
    ],
)
def test_spark_names_a_store_as_hadoop_does(uri: str, hadoop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not uri.startswith("webhdfs"):
        monkeypatch.setattr("upath.UPath.fs", None)  # the environment does not have their clients
    found = copy.copy(place(uri))
    assert uri_of(found) == uri and hadoop_uri(found) == hadoop
    assert hadoop_uri(found / "b" / "c.parquet") == f"{hadoop}/b/c.parquet"


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s3://bucket/lake", "Install s3fs"),
        ("nothing://bucket/lake", "use a scheme that fsspec knows"),
        ("webhdfs://me:secret@node:9870/lake", "holds a password"),
        ("simplecache::webhdfs://node/lake", "chain of file systems"),
        ("file://elsewhere/lake", "lies on another machine"),
    ],
)
def test_a_place_that_cannot_be_had_says_what_to_do(uri: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as refused:
        place(uri)
    assert refused.value.remedy and "secret" not in str(refused.value)


def test_a_source_must_be_there_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for uri, problem in (
        (str(tmp_path / "none"), "does not exist"),
        (str(tmp_path / "file"), "is a file"),
        ("memory://bucket/none", "no file system for 'memory'"),
    ):
        with pytest.raises(DataError, match=problem):
            existing_folder(uri)
    with pytest.raises(OSError, match=r"cannot be reached.*Check the URI"):
        existing_folder("webhdfs://127.0.0.1:9/lake")


def test_spark_says_that_it_cannot_reach_memory() -> None:
    with pytest.raises(DataError, match="no file system for 'memory'"):
        hadoop_uri(place("memory://bucket/lake"))


def test_files_of_a_store_become_local_ones_for_as_long_as_needed(tmp_path: Path) -> None:
    for folder in (place(tmp_path), place(f"memory://bucket/{tmp_path.name}")):
        for name in ("b/two", "a", "b/one"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        assert [str(path.relative_to(folder)) for path in files_below(folder)] == ["a", "b/one", "b/two"]
        with local_file(folder / "b" / "one") as file:
            assert file.read_text() == "b/one" and type(file) in (Path, type(place(tmp_path)), type(tmp_path))
        assert file.exists() == isinstance(folder, Path)


def test_a_text_that_does_not_fit_on_the_disk_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    """The kernel ends the write in the middle, as it does on a full disk."""
    path = tmp_path / "verdict.json"
    write_text(path, "old")
    program = (
        "import resource, sys; from pathlib import Path; from jobs.base.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(Path(sys.argv[1]), 'x' * 5000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
