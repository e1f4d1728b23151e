"""Where data lies: a folder of this machine, of the Hadoop file system (webhdfs), or of an object store (s3, gs).

A place off this machine has pathlib's methods (`universal_pathlib`), but is no `Path`. Credentials are never part of it:
fsspec and Hadoop find them in the environment, as they always do.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pyarrow.dataset as pads
from fsspec.registry import known_implementations
from upath import UPath
from upath.registry import register_implementation

from jobs.base.errors import DataError
from jobs.base.locks import alone_in

# Their clients keep listings in memory, in which another process's files never appear.
_CACHING = frozenset({"s3", "s3a", "gs", "gcs"})
# What Hadoop calls the stores that it can read. It has one name where fsspec has two.
_HADOOP = {"s3": "s3a", "s3a": "s3a", "gs": "gs", "gcs": "gs", "webhdfs": "webhdfs"}


class WebHdfsPath(UPath):
    """Registered by name: a class that universal_pathlib makes up on the way cannot be sent to a worker."""


register_implementation("webhdfs", WebHdfsPath, clobber=True)


def place(uri: str | Path) -> UPath:
    """The place that a path, a `file://` URI or another fsspec URI names; nothing is asked of the store yet.

    Raises:
        DataError: no client for the URI's scheme, or a URI with a password in it.
    """
    text = str(uri)
    parts = urlsplit(text) if "://" in text else None
    if parts is None or (parts.scheme == "file" and parts.netloc in ("", "localhost")):
        return UPath(Path(unquote(parts.path) if parts else text).expanduser().resolve())
    if parts.scheme == "file":
        raise DataError(
            "lies on another machine.", file=text, remedy="mount or copy the data, or name the store that holds it."
        )
    if parts.password or "::" in text:
        raise DataError(
            "holds a password." if parts.password else "is a chain of file systems.",
            file=f"{parts.scheme}://{parts.hostname}{parts.path}",
            remedy="give a plain URI; credentials belong into the environment, where fsspec and Hadoop look for them.",
        )
    options: dict[str, Any] = {"use_listings_cache": False} if parts.scheme in _CACHING else {}
    try:
        found = UPath(text, **options)
        _ = found.fs
    except (ImportError, ValueError, OSError) as error:
        client = known_implementations.get(parts.scheme, {}).get("err")
        raise DataError(
            f"no client for '{parts.scheme}' can be had ({str(error).splitlines()[0]}).",
            file=text,
            remedy=f"{client}, into the environment of the pipeline and of Spark's workers."
            if client
            else "use a scheme that fsspec knows (s3, gs, webhdfs, ...).",
        ) from error
    return found


def existing_folder(uri: str) -> UPath:
    """The place of a source.

    Raises:
        DataError: as `place` and `hadoop_uri`, and where there is no such folder, or it must not be read.
        OSError: the store cannot be reached.
    """
    folder = place(uri)
    hadoop_uri(folder)
    try:
        if folder.fs.info(folder.path)["type"] == "directory":  # `is_dir` would call a failing store an empty one
            return folder
        came = "is a file, not a folder."
    except FileNotFoundError:
        came = "does not exist."
    except PermissionError as error:
        came = f"may not be read ({error})."
    except Exception as error:  # every client has its own kinds
        raise OSError(
            f"{uri} cannot be reached ({type(error).__name__}: {error}). Check the URI, the network, and the credentials in "
            "the environment."
        ) from error
    raise DataError(f"the source folder {came}", file=folder, remedy="set data.source to the folder with the input tables.")


def uri_of(folder: UPath, scheme: str | None = None) -> str:
    """The whole URI of a place; universal_pathlib's own leaves out the host."""
    if isinstance(folder, Path):
        return folder.as_uri()
    if folder.protocol == "webhdfs":
        host, port, user = (folder.storage_options.get(name) for name in ("host", "port", "user"))
        before = f"{user}@" if user and scheme is None else ""  # Hadoop takes HADOOP_USER_NAME
        return f"{scheme or folder.protocol}://{before}{host or ''}{f':{port}' if port else ''}{folder.path}"
    return f"{scheme or folder.protocol}://{folder.path.lstrip('/')}"


def hadoop_uri(path: UPath) -> str:
    """The URI by which Spark reads and writes a place.

    Raises:
        DataError: Hadoop has no file system of this kind.
    """
    if isinstance(path, Path):
        return f"file://{path}"
    if path.protocol not in _HADOOP:
        raise DataError(
            f"Spark has no file system for '{path.protocol}'.",
            file=uri_of(path),
            remedy=f"use one of {', '.join(sorted(_HADOOP))}, or a folder that all machines share.",
        )
    return uri_of(path, _HADOOP[path.protocol])


