"""Writes `docs/data-contract.md` from the contract and from the schema of `data.yaml`."""

from typing import Any, get_args

from pydantic.fields import FieldInfo

from jobs.base.settings import Section
from jobs.landing.contract import ACCEPTED, INPUT_TABLES
from jobs.landing.conversion import NULL_WORDS
from jobs.landing.lists import word
from jobs.landing.mapping import DataMapping, KindRule, RatingRule
from jobs.landing.table_mapping import TableMapping

_HEAD = f"""# Data contract

Bring a folder with the tables below, or the URI of such a folder in a store. Then type `make check DATA=<folder>`, which says
what
was found and what a run would do with it (on a later day too: it reads what the home keeps of the day before, and writes
nothing there), and `make run DATA=<folder>`. If your tables have other names, columns or forms, a
file
`data.yaml` in the folder says how they fit ([below](#datayaml)). This page is generated from `jobs/landing/`.

A table is one file or a folder of part files, which may lie in subfolders such as `date=2026-01-28/`. New parts may be added
each day:
only parts that are new or have changed are read again.

| format | files |
|---|---|
| Parquet | `.parquet`, with any codec, encoding and kind of timestamp |
| CSV | `.csv`, `.tsv`, `.txt`, `.dat`, also with `.gz`, `.zst` or `.bz2` behind it; UTF-8 or UTF-16, a header line or `names` |
| JSON lines | `.json`, `.jsonl`, `.ndjson`, also compressed; or one array of objects, or lines as Python prints its values |
| Delta | a folder with `_delta_log`, read through its own log as of a version or time |
| Iceberg | a folder with `metadata/*.metadata.json`, read through its own metadata as of a snapshot or time |
| SQL | a query, which `data.yaml` names |

Files whose names begin with `_` or `.` are no data, as for Spark and Hive: `_SUCCESS`, `_temporary/`, `.crc` files, the `._`
files of
macOS. Further columns are ignored, whatever their types, unless `attributes` names them.

These faults stop a run, with a message that names file, column and rows or line and says what to do:

- a required table or column is missing, two tables have one name, a table is empty, or a file is damaged;
- a CSV file is not in its encoding or holds NUL characters, a row has more or fewer values than the header, a quote is never
  closed, or two columns have one name;
- a text is not UTF-8, or the values of a column cannot be brought to what is needed;
- timestamps are in another unit than declared, or the logical date has no events;
- `data.yaml` says what ratings or kinds mean, and no event has any;
- there are fewer items than clusters;
- none of the picture files is where the catalogue says;
- the log is shorter than the day before by more than `data.max_log_shrinkage`;
- more than `data.max_rejected_fraction` of a table's rows had to be set aside.

These rows are set aside one by one. They are counted, and listed in the table `quarantine` and on the report:

- repeated ids of items and users, missing ids (also the words {", ".join(NULL_WORDS)}), and events about unknown items;
- timestamps that are not a time or lie in the future;
- all events of a user who has more than `ingest.max_events_per_user_day` events on one day, unless `rows_in_order` or a
  constant stands for the time.

These events are no damage. They are counted, and not used: the same action told several times (same user, item and second),
of which the
strongest kind is kept; a pair of user and item that was used before, unless `repeats` is `again`; kinds that are ignored,
events that were
cancelled, events after the logical date or before the look-back, and events of users who were forgotten.

Rows of the other tables may be no damage either. They are counted, and not used: with `repeated_ids: first`, all but the first
row of an id, and rows without one; pictures of items that the catalogue does not have; users without any attribute, and users
who were forgotten.

If a picture or a text is missing or cannot be read, that view of the item is empty, and the item keeps its other views.

An item may have several pictures: as rows of the table `images`, or as paths in `image_paths`. The first `pictures.per_item`
of them are used. The item's view is made from all that can be read, each counting alike. One that cannot be read is counted
with its cause. The first one is shown on the report.

A path may be a URL of http or https. Such pictures are fetched only if the setting `pictures.hosts` names their servers, as
in `make run DATA=... SET="pictures.hosts=img.example.com"`. Servers with an address that is not public are refused, because a
catalogue must not make the pipeline ask machines of its own network; so are redirects that leave the list. If you want to
fetch from your own network, name the server and its address: `img.internal, 10.0.0.5`. Pictures are kept in
`<home>/pictures`. After `pictures.valid_days`, the server is asked whether a picture has changed. Further settings limit the
size, the time, the requests per second and how many are fetched at once. What was fetched, and why others were not, is on the
report.
"""

