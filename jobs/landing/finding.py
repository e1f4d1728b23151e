"""Which files make up a table, and which are left out and why. A name is a name here, and never a pattern."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import children, file_stamp, files_below
from jobs.landing.contract import InputTable
from jobs.landing.table_mapping import Format, TableMapping

_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_TEXT: tuple[Format, ...] = ("csv", "json")
_LOGS = {"_delta_log", ".hoodie"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # what Hive and Spark call the folder of rows without a value


@dataclass(frozen=True)
class Part:
    """One file of a table; or a whole table that only its own log, or a database, can read.

    Attributes:
        name: as messages and the quarantine name it.
        path: where it lies; None for a query.
        format: how it is read.
        stamp: changes when the content may have changed; empty if nothing tells.
        partition: values that the names of its folders give, as in `date=2026-01-28/`.
    """

    name: str
    path: UPath | None
    format: Format | None
    stamp: str
    partition: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The parts of a table in the order of their names, and the files that are no data, each with the reason."""

    place: UPath
    parts: list[Part]
    left_out: list[tuple[str, str]]


def find_table(folder: UPath, table: InputTable, mapping: TableMapping) -> Found | None:
    """The files of one table; None if an optional table is not there.

    Raises:
        DataError: a required table is missing, there are two of its name, or a folder holds no data or several formats.
    """
    if mapping.database:
        return Found(folder / f"{table.name} (query)", [Part(f"{table.name} (query)", None, None, "")], [])
    place = _place(folder, table, mapping)
    if place is None or (table.name == "images" and not mapping.source and _holds_pictures(place)):
        return None
    if isinstance(place, Path) and place.is_symlink() and not place.exists():
        raise DataError(
            f"this is a link to {place.readlink()}, which is not there.",
            file=place,
            remedy="correct the link, or take it away.",
        )
    if place.fs.isfile(place.path):
        form = mapping.format or format_of(place.name)
        if form is None:
            raise DataError(
                "the name does not say how the file is to be read.",
                file=place,
                remedy=f"give it one of the suffixes {', '.join(_FORMATS)}, or set format in data.yaml.",
            )
        _check_no_table_above(place, folder)
        return Found(place, [Part(_name(place, folder), place, form, _stamp(place))], [])
    return _in_folder(place, mapping, folder)


def first_part(folder: UPath, table: InputTable, mapping: TableMapping) -> Part | None:
    """The first file of a table; None if an optional table is not there. Raises `DataError` as `find_table` does."""
    found = find_table(folder, table, mapping)
    return found.parts[0] if found else None


def format_of(name: str) -> Format | None:
    """The format that a file's name tells, whether or not it is compressed; None if it tells none."""
    lower = name.lower()
    for suffix in COMPRESSIONS:
        if lower.endswith(suffix):
            inner = format_of(lower.removesuffix(suffix))
            return inner if inner in _TEXT else None
    return next((form for suffix, form in _FORMATS.items() if lower.endswith(suffix)), None)


def _place(folder: UPath, table: InputTable, mapping: TableMapping) -> UPath | None:
    entries = children(folder)
    if mapping.source:
        if "://" in mapping.source:
            raise DataError(
                f"source names a file or folder within the folder of the source, and not {mapping.source}.",
                file=folder,
                remedy="bring the file there and write its name, or give that place as the source of all tables (data.source).",
            )
        place = folder / mapping.source
        if ".." in mapping.source.split("/") or mapping.source.startswith("/"):
            raise DataError("the path leaves the folder of the source.", file=place, remedy="name a file within the folder.")
        if not place.exists():
            raise DataError(
                f"there is no such file or folder; found: {_names(entries)}.", file=place, remedy="correct source in data.yaml."
            )
        return place
    known = tuple(f"{table.name}{suffix}" for suffix in ("", ".delta", ".iceberg", *_FORMATS))
    zipped = tuple(f"{name}{suffix}" for name in known for suffix in COMPRESSIONS)
    found = [entry for entry in entries if entry.name in known or entry.name in zipped]
    if len(found) > 1:
        raise DataError(
            f"there are {len(found)} tables of the name {table.name}: {_names(found)}.",
            file=folder,
            remedy=f"keep one of them, or say in data.yaml which one counts ({table.name}: {{source: {found[0].name}}}).",
        )
    if found or not table.required:
        return found[0] if found else None
    near = [entry.name for entry in entries if entry.name.lower().startswith(table.name)]
    unread = next((name for name in near if format_of(name) is None and "." in name), None)
    if unread is not None:
        raise DataError(
            f"{unread} is in a format that is not read.",
            file=folder / unread,
            remedy="unpack it if it is an archive, or export the table as Parquet, CSV or JSON lines.",
        )
    raise DataError(
        f"there is no {table.name}.parquet, {table.name}.csv or {table.name}.jsonl; found: {_names(entries)}.",
        file=folder / f"{table.name}.parquet",
        remedy=f"put the {table.name} table there under that name, or name its file in data.yaml (docs/data-contract.md)."
        + (f" Is {near[0]} meant?" if near else ""),
    )


