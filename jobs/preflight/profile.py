"""What a source holds, in sentences: files, columns, span of time, repeats, spellings, long tails, pictures and texts."""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.lake.spark_tables import read_table
from jobs.landing.records import LandedTable, Landing
from jobs.source.images import picture_paths
from jobs.source.picture_cache import PictureCache
from jobs.source.picture_content import Picture, decode_picture
from jobs.source.picture_fetching import fetch_pictures
from jobs.source.picture_files import EMPTY, REFUSED_SCHEME, find_picture, nearest_existing, read_file
from jobs.source.picture_hosts import is_url
from jobs.source.picture_words import counted as in_words
from jobs.source.spelling import has_folds, twins_across, twins_within
from jobs.source.tables import Source

_LAST = 253_402_300_800  # seconds up to the end of the year 9999
_SHOWN_FILES, _SHOWN_COLUMNS, _KINDS = 5, 12, 30
_PICTURES, _CONTENTS = 300, 100  # picture files looked at, and of how many pictures the content is opened and compared
_SIDE = 64  # pixels


def of_files(landing: Landing) -> dict[str, list[str]]:
    """For each table: which files were read and which were not, rows, columns with samples, and what landing noticed."""
    return {name: list(_of_table(table)) for name, table in landing.tables.items()}


def of_source(source: Source, settings: PipelineSettings) -> tuple[int, dict[str, list[str]]]:
    """The number of pictures, what there is to say of the log, the catalogue and the pictures, and warnings, by heading."""
    with counted(source) as counts:
        log, catalogue = of_log(source, counts), of_catalogue(source, counts)
    kinds, warnings = of_kinds(source)
    number, pictures = of_pictures(source, settings)
    return number, {"Log": log + kinds, "Catalogue": catalogue, "Pictures": pictures} | ({"Mind": warnings} if warnings else {})


@contextmanager
def counted(source: Source) -> Iterator[dict[str, DataFrame]]:
    """The events of each user and of each item: `user_id` and `item_id` -> id, count. They are kept inside the block."""
    log = source.interactions
    counts = {column: log.where(f"{column} is not null").groupBy(column).count().persist() for column in ("user_id", "item_id")}
    try:
        yield counts
    finally:
        for frame in counts.values():
            frame.unpersist()


def of_log(source: Source, counts: dict[str, DataFrame]) -> list[str]:
    """Users and items by their long tails, repeats, and ids that look like two spellings of one.

    Args:
        source: the input tables.
        counts: from `counted`.
    """
    found = []
    for column, word in (("user_id", "users"), ("item_id", "items")):
        row = (
            counts[column]
            .agg(
                F.count("*").alias("n"),
                F.percentile_approx("count", 0.5).alias("half"),
                F.percentile_approx("count", 0.99).alias("most"),
                F.max("count").alias("largest"),
                F.max_by(column, "count").alias("who"),
                F.count_if(F.col("count") == 1).alias("once"),
                has_folds(column).alias("folds"),
            )
            .collect()[0]
        )
        if row["n"]:
            found.append(
                f"{row['n']:,} {word} in the log: half of them have {row['half']} events or fewer, one in a hundred more than "
                f"{row['most']}, '{str(row['who'])[:40]}' has {row['largest']:,}; {row['once'] / row['n']:.0%} have one only."
            )
        found += [f"{word}: {spelling}." for spelling in twins_within(counts[column].select(column), folds=row["folds"])]
    return found + _repeats(source.interactions)


def _repeats(log: DataFrame) -> list[str]:
    # A hash of 64 bits stands for a pair, so that few bytes are compared. The blank keeps (null, a) from (a, null).
    pairs = log.select(F.xxhash64("user_id", F.lit(" "), "item_id").alias("pair"), "timestamp").repartition("pair")
    row = (
        pairs.groupBy("pair")
        .agg(F.count("*").alias("rows"), F.count_distinct("timestamp").alias("times"))
        .agg(F.sum("rows").alias("rows"), F.sum("times").alias("times"), F.count("*").alias("pairs"))
        .collect()[0]
    )
    if not row["rows"]:
        return []
    return [
        f"{(row['rows'] - row['times']) / row['rows']:.1%} of the rows tell an action again (same user, item and second); "
        f"{(row['times'] - row['pairs']) / row['rows']:.1%} more are pairs of user and item that came before."
    ]


