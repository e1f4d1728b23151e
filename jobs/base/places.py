"""Where data lies: a folder of this machine, of the Hadoop file system (webhdfs), or of an object store (s3, gs).

A place on another machine has pathlib's methods (`universal_pathlib`), but it is not a `Path`. Credentials are never part of
a place: fsspec and Hadoop find them in the environment, as they always do.
"""

import hashlib
import os
import shutil
import stat
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
    """A path of webhdfs. It has a class here, because one that universal_pathlib makes at run time cannot go to a worker."""


register_implementation("webhdfs", WebHdfsPath, clobber=True)


def place(uri: str | Path) -> UPath:
    """The place that a path, a `file://` URI or another fsspec URI names. The store is not asked yet.

    Raises:
        DataError: there is no client for the URI's scheme, or the URI holds a password.
    """
    text = str(uri)
    parts = urlsplit(text) if "://" in text else None
    if parts is None or (parts.scheme == "file" and parts.netloc in ("", "localhost")):
        # Links are not followed, so that a link `current` whose target changes every day is one source.
        return UPath(os.path.abspath(Path(unquote(parts.path) if parts else text).expanduser()))  # noqa: PTH100
    if parts.scheme == "file":
        raise DataError(
            "the folder lies on another machine.", file=text, remedy="mount or copy the data, or name the store that holds it."
        )
    if parts.password or "::" in text:
        raise DataError(
            "the URI holds a password." if parts.password else "the URI is a chain of file systems.",
            file=f"{parts.scheme}://{parts.hostname}{parts.path}",
            remedy="give a plain URI; put credentials into the environment, where fsspec and Hadoop look for them.",
        )
    options: dict[str, Any] = {"use_listings_cache": False} if parts.scheme in _CACHING else {}
    try:
        found = UPath(text, **options)
        _ = found.fs
    except (ImportError, ValueError, OSError) as error:
        client = known_implementations.get(parts.scheme, {}).get("err")
        raise DataError(
            f"there is no client for '{parts.scheme}' ({str(error).splitlines()[0]}).",
            file=text,
            remedy=f"{client}, into the environment of the pipeline and of Spark's workers."
            if client
            else "use a scheme that fsspec knows (s3, gs, webhdfs, ...).",
        ) from error
    return found


def existing_folder(uri: str) -> UPath:
    """The place of a source, which must be a folder that exists.

    Raises:
        DataError: as for `place` and `hadoop_uri`; also if there is no such folder, or it may not be read.
        OSError: the store cannot be reached.
    """
    folder = place(uri)
    hadoop_uri(folder)
    try:
        if folder.fs.info(folder.path)["type"] == "directory":  # `is_dir` would say False if the store fails
            return folder
        came = "is a file, not a folder."
    except FileNotFoundError:
        came = "does not exist."
    except PermissionError as error:
        came = f"may not be read ({error})."
    except Exception as error:  # each client has its own kinds of error
        raise OSError(
            f"{uri} cannot be reached ({type(error).__name__}: {error}). Check the URI, the network, and the credentials in "
            "the environment."
        ) from error
    raise DataError(f"the source folder {came}", file=folder, remedy="set data.source to the folder with the input tables.")


def uri_of(folder: UPath, scheme: str | None = None) -> str:
    """The whole URI of a place. (The one of universal_pathlib leaves out the host.)"""
    if isinstance(folder, Path):
        return folder.as_uri()
    if folder.protocol == "webhdfs":
        host, port, user = (folder.storage_options.get(name) for name in ("host", "port", "user"))
        before = f"{user}@" if user and scheme is None else ""  # Hadoop takes the user from HADOOP_USER_NAME
        return f"{scheme or folder.protocol}://{before}{host or ''}{f':{port}' if port else ''}{folder.path}"
    path = folder.path.removeprefix(f"{folder.protocol}://")  # that of a URL of http is the whole URL
    return f"{scheme or folder.protocol}://{path.lstrip('/')}"


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


def file_stamp(path: UPath) -> tuple[int, str] | None:
    """Size of a file in bytes, and a stamp that changes when its content does; None if it is no ordinary file.

    Locally the stamp covers path, size, and the times of the last change of content and of status in nanoseconds. A tool
    may set the first time back (`cp -p`, `rsync -t`), but nobody can set the second. So only one change is missed: that of a
    file written again with the same length within the same tick of the clock (a few milliseconds) as a run looked at it.
    In a store, the stamp is what the client takes for the file's version. It is taken before the file is read, so a change in
    between is seen by the next run.

    Raises:
        OSError: there is no such file, or the store cannot be reached.
    """
    if isinstance(path, Path):
        found = path.stat()
        size, seen = found.st_size, f"{found.st_mtime_ns}\n{found.st_ctime_ns}" if stat.S_ISREG(found.st_mode) else None
    else:
        about = path.fs.info(path.path)
        size, seen = about["size"], str(path.fs.checksum(path.path)) if about["type"] == "file" else None
    stamp = hashlib.sha256(f"{path}\n{size}\n{seen}".encode(errors="surrogateescape")).hexdigest()[:32]
    return None if seen is None else (size, stamp)


