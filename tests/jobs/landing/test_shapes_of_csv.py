"""Relatives of CSV files that once went wrong: each gives the right rows, or is refused with the line and the cause."""

import bz2
import gzip
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tests.jobs.landing.sources import EXPECTED, csv_source, events, landing, log, refusal, rows, with_mapping

PLAIN = log().to_csv(index=False)
HEADER, BODY = PLAIN.split("\n", 1)


def test_encodings_that_name_themselves(settings, tmp_path: Path) -> None:
    for number, content in enumerate(
        [
            PLAIN.encode("utf-8-sig"),
            PLAIN.encode("utf-16"),
            b"\xfe\xff" + PLAIN.encode("utf-16-be"),
            PLAIN.encode("utf-16-le"),
            PLAIN.encode("utf-16-be"),
            PLAIN.encode("utf-32"),
            gzip.compress(PLAIN.encode("utf-8-sig")),
        ]
    ):
        assert events(settings, csv_source(tmp_path / str(number), content)) == EXPECTED, number


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "latin-1"])
def test_a_mark_before_a_named_encoding(settings, tmp_path: Path, encoding: str) -> None:
    text = PLAIN if encoding == "latin-1" else "\ufeff" + PLAIN
    folder = with_mapping(csv_source(tmp_path, text.encode(encoding)), f"interactions: {{encoding: {encoding}}}\n")
    assert events(settings, folder) == EXPECTED


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_ends_of_lines(settings, tmp_path: Path, end: str) -> None:
    assert events(settings, csv_source(tmp_path, PLAIN.replace("\n", end))) == EXPECTED
    assert events(settings, csv_source(tmp_path, PLAIN.replace("\n", end).rstrip())) == EXPECTED


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiters_are_found(settings, tmp_path: Path, delimiter: str) -> None:
    assert events(settings, csv_source(tmp_path, PLAIN.replace(",", delimiter))) == EXPECTED
    excel = f"sep={delimiter}\n" + PLAIN.replace(",", delimiter)
    assert events(settings, csv_source(tmp_path, excel)) == EXPECTED


def test_a_delimiter_within_a_quoted_name_of_the_header_does_not_count(settings, tmp_path: Path) -> None:
    text = log().assign(note="x").to_csv(index=False, sep=";").replace("note", '"a, b, c, d, e"', 1)
    assert events(settings, csv_source(tmp_path, text)) == EXPECTED


def test_odd_headers(settings, tmp_path: Path) -> None:
    for header in (" user_id , item_id,timestamp ", '"user_id","item_id","timestamp"', "\n\n" + HEADER):
        assert events(settings, csv_source(tmp_path, f"{header}\n{BODY}")) == EXPECTED
    two_blanks = "\n".join(f"{line},," for line in PLAIN.splitlines())
    assert events(settings, csv_source(tmp_path, two_blanks)) == EXPECTED
    broken_name = log().assign(note="x").to_csv(index=False).replace("note", '"a\nb"', 1)
    assert events(settings, csv_source(tmp_path, broken_name)) == EXPECTED
    other_case = log().assign(Item_ID=9)[["user_id", "Item_ID", "item_id", "timestamp"]]
    assert events(settings, csv_source(tmp_path, other_case)) == EXPECTED


def test_headers_that_cannot_be_right(settings, tmp_path: Path) -> None:
    error = refusal(settings, csv_source(tmp_path, f" item_id,item_id,timestamp\n{BODY}"))
    assert (error.column, "2 times (columns 1 and 2)" in error.problem) == ("item_id", True)
    error = refusal(settings, csv_source(tmp_path, BODY))
    assert error.column == "user_id" and "lack a header line" in error.remedy
    error = refusal(settings, csv_source(tmp_path, PLAIN.replace("user_id", "User_ID")))
    assert "columns: {user_id: User_ID}" in error.remedy
    error = refusal(settings, csv_source(tmp_path, PLAIN.replace("user_id", '"user_id')))
    assert error.rows == ("1",) and "never closed" in error.problem


