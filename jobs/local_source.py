"""Where a source lies: a folder of this machine, named by path or by file:// URI."""

from pathlib import Path
from urllib.parse import unquote, urlparse

from jobs.errors import DataError


def local_folder(source: str) -> Path:
    """The absolute folder that a source names.

    Raises:
        DataError: another kind of URI, or no such folder.
    """
    parsed = urlparse(source)
    if parsed.scheme not in ("", "file") or parsed.netloc not in ("", "localhost"):
        raise DataError(
            "is not on this file system.", file=source, remedy="give a folder or a file:// URI; mount or copy the data."
        )
    folder = Path(unquote(parsed.path) if parsed.scheme else source).expanduser().resolve()
    if not folder.is_dir():
        came = "is a file, not a folder." if folder.exists() else "does not exist."
        raise DataError(f"the source folder {came}", file=folder, remedy="set data.source to the folder with the input tables.")
    return folder
