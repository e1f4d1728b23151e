"""The text of a file: unpacked, decoded, and refused with the true cause if it is something else."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pyarrow as pa
from charset_normalizer import from_bytes

from jobs.base.errors import DataError
from jobs.landing.finding import Part
from jobs.landing.table_mapping import TableMapping

# The first bytes of a file say what it is, whatever its name is.
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_NO_TEXT = {b"PK\x03\x04": "a zip archive or an Excel workbook", b"PAR1": "Parquet", b"Obj\x01": "Avro", b"SQLite": "SQLite"}
_NO_TEXT |= {b"\xd0\xcf\x11\xe0": "an Excel workbook", b"7z\xbc\xaf": "a 7z archive", b"\xfd7zXZ": "an xz archive"}
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_LIKELY = ["cp1251", "shift_jis", "gb18030", "big5", "euc_kr"]  # what files that are not UTF-8 mostly are in the East
_ESCAPED, _REPLACED = re.compile("[\udc80-\udcff]"), re.compile("\ufffd")


@contextmanager
def opened(part: Part, mapping: TableMapping) -> Iterator[TextIO]:
    """The text of a file.

    Raises:
        DataError: while it is read: it is no text, is damaged, or leaves its encoding; then the message names the line.
    """
    encoding = ""
    try:
        encoding = mapping.encoding or _encoding(part)
        encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        with _unpacked(part) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as stream:
            yield stream
    except UnicodeError as error:
        raise _wrong_encoding(part, encoding) from error
    except (EOFError, OSError, pa.ArrowException) as error:
        raise DataError(
            f"the file cannot be unpacked or read ({error}).", file=part.path, remedy="copy it again and compare its size."
        ) from error


def _encoding(part: Part) -> str:
    """What the first bytes say. A text in UTF-16 without a mark has a zero in nearly every other place."""
    with _unpacked(part) as raw:
        head = raw.read(4_096)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 4 and min(even, odd) < max(even, odd) / 2:  # zeros in all places are damage
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8-sig"


@contextmanager
def _unpacked(part: Part) -> Iterator[io.BufferedReader]:
    assert part.path is not None
    with part.path.open("rb") as raw:
        head = raw.read(8)
        raw.seek(0)
        found = next((kind for first, kind in _NO_TEXT.items() if head.startswith(first)), None)
        if found:
            raise DataError(
                f"the content is {found}, though the name says {part.format}.",
                file=part.path,
                remedy="unpack it or export it as CSV, JSON lines or Parquet, with the suffix that fits.",
            )
        packed = next((kind for first, kind in _PACKED.items() if head.startswith(first)), None)
        if packed is None:
            yield raw  # type: ignore[misc]
        else:
            yield io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), packed))  # type: ignore[type-var]


def _wrong_encoding(part: Part, encoding: str) -> DataError:
    """The line on which a file leaves its encoding, and the encoding that it seems to have."""
    eight = encoding == "utf-8-sig"
    wrong: list[tuple[int, bytes]] = []
    errors = "surrogateescape" if eight else "replace"
    with _unpacked(part) as raw, io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="") as stream:
        for line, text in enumerate(stream, 1):
            if (_ESCAPED if eight else _REPLACED).search(text):
                wrong.append((line, text.encode("utf-8", errors)))
                if len(wrong) == 200 or not eight:
                    break
    line, sample = wrong[0] if wrong else (1, b"")
    guess = _guess(b"".join(text for _, text in wrong)) if eight else ""
    return DataError(
        f"line {line} is not {'UTF-8' if eight else encoding}: {sample.strip()[:60]!r}.",
        file=part.path,
        rows=[str(line)],
        remedy=f"save the file in UTF-8, or name its encoding in data.yaml (it looks like {guess}: encoding: {guess})."
        if guess
        else "save the file in UTF-8, or name its true encoding in data.yaml; a file that was cut off must be copied again.",
    )


def _guess(sample: bytes) -> str:
    """Letters with accents stand alone among others. In Cyrillic and in scripts of the East, they stand side by side."""
    high, pairs = len(re.findall(rb"[\x80-\xff]", sample)), len(re.findall(rb"[\x80-\xff]{2}", sample))
    if pairs * 5 <= high:
        return "cp1252"
    best = from_bytes(sample, cp_isolation=_LIKELY).best()
    return best.encoding if best is not None else "cp1252"