def arrow_source(path: UPath) -> dict[str, Any]:
    """`source` and `filesystem` for pyarrow."""
    return {"source": str(path)} if isinstance(path, Path) else {"source": path.path, "filesystem": path.fs}


def open_dataset(path: UPath, kind: str = "parquet") -> pads.Dataset:
    """A file, or the files of this kind in a folder, in the order of their names."""
    files = [file for file in files_below(path) if file.suffix == f".{kind}"]
    names = [arrow_source(file)["source"] for file in files]
    return pads.dataset(names, filesystem=arrow_source(path).get("filesystem"), format=kind)


def files_below(folder: UPath) -> list[UPath]:
    """All files of a folder and its folders, in the order of their names; the file itself, if it is one.

    Raises:
        OSError: the store cannot be reached. (Most ways to list files would take that for an empty folder.)
    """
    start = len(folder.path.rstrip("/")) + 1
    try:
        names = folder.fs.find(folder.path, on_error="raise")
    except FileNotFoundError:
        return []
    return [folder / name[start:] if name[start:] else folder for name in sorted(names)]


def children(folder: UPath) -> list[UPath]:
    """What lies in a folder, in the order of names; nothing, if it is not there.

    Raises:
        OSError: the store cannot be reached.
    """
    try:
        names = folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError:
        return []
    return [folder / name.rsplit("/", 1)[-1] for name in sorted(names) if name != folder.path]


def remove_folder(folder: UPath) -> None:
    """Remove a folder, or what another process leaves of it."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        folder.fs.rm(folder.path, recursive=True)
    except OSError:
        return


def replace_text(path: UPath, text: str, *, aside: UPath) -> None:
    """Write a text so that a reader sees the old file or the new one, whatever happens to the writer.

    Args:
        path: the file.
        text: all of it.
        aside: a name on the same file system that is the writer's own, where the text may lie first.
    """
    if isinstance(path, Path):
        aside.write_text(text)
        aside.replace(path)
    elif path.protocol == "webhdfs":
        aside.write_text(text)
        _rename_over(aside, path)
    else:
        path.write_text(text)  # one PUT, which an object store shows whole or not at all


def _rename_over(source: UPath, target: UPath) -> None:
    """Rename a file of the Hadoop file system onto one that may be there: RENAME with OVERWRITE of its REST interface.

    fsspec's `mv` leaves out that option, so the request is made with the session that fsspec has opened.
    """
    fs = source.fs
    wanted = {"op": "RENAME", "destination": target.path, "renameoptions": "OVERWRITE"}
    fs.session.put(fs.url + quote(source.path, safe="/="), params=fs.pars | wanted).raise_for_status()


@contextmanager
def local_file(path: UPath | Path) -> Iterator[Path]:
    """A file as one of this machine, for readers that know no other: itself, or a copy for as long as the block."""
    with TemporaryDirectory() as folder:
        yield local_copy(path, Path(folder))


def local_copy(path: UPath | Path, folder: Path) -> Path:
    """A file of this machine, or a copy in `folder` of one from elsewhere."""
    if isinstance(path, Path):
        return path
    path.fs.get_file(path.path, str(folder / path.name))
    return folder / path.name


def kept_copy(folder: UPath | Path, copies: Path, *, name: str | None = None, files: Iterable[UPath] | None = None) -> Path:
    """A folder of this machine itself, or a copy of one from elsewhere that stays for all processes to come.

    Args:
        folder: the folder.
        copies: where copies are kept; each is there whole or not at all.
        name: of the copy, which must say what is in it; the folder's own by default, as that of a table's version does.
        files: what to copy; all by default.
    """
    if isinstance(folder, Path):
        return folder
    kept = copies / (name or folder.name)
    with alone_in(copies):  # the processes of a machine ask at the same time
        if not kept.exists():
            with TemporaryDirectory(dir=copies, prefix=".staging-") as copying:
                whole = Path(copying) / kept.name
                for file in files_below(folder) if files is None else files:
                    copy = whole / Path(file.path).relative_to(folder.path)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    file.fs.get_file(file.path, str(copy))
                whole.rename(kept)
    return kept


def copy_files(folder: UPath, target: Path) -> None:
    """Copy the files of a folder without folders into one of this machine, which is made."""
    target.mkdir(parents=True)
    for file in files_below(folder):
        file.fs.get_file(file.path, str(target / file.name))


@contextmanager
def local_draft(path: UPath | Path) -> Iterator[Path]:
    """A file or folder of this machine to write to, which is `path` when the block ends without an error."""
    if isinstance(path, Path):
        yield path
        return
    with TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        yield draft
        for file in files_below(UPath(draft)):
            path.fs.put_file(str(file), f"{path.path}{str(file).removeprefix(str(draft))}")
