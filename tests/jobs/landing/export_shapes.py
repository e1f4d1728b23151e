"""Small logs in the shapes in which shops, services and public data sets give theirs: names, types and quirks, not the data.

Each function writes the files of one source into a folder, and returns the events that landing must find in them: user_id,
item_id (texts), timestamp (seconds, rounded as the source does), and kind if it has one.
"""

import datetime as dt
import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

NUM_ITEMS, NUM_USERS, NUM_EVENTS, DAYS = 300, 200, 6_000, 30
END = int(dt.datetime(2026, 1, 29, tzinfo=dt.UTC).timestamp())
KINDS = ("view", "cart", "purchase")


def base() -> pd.DataFrame:
    """The log behind all shapes: user, item (numbers), second, kind and stars of 6,000 events in 30 days, in order of time."""
    draw = np.random.default_rng(0)
    user = draw.integers(0, NUM_USERS, NUM_EVENTS)
    item = (user * 3 + draw.geometric(0.02, NUM_EVENTS)) % NUM_ITEMS  # users of neighbouring numbers have one taste
    item[:NUM_ITEMS] = np.arange(NUM_ITEMS)
    second = np.sort(END - DAYS * 86_400 + draw.integers(0, DAYS * 86_400, NUM_EVENTS))
    kind = draw.choice(KINDS, NUM_EVENTS, p=[0.7, 0.2, 0.1])
    return pd.DataFrame({"user": user, "item": item, "second": second, "kind": kind, "stars": draw.integers(1, 6, NUM_EVENTS)})


def words(item: int) -> str:
    return f"{('red', 'blue', 'green')[item % 3]} {('lamp', 'chair', 'shirt', 'cup')[item % 4]} of {('wood', 'wool')[item % 2]}"


def expected(
    users: Iterable[Any], items: Iterable[Any], seconds: Iterable[int], kinds: Iterable[str] | None = None
) -> pd.DataFrame:
    frame = pd.DataFrame({"user_id": list(users), "item_id": list(items), "timestamp": list(seconds)})
    return frame if kinds is None else frame.assign(kind=list(kinds))


