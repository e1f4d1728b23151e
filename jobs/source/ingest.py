"""Ingest: clean the log and the catalogue, number users and items, split the log in time, count popularity."""

from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.lake.dense_index import dense_index
from jobs.lake.spark_tables import write_table
from jobs.lake.table_use import TableUse, tell
from jobs.lake.tables import Lake
from jobs.source.attributes import attribute_encoder
from jobs.source.cleaning import (
    IGNORED,
    KEPT,
    LATER,
    REPEATED_PAIR,
    clean_events,
    clean_items,
    clean_users,
    event_quarantine,
    image_quarantine,
)
from jobs.source.forgotten import without_forgotten
from jobs.source.kinds import NEGATIVE
from jobs.source.other_rows import not_used, rows_of_others
from jobs.source.spelling import twins_across
from jobs.source.splitting import SplitChoice, assign_split, choose_split
from jobs.source.tables import Source, named_read_errors, read_source

_SPLITS = ("train", "validation", "holdout")
TABLES = ("users", "items", "stock", "interactions", "quarantine")
UNWANTED = "unwanted"  # in place of a split: a pair that is no event, but an item that the user does not want


def run(settings: PipelineSettings, tables: Collection[str] = TABLES) -> dict[str, Any]:
    """Publish `items`, `stock`, `users`, `interactions` and `quarantine` of the logical date.

    `stock` says which items can be had when the date ends. It is a table of its own, so a change of it trains nothing anew.

    Args:
        settings: of the run.
        tables: those that are written; the check before a run looks at some only.

    Returns:
        The summary: what was read, used and set aside, and how it was split.

    Raises:
        DataError: the source cannot be used, too many rows had to be set aside, the catalogue is too small for the
            number of clusters, or a split has no events. Nothing is published then.
    """
    with spark_session(settings, "ingest") as spark:
        source = read_source(spark, settings)
        with named_read_errors(source.folder), ExitStack() as numbered:
            return _ingest(source, settings, numbered, tables)


