"""More shapes of `export_shapes`: reviews, plays, and tables of a lake or a database."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from tests.jobs.landing.export_shapes import NUM_ITEMS, base, expected, texts, words, write_lines


def amazon(folder: Path) -> pd.DataFrame:
    """Packed JSON lines; descriptions are texts in one product and lists in another."""
    log = base()
    asin = log["item"].map("B{:09d}".format)
    reviews = (
        {
            "reviewerID": f"A{row.user}",
            "asin": name,
            "overall": float(row.stars),
            "unixReviewTime": row.second,
            "helpful": [0, 1],
        }
        for row, name in zip(log.itertuples(), asin, strict=True)
    )
    write_lines(folder / "reviews.json.gz", reviews)
    products = (
        {"asin": f"B{row:09d}", "title": words(row), "description": [words(row), "Nice."] if row % 2 else words(row)}
        for row in range(NUM_ITEMS)
    )
    write_lines(folder / "meta.json.gz", products)
    return expected("A" + log["user"].astype(str), asin, log["second"])


def steam(folder: Path) -> pd.DataFrame:
    """Lines in Python's own form (single quotes, True), one for each user with a list of reviews; a date lacks its year."""
    log = base()
    log["day"] = texts(log["second"], "Posted %B %d, %Y.")
    users = (
        {
            "user_id": f"player{user}",
            "reviews": [
                {"posted": row.day, "item_id": str(row.item), "recommend": row.stars > 2, "review": "It's a 'game'"}
                for row in rows.itertuples()
            ],
        }
        for user, rows in log.groupby("user")
    )
    nobody = {"user_id": "nobody", "reviews": []}
    late = {"user_id": "player0", "reviews": [{"posted": "Posted July 24.", "item_id": "1", "recommend": True}]}
    write_lines(folder / "australian_user_reviews.json", [*users, nobody, late], repr)
    games = ({"id": str(row), "app_name": words(row), "tags": ["Action", "Indie"]} for row in range(NUM_ITEMS))
    write_lines(folder / "steam_games.json", games, lambda row: repr(row).replace("{'", "{u'", 1))
    found = log.sort_values(["user", "second"], kind="stable")
    kinds = [*("true" if stars > 2 else "false" for stars in found["stars"]), "true"]
    seconds = [*(found["second"] // 86_400 * 86_400), None]
    return expected([*("player" + found["user"].astype(str)), "player0"], [*found["item"].astype(str), "1"], seconds, kinds)


def yelp(folder: Path) -> pd.DataFrame:
    """JSON lines with ids of 22 letters, some of which begin with a dash; dates with seconds and no zone."""
    log = base()
    user, business = log["user"].map("-u{:020d}".format), log["item"].map("_b{:020d}".format)
    when = texts(log["second"], "%Y-%m-%d %H:%M:%S")
    reviews = (
        {"review_id": f"r{number}", "user_id": one, "business_id": other, "stars": float(row.stars), "date": date, "text": "Ok"}
        for number, (row, one, other, date) in enumerate(zip(log.itertuples(), user, business, when, strict=True))
    )
    write_lines(folder / "yelp_academic_dataset_review.json", reviews)
    places = (
        {
            "business_id": f"_b{row:020d}",
            "name": words(row),
            "categories": "Food, Bars" if row % 2 else None,
            "attributes": {"WiFi": "u'no'"},
        }
        for row in range(NUM_ITEMS)
    )
    write_lines(folder / "yelp_academic_dataset_business.json", places)
    return expected(user, business, log["second"])


def lastfm(folder: Path) -> pd.DataFrame:
    """Plays without a header and without a catalogue; names hold quotes, and some plays know no artist id."""
    log = base()
    artist = log["item"].map("mbid-{:04d}".format).where(log.index % 50 != 49, "")
    columns = {
        "user": log["user"].map("user_{:06d}".format),
        "time": texts(log["second"], "%Y-%m-%dT%H:%M:%SZ"),
        "artist": artist,
        "name": log["item"].map(lambda row: f"The {words(row)}"),
        "track": "",
        "title": "Song",
    }
    pd.DataFrame(columns).to_csv(folder / "plays.tsv", sep="\t", header=False, index=False)
    return expected(columns["user"], artist.replace("", None), log["second"])


def delta(folder: Path) -> pd.DataFrame:
    """Tables of a lake house, of which one customer was deleted; timestamps with a zone, days as partitions."""
    log = base()
    when = pa.array(log["second"], pa.int64()).cast(pa.timestamp("s", "UTC")).cast(pa.timestamp("us", "UTC"))
    columns = {"customer": log["user"], "product": log["item"], "action": log["kind"], "day": texts(log["second"], "%Y-%m-%d")}
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False).append_column("event_time", when)
    write_deltalake(folder / "gold" / "events", table, partition_by=["day"])
    DeltaTable(folder / "gold" / "events").delete("customer = 7")
    products = pa.table({"product": np.arange(NUM_ITEMS), "name": [words(row) for row in range(NUM_ITEMS)]})
    write_deltalake(folder / "gold" / "products", products)
    kept = log[log["user"] != 7]
    return expected(kept["user"].astype(str), kept["item"].astype(str), kept["second"], kept["kind"])


SCHEMA = """
create table customers (id uuid primary key, email text);
create table products (sku text primary key, name text, description text, price numeric(10, 2));
create table events (customer uuid, sku text, kind text, at timestamptz, amount numeric);
"""


def fill_database(uri: str) -> pd.DataFrame:
    """Tables of a shop in PostgreSQL: ids that are UUIDs, times with a zone, prices that are numerics."""
    import uuid

    import psycopg

    log = base()
    customer = [uuid.UUID(int=user + 1) for user in range(200)]
    with psycopg.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute(SCHEMA)
        with cursor.copy("copy products from stdin") as copy:
            for row in range(NUM_ITEMS):
                copy.write_row((f"{row:05d}", words(row), None, "9.50"))
        with cursor.copy("copy events from stdin") as copy:
            for row in log.itertuples():
                when = pd.Timestamp(row.second, unit="s", tz="UTC").isoformat()
                copy.write_row((customer[row.user], f"{row.item:05d}", row.kind, when, "1"))
    users = [str(customer[user]) for user in log["user"]]
    return expected(users, log["item"].map("{:05d}".format), log["second"], log["kind"])
