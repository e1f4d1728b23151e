"""Reads CSV. Every value comes as text; types are decided later, and never by the first block of a file."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TextIO

from jobs.base.errors import DataError
from jobs.landing.finding import Part
from jobs.landing.formats.streams import opened
from jobs.landing.table_mapping import TableMapping

# One value may be a long text, but not a whole file; an unclosed quote would make it one.
_LARGEST_VALUE = 16 * 2**20
_ROWS = 50_000
_DELIMITERS = (",", ";", "\t", "|")
_BREAK = re.compile(r"\r\n|\n|\r")
_QUOTES = (
    'write a quote within a value twice (""), and put that value in quotes: "17"" screen". '
    'A backslash before it is not understood (in Spark, set the option escape to ").'
)

Batch = tuple[dict[str, list[Any]], list[int]]


@dataclass(frozen=True)
class _Header:
    """Names of the columns, the delimiter, the line on which the rows begin, and a line that was read and is no header."""

    names: list[str]
    delimiter: str
    first: int
    begun: tuple[str, ...] = ()


def csv_names(part: Part, mapping: TableMapping) -> list[str]:
    """Names of the columns of a CSV file; none if it is empty. Raises `DataError` if two are equal, or it is not text."""
    with opened(part, mapping) as stream:
        return _header(stream, part, mapping).names


def read_csv(part: Part, mapping: TableMapping, wanted: Sequence[str]) -> Iterator[Batch]:
    """Rows of a CSV file, as texts, with the number of the line on which each begins. Empty values are None.

    Raises:
        DataError: the file is not in its encoding, a row has more or fewer values than the header, or a quote is never closed
            or closed by the quote of a later row. The message names the line.
    """
    with opened(part, mapping) as stream:
        header = _header(stream, part, mapping)
        names, width = header.names, len(header.names)
        places = [(name, names.index(name)) for name in wanted if name in names]
        key = places[0][1] if places else 0
        rows: list[list[str]] = []
        lines: list[int] = []
        for row, line, last in _records(
            _whole(chain(header.begun, stream), part, header.first), part, header.delimiter, header.first
        ):
            if not row:
                continue
            if last > line and (len(row) != width or _swallows(row, width, header.delimiter, key)):
                raise _unclosed(part, line, f"it goes on to line {last}")
            if len(row) != width:
                raise DataError(
                    f"line {line} has {len(row)} values, but {'the header' if not mapping.names else 'names'} has {width}: "
                    f"{header.delimiter.join(row)[:120]}",
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


def _columns(rows: list[list[str]], places: list[tuple[str, int]]) -> dict[str, list[Any]]:
    return {name: [row[place] or None for row in rows] for name, place in places}


def _whole(lines: Iterator[str], part: Part, first: int) -> Iterator[str]:
    """The lines, as long as no NUL character is in them."""
    for number, line in enumerate(lines, first):
        if "\0" in line:
            raise DataError(
                f"line {number} holds NUL characters, which a disk leaves in place of what it has lost.",
                file=part.path,
                rows=[str(number)],
                remedy="write or copy the file again.",
            )
        yield line


def _records(lines: Iterator[str], part: Part, delimiter: str, first: int) -> Iterator[tuple[list[str], int, int]]:
    """Rows of a CSV, each with the lines on which it begins and ends."""
    if len(delimiter) > 1:  # as in MovieLens: such files know no quotes
        for line, text in enumerate(lines, first):
            yield text.rstrip("\r\n").split(delimiter) if text.strip() else [], line, line
        return
    before = csv.field_size_limit(_LARGEST_VALUE)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begins = first
    try:
        for row in reader:
            after = first + reader.line_num
            yield row, begins, after - 1
            begins = after
    except csv.Error as error:
        raise _unclosed(part, begins, str(error)) from error
    finally:
        csv.field_size_limit(before)


def _unclosed(part: Part, line: int, detail: str) -> DataError:
    return DataError(
        f"the row that begins on line {line} cannot be read ({detail}). Is a quote opened there and never closed?",
        file=part.path,
        rows=[str(line)],
        remedy=_QUOTES,
    )


def _swallows(row: list[str], width: int, delimiter: str, key: int) -> bool:
    """Whether a value with line breaks looks like rows that lost their beginning to a stray quote.

    An inch sign that opens a value is closed by the inch sign of a later row, and all rows between become one value, without an
    error. A text of several lines looks different: its lines are not all rows whose key has the form of this row's.
    """
    place = next(number for number, value in enumerate(row) if _BREAK.search(value))
    first, *middle, last = _BREAK.split(row[place])
    begin = [*row[:place], *first.split(delimiter)]
    inner = [next(csv.reader([line], delimiter=delimiter), []) for line in middle]
    inner.append([*last.split(delimiter), *row[place + 1 :]])
    if len(begin) < width or (width == 2 and len(inner) == 1):
        return False
    return all(
        len(line) == width and not any(value.startswith(" ") for value in line) and _shape(line[key]) == _shape(begin[key])
        for line in inner
    )


def _shape(value: str) -> str:
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "a", value))


def _header(stream: TextIO, part: Part, mapping: TableMapping) -> _Header:
    line, number = stream.readline(), 1
    while line and not line.strip():
        line, number = stream.readline(), number + 1
    line = line.removeprefix("\ufeff")
    if not line:
        return _Header(mapping.names, ",", 1)
    given = mapping.delimiter
    if re.fullmatch(r"sep=.\s*", line) and not mapping.names:  # Excel writes this line for itself
        given = given or line[4]
        line, number = stream.readline(), number + 1
    plain = re.sub(r'"[^"]*"', "", line)
    if mapping.names:
        fits = [delimiter for delimiter in _DELIMITERS if plain.count(delimiter) == len(mapping.names) - 1]
        return _Header(mapping.names, given or (fits or _DELIMITERS)[0], number, (line,))
    delimiter = given or max(_DELIMITERS, key=plain.count)
    names, _, last = next(_records(chain([line], stream), part, delimiter, number), ([], 0, number))
    names = [name.strip() for name in names]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        places = [str(number) for number, name in enumerate(names, 1) if name == repeated[0]]
        raise DataError(
            f"the header names the column '{repeated[0]}' {len(places)} times (columns {' and '.join(places)}).",
            file=part.path,
            column=repeated[0],
            remedy="give each column a name of its own (a join in SQL often exports one key twice).",
        )
    return _Header(names, delimiter, last + 1)