def arrow_source(path: UPath) -> dict[str, Any]:
    """The arguments `source` and `filesystem` of pyarrow for a place."""
    return {"source": str(path)} if isinstance(path, Path) else {"source": path.path, "filesystem": path.fs}


def open_dataset(path: UPath, kind: str = "parquet") -> pads.Dataset:
    """A dataset of one file, or of the files of this kind in a folder, in the order of their names."""
    files = [file for file in files_below(path) if file.suffix == f".{kind}"]
    names = [arrow_source(file)["source"] for file in files]
    return pads.dataset(names, filesystem=arrow_source(path).get("filesystem"), format=kind)


def files_below(folder: UPath) -> list[UPath]:
    """All files in a folder and its subfolders, in the order of their names. A file gives itself.

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
    """What lies in a folder, in the order of names; an empty list if there is no such folder.

    Raises:
        OSError: the store cannot be reached.
    """
    try:
        names = folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError:
        return []
    return [folder / name.rsplit("/", 1)[-1] for name in sorted(names) if name != folder.path]


def remove_folder(folder: UPath) -> None:
    """Remove a folder. It is no error if another process removes it at the same time."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        folder.fs.rm(folder.path, recursive=True)
    except OSError:
        return


def replace_text(path: UPath, text: str, *, aside: UPath) -> None:
    """Write a text so that a reader sees the old file or the new one, whatever happens to the writer.

    If it cannot be written, as on a full disk, nothing of it is left.

    Args:
        path: the file.
        text: all of it.
        aside: a name on the same file system that only this writer uses; the text may be written there first.
    """
    if isinstance(path, Path):
        try:
            aside.write_text(text)
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
    elif path.protocol == "webhdfs":
        aside.write_text(text)
        _rename_over(aside, path)
    else:
        path.write_text(text)  # one PUT, which an object store shows whole or not at all


def _rename_over(source: UPath, target: UPath) -> None:
    """Rename a file of the Hadoop file system and replace the target if there is one: RENAME with OVERWRITE by REST.

    fsspec's `mv` does not have that option, so the request is made here, with the session that fsspec has opened.
    """
    fs = source.fs
    wanted = {"op": "RENAME", "destination": target.path, "renameoptions": "OVERWRITE"}
    fs.session.put(fs.url + quote(source.path, safe="/="), params=fs.pars | wanted).raise_for_status()


@contextmanager
def local_file(path: UPath | Path) -> Iterator[Path]:
    """A local file, for readers that can read no other: the file itself, or a copy that is removed after the block."""
    with TemporaryDirectory() as folder:
        yield local_copy(path, Path(folder))


def local_copy(path: UPath | Path, folder: Path) -> Path:
    """The file itself if it lies on this machine, else a copy of it in `folder`."""
    if isinstance(path, Path):
        return path
    path.fs.get_file(path.path, str(folder / path.name))
    return folder / path.name


def kept_copy(folder: UPath | Path, copies: Path, *, name: str | None = None, files: Iterable[UPath] | None = None) -> Path:
    """The folder itself if it lies on this machine, else a copy of it, which stays for later processes.

    Args:
        folder: the folder.
        copies: where copies are kept; each is there whole or not at all.
        name: of the copy. Other content must have another name, as each version of a table does; by default the folder's.
        files: what to copy; all by default.
    """
    if isinstance(folder, Path):
        return folder
    kept = copies / (name or folder.name)
    with alone_in(copies):  # the processes of a machine may ask at the same time
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
    """Copy the files of a folder that has no subfolders into a new folder of this machine."""
    target.mkdir(parents=True)
    for file in files_below(folder):
        file.fs.get_file(file.path, str(target / file.name))


@contextmanager
def local_draft(path: UPath | Path) -> Iterator[Path]:
    """A local file or folder to write to. When the block ends without an error, it is put at `path`."""
    if isinstance(path, Path):
        yield path
        return
    with TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        yield draft
        for file in files_below(UPath(draft)):
            path.fs.put_file(str(file), f"{path.path}{str(file).removeprefix(str(draft))}")