_MAPPING_HEAD = """
## `data.yaml`

The file is needed only if something does not fit as it is. `make check` writes one that fits your tables as well as it can
tell, ready to
edit. It may also lie elsewhere: the setting `data.mapping` names it. Unknown names are refused. A value stays the text that it
is: `NO`, `012` and `1.10` need no quotes.

```yaml
interactions:
  source: transactions.csv
  columns: {user_id: customer_id, item_id: article_id, timestamp: t_dat, kind: action}
  timezone: Europe/Berlin
items:
  source: articles.csv
  columns: {item_id: article_id, title: prod_name, text: detail_desc, category: product_group_name}
  templates: {image_path: 'images/{article_id:.3}/{article_id}.jpg'}
  attributes: {category: text, price: number, markets: texts, look: embedding}
users:
  source: customers.csv
  columns: {user_id: customer_id}
  attributes: {country: text, age: number}
kinds:
  view: {role: history}
  purchase: {weight: 8}
  return: {role: cancels, cancels: purchase}
```

An attribute has the name of its column, unless `columns` says which column it is. Its values are, for

- `text`: one category, such as `shoes`;
- `texts`: several, as a list, or as a text such as `DE|AT` or `["DE", "AT"]`;
- `number`: a number. Models read its logarithm, as prices and counts need it;
- `embedding`: a vector that was made elsewhere, as a list of numbers, or as a text such as `[0.5, -1.25]`. All vectors of an
  attribute must have one length. If another model makes them, give the attribute another name.

An item or a user may lack any of them. A list that is a text may have another separator than `|`: `list_separator` says which.

Attributes of items become part of what the models know of an item, so a new item profits from its category on its first day.
[Answers can be filtered](serving.md#filters-and-exclusions) by all of them but embeddings.

Attributes of users become part of [what the models know of a user](towers.md#what-a-user-is), so a new user gets an answer of
their own on the first day. Users who have attributes and no event are numbered like all others, and have candidates. If the log
itself holds such columns, name it as the table of users too, with `repeated_ids: first`.
"""


def page() -> str:
    """The text of `docs/data-contract.md`."""
    lines = [_HEAD]
    for table in INPUT_TABLES:
        need = "required" if table.required else "optional"
        lines += [f"\n## `{table.name}` ({need})\n", table.meaning, ""]
        lines += ["| column | values | needed | meaning |", "|---|---|---|---|"]
        for column in table.columns:
            needed = "required" if column.required else "optional"
            lines.append(f"| `{column.name}` | {_cell(ACCEPTED[column.kind])} | {needed} | {column.meaning} |")
    lines.append(_MAPPING_HEAD)
    for heading, model in (
        ("At the top", DataMapping),
        ("Of a table (`interactions`, `items`, `images`, `users`)", TableMapping),
        ("Of a kind of event (`kinds`)", KindRule),
        ("Of ratings (`rating`)", RatingRule),
    ):
        lines += [f"### {heading}\n", "| name | values | if not given | meaning |", "|---|---|---|---|"]
        lines += [_row(name, field) for name, field in model.model_fields.items()]
        lines.append("")
    return "\n".join(lines)


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_values(field.annotation)} | {_cell(_default(field))} | {_cell(field.description or '')} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return f"`{word(field.default)}`"
    return f"`{field.default}`" if isinstance(field.default, str | int | float) and field.default != "" else ""


def _cell(text: str) -> str:
    """Text as a cell of a table, of which a bare | would end it."""
    return text.replace("|", "\\|")


def _values(annotation: Any) -> str:
    choices = [choice for choice in get_args(annotation) if choice is not type(None)]
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    inner = [_values(choice) for choice in choices] or [""]
    origin = str(annotation)
    if origin.startswith("dict["):
        return (
            "names and their values"
            if not (isinstance(choices[-1], type) and issubclass(choices[-1], Section))
            else "see below"
        )
    if origin.startswith("list["):
        return "a list" if choices == [str] else "see below"
    if isinstance(annotation, type):
        words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
        return "see below" if issubclass(annotation, Section) else words.get(annotation, "a time")
    return " or ".join(dict.fromkeys(inner))


if __name__ == "__main__":
    print(page(), end="")