def of_kinds(source: Source) -> tuple[list[str], list[str]]:
    """The kinds of events; and a warning if `data.yaml` names kinds that no event has, while others have kinds without a name.

    A log may lack a kind for a while, such as returns. But a kind that is spelt otherwise there would lose its meaning.
    """
    rules = source.mapping.kinds
    kinds = source.interactions.groupBy("kind").count().orderBy(F.desc("count")).limit(_KINDS).collect()
    if not rules and all(row["kind"] is None for row in kinds):
        return [], []
    told = ["kinds of events: " + ", ".join(f"{row['kind'] or '(none)'} {row['count']:,}" for row in kinds) + "."]
    named, met = rules.keys() | {rule.cancels for rule in rules.values() if rule.cancels}, {row["kind"] for row in kinds}
    absent, unnamed = sorted(named - met), sorted(met - named - {None})
    if not (rules and absent and unnamed) or len(kinds) == _KINDS:
        return told, []
    lost, plain = (", ".join(f"'{kind}'" for kind in some) for some in (absent, unnamed))
    return told, [
        f"data.yaml names the kinds {lost}, which no event has. Events of {plain}, which it does not name, are targets of "
        "weight 1. Remedy: write each kind under kinds as the log spells it."
    ]


def of_catalogue(source: Source, counts: dict[str, DataFrame]) -> list[str]:
    """Ids that differ between catalogue and log, repeated ids, texts that are missing or alike.

    Args:
        source: the input tables.
        counts: from `counted`.
    """
    known = source.items.where("item_id is not null").select("item_id", F.lit(True).alias("known")).distinct()
    ids = known.join(counts["item_id"], "item_id", "full").persist()
    is_known, is_logged = F.col("known").isNotNull(), F.col("count").isNotNull()
    row = ids.agg(
        F.count_if(is_known).alias("known"),
        F.count_if(is_known & ~is_logged).alias("without"),
        F.count_if(~is_known).alias("lost"),
        has_folds("item_id").alias("folds"),
    ).collect()[0]
    mine, unknown = (ids.where(which).select("item_id") for which in (is_known, ~is_known))
    found = [f"{row['known']:,} items; {row['without']:,} of them have no event."]
    if row["lost"]:
        found.append(
            f"{row['lost']:,} items of the log are not in the catalogue, such as {_examples(unknown)}; "
            f"the catalogue has {_examples(mine)}."
        )
        found += [f"{spelling}." for spelling in twins_across(unknown, mine)]
    found += [f"items: {spelling}." for spelling in twins_within(mine, folds=row["folds"])]
    ids.unpersist()
    return found + _texts(source.items)


def _examples(ids: DataFrame) -> str:
    return ", ".join(f"'{row[0]}'" for row in ids.orderBy("item_id").limit(3).collect())


def of_pictures(source: Source, settings: PipelineSettings) -> tuple[int, list[str]]:
    """The number of pictures, which are missing and where they were looked for, which cannot be used, and which are alike."""
    inside = [table.where("image is not null") for table in (source.items, source.images) if table is not None]
    number_inside = sum(table.count() for table in inside)
    found = [f"{number_inside:,} pictures lie in the tables."] if number_inside else []
    paths, fetched = picture_paths(source, settings.pictures.per_item), PictureCache.of(settings)
    number = paths.count()
    if not (number or number_inside):
        return 0, ["There are no pictures."]
    contents = [row["image"] for row in inside[-1].select("image").limit(_CONTENTS).collect()] if number_inside else []
    if number:
        chosen = paths.orderBy(F.xxhash64("item_id"), "image_path").limit(_PICTURES).collect()
        fetch_pictures({row["image_path"].strip() for row in chosen if is_url(row["image_path"])}, settings)
        looked_at = [
            (row["item_id"], row["image_path"], find_picture(source.folder, row["image_path"], fetched)) for row in chosen
        ]
        lost = [(item, seen) for item, _, seen in looked_at if seen.why]
        items = paths.select("item_id").distinct().count()
        there = [given for _, given, seen in looked_at if not seen.why]
        found.append(f"{items:,} items name {number:,} picture files; of {len(looked_at)} looked at, {len(there)} can be read.")
        reasons = Counter(seen.why for _, seen in lost)
        found += [f"not readable: {in_words(dict(reasons.most_common()))}."] if lost else []
        if reasons[REFUSED_SCHEME]:
            found.append("Pictures by URL are fetched only from servers that the setting pictures.hosts names.")
        for item, seen in lost[:3]:
            near = nearest_existing(seen)
            found.append(f"item '{item}' was looked for at {seen.tried}" + (f"; what exists is {near}." if near else "."))
        contents += [read_file(source.folder, given, fetched) or b"" for given in there[:_CONTENTS]]
    alike = _alike(Counter(hashlib.sha256(content).hexdigest() for content in contents))
    return number_inside + number, [*found, *_bad_contents(contents), *alike]


