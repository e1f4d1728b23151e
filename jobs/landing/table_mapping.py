"""What `data.yaml` says of one table: where it lies, how it is read, and which of its columns is which of the contract."""

import datetime as dt
import re
from string import Formatter
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
from pydantic import Field, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from jobs.base.settings import Section
from jobs.landing.contract import ITEMS, USERS, AttributeKind
from jobs.landing.lists import SEPARATOR

PLAIN_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

Format = Literal["parquet", "csv", "json", "delta", "iceberg"]
TimeUnit = Literal["ns", "us", "ms", "s", "min", "h", "d"]
Scalar = str | int | float | bool


def without_empty(values: Any) -> Any:
    """What `data.yaml` says, without names under which nothing stands, as where all lines below are comments."""
    return {name: value for name, value in values.items() if value is not None} if isinstance(values, dict) else values


class TableMapping(Section):
    """Where one table lies, and which of its columns is which column of the contract."""

    source: str = Field(
        "", description="File or folder, within the folder of the source. If empty: the table's own name with any known suffix."
    )
    format: Format | None = Field(None, description="How the table is read. If not given, the name and the content say it.")
    version: int | None = Field(None, ge=0, description="Version of a Delta table, or snapshot id of an Iceberg table.")
    as_of: dt.datetime | None = Field(None, description="Time (UTC) as of which a Delta or Iceberg table is read.")
    database: str = Field(
        "",
        description="URL of a database, without a password: postgresql://user@host:5432/name. PGPASSWORD holds the password.",
    )
    query: str = Field("", description="The SQL query whose rows are the table.")
    columns: dict[str, str] = Field(
        {}, description="Column of the contract: column of the table. A dot enters a nested column."
    )
    constants: dict[str, Scalar] = Field({}, description="Column of the contract: the value that every row has.")
    defaults: dict[str, Scalar] = Field({}, description="Column of the contract: the value of rows that have none.")
    templates: dict[str, str] = Field(
        {},
        description="Column of the contract: a text made from columns of the table, such as 'images/{sku:.3}/{sku}.jpg'. "
        "':.3' takes the first three characters, and ':0>10' puts zeros in front up to a length of ten.",
    )
    attributes: dict[str, AttributeKind] = Field(
        {},
        description="Of items and users. Further column: what it holds. text: one category; texts: several; number; embedding: "
        "a vector made elsewhere. Models learn from them, and answers can be filtered by those of items but embeddings.",
    )
    where: dict[str, list[Scalar]] = Field(
        {},
        description="Column of the table: the values of the rows that are wanted, or the one value. In a column of numbers, 5 "
        "and 5.0 are one.",
    )
    repeated_ids: Literal["damage", "first"] = Field(
        "damage",
        description="Of items and users. damage: rows that repeat an id are set aside and counted; first: they are expected, "
        "as in a catalogue that is taken from a log, and the first row of each id counts.",
    )
    explode: str = Field(
        "",
        description="A column that holds a list; each of its elements becomes a row of its own. In CSV, the list is a text "
        "with list_separator between its elements.",
    )
    timestamp_unit: TimeUnit | None = Field(
        None, description="Unit of times that are numbers. If not given: data.timestamp_unit."
    )
    timestamp_origin: dt.datetime | None = Field(
        None,
        description="The moment (UTC) from which times that are numbers count, such as 2020-01-01, for a log that counts from "
        "a start of its own. If not given: 1970-01-01, as in Unix time.",
    )
    rows_in_order: bool = Field(
        False,
        description="Of interactions, for a log without times whose rows stand in the order in which things happened, at least "
        "within each user. The number of the row is then the time, in timestamp_unit from timestamp_origin on.",
    )
    timestamp_format: str = Field(
        "", description="Form of times that are texts, as strptime takes it, such as '%d/%m/%Y %H:%M'."
    )
    timezone: str = Field("UTC", description="Zone of times that name none, such as Europe/Berlin.")
    delimiter: str = Field(
        "", max_length=3, description="What separates the values of a CSV file. If empty, its first line says it."
    )
    list_separator: str = Field(
        SEPARATOR,
        min_length=1,
        max_length=3,
        description="What separates the elements of a list that is written as a text, as in DE|AT. A JSON array needs none.",
    )
    encoding: str = Field("", description="Encoding of a CSV or JSON file. If empty: UTF-8 (or UTF-16 with a byte order mark).")
    names: list[str] = Field([], description="Names of the columns of a CSV file that has no header line.")

    @model_validator(mode="before")
    @classmethod
    def _given(cls, values: Any) -> Any:
        return without_empty(values)

    @field_validator("where", mode="before")
    @classmethod
    def _one_or_several(cls, values: Any) -> Any:
        one = (str, int, float)
        return {k: [v] if isinstance(v, one) else v for k, v in values.items()} if isinstance(values, dict) else values

    @field_validator("as_of", "timestamp_origin")
    @classmethod
    def _in_utc(cls, value: dt.datetime | None) -> dt.datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=dt.UTC)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError("there is no such zone; write it like Europe/Berlin") from error
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value or "utf-8")
        except LookupError as error:
            raise ValueError("there is no such encoding; write it like latin-1 or cp1252") from error
        return value

    @field_validator("templates")
    @classmethod
    def _plain_templates(cls, value: dict[str, str]) -> dict[str, str]:
        for template in value.values():
            for _, field, spec, conversion in Formatter().parse(template):
                if field is not None and (not PLAIN_NAME.match(field) or "{" in (spec or "") or conversion):
                    raise ValueError(f"in '{template}', write columns as {{name}} or {{name:.3}}")
                try:
                    format("text", spec or "")
                except ValueError as error:
                    raise ValueError(f"in '{template}', ':{spec}' does not fit a text (':.3' and ':0>10' do)") from error
        return value

    @field_validator("timestamp_format")
    @classmethod
    def _known_form(cls, value: str) -> str:
        if value:
            try:
                pd.to_datetime(pd.Series(["no time"]), format=value, errors="coerce")
            except ValueError as error:
                raise ValueError(f"this is no form that strptime takes ({error})") from error
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if set(value) & set('\r\n"'):
            raise ValueError("a line break or a quote cannot separate values")
        return value

    @field_validator("names")
    @classmethod
    def _different_names(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("two columns have one name")
        return value

    @field_validator("database")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if value:
            try:
                url = make_url(value)
            except ArgumentError as error:
                raise ValueError("write it like postgresql://user@host:5432/name") from error
            if url.password:
                raise ValueError("the URL holds a password; put it into the environment (PGPASSWORD) or into ~/.pgpass")
        return value

    @field_validator("attributes")
    @classmethod
    def _plain_names(cls, value: dict[str, AttributeKind]) -> dict[str, AttributeKind]:
        taken = {column.name.lower() for table in (ITEMS, USERS) for column in table.columns} | {"source_file", "source_row"}
        for name in value:
            if not PLAIN_NAME.match(name):
                raise ValueError(f"'{name}' is no plain name; give it one, and say columns: {{plain_name: '{name}'}}")
            if name.lower() in taken:
                raise ValueError(f"'{name}' is a column of the contract, or is there twice; give it another name by columns")
            taken.add(name.lower())
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "TableMapping":
        if bool(self.database) != bool(self.query):
            raise ValueError("database and query belong together")
        if self.database and self.source:
            raise ValueError("source names a file, and database a query: give one of them")
        if self.version is not None and self.as_of is not None:
            raise ValueError("version and as_of both say which state is read: give one of them")
        if self.timestamp_origin is not None and self.timestamp_format:
            raise ValueError("timestamp_format reads times as texts, and timestamp_origin counts numbers: give one of them")
        if self.rows_in_order and self.timestamp_origin is None:
            raise ValueError("rows_in_order needs timestamp_origin, a day of your choice such as 2020-01-01")
        if self.rows_in_order and any("timestamp" in given for given in (self.columns, self.constants, self.templates)):
            raise ValueError("rows_in_order takes the number of the row as the time, so name no other source of timestamp")
        return self

    @property
    def fits(self) -> bool:
        """Whether the table has the contract's columns as they are."""
        return not any(
            (
                *(self.columns, self.constants, self.defaults, self.templates, self.where, self.explode, self.attributes),
                *(self.timestamp_format, self.timestamp_origin, self.rows_in_order, self.list_separator != SEPARATOR),
            )
        )