def test_no_header_and_a_list_of_names(settings, tmp_path: Path) -> None:
    names = "interactions: {names: [user_id, item_id, timestamp]}\n"
    for delimiter in (",", "\t", ";"):
        assert events(settings, with_mapping(csv_source(tmp_path, BODY.replace(",", delimiter)), names)) == EXPECTED
    error = refusal(
        settings, with_mapping(csv_source(tmp_path, BODY), "interactions: {names: [user_id, item_id, timestamp, x]}\n")
    )
    assert "line 1 has 3 values, but names has 4" in error.problem
    error = refusal(settings, with_mapping(csv_source(tmp_path, BODY), "interactions: {names: [a, a, b]}\n"))
    assert "two columns have one name" in error.problem


@pytest.mark.parametrize("content", ["", "\n\n", HEADER + "\n", HEADER, "\ufeff"])
def test_a_table_without_rows(settings, tmp_path: Path, content: str) -> None:
    error = refusal(settings, csv_source(tmp_path, content))
    assert error.problem == "the table is empty."


def test_an_empty_part_among_full_ones(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path)
    (folder / "interactions.csv").rename(folder / "whole")
    (folder / "interactions.csv").mkdir()
    (folder / "interactions.csv" / "part-0.csv").touch()
    (folder / "interactions.csv" / "part-1.csv").write_text(HEADER + "\n")
    (folder / "whole").rename(folder / "interactions.csv" / "part-2.csv")
    assert events(settings, folder) == EXPECTED


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("7,8", "line 500 has 2 values"),
        ("7,8,1769601600,", "line 500 has 4 values"),
        ("7,8,1769601600,x,y", "line 500 has 5 values"),
        ("7;8;1769601600", "line 500 has 1 values"),
        ('7,8,"1769601600', "begins on line 500"),
        ('7,"8"9,1769601600', "begins on line 500"),
        ('7,"8\\"9",1769601600', "begins on line 500"),
    ],
)
def test_a_broken_row_late_in_the_file(settings, tmp_path: Path, change: str, says: str) -> None:
    lines = PLAIN.splitlines()
    lines[499] = change
    error = refusal(settings, csv_source(tmp_path, "\n".join(lines) + "\n"))
    assert error.rows == ("500",) and says in error.problem


def items_with(lines: dict[int, str]) -> str:
    whole = ["item_id,title,text"] + [f"{100 + row},thing {row},a plain text" for row in range(60)]
    for line, text in lines.items():
        whole[line - 1] = text
    return "\n".join(whole) + "\n"


@pytest.mark.parametrize("last", [21, 22, 40])
@pytest.mark.parametrize("title", ['"17 inch', '"'])
def test_a_quote_that_the_inch_sign_of_a_later_row_closes(settings, tmp_path: Path, last: int, title: str) -> None:
    folder = csv_source(tmp_path)
    text = items_with({20: f"118,{title} screen,plain", last: f'{98 + last},screen 19",plain'})
    (folder / "items.csv").write_text(text)
    error = refusal(settings, folder)
    assert error.rows == ("20",) and f"goes on to line {last}" in error.problem and "never closed" in error.problem


def test_texts_of_several_lines_are_no_damage(settings, tmp_path: Path) -> None:
    text = '"Two lines, of which\none has 10,000 parts, and\n""quotes"", too"'
    other = '"short\n1,2,3"'
    folder = csv_source(tmp_path)
    (folder / "items.csv").write_text(items_with({5: f"103,thing,{text}", 9: f"107,{other},plain"}))
    found = {row["item_id"]: row for row in rows(landing(settings, folder).tables["items"])}
    assert len(found) == 60 and found["103"]["text"] == 'Two lines, of which\none has 10,000 parts, and\n"quotes", too'
    assert found["107"]["title"] == "short\n1,2,3"
    (folder / "items.csv").write_text('item_id,text\n1,"a box of\n10,000 parts"\n2,plain\n')
    assert len(rows(landing(settings, folder).tables["items"])) == 2


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst", ""])
def test_packed_files(settings, tmp_path: Path, suffix: str) -> None:
    folder = csv_source(tmp_path)
    (folder / "interactions.csv").unlink()
    half = len(PLAIN) // 2
    first, second = PLAIN[:half].encode(), PLAIN[half:].encode()
    pack = {".bz2": bz2.compress, ".zst": zstd}.get(suffix, gzip.compress)
    path = folder / f"interactions.csv{suffix}"
    path.write_bytes(pack(first) + pack(second))  # as `cat a.gz b.gz` makes them
    assert events(settings, folder) == EXPECTED
    path.write_bytes(pack(PLAIN.encode())[:-9])
    assert "cannot be unpacked or read" in refusal(settings, folder).problem


