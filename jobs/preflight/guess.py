"""Guesses how tables that have other names, columns and times fit the contract, and writes that as a `data.yaml` to edit."""

import datetime as dt
import re
from typing import Any

import yaml
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import children
from jobs.base.settings import PipelineSettings
from jobs.landing.contract import INTERACTIONS, ITEMS, PICTURES, InputTable
from jobs.landing.dates import looks_like_date
from jobs.landing.finding import find_table, format_of
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
    "order position",
    "session_id": "session_id sessionid session ga_session_id visit_id",
    "kind": "kind event event_type event_name action behavior behavior_type type",
    "rating": "rating overall stars score",
    "title": "title name prod_name product_name item_name lineitem_name app_name",
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
                found[table.name] = mapping.model_copy(update={"columns": columns, **_time(folder, table, mapping, columns)})
                break
    log = found.get("interactions")
    return DataMapping(interactions=[log] if log else [TableMapping()], items=found.get("items", TableMapping()))


def as_yaml(mapping: DataMapping) -> str:
    """The text of a `data.yaml`, without what is as it would be anyway."""
    values = mapping.model_dump(mode="json", exclude_defaults=True)
    if len(values.get("interactions", [])) == 1:
        values["interactions"] = values["interactions"][0]
    head = "# What each name means: docs/data-contract.md. Put this file into the folder of the source as data.yaml.\n"
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _sources(folder: UPath, table: InputTable) -> list[str]:
    """Names in the folder that may be the table, the likeliest first; the table's own name is the empty text."""
    try:
        if find_table(folder, table, TableMapping()) is not None:
            return [""]
    except DataError:
        pass
    names = [entry.name for entry in children(folder) if format_of(entry.name) or not entry.suffix]
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
    given = set(chosen) | set(names)
    complete = all(column.name in given or column.instead in given for column in table.columns if column.required)
    return chosen if complete else None


def _may_be(column: str, kind: str) -> bool:
    """Whether a column of the contract can be made from a type. Names alone do not tell a picture from paths to pictures."""
    if column not in PICTURES:
        return True
    return column == ("image" if "binary" in kind else "image_paths" if "list" in kind else "image_path")


def _is_other_picture(name: str, types: dict[str, str]) -> bool:
    """Whether a column has the name of a picture column of the contract, but the type of another one."""
    return name in ("image", "image_path") and types[name] != "null" and not _may_be(name, types[name])


def _own_columns(folder: UPath, table: InputTable, mapping: TableMapping) -> dict[str, str]:
    try:
        found = find_table(folder, table, mapping)
        types = part_columns(found.parts[0], mapping) if found else {}
        untyped = [name for name, kind in types.items() if kind == "JSON"]
        values = first_values(found.parts[0], mapping, *untyped) if found and untyped else {}
        return types | {name: "list" for name, some in values.items() if some and isinstance(some[0], list)}
    except DataError:
        return {}


def _time(folder: UPath, table: InputTable, mapping: TableMapping, columns: dict[str, str]) -> dict[str, Any]:
    """How numeric times are read: dates such as 20260128, counts from a start, or the unit that the number of digits tells."""
    if table is not INTERACTIONS:
        return {}
    name = columns.get("timestamp", "timestamp")
    try:
        found = find_table(folder, table, mapping)
        values = first_values(found.parts[0], mapping, name)[name] if found else []
    except DataError:  # a fault further down in the file, which landing names
        return {}
    whole = [text.split(".")[0] for text in map(str, values) if re.fullmatch(r"-?\d+(\.\d+)?", text)]
    if not whole or len(whole) < len(values) / 2:
        return {}
    if all(looks_like_date(int(text)) for text in whole):
        return {"timestamp_format": "%Y%m%d"}
    digits = [len(text.lstrip("-")) for text in whole]
    if max(digits) <= _COUNTS_DIGITS:
        return {"timestamp_origin": _SOME_DAY}
    return next(({"timestamp_unit": unit} for unit, least in _UNITS if min(digits) >= least), {})