def _ingest(source: Source, settings: PipelineSettings, numbered: ExitStack, tables: Collection[str]) -> dict[str, Any]:
    catalogue, item_rejects = clean_items(source, settings)
    items, num_items = numbered.enter_context(dense_index(catalogue, "item_id", "item_index"))
    _check_catalogue(num_items, source.file("items"), settings)
    out_of_stock = _out_of_stock(items, num_items, source, settings)
    stock = items.select("item_index", "item_id", "available")
    attribute_encoder(items, source, "items")
    log, forgotten = without_forgotten(source.interactions, settings)
    as_read, forgotten_rows = source, 0
    source = replace(source, interactions=log)
    if source.users is not None:
        others, forgotten_rows = without_forgotten(source.users, settings)
        source = replace(source, users=others)
    events = clean_events(source, items, settings).persist()
    fates = {row["fate"]: row["count"] for row in events.groupBy("fate").count().collect()}

    quarantine = event_quarantine(events).unionByName(item_rejects)
    image_rejects = image_quarantine(source)
    if image_rejects is not None:
        quarantine = quarantine.unionByName(image_rejects)
    known_users = clean_users(source)
    if known_users is not None:
        quarantine = quarantine.unionByName(known_users[1])
    quarantine = quarantine.persist()
    rejected = {"interactions": {}, "items": {}, **_rejected(quarantine)}
    rows_read = {"interactions": sum(fates.values()) - fates.get(LATER, 0), **rows_of_others(source)}
    unused = not_used(
        as_read, items, num_items, known_users and known_users[0], forgotten_rows, sum(rejected.get("users", {}).values())
    )
    for name, count in rows_read.items():
        tell(TableUse(f"source/{name}", settings.ds, count))
    _check_rejected(quarantine, rejected, rows_read, source, settings)
    _check_shrinkage(rows_read["interactions"], source, settings)

    kept = events.where(F.col("fate") == KEPT).select("user_id", "item_id", "item_index", "timestamp", "kind", "weight")
    choice, previous = _choose(kept.where("weight > 0"), settings)
    split = assign_split(kept, choice.method, settings)
    if choice.method == "per_user_tail":  # else the split is a column of what is kept already
        split = split.persist()
    users, num_users = numbered.enter_context(dense_index(_users(split, known_users), "user_id", "user_index"))
    unwanted = events.where(F.col("fate") == NEGATIVE).select(*split.columns[:-1]).withColumn("split", F.lit(UNWANTED))
    rows = split.unionByName(unwanted.dropDuplicates(["user_id", "item_id"])) if fates.get(NEGATIVE) else split
    interactions = rows.join(users.select("user_id", "user_index"), "user_id").select(
        "user_index", "item_index", "timestamp", "split", "kind", "weight"
    )
    is_kind = F.max(F.col("kind").isNotNull() | (F.col("weight") != 1)).alias("kinds")
    targets = F.count_if(F.col("weight") > 0).alias("targets")
    counts = (F.count("*").alias("n"), targets, F.min("timestamp"), F.max("timestamp"), is_kind)
    counted = split.groupBy("split").agg(*counts).collect()
    sizes = {row["split"]: row["n"] for row in counted}
    num_targets = {row["split"]: row["targets"] for row in counted}
    if not any(num_targets.values()) and sizes:
        raise DataError(
            f"none of {sum(sizes.values())} events is one that a model can learn to find: they only describe users.",
            file=source.file("interactions"),
            remedy="give a kind the role target under kinds in data.yaml, or lower rating.at_least.",
        )
    _check_split(sizes, fates, choice, source, settings)
    popularity = split.where("split = 'train'").groupBy("item_index").agg(F.count(F.lit(1)).alias("num_train"))
    items = items.join(popularity, "item_index", "left").select(
        "item_index",
        "item_id",
        "title",
        "text",
        "image_path",
        *(["attributes"] if source.mapping.items.attributes else []),
        F.coalesce("num_train", F.lit(0).cast("bigint")).alias("num_train"),
    )

    summary: dict[str, Any] = {
        "rows_read": rows_read,
        "left_out": source.landing.left_out(),
        "items": num_items,
        "out_of_stock": out_of_stock,
        "events": {name: sizes.get(name, 0) for name in _SPLITS},
        "targets": {name: num_targets.get(name, 0) for name in _SPLITS},
        "not_used": {fate: count for fate, count in fates.items() if fate not in (KEPT, None)},
        "rejected": rejected,
        "unused_rows": unused,
        "forgotten": forgotten,
        "first_timestamp": min(row["min(timestamp)"] for row in counted),
        "last_timestamp": max(row["max(timestamp)"] for row in counted),
        "split": choice.method,
        "split_reason": choice.reason,
        "previous_split": previous,
        "kinds": any(row["kinds"] for row in counted),
        "unwanted": fates.get(NEGATIVE, 0),
        "repeats": source.mapping.repeats,
    }
    if known_users is not None:
        summary["user_attributes"] = attribute_encoder(known_users[0], source, "users").fingerprint
    digests, lake = source.digests(), Lake.of(settings)
    about_users = ["attributes"] if known_users is not None else []
    users = users.select("user_index", "user_id", *(f"num_{name}" for name in _SPLITS), *about_users)
    for table, frame, by, keys in (
        ("users", users, ["user_index"], num_users),
        ("items", items, ["item_index"], num_items),
        ("stock", stock, ["item_index"], num_items),
        ("interactions", interactions, ["user_index", "timestamp", "item_index"], num_users),
        ("quarantine", quarantine, ["table", "reason", "key"], None),
    ):
        if table in tables:
            with lake.write(table, settings, extra_inputs=digests) as pending:
                write_table(frame, pending, by=by, keys=keys)
                pending.stats |= summary
        summary["users"] = num_users
    for frame in (events, quarantine, split):
        frame.unpersist()
    return summary


def _users(split: DataFrame, known: tuple[DataFrame, DataFrame] | None) -> DataFrame:
    """user_id, num_train, num_validation, num_holdout int64, and attributes if `clean_users` gives any.

    So users who have attributes and no event are among them.
    """
    users = split.groupBy("user_id").agg(*(F.count_if(F.col("split") == name).alias(f"num_{name}") for name in _SPLITS))
    return users if known is None else users.join(known[0], "user_id", "full").na.fill(0)


def _choose(kept: DataFrame, settings: PipelineSettings) -> tuple[SplitChoice, str | None]:
    lake = Lake.of(settings)
    date = lake.previous_date("interactions", settings.date)
    previous = lake.manifest("interactions", date)["stats"].get("split") if date else None
    return choose_split(kept, settings, previous), previous


def _check_catalogue(num_items: int, file: str, settings: PipelineSettings) -> None:
    clusters = settings.clusters
    needed = clusters.num_primary * clusters.min_cluster_size
    if num_items < needed:
        raise DataError(
            f"the catalogue has {num_items} items; {clusters.num_primary} clusters of at least {clusters.min_cluster_size} "
            f"need {needed} items.",
            file=file,
            remedy=f"set clusters.num_primary to {max(num_items // clusters.min_cluster_size, 2)} or less.",
        )


