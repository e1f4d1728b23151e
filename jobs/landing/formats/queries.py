"""Reads the rows of a SQL query."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from jobs.base.errors import DataError
from jobs.landing.finding import Part
from jobs.landing.formats.typed_tables import Batch, first_line, two_of_one_name
from jobs.landing.table_mapping import TableMapping


def read_query(part: Part, mapping: TableMapping) -> Iterator[Batch]:
    """The rows of a SQL query, in parts, within a transaction that may only read.

    Raises:
        DataError: the database cannot be reached, or refuses the query.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    url = mapping.database.replace("postgresql://", "postgresql+psycopg://", 1)
    done = 0
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            result = connection.execution_options(stream_results=True, yield_per=50_000).execute(text(mapping.query))
            names = list(result.keys())
            for rows in result.partitions():
                columns = [_column(list(values)) for values in zip(*rows, strict=True)]
                if len(set(names)) < len(names):
                    twin = next(name for name in names if names.count(name) > 1)
                    raise two_of_one_name(part, twin)
                yield pa.table(columns, names=names), pa.array(range(done, done + len(rows)), pa.int64())
                done += len(rows)
    except (SQLAlchemyError, ImportError) as error:
        raise DataError(
            f"the database does not answer the query ({first_line(error)}).",
            file=part.name,
            remedy="check database and query in data.yaml; the password comes from PGPASSWORD or ~/.pgpass.",
        ) from error


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # mixed kinds, one that Arrow does not know (UUID), integers beyond 64 bits
        return pa.array([None if value is None else str(value) for value in values])
