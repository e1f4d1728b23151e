"""Guesses how tables that have other names, columns and times fit the contract, and writes that as a `data.yaml` to edit."""

import datetime as dt
import re
from typing import Any

import pandas as pd
import yaml
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import children
from jobs.base.settings import PipelineSettings
from jobs.landing.contract import INTERACTIONS, ITEMS, PICTURES, InputTable
from jobs.landing.dates import looks_like_date
from jobs.landing.finding import find_table, first_part, format_of
from jobs.landing.mapping import DataMapping
from jobs.landing.part_reader import first_values, part_columns
from jobs.landing.table_mapping import TableMapping

# Names that columns have in public exports and in shops' databases, the likeliest first.
_NAMES: dict[str, str] = {
    "user_id": "user_id userid user customer_id customerid customer visitorid visitor_id reviewerid reviewer_id member_id "
    "account_id client_id user_pseudo_id profile_id shopper_id buyer_id",
    "item_id": "item_id itemid item product_id productid product article_id asin parent_asin sku movieid movie_id business_id "
    "track_id song_id artist_id app_id book_id video_id lineitem_sku stock_code stockcode variant_id content_id id",
    "timestamp": "timestamp time ts event_time event_timestamp datetime date t_dat created_at created unixreviewtime "
    "unix_review_time invoicedate invoice_date order_date processed_at occurred_at event_date listened_at played_at "
    "order position dt day ds",
    "session_id": "session_id sessionid session ga_session_id visit_id",
    "kind": "kind event event_type event_name action behavior behavior_type type",
    "rating": "rating overall stars score",
    "title": "title name prod_name product_name item_name lineitem_name app_name",
    "available": "available availability in_stock instock stock stock_quantity quantity_in_stock inventory",
    "text": "text description detail_desc body_html body details desc summary genres categories",
    "image": "image image_bytes picture img photo",
    "image_path": "image_path image_file picture_path img_path image_name filename file_name image_url image_link image_src "
    "picture_url img_url photo_url thumbnail_url thumbnail image picture img photo",
    "image_paths": "image_paths image_files image_urls images pictures photos image_path image",
}
# Words in the names that tables have.
_TABLES: dict[str, str] = {
    "interactions": "interaction event rating review transaction order click log purchase play listen view behavior history "
    "session",
    "items": "item product article movie catalog meta business track song book app game artist",
}
_UNITS = (("ns", 17), ("us", 14), ("ms", 11))  # a time has at least so many digits in the unit
_COUNTS_DIGITS, _SOME_DAY = 7, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)  # a number of fewer digits counts from a start

_BYTES_WITHIN = re.compile(r"struct<(.*, )?bytes: (large_)?binary\b")
_CLOCK = re.compile(r"\s*\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(\s*[AaPp][Mm])?\s*")
_DAYS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
    *("%d-%b-%Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%a %b %d %Y"),
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S", "T%H:%M:%S")


def guess_mapping(folder: UPath, settings: PipelineSettings) -> DataMapping:
    """A mapping for the tables of a folder, as well as names and first values can tell it.

    A table whose file cannot be guessed, or that fits as it is, is left as it is.
    """
    found: dict[str, TableMapping] = {}
    for table in (INTERACTIONS, ITEMS):
        sources = _sources(folder, table)
        for source in sources:
            mapping = TableMapping(source=source)
            columns = _columns(folder, table, mapping)
            if columns is not None:
                more = _time(folder, mapping, columns) if table is INTERACTIONS else _catalogue(source, found)
                found[table.name] = mapping.model_copy(update={"columns": columns} | more)
                break
    log = found.get("interactions")
    return DataMapping(interactions=[log] if log else [TableMapping()], items=found.get("items", TableMapping()))


def as_yaml(mapping: DataMapping) -> str:
    """The text of a `data.yaml`, without what is as it would be anyway."""
    values = as_values(mapping)
    head = "# What each name means: docs/data-contract.md. Put this file into the folder of the source as data.yaml.\n"
    return head + (yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else "")


def as_values(mapping: DataMapping) -> dict[str, Any]:
    """The values of a `data.yaml`, without what is as it would be anyway."""
    values = mapping.model_dump(mode="json", exclude_defaults=True)
    if len(values.get("interactions", [])) == 1:
        values["interactions"] = values["interactions"][0]
    return values


def _sources(folder: UPath, table: InputTable) -> list[str]:
    """Names in the folder that may be the table, the likeliest first; the table's own name is the empty text."""
    try:
        if find_table(folder, table, TableMapping()) is not None:
            return [""]
    except DataError:
        pass
    entries = [entry for entry in children(folder) if not entry.name.startswith((".", "_"))]
    names = [entry.name for entry in entries if format_of(entry.name) or not entry.suffix]
    if any(entry.name.lower().startswith(table.name) and entry.name not in names for entry in entries):
        return []  # the table is there, in a format that is not read
    words = _TABLES[table.name].split()
    likely = {name: next((place for place, word in enumerate(words) if word in name.lower()), len(words)) for name in names}
    return sorted(names, key=lambda name: (likely[name], name))