def _out_of_stock(items: DataFrame, num_items: int, source: Source, settings: PipelineSettings) -> int:
    """The number of items that cannot be had when the date ends."""
    seen = {name for part in source.landing.tables["items"].parts for name in part.samples}
    if not seen & {"available", "available_from", "available_until"}:
        return 0
    count = items.where("not available").count()
    if count == num_items:
        raise DataError(
            f"none of the {num_items} items can be had at the end of {settings.ds}.",
            file=source.file("items"),
            column="available",
            remedy="correct available, available_from or available_until; without values in them, an item can be had.",
        )
    return count


def _rejected(quarantine: DataFrame) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in quarantine.groupBy("table", "reason").count().orderBy("table", "reason").collect():
        counts[row["table"]][row["reason"]] = row["count"]
    return dict(counts)


def _check_rejected(
    quarantine: DataFrame,
    rejected: dict[str, dict[str, int]],
    rows_read: dict[str, int],
    source: Source,
    settings: PipelineSettings,
) -> None:
    limit = settings.data.max_rejected_fraction
    for table, counts in rejected.items():
        reasons = Counter(counts)
        share = reasons.total() / rows_read[table]
        if share <= limit:
            continue
        worst = reasons.most_common(1)[0][0]
        guess = _why_unknown(quarantine, source) if worst == "unknown_item" else ""
        examples = quarantine.where((F.col("table") == table) & (F.col("reason") == worst)).orderBy("key").limit(5).collect()
        raise DataError(
            f"{reasons.total()} of {rows_read[table]} rows ({share:.1%}) cannot be used, but only {limit:.1%} may be lost: "
            + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            + f". Examples of {worst}: "
            + ", ".join(f"{row['key']} ({row['column']} = {row['value']})" for row in examples)
            + f".{guess}",
            file=source.file(table),
            column=examples[0]["column"],
            rows=[row["key"] for row in examples],
            remedy="correct the export, or raise data.max_rejected_fraction if you can do without these rows."
            + (" For bot_user, see also ingest.max_events_per_user_day." if worst == "bot_user" else ""),
        )


def _why_unknown(quarantine: DataFrame, source: Source) -> str:
    """Ids of the log and of the catalogue side by side, and in what they differ."""
    unknown = quarantine.where("reason = 'unknown_item'").select("value").distinct()
    known = source.items.where("item_id is not null").select("item_id").distinct()
    examples = ", ".join(f"'{row[0]}'" for row in known.orderBy("item_id").limit(5).collect())
    twins = twins_across(unknown, known)
    why = f" {twins[-1]} (of the catalogue)." if twins else " None of them is an id of the catalogue in another spelling."
    return f" Ids of the catalogue: {examples}.{why}"


def _check_split(
    sizes: dict[str, int], fates: dict[str, int], choice: SplitChoice, source: Source, settings: PipelineSettings
) -> None:
    repeated, ignored, used = fates.get(REPEATED_PAIR, 0), fates.get(IGNORED, 0), sum(sizes.values())
    for name in ("train", "holdout"):
        if not sizes.get(name):
            other = "per_user_tail" if choice.method == "window" else "window"
            remedy = f"set ingest.split to {other}, change ingest.holdout_days, or choose a later date, with a longer log."
            why = ""
            if repeated > used:
                why = f" {repeated} more are a pair of user and item that came before, which counts once."
                remedy = "write 'repeats: again' into data.yaml if people come back to the same items; or " + remedy
            elif ignored > used:
                why = f" {ignored} more are left out by kinds or rating in data.yaml."
                remedy = "correct kinds or rating.at_least in data.yaml; or " + remedy
            raise DataError(
                f"the split '{choice.method}' ({choice.reason}) leaves no {name} events on {settings.ds}; events: {sizes}."
                + why,
                file=source.file("interactions"),
                remedy=remedy,
            )


def _check_shrinkage(rows: int, source: Source, settings: PipelineSettings) -> None:
    """Stop if the log has lost many rows since the latest earlier date."""
    lake = Lake.of(settings)
    date = lake.previous_date("interactions", settings.date)
    before = lake.manifest("interactions", date)["stats"].get("rows_read", {}).get("interactions") if date else None
    limit = settings.data.max_log_shrinkage
    if before and rows < (1 - limit) * before:
        raise DataError(
            f"the log has {rows} rows up to {settings.ds}, but it had {before} on {date}: {1 - rows / before:.0%} fewer.",
            file=source.file("interactions"),
            remedy="was today's export complete? If it was, raise data.max_log_shrinkage for this run.",
        )