def _bad_contents(contents: list[bytes]) -> list[str]:
    """Why some pictures cannot be decoded, as the visual features say it."""
    decoded = (decode_picture(content, _SIDE) if content else Picture(None, (EMPTY,)) for content in contents)
    causes = Counter(picture.traits[0] for picture in decoded if picture.image is None)
    if not causes:
        return []
    why = in_words(dict(causes.most_common()))
    return [
        f"of {len(contents)} pictures that were opened, {causes.total()} cannot be used: {why}. An item keeps its view if "
        "another picture of it can be used."
    ]


def without_view(source: Source, settings: PipelineSettings) -> int:
    """Items in no cluster: without title, text and picture, and with too few training events for a behavioural view.

    Args:
        source: the input tables.
        settings: of a run whose ingest is done.
    """
    inside = [table.where("image is not null") for table in (source.items, source.images) if table is not None]
    pictured = picture_paths(source, settings.pictures.per_item).select("item_id")
    for table in inside:
        pictured = pictured.union(table.select("item_id"))
    pictured = pictured.distinct()
    items = read_table(pictured.sparkSession, settings, "items").where(f"num_train < {settings.features.min_behaviour_events}")
    bare = F.trim(F.concat_ws("", "title", "text")) == ""
    return items.where(bare).join(pictured, "item_id", "left_anti").count()


def _of_table(table: LandedTable) -> Iterator[str]:
    names = [part.name for part in table.parts]
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    written = sum(part.written for part in table.parts)
    how = (
        "as they are" if not written else "and brought to the contract's form" if written == len(names) else "partly converted"
    )
    yield f"read {how}: {', '.join(names[:_SHOWN_FILES])}{more}."
    if table.left_out:
        shown = "; ".join(f"{name} ({why})" for name, why in table.left_out[:_SHOWN_FILES])
        yield f"left out {len(table.left_out)}: {shown}."
    rows_in = sum(part.rows_in for part in table.parts)
    yield f"{table.rows:,} rows" + (f" of {rows_in:,}; the mapping leaves out the others." if rows_in != table.rows else ".")
    if table.days:
        first, last = min(table.days), max(table.days)
        yield f"times from {first} to {last}, {sum(table.days.values()) // len(table.days):,} events on a day that has any."
    samples: dict[str, list[str]] = {}
    missing: Counter[str] = Counter()
    for part in table.parts:
        missing.update(part.missing)
        for name, values in part.samples.items():
            samples.setdefault(name, values or [])
    for name, values in samples.items():
        if name.startswith(("timestamp", "available_")):
            values = [dt.datetime.fromtimestamp(int(value), dt.UTC).isoformat() for value in values if abs(int(value)) < _LAST]
        shown = ", ".join(repr(value[:30]) for value in values) or "no value"
        yield f"{name}: {shown}; {missing[name] / max(table.rows, 1):.1%} missing."
    own = table.parts[0].source_columns
    unused = [f"{name} ({kind})" for name, kind in own.items() if name not in samples]
    if unused:
        yield f"other columns: {', '.join(unused[:_SHOWN_COLUMNS])}{', ...' if len(unused) > _SHOWN_COLUMNS else ''}."
    for part in table.parts:
        yield from (f"{part.name}: {sentence}" for sentence in part.told)


def _texts(items: DataFrame) -> list[str]:
    text = F.trim(F.concat_ws(" ", "title", "text"))
    texts = items.select(text.alias("text")).groupBy("text").count()
    row = texts.agg(
        F.sum("count").alias("rows"),
        F.sum(F.when(F.col("text") == "", F.col("count"))).alias("missing"),
        F.sum(F.when((F.col("text") != "") & (F.col("count") > 1), F.col("count"))).alias("alike"),
        F.max(F.when(F.col("text") != "", F.col("count"))).alias("most"),
    ).collect()[0]
    rows, missing, alike, most = (row[name] or 0 for name in ("rows", "missing", "alike", "most"))
    found = [f"{missing / max(rows, 1):.1%} of the items have neither title nor text."]
    if alike:
        found.append(f"{alike / rows:.1%} of the items share their text with another one; one text stands {most:,} times.")
    return found


def _alike(contents: Counter[str]) -> list[str]:
    total, most = contents.total(), max(contents.values(), default=0)
    if total > 1 and most > 1:
        return [f"{most} of {total} pictures that were compared are identical" + (", all of them." if most == total else ".")]
    return []