def _columns(folder: UPath, table: InputTable, mapping: TableMapping) -> dict[str, str] | None:
    """Column of the contract -> column of the file, for those with another name; None if a required one is not to be found."""
    types = _own_columns(folder, table, mapping)
    names = [name for name in types if not _is_other_picture(name, types)]
    plain = {re.sub(r"[^a-z0-9]+", "_", name.lower().split(":")[0]).strip("_"): name for name in reversed(types)}
    taken = {column.name for column in table.columns} & set(names)
    chosen: dict[str, str] = {}
    for column in table.columns:
        if column.name in names:
            continue
        for word in _NAMES.get(column.name, "").split():
            name = plain.get(word)
            if name and name not in taken and name not in chosen.values() and _may_be(column.name, types[name]):
                chosen[column.name] = name
                break
    if table is ITEMS and "image" not in names:  # some libraries write a picture as its bytes beside its path
        inside = [name for name, kind in types.items() if name in _NAMES["image"].split() and _BYTES_WITHIN.match(kind)]
        if inside:
            chosen["image"] = f"{inside[0]}.bytes"
    given = set(chosen) | set(names)
    complete = all(column.name in given or column.instead in given for column in table.columns if column.required)
    return chosen if complete else None


def _may_be(column: str, kind: str) -> bool:
    """Whether a column of the contract can be made from a type. Names alone do not tell a picture from paths to pictures."""
    if column not in PICTURES:
        return True
    return "struct" not in kind and column == (
        "image" if "binary" in kind else "image_paths" if "list" in kind else "image_path"
    )


def _is_other_picture(name: str, types: dict[str, str]) -> bool:
    """Whether a column has the name of a picture column of the contract, but the type of another one."""
    return name in ("image", "image_path") and types[name] != "null" and not _may_be(name, types[name])


def _own_columns(folder: UPath, table: InputTable, mapping: TableMapping) -> dict[str, str]:
    try:
        part = first_part(folder, table, mapping)
        if part is None:
            return {}
        types = part_columns(part, mapping)
        untyped = [name for name, kind in types.items() if kind == "JSON"]
        values = first_values(part, mapping, *untyped) if untyped else {}
        types |= {name: "text" for name in part.partition if name not in types}
        lists = {name: some[0] for name, some in values.items() if some and isinstance(some[0], list)}
        return types | {name: "list<struct>" if one and isinstance(one[0], dict) else "list" for name, one in lists.items()}
    except DataError:
        return {}


def _catalogue(source: str, found: dict[str, TableMapping]) -> dict[str, Any]:
    """A catalogue that is taken from the log repeats its items."""
    log = found.get("interactions", TableMapping()).source
    from_log = source == log if log else source.split(".")[0] == INTERACTIONS.name
    return {"repeated_ids": "first"} if source and from_log else {}


def _time(folder: UPath, mapping: TableMapping, columns: dict[str, str]) -> dict[str, Any]:
    """How times are read: dates such as 20260128, counts from a start, the unit that digits tell, or the form of a text.

    If a column holds the time of day alone, the day beside it is put in front. Year, month and day may be three columns.
    """
    name, own = columns.get("timestamp", "timestamp"), _own_columns(folder, INTERACTIONS, mapping)
    if name == "day" and {"year", "month"} <= own.keys():
        del columns["timestamp"]
        return {"templates": {"timestamp": "{year}-{month:0>2}-{day:0>2}"}}
    values = _texts(folder, mapping, name)
    if values and all(_CLOCK.fullmatch(text) for text in values):
        for day in own:
            if re.search("date|day|dt", day.lower()) and re.fullmatch(r"\w+", day + name):
                days = _texts(folder, mapping, day)
                both = [f"{one} {other}" for one, other in zip(days, values, strict=False)]
                columns.pop("timestamp", None)
                return {"templates": {"timestamp": f"{{{day}}} {{{name}}}"}} | _form(both)
    whole = [text.split(".")[0] for text in values if re.fullmatch(r"-?\d+(\.\d+)?", text)]
    if not whole or len(whole) < len(values) / 2:
        return _form(values)
    if all(looks_like_date(int(text)) for text in whole):
        return {"timestamp_format": "%Y%m%d"}
    digits = [len(text.lstrip("-")) for text in whole]
    if max(digits) <= _COUNTS_DIGITS:
        return {"timestamp_origin": _SOME_DAY}
    return next(({"timestamp_unit": unit} for unit, least in _UNITS if min(digits) >= least), {})


def _form(texts: list[str]) -> dict[str, Any]:
    """The form of times that are not of ISO 8601. If a day could be a month, times that lie close together win."""
    series = pd.Series(texts, dtype=object).str.strip()
    if series.empty or pd.to_datetime(series, format="ISO8601", errors="coerce", utc=True).notna().all():
        return {}
    fitting = {}
    for form in (f"{day}{clock}" for day in _DAYS for clock in _CLOCKS):
        times = pd.to_datetime(series, format=form, errors="coerce")
        if times.notna().all():
            fitting[form] = times.max() - times.min()
    return {"timestamp_format": min(fitting, key=lambda form: fitting[form])} if fitting else {}


def _texts(folder: UPath, mapping: TableMapping, name: str) -> list[str]:
    """The first values of a column of the log, as texts; none if the file has a fault, which landing names."""
    try:
        part = first_part(folder, INTERACTIONS, mapping)
        if part is None:
            return []
        values = first_values(part, mapping, name)[name]
    except DataError:
        return []
    return [str(value) for value in values or ([part.partition[name]] if name in part.partition else [])]
