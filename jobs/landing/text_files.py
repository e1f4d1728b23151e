"""Reads CSV and JSON lines, also compressed. Every value comes as text, or as it stands in the JSON.

Types are decided later by the values of the whole column, never by the first block of a file.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import pyarrow as pa
from charset_normalizer import from_bytes

from jobs.base.errors import DataError
from jobs.landing.finding import COMPRESSIONS, Part
from jobs.landing.mapping import TableMapping

# One value may be a long text, but not a whole file; an unclosed quote would make it one.
_LARGEST_VALUE = 16 * 2**20
_ROWS = 50_000
_DELIMITERS = (",", ";", "\t", "|")
_LIKELY = ["cp1252", "cp1250", "cp1251", "shift_jis", "gb18030", "big5", "euc_kr"]  # what files that are not UTF-8 mostly are

Batch = tuple[dict[str, list[Any]], list[int]]


def csv_names(part: Part, mapping: TableMapping) -> list[str]:
    """Names of the columns of a CSV file. Raises `DataError` if two are equal, or the file is empty or not text."""
    with _text(part, mapping) as stream:
        return _header(stream, part, mapping)[0]


def read_csv(part: Part, mapping: TableMapping, wanted: Sequence[str]) -> Iterator[Batch]:
    """Rows of a CSV file, as texts, with the number of the line on which each begins. Empty values are None.

    Raises:
        DataError: the file is not in its encoding, a row has more or fewer values than the header, or a quote is never closed.
            The message names the line.
    """
    with _text(part, mapping) as stream:
        names, delimiter, first = _header(stream, part, mapping)
        places = [(name, names.index(name)) for name in wanted if name in names]
        width, line = len(names), first
        rows: list[list[str]] = []
        lines: list[int] = []
        for row, line in _records(stream, part, delimiter, first):
            if len(row) != width:
                if not row:
                    continue
                raise DataError(
                    f"line {line} has {len(row)} values, but {'the header' if not mapping.names else 'names'} has {width}: "
                    f"{delimiter.join(row)[:120]}",
                    file=part.path,
                    rows=[str(line)],
                    remedy="correct the line. A value that holds the delimiter or a line break must stand in double quotes.",
                )
            rows.append(row)
            lines.append(line)
            if len(rows) == _ROWS:
                yield _columns(rows, places), lines
                rows, lines = [], []
        if rows:
            yield _columns(rows, places), lines


def json_names(part: Part, mapping: TableMapping) -> list[str]:
    """Names of the fields in the first thousand objects of a JSON file, in the order in which they come."""
    names: dict[str, None] = {}
    for number, (value, _) in enumerate(_objects(part, mapping)):
        names |= dict.fromkeys(value)
        if number == 1_000:
            break
    return list(names)


def read_json(part: Part, mapping: TableMapping, wanted: Sequence[str]) -> Iterator[Batch]:
    """Rows of JSON lines (or of one array of objects), with the number of each line. What a row lacks is None.

    Args:
        part: the file.
        mapping: its encoding, and the list that is exploded.
        wanted: fields; a dot enters an object.

    Raises:
        DataError: a line is not a JSON object; the message names the line.
    """
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for value, line in _objects(part, mapping):
        if not mapping.explode:
            rows.append(value)
            lines.append(line)
        else:
            elements = field_of(value, mapping.explode)
            for element in elements if isinstance(elements, list) else []:
                rows.append(value | {mapping.explode: element})
                lines.append(line)
        if len(rows) >= _ROWS:
            yield {name: [field_of(row, name) for row in rows] for name in wanted}, lines
            rows, lines = [], []
    if rows:
        yield {name: [field_of(row, name) for row in rows] for name in wanted}, lines


def field_of(value: Any, name: str) -> Any:
    """A field of a JSON object, or of an object within it: `user.id`. None if it is not there."""
    if isinstance(value, dict) and name in value:
        return value[name]
    first, dot, rest = name.partition(".")
    return field_of(value.get(first), rest) if dot and isinstance(value, dict) else None


def _columns(rows: list[list[str]], places: list[tuple[str, int]]) -> dict[str, list[Any]]:
    return {name: [row[place] or None for row in rows] for name, place in places}


def _records(stream: TextIO, part: Part, delimiter: str, first: int) -> Iterator[tuple[list[str], int]]:
    """Rows of a CSV, each with the line on which it begins."""
    if len(delimiter) > 1:  # as in MovieLens: such files know no quotes
        for line, text in enumerate(stream, first):
            yield text.rstrip("\r\n").split(delimiter) if text.strip() else [], line
        return
    before = csv.field_size_limit(_LARGEST_VALUE)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    begins = first
    try:
        for row in reader:
            yield row, begins
            begins = first + reader.line_num
    except csv.Error as error:
        raise DataError(
            f"the row that begins on line {begins} cannot be read ({error}). Is a quote opened there and never closed?",
            file=part.path,
            rows=[str(begins)],
            remedy='write a quote within a value twice (""), and put that value in quotes: "17"" screen".',
        ) from error
    finally:
        csv.field_size_limit(before)


def _header(stream: TextIO, part: Part, mapping: TableMapping) -> tuple[list[str], str, int]:
    """Names of the columns, the delimiter, and the line on which the rows begin."""
    if mapping.names:
        return mapping.names, mapping.delimiter or ",", 1
    line = stream.readline()
    if not line.strip():
        raise DataError("the table is empty.", file=part.path, remedy="export it again; it needs a header line and rows.")
    delimiter = mapping.delimiter or max(_DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter)) if len(delimiter) == 1 else line.rstrip("\r\n").split(delimiter)
    names = [name.strip() for name in names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        places = [str(number) for number, name in enumerate(names, 1) if name == repeated[0]]
        raise DataError(
            f"the header names the column '{repeated[0]}' {len(places)} times (columns {' and '.join(places)}).",
            file=part.path,
            column=repeated[0],
            remedy="give each column a name of its own (a join in SQL often exports one key twice).",
        )
    return names, delimiter, 2


def _objects(part: Part, mapping: TableMapping) -> Iterator[tuple[dict[str, Any], int]]:
    with _text(part, mapping) as stream:
        begin = stream.readline()
        while begin and not begin.strip():
            begin = stream.readline()
        if begin.lstrip().startswith("["):
            text = begin + stream.read()
            try:
                elements = json.loads(text)
            except ValueError as error:
                raise _not_json(part, getattr(error, "lineno", 1), error) from error
            for number, element in enumerate(elements, 1):
                yield _object(element, part, number), number
            return
        line, number = begin, 1
        while line:
            if line.strip():
                try:
                    yield _object(json.loads(line), part, number), number
                except ValueError as error:
                    raise _not_json(part, number, error) from error
            line, number = stream.readline(), number + 1


def _object(value: Any, part: Part, number: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"line {number} holds {type(value).__name__}, not an object.",
            file=part.path,
            rows=[str(number)],
            remedy='write one object on each line, such as {"user_id": "a", "item_id": "b"}.',
        )
    return value


def _not_json(part: Part, line: int, error: ValueError) -> DataError:
    return DataError(
        f"line {line} is not JSON ({error}).",
        file=part.path,
        rows=[str(line)],
        remedy="write one whole object on each line; a file that was cut off must be exported again.",
    )


@contextmanager
def _text(part: Part, mapping: TableMapping) -> Iterator[TextIO]:
    """The text of a file, unpacked and decoded."""
    assert part.path is not None
    with _bytes(part) as probe:
        head = probe.read(4)
    encoding = mapping.encoding or ("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    try:
        with _bytes(part) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise _wrong_encoding(part, encoding) from error
    except (EOFError, OSError, pa.ArrowException) as error:
        raise DataError(
            f"the file cannot be unpacked or read ({error}).", file=part.path, remedy="copy it again and compare its size."
        ) from error


@contextmanager
def _bytes(part: Part) -> Iterator[io.BufferedReader]:
    assert part.path is not None
    packed = next((kind for suffix, kind in COMPRESSIONS.items() if part.path.name.lower().endswith(suffix)), None)
    with part.path.open("rb") as raw:
        if packed is None:
            yield raw  # type: ignore[misc]
        else:
            yield io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), packed))  # type: ignore[type-var]


def _wrong_encoding(part: Part, encoding: str) -> DataError:
    """The line on which a file leaves its encoding, and the encoding that it seems to have."""
    wrong: list[tuple[int, bytes]] = []
    with _bytes(part) as raw:
        for line, text in enumerate(raw, 1):
            try:
                text.decode(encoding)
            except UnicodeDecodeError:
                wrong.append((line, text))
                if len(wrong) == 200:
                    break
    line, text = wrong[0] if wrong else (1, b"")
    best = from_bytes(b"".join(text for _, text in wrong), cp_isolation=_LIKELY).best()
    guess = best.encoding if best is not None else _LIKELY[0]
    return DataError(
        f"line {line} is not {'UTF-8' if encoding == 'utf-8-sig' else encoding}: {text.strip()[:60]!r}.",
        file=part.path,
        rows=[str(line)],
        remedy=f"save the file in UTF-8, or name its encoding in data.yaml (it looks like {guess}: encoding: {guess}).",
    )
