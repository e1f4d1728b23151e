"""Finds the picture file that a catalogue names, and says why one is not found."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import children, file_stamp, place
from jobs.source.picture_cache import NOT_FETCHED, PictureCache
from jobs.source.picture_hosts import is_url

# No product picture is this large. A worker must not read a disk image or a video that a path happens to name.
MAX_IMAGE_BYTES = 64 * 2**20

NOT_GIVEN, NOT_FOUND, NO_FILE, NO_PERMISSION = "not_given", "not_found", "no_ordinary_file", "no_permission"
REFUSED_SCHEME, BAD_NAME, EMPTY, TOO_LARGE = "refused_scheme", "impossible_name", "empty", "too_large"


@dataclass(frozen=True)
class PictureFile:
    """What is cheap to know of a picture's file.

    Attributes:
        path: the file; None if there is none that may be read.
        size: in bytes.
        stamp: changes when its content does (`jobs.base.places.file_stamp`).
        why: why it cannot be used: one of the reasons of this module; empty if it can.
        tried: the place that was looked at last.
    """

    path: UPath | None = None
    size: int | None = None
    stamp: str | None = None
    why: str = ""
    tried: str = ""


def find_picture(folder: UPath, given: str | None, fetched: PictureCache | None = None) -> PictureFile:
    """The file of a picture.

    A path is taken as it stands. If nothing is there, it is tried without blanks around it, with slashes for backslashes, with
    `%20` and alike decoded, and without the name of the source's own folder in front: all of these come from exports.

    Args:
        folder: of the source; relative paths start there.
        given: a path, or a URI of the source's own kind (`file://` for a folder on this machine), or a URL of http or https.
        fetched: where pictures by URL were fetched to; None refuses them.

    Raises:
        OSError: a store cannot be reached. Its pictures are not missing then.
    """
    if given is None or not given.strip():
        return PictureFile(why=NOT_GIVEN)
    if fetched is not None and is_url(given):
        return _fetched(fetched, given.strip())
    found = PictureFile(why=NOT_FOUND, tried=given)
    for form in _forms(folder, given):
        found = _look(folder, form)
        if found.why != NOT_FOUND:
            break
    return found


def read_file(folder: UPath, given: str | None, fetched: PictureCache | None = None) -> bytes | None:
    """Content of a picture file; None if there is no such ordinary file, empty if it is too large."""
    found = find_picture(folder, given, fetched)
    if found.why == TOO_LARGE:
        return b""
    if found.path is None:
        return None
    try:
        return found.path.read_bytes()
    except (FileNotFoundError, PermissionError):  # it has gone since
        return None


def nearest_existing(found: PictureFile) -> str:
    """The longest leading part of the place of a missing picture that exists, for messages; empty if nobody can tell.

    A place that is refused is not looked at, because to look at a URL or another store is to send it a request.
    """
    if found.why not in (NOT_FOUND, NO_FILE, NO_PERMISSION) or is_url(found.tried):
        return ""
    try:
        path = place(found.tried)
        while path != path.parent:
            path = path.parent
            if path.exists():
                names = [child.name for child in children(path)[:3]]
                return f"{path}" + (f", which holds {', '.join(names)}, ..." if names else ", which is empty")
    except (OSError, ValueError, DataError):
        pass
    return ""


def _fetched(cache: PictureCache, url: str) -> PictureFile:
    found = cache.find(url)
    if found is None or found.why:
        return PictureFile(why=found.why if found else NOT_FETCHED, tried=url)
    return PictureFile(cache.content(found), found.size, f"{url} {found.content}", tried=url)


def _forms(folder: UPath, given: str) -> Iterator[str]:
    """The ways in which a path may be meant, each once, the literal one first."""
    stripped = given.strip()
    slashes = stripped.replace("\\", "/") if "://" not in stripped else stripped
    decoded = unquote(slashes) if "://" not in slashes else slashes
    own = decoded.removeprefix("./").removeprefix(f"{folder.name}/") if folder.name else decoded
    yield from dict.fromkeys((given, stripped, slashes, decoded, own))


def _look(folder: UPath, given: str) -> PictureFile:
    try:
        path = _path(folder, given)
        if path is None:
            return PictureFile(why=REFUSED_SCHEME, tried=given)
        found = file_stamp(path)
    except FileNotFoundError:
        return PictureFile(why=NOT_FOUND, tried=str(path))
    except NotADirectoryError:
        return PictureFile(why=NOT_FOUND, tried=str(path))
    except PermissionError:
        return PictureFile(why=NO_PERMISSION, tried=str(path))
    except (ValueError, DataError):  # a null character in the name, a broken URI
        return PictureFile(why=BAD_NAME, tried=given)
    except OSError:
        if isinstance(folder, Path):  # a name that is too long
            return PictureFile(why=BAD_NAME, tried=given)
        raise
    if found is None:  # no folder, device or pipe is ever opened
        return PictureFile(why=NO_FILE, tried=str(path))
    size, stamp = found
    return PictureFile(path, size, stamp, EMPTY if size == 0 else TOO_LARGE if size > MAX_IMAGE_BYTES else "", str(path))


def _path(folder: UPath, given: str) -> UPath | None:
    """The place of a picture; None if its URI is not of the source's own kind.

    A path in a catalogue must not make the workers send requests to other servers, or read their own disks.
    """
    parts = urlsplit(given)
    if parts.scheme == "file" and isinstance(folder, Path) and parts.netloc in ("", "localhost"):
        return folder / unquote(parts.path)
    if "://" not in given:
        return folder / given
    return place(given) if parts.scheme == folder.protocol else None
