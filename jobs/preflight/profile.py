"""What a source holds, in sentences: repeats, spellings, long tails, kinds of events, pictures and texts."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.sessions import SESSION
from jobs.base.settings import PipelineSettings
from jobs.lake.spark_tables import read_table
from jobs.preflight.looked import Looked
from jobs.preflight.pictures import of_pictures
from jobs.source.images import picture_paths
from jobs.source.spelling import has_folds, twins_across, twins_within
from jobs.source.tables import Source

_KINDS = 30


def of_source(source: Source, settings: PipelineSettings) -> Looked:
    """What there is to say of the log, the catalogue and the pictures."""
    looked = Looked()
    with counted(source) as counts:
        log, catalogue = of_log(source, counts), of_catalogue(source, counts, looked)
        users = of_users(source, counts, looked)
    log += of_kinds(source, looked)
    pictures = of_images(source, looked) + of_pictures(source, settings, looked)
    looked.sections = {"Log": log, "Catalogue": catalogue, "Pictures": pictures}
    if users:
        looked.sections["Users"] = users
    return looked


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


def of_kinds(source: Source, looked: Looked) -> list[str]:
    """The kinds of events; and a warning if `data.yaml` names kinds that no event has, while others have kinds without a name.

    A log may lack a kind for a while, such as returns. But a kind that is spelt otherwise there would lose its meaning.
    """
    rules = source.mapping.kinds
    kinds = source.interactions.groupBy("kind").count().orderBy(F.desc("count")).limit(_KINDS).collect()
    if not rules and all(row["kind"] is None for row in kinds):
        return []
    told = ["kinds of events: " + ", ".join(f"{row['kind'] or '(none)'} {row['count']:,}" for row in kinds) + "."]
    named, met = rules.keys() | {rule.cancels for rule in rules.values() if rule.cancels}, {row["kind"] for row in kinds}
    absent, unnamed = sorted(named - met), sorted(met - named - {None})
    if len(kinds) == _KINDS:  # there may be more
        return told
    looked.warnings += [
        f"data.yaml says that '{kind}' takes back '{rule.cancels}', which no event is. Remedy: write it as the log spells it."
        for kind, rule in rules.items()
        if kind in met and rule.cancels not in ("", *met)
    ]
    if rules and absent and unnamed:
        lost, plain = (", ".join(f"'{kind}'" for kind in some) for some in (absent, unnamed))
        looked.warnings.append(
            f"data.yaml names the kinds {lost}, which no event has. Events of {plain}, which it does not name, are targets of "
            "weight 1. Remedy: write each kind under kinds as the log spells it."
        )
    return told


def of_catalogue(source: Source, counts: dict[str, DataFrame], looked: Looked) -> list[str]:
    """Ids that differ between catalogue and log, repeated ids, texts that are missing or alike.

    Args:
        source: the input tables.
        counts: from `counted`.
        looked: takes what a run will say of texts that are alike.
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
    return found + _texts(source.items, looked)


def of_users(source: Source, counts: dict[str, DataFrame], looked: Looked) -> list[str]:
    """Ids of the table `users` that the log does not have, and how many users of the log it says nothing of.

    Args:
        source: the input tables.
        counts: from `counted`.
        looked: takes a warning if ids look like two spellings of one.
    """
    if source.users is None:
        return []
    told = source.users.where("user_id is not null").select("user_id").distinct()
    log = counts["user_id"].where(~F.col("user_id").startswith(SESSION)).select("user_id")
    number, without = log.count(), log.join(told, "user_id", "left_anti").count()
    found = [f"the table users says nothing of {without:,} of {number:,} users of the log."] if without else []
    return _strangers(told, log, ("users", "the table users", "the log"), looked) + found


def of_images(source: Source, looked: Looked) -> list[str]:
    """Ids of the table `images` that the catalogue does not have. Arguments as for `of_users`."""
    if source.images is None:
        return []
    pictured, known = (
        table.where("item_id is not null").select("item_id").distinct() for table in (source.images, source.items)
    )
    return _strangers(pictured, known, ("items", "the table images", "the catalogue"), looked)


def _strangers(ids: DataFrame, others: DataFrame, words: tuple[str, str, str], looked: Looked) -> list[str]:
    """Ids of one table that another one lacks, side by side with those that it has, and why they may differ.

    Args:
        ids: one column, each id once.
        others: the same column, each id once.
        words: what the ids are of, and the names of the two tables.
        looked: takes a warning if they look like two spellings of one.
    """
    lost = ids.join(others, ids.columns[0], "left_anti").persist()
    what, mine, theirs = words
    found = []
    if number := lost.count():
        found.append(
            f"{number:,} {what} of {mine} are not in {theirs}, such as {_examples(lost)}; {theirs} has {_examples(others)}."
        )
        why = [str(spelling) for spelling in twins_across(lost, others)]
        found += [f"{mine} and {theirs}: {spelling}." for spelling in why]
        if why:
            remedy = "Remedy: write these ids alike in both tables; until then these rows are not used."
            looked.warnings.append(f"{mine} and {theirs}: {why[-1]}. {remedy}")
    lost.unpersist()
    return found


def _examples(ids: DataFrame) -> str:
    return ", ".join(f"'{row[0]}'" for row in ids.orderBy(ids.columns[0]).limit(3).collect())


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


def _texts(items: DataFrame, looked: Looked) -> list[str]:
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
        looked.foresee("text", most, rows - missing, surely=True)
    return found