def _in_folder(place: UPath, mapping: TableMapping, folder: UPath) -> Found:
    name = _name(place, folder)
    names = {entry.name for entry in children(place)}
    if ".hoodie" in names:
        raise DataError(
            "this is a Hudi table, which cannot be read.", file=place, remedy="write it as plain Parquet, Delta or Iceberg."
        )
    table_log: Format | None = "delta" if "_delta_log" in names else "iceberg" if _is_iceberg(place, names) else None
    if table_log and mapping.format not in (None, table_log):
        raise DataError(
            f"this is a table of {table_log}: its plain files hold removed rows too.",
            file=place,
            remedy=f"take format: {mapping.format} out of data.yaml, so that the table is read through its own log.",
        )
    if table_log or mapping.format in ("delta", "iceberg"):
        return Found(place, [Part(name, place, table_log or mapping.format, "")], [])
    _check_no_table_above(place, folder)
    files = files_below(place)
    kept, left_out = [], []
    for file in files:
        inner = file.path[len(place.path.rstrip("/")) + 1 :]
        why = _no_data(inner)
        form = mapping.format or format_of(file.name)
        if why is None and form is None:
            why = "its suffix is none of a known format"
        if why is None:
            kept.append(Part(f"{name}/{inner}", file, form, _stamp(file), _partition(inner)))
        else:
            left_out.append((f"{name}/{inner}", why))
        if _LOGS & set(inner.split("/")[1:-1]) or inner.endswith(".metadata.json"):
            raise DataError(
                "a folder within this one is a table with a log of its own; its plain files hold removed rows too.",
                file=file,
                remedy="name that folder as source in data.yaml (interactions may be a list of several tables).",
            )
    _check_no_twins([part.name for part in kept])
    if not kept:
        raise DataError(
            f"the folder holds no file of a known format; found: {', '.join(name for name, _ in left_out[:10]) or 'nothing'}.",
            file=place,
            remedy=f"name the part files with one of the suffixes {', '.join(_FORMATS)}.",
        )
    forms = sorted({str(part.format) for part in kept})
    if len(forms) > 1:
        raise DataError(
            f"the folder holds files of several formats ({', '.join(forms)}), so which of them count is not clear.",
            file=place,
            remedy="keep the files of one format, or set format in data.yaml.",
        )
    return Found(place, kept, left_out)


def _no_data(inner: str) -> str | None:
    """Why a file of a folder is no data; None if it is. Spark, Hive and pyarrow leave out the same names."""
    for name in inner.split("/"):
        if name.startswith("._"):
            return "a companion file of macOS"
        if name.startswith("."):
            return "a hidden file"
        if name.startswith("_") and "=" not in name:
            return "a marker, or what an unfinished writer left"
    return None


def _partition(inner: str) -> dict[str, str | None]:
    pairs = (name.partition("=") for name in inner.split("/")[:-1])
    return {key: None if value == _NO_VALUE else unquote(value) for key, equals, value in pairs if equals}


def _holds_pictures(place: UPath) -> bool:
    """Whether `images` is a folder of picture files, to which paths in the catalogue lead, and no table of pictures."""
    if place.fs.isfile(place.path) or {"_delta_log", "metadata"} & {entry.name for entry in children(place)}:
        return False
    return not any(format_of(file.name) == "parquet" for file in files_below(place))


def _name(place: UPath, folder: UPath) -> str:
    """The path of a table within the source, so that two logs of one name in different folders stay apart."""
    start = folder.path.rstrip("/") + "/"
    return place.path.removeprefix(start).rstrip("/") if place.path.startswith(start) else place.name


def _check_no_twins(names: list[str]) -> None:
    """Refuse a part that is there both as it is and compressed: each of its rows would come twice."""
    plain: dict[str, str] = {}
    for name in names:
        bare = next((name[: -len(suffix)] for suffix in COMPRESSIONS if name.lower().endswith(suffix)), name)
        if bare in plain:
            raise DataError(
                f"{plain[bare]} and {name} seem to be one part, compressed and not.", file=name, remedy="keep one of them."
            )
        plain[bare] = name


def _check_no_table_above(place: UPath, top: UPath) -> None:
    """Refuse the plain files of a Delta or Iceberg table, which hold removed rows too."""
    above = place.parent
    while above.path.startswith(top.path):
        names = {entry.name for entry in children(above)}
        if names & _LOGS or (place.name == "data" and _is_iceberg(above, names)):
            raise DataError(
                "this lies within a table that has a log of its own, so it may hold removed rows.",
                file=place,
                remedy=f"name the whole table as source in data.yaml: {above}.",
            )
        if above == above.parent or above == top:
            break
        above = above.parent


def _is_iceberg(place: UPath, names: set[str]) -> bool:
    return "metadata" in names and any(path.name.endswith(".metadata.json") for path in children(place / "metadata"))


def _stamp(path: UPath) -> str:
    stamp = file_stamp(path)
    if stamp is None:
        raise DataError("this is no ordinary file, or it may not be read.", file=path, remedy="check its kind and permissions.")
    return stamp[1]


def _names(entries: list[UPath]) -> str:
    def shown() -> Iterator[str]:
        yield from (entry.name for entry in entries[:20])
        if len(entries) > 20:
            yield "..."

    return ", ".join(shown()) or "nothing"
