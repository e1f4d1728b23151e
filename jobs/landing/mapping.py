"""How an owner's tables become those of the contract: the file `data.yaml`, typed and checked like every setting.

The file lies in the folder of the source, or where the setting `data.mapping` says. It is absent where the tables already fit.
"""

import re
from dataclasses import replace
from typing import Any, Literal

import yaml
from pydantic import Field, FiniteFloat, ValidationError, model_validator
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import children, place
from jobs.base.settings import PipelineSettings, Section, explain
from jobs.landing.contract import INPUT_TABLES, INTERACTIONS, ITEMS, USERS, Column, InputTable
from jobs.landing.table_mapping import TableMapping, without_empty

FILE_NAME = "data.yaml"
_NEARLY = ("data.yaml", "data.yml", "data.yaml.txt", "data.yml.txt")  # in any case of letters
_PASSWORD = re.compile(r"(://[^:/@\s]+):[^@\s]+@")


class KindRule(Section):
    """What one kind of event means."""

    role: Literal["target", "history", "negative", "cancels", "ignored"] = Field(
        "target",
        description="target: the model learns to find it; history: it only describes the user; negative: the user does not "
        "want the item; cancels: it takes back an earlier event; ignored: as if it were not there.",
    )
    weight: float = Field(1.0, gt=0, le=1_000, description="How much an event of this kind counts in training.")
    cancels: str = Field("", description="The kind of event that it takes back. If empty: any.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """`view: 1` is a weight, and `hide: negative` a role."""
        if not isinstance(value, str | int | float):
            return value
        try:
            return {"weight": float(value)}
        except ValueError:
            return {"role": value}


class RatingRule(Section):
    """What a rating means."""

    at_least: FiniteFloat = Field(description="Ratings from this value on are targets.")
    below: Literal["ignored", "history", "negative"] = Field("ignored", description="What lower ratings are.")


class DataMapping(Section):
    """All of `data.yaml`."""

    interactions: list[TableMapping] = Field(
        [TableMapping()], min_length=1, description="The log: one table of events, or several."
    )
    items: TableMapping = Field(TableMapping(), description="The catalogue.")
    images: TableMapping = Field(TableMapping(), description="Pictures apart from the catalogue.")
    users: TableMapping = Field(TableMapping(), description="What is known of users; read if it names attributes.")
    kinds: dict[str, KindRule] = Field(
        {},
        description="Kind of event: what it means. A number alone is its weight, as in {view: 1, purchase: 8}, and a word "
        "alone its role. Kinds that are not named are targets of weight 1.",
    )
    rating: RatingRule | None = Field(None, description="What ratings mean. If not given, every rating is a target.")
    repeats: Literal["once", "again"] = Field(
        "once",
        description="once: a pair of user and item counts at its first time; again: it counts each time, as for groceries or "
        "music.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, values: Any) -> Any:
        values = without_empty(values)
        if isinstance(values, dict) and isinstance(values.get("interactions"), dict):
            return values | {"interactions": [values["interactions"]]}
        return values

    @model_validator(mode="after")
    def _known_columns(self) -> "DataMapping":
        for table in INPUT_TABLES:
            for mapping in self.of(table):
                if mapping.attributes and table not in (ITEMS, USERS):
                    raise ValueError(f"{table.name}.attributes: only items and users have attributes")
                if mapping.rows_in_order and table is not INTERACTIONS:
                    raise ValueError(f"{table.name}.rows_in_order: only interactions have an order")
                known = [column.name for column in with_attributes(table, mapping).columns]
                for part in ("columns", "constants", "defaults", "templates"):
                    unknown = sorted(set(getattr(mapping, part)) - set(known))
                    if unknown:
                        raise ValueError(
                            f"{table.name}.{part}: {', '.join(unknown)} is no column of it; there are {', '.join(known)}"
                        )
        return self

    @property
    def days_are_real(self) -> bool:
        """Whether the times of the log say on which day something happened, and do not only stand for an order."""
        return not all(one.rows_in_order or "timestamp" in one.constants for one in self.interactions)

    def of(self, table: InputTable) -> list[TableMapping]:
        """The mappings of one table of the contract."""
        found = getattr(self, table.name)
        return found if isinstance(found, list) else [found]


class _Loader(yaml.SafeLoader):
    """Refuses a name that comes twice, of which YAML would keep the last without a word. Leaves a value the text that it is.

    YAML would make false of `no`, 10 of `012`, 90 of `1:30` and 1.1 of `1.10`, and these would no longer be what a table holds.
    The schema makes numbers of texts where it wants numbers.
    """

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the name {key.value} comes twice", key.start_mark)
        return super().construct_mapping(node, deep)


def with_attributes(table: InputTable, mapping: TableMapping) -> InputTable:
    """A table of the contract, joined by the attributes that its mapping names."""
    further = tuple(Column(name, kind, True, "It is an attribute in data.yaml.") for name, kind in mapping.attributes.items())
    return replace(table, columns=table.columns + further)


def _refuse_other_name(folder: UPath) -> None:
    """Raise `DataError` if a file has nearly the name of the mapping, because nobody would notice that it is passed over."""
    near = [entry.name for entry in children(folder) if entry.name.lower() in _NEARLY]
    if near:
        raise DataError(f"{near[0]} is not read.", file=folder / near[0], remedy=f"rename it to {FILE_NAME}, or take it away.")


def read_mapping(folder: UPath, settings: PipelineSettings) -> DataMapping:
    """The mapping of a source; that of tables which fit if there is no file.

    Raises:
        DataError: the file cannot be read, is not YAML, or says something that the schema refuses.
    """
    path = place(settings.data.mapping) if settings.data.mapping else folder / FILE_NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        if settings.data.mapping:
            raise DataError("there is no such file.", file=path, remedy="correct data.mapping, or leave it empty.") from error
        _refuse_other_name(folder)
        return DataMapping()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the file cannot be read ({error}).", file=path, remedy="save it as text in UTF-8.") from error
    try:
        values = yaml.load(text, _Loader)
        if not isinstance(values, dict | None):
            raise DataError(
                f"the file holds {'a list' if isinstance(values, list) else 'one value'}, and not names with what they mean.",
                file=path,
                remedy="begin a line with each name, such as interactions: {source: events.csv}.",
            )
        return DataMapping.model_validate(values or {})
    except RecursionError as error:
        raise DataError(
            "the file is nested too deeply.", file=path, remedy="see docs/data-contract.md for its form."
        ) from error
    except yaml.YAMLError as error:
        raise DataError(
            f"the file is not YAML ({' '.join(str(error).split())}).", file=path, remedy="correct that line."
        ) from error
    except ValidationError as error:
        known = {name for part in (DataMapping, TableMapping, KindRule, RatingRule) for name in part.model_fields}
        told = _PASSWORD.sub(r"\1:***@", explain(error, known=known))
        # Not chained, because the error quotes what the file says, and that may be a password.
        raise DataError(f"{told}.", file=path, remedy="see docs/data-contract.md for what it may say.") from None