def texts(seconds: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(seconds, unit="s").dt.strftime(form)


def write_lines(path: Path, rows: Iterable[Any], say: Callable[[Any], str] = json.dumps) -> None:
    """JSON lines (or what `say` makes of a row), packed if the name says so."""
    content = "".join(f"{say(row)}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def shopify(folder: Path) -> pd.DataFrame:
    """Orders with their lines, as the Admin API gives them; guests have no customer, and one order was never paid."""
    log = base().iloc[: NUM_EVENTS // 2 * 2]
    orders, found = [], []
    for number, (first, second) in enumerate(zip(log.iloc[::2].itertuples(), log.iloc[1::2].itertuples(), strict=True)):
        guest, token = number % 10 == 0, f"c{number:06x}"
        local = dt.datetime.fromtimestamp(first.second, dt.timezone(dt.timedelta(hours=-5)))
        lines = [
            {"id": number * 2 + place, "product_id": 7_000_000_000_000 + row.item} for place, row in enumerate((first, second))
        ]
        paid = number != 5
        orders.append(
            {
                "id": number,
                "created_at": local.isoformat(),
                "financial_status": "paid" if paid else "voided",
                "customer": None if guest else {"id": 5_000_000_000 + first.user, "email": "x@example.org"},
                "checkout_token": token,
                "line_items": lines if number != 6 else [],
            }
        )
        if paid and number != 6:
            user = f"session {token}" if guest else str(5_000_000_000 + first.user)
            found += [(user, str(line["product_id"]), first.second) for line in lines]
    write_lines(folder / "orders.jsonl", orders)
    products = (
        {"id": 7_000_000_000_000 + row, "title": f"Thing {row}", "body_html": f"<p>{words(row)}</p>"}
        for row in range(NUM_ITEMS)
    )
    write_lines(folder / "products.jsonl", products)
    return expected(*zip(*found, strict=True), kinds=["purchase"] * len(found))


def ga4(folder: Path) -> pd.DataFrame:
    """The daily tables of BigQuery: microseconds, a list of items, most users known by their device alone."""
    log = base()
    names = {"view": "view_item", "cart": "add_to_cart", "purchase": "purchase"}
    (folder / "events").mkdir()
    item = pa.struct([("item_id", pa.string()), ("item_name", pa.string()), ("price", pa.float64())])
    schema = pa.schema(
        [("event_date", pa.string()), ("event_timestamp", pa.int64()), ("event_name", pa.string()), ("user_id", pa.string())]
        + [("user_pseudo_id", pa.string()), ("items", pa.list_(item))]
    )
    for day, rows in log.groupby(texts(log["second"], "%Y%m%d")):
        records = [
            {
                "event_date": day,
                "event_timestamp": row.second * 1_000_000 + 999_999,
                "event_name": names[row.kind],
                "user_id": f"u{row.user}" if row.user % 4 == 0 and row.kind == "purchase" else None,
                "user_pseudo_id": f"{row.user}.17",
                "items": [{"item_id": f"SKU_{row.item}", "item_name": words(row.item), "price": 9.5}],
            }
            for row in rows.itertuples()
        ]
        page = {
            "event_date": day,
            "event_timestamp": int(rows["second"].iloc[0]) * 1_000_000,
            "event_name": "page_view",
            "items": [],
        }
        pq.write_table(
            pa.Table.from_pylist([*records, page | {"user_pseudo_id": "0.17"}], schema),
            folder / "events" / f"events_{day}.parquet",
        )
    feed = pd.DataFrame({"id": [f"SKU_{row}" for row in range(NUM_ITEMS)], "title": [words(row) for row in range(NUM_ITEMS)]})
    feed.to_csv(folder / "merchant_feed.tsv", sep="\t", index=False)
    known = {row.user for row in log.itertuples() if row.user % 4 == 0 and row.kind == "purchase"}
    users = [f"u{user}" if user in known else f"session {user}.17" for user in log["user"]]
    return expected(users, "SKU_" + log["item"].astype(str), log["second"], log["kind"].map(names))


def retailrocket(folder: Path) -> pd.DataFrame:
    """events.csv in milliseconds; the properties of items come as one row for each change of each property."""
    log = base()
    kind = log["kind"].map({"view": "view", "cart": "addtocart", "purchase": "transaction"})
    order = pd.Series(np.where(kind == "transaction", np.arange(len(log)), np.nan))
    columns = {"timestamp": log["second"] * 1_000 + 123, "visitorid": log["user"], "event": kind, "itemid": log["item"]}
    pd.DataFrame(columns | {"transactionid": order}).to_csv(folder / "events.csv", index=False)
    properties = [
        (1_435_460_400_000 + week * 604_800_000, row, name, value)
        for week in range(2)
        for row in range(NUM_ITEMS)
        for name, value in (("categoryid", row % 20), ("790", f"n{row}.000"), ("888", f"{row * 7} 1297729"))
    ]
    names = ["timestamp", "itemid", "property", "value"]
    pd.DataFrame(properties, columns=names).to_csv(folder / "item_properties_part1.csv", index=False)
    return expected(log["user"].astype(str), log["item"].astype(str), log["second"], kind)


def handm(folder: Path) -> pd.DataFrame:
    """Dates only, article ids with leading zeros, rows repeated for pieces, pictures in folders, one new customer."""
    from tests.jobs.source_builder import picture

    log = base()
    article = (108_775_015 + log["item"]).map("{:010d}".format)
    customer = log["user"].map("{:064x}".format)
    day = texts(log["second"], "%Y-%m-%d")
    columns = {"t_dat": day, "customer_id": customer, "article_id": article, "price": 0.05, "sales_channel_id": 2}
    pd.DataFrame(columns).to_csv(folder / "transactions_train.csv", index=False)
    members = [f"{row:064x}" for row in range(log["user"].max() + 2)]  # the last one has bought nothing yet
    ages = [float(20 + row % 50) if row % 7 else None for row in range(len(members))]
    known = {"customer_id": members, "age": ages, "club_member_status": "ACTIVE", "postal_code": "x"}
    pd.DataFrame(known).to_csv(folder / "customers.csv", index=False)
    ids = [f"{108_775_015 + row:010d}" for row in range(NUM_ITEMS)]
    titles = [words(row) for row in range(NUM_ITEMS)]
    pd.DataFrame({"article_id": ids, "prod_name": titles, "detail_desc": "Soft."}).to_csv(folder / "articles.csv", index=False)
    for row, name in enumerate(ids):
        (folder / "images" / name[:3]).mkdir(parents=True, exist_ok=True)
        if row % 10:  # some articles have no picture
            (folder / "images" / name[:3] / f"{name}.jpg").write_bytes(picture(row % 7, "JPEG"))
    return expected(customer, article, log["second"] // 86_400 * 86_400)


def movielens(folder: Path) -> pd.DataFrame:
    """The newer sets: CSV with a header, half stars, titles with commas and quotes."""
    log = base()
    columns = {"userId": log["user"], "movieId": log["item"], "rating": log["stars"] - 0.5, "timestamp": log["second"]}
    pd.DataFrame(columns).to_csv(folder / "ratings.csv", index=False)
    titles = [f'Movie, The "{words(row)}" ({1950 + row % 60})' for row in range(NUM_ITEMS)]
    genres = [("Comedy|Drama", "(no genres listed)")[row % 2] for row in range(NUM_ITEMS)]
    pd.DataFrame({"movieId": range(NUM_ITEMS), "title": titles, "genres": genres}).to_csv(folder / "movies.csv", index=False)
    return expected(log["user"].astype(str), log["item"].astype(str), log["second"])


def movielens_1m(folder: Path) -> pd.DataFrame:
    """The older sets: `::` between values, no header, Latin-1."""
    log = base()
    lines = [f"{row.user}::{row.item}::{row.stars}::{row.second}" for row in log.itertuples()]
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    movies = [f"{row}::Café {words(row)} ({1950 + row % 60})::Drama" for row in range(NUM_ITEMS)]
    (folder / "movies.dat").write_bytes(("\n".join(movies) + "\n").encode("latin-1"))
    return expected(log["user"].astype(str), log["item"].astype(str), log["second"])


def stream(folder: Path) -> pd.DataFrame:
    """Events of sessions, of which some know their user, some only in a later event, and some never."""
    log = base()
    session = log["user"].astype(str) + "-" + (log["second"] // 86_400).astype(str)
    knows = (log["user"] % 3 == 0) & (log["kind"] != "view")
    user = pd.Series(np.where(knows, "user" + log["user"].astype(str), None))
    columns = {"session_id": session, "user_id": user, "sku": log["item"].map("{:05d}".format), "event": log["kind"]}
    when = pd.to_datetime(log["second"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S.250Z")
    pd.DataFrame(columns | {"at": when}).to_csv(folder / "clicks.csv.gz", index=False)
    catalogue = pd.DataFrame(
        {"sku": [f"{row:05d}" for row in range(NUM_ITEMS)], "name": [words(row) for row in range(NUM_ITEMS)]}
    )
    catalogue.to_parquet(folder / "catalogue.parquet", index=False)
    known = set(session[knows])
    users = [f"user{user}" if name in known else f"session {name}" for user, name in zip(log["user"], session, strict=True)]
    return expected(users, log["item"].map("{:05d}".format), log["second"], log["kind"])