def zstd(content: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(content)
    return buffer.getvalue().to_pybytes()


def test_latin1_deep_in_a_packed_file(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path)
    (folder / "interactions.csv").unlink()
    content = (PLAIN + BODY * 200).encode() + "ä,100,1769601600\n".encode("latin-1")
    (folder / "interactions.csv.gz").write_bytes(gzip.compress(content))
    error = refusal(settings, folder)
    assert error.rows == (str(1 + 560 * 201 + 1),) and "cp1252" in error.remedy


def test_a_file_in_utf16_that_was_cut_off(settings, tmp_path: Path) -> None:
    error = refusal(settings, csv_source(tmp_path, PLAIN.encode("utf-16")[:-3]))
    assert "is not utf-16" in error.problem and error.rows == ("561",)


def test_russian_letters_are_not_taken_for_western_ones(settings, tmp_path: Path) -> None:
    words = "Товар для дома и сада, очень хороший"
    frame = pd.DataFrame({"item_id": range(60), "title": words})
    folder = csv_source(tmp_path)
    (folder / "items.csv").write_bytes(frame.to_csv(index=False).encode("cp1251"))
    assert "cp1251" in refusal(settings, folder).remedy


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"PK\x03\x04" + b"\0" * 99, "a zip archive or an Excel workbook"), (b"PAR1" + b"\0" * 99, "Parquet")],
)
def test_content_that_is_no_text(settings, tmp_path: Path, content: bytes, says: str) -> None:
    assert f"the content is {says}" in refusal(settings, csv_source(tmp_path, content)).problem


def test_one_part_plain_and_packed(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path)
    (folder / "interactions.csv.gz").write_bytes(gzip.compress(PLAIN.encode()))
    assert "2 tables of the name interactions" in refusal(settings, folder).problem
    (folder / "interactions").mkdir()
    for name in ("interactions.csv", "interactions.csv.gz"):
        (folder / name).rename(folder / "interactions" / name)
    assert "seem to be one part" in refusal(settings, folder).problem


def test_a_link_that_gets_another_target(settings, tmp_path: Path) -> None:
    csv_source(tmp_path / "old")
    csv_source(tmp_path / "new", log().iloc[:7])
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "old")
    assert len(events(settings, current)) == 560
    os.utime(tmp_path / "new" / "interactions.csv", (0, 0))
    current.unlink()
    current.symlink_to(tmp_path / "new")
    assert len(events(settings, current)) == 7


def test_words_in_titles_and_in_ids(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path)
    (folder / "items.csv").write_text("item_id,title\nNaN,x\nnanna,None of these\nNA1,null\n7,\n")
    found = rows(landing(settings, folder).tables["items"])
    assert [(row["item_id"], row["title"]) for row in found] == [
        (None, "x"),
        ("nanna", "None of these"),
        ("NA1", None),
        ("7", None),
    ]


@pytest.mark.parametrize("lines", [1, 40, 400])
def test_zeros_in_place_of_a_part_of_the_file(settings, tmp_path: Path, lines: int) -> None:
    """What a disk leaves after a crash: the rows in that place are lost, so the others are no whole log."""
    content = log().to_csv(index=False).encode()
    start = sum(len(line) + 1 for line in content.split(b"\n")[:100]) + 3
    (csv_source(tmp_path) / "interactions.csv").write_bytes(content[:start] + bytes(16 * lines) + content[start + 16 * lines :])
    error = refusal(settings, tmp_path)
    assert error.rows == ("101",) and "line 101 holds NUL characters" in error.problem
