"""Gate on the training set: sequences are in order, splits agree with the log, and training has nothing of the hold-out."""

import great_expectations.expectations as gxe
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.gates.checks import ROW, Judged, Suite, check, parameter, true, zero
from jobs.lake.spark_tables import read_table
from jobs.lake.tables import Lake
from jobs.lake.user_features import attribute_health

_MOVED = 0.5  # deviations; a category of a tenth of the users that vanishes moves its features by about a third
_TABLES = ("sequences", "interactions", "items", "users")


def suites(settings: PipelineSettings) -> list[Suite]:
    """What must hold for `sequences`, and for `sequences` compared with `interactions` and `items`."""
    between = gxe.ExpectColumnValuesToBeBetween
    again = "run ingest and build_training_set again for this date."
    leak = f"{again} A model trained on this would have metrics that are too good to be true."
    sequences = Suite.of(
        "sequences",
        check(gxe.ExpectColumnValuesToBeUnique, "user_index", "critical", "one sequence for each user", again),
        check(between, "num_events", "critical", "no sequence is empty", again, min_value=1),
        zero("length_difference", "critical", "there are as many items as times, and as many as the splits say", again),
        check(between, "least_count", "critical", "no split has a negative size", again, min_value=0),
        zero("num_missing", "critical", "no item or time within a sequence is missing", again),
        check(between, "first_item", "critical", "items are rows of the catalogue", again, min_value=0),
        check(
            between, "last_item", "critical", "items are rows of this date's catalogue", again, max_value=parameter("last_item")
        ),
        true("in_order", "critical", "times are in order", again),
        check(
            between, "seconds_to_holdout", "critical", "a user's training ends before the hold-out begins", leak, min_value=0
        ),
        zero("shared_events", "critical", "no event is both trained on and held out", leak),
    )
    whole = Suite.of(
        "training_set",
        check(between, "train_events", "critical", "there are training events", again, min_value=1),
        check(
            between,
            "evaluated_users",
            "critical",
            "enough users have both a history and a hold-out (gate.min_evaluated_users)",
            "provide a longer log, change ingest.split or ingest.holdout_days, or lower gate.min_evaluated_users.",
            min_value=settings.gate.min_evaluated_users,
        ),
        check(
            between,
            "evaluated_users",
            "warning",
            "the hold-out is large enough for a narrow interval (ingest.min_holdout_users)",
            "expect wide intervals at promotion, or raise ingest.holdout_days to have more users.",
            min_value=settings.ingest.min_holdout_users,
        ),
        check(between, "validation_events", "warning", "there are validation events for early stopping", again, min_value=1),
        zero("train_difference", "critical", "sequences have as many training events as the log of ingest", leak),
        zero("holdout_difference", "critical", "sequences have as many hold-out events as the log of ingest", leak),
        zero("popularity_difference", "critical", "popularity counts training events only", leak),
        check(
            between,
            "seconds_to_window",
            "critical",
            "if there is a hold-out window, no training event lies in it",
            leak,
            min_value=1,
        ),
    )
    users = Suite.of(
        "user_attributes",
        check(
            between,
            "known",
            "warning",
            "users have each attribute (gate.min_view_coverage)",
            "complete the table of users; those without the attribute are known by their events and their other attributes.",
            min_value=settings.gate.min_view_coverage,
        ),
        check(
            between,
            "drift",
            "warning",
            f"attributes of users are as on the date before (at most {_MOVED} deviations)",
            "look at the table of users: has its export, the unit of a number or the spelling of categories changed?",
            max_value=_MOVED,
        ),
    )
    return [sequences, whole, users]


def tables(settings: PipelineSettings, spark: SparkSession) -> Judged:
    """The sequences as plain columns, and one row of totals.

    Raises:
        DataError: a table is not published for the date.
    """
    lake = Lake.of(settings)
    manifests = {name: lake.manifest(name, settings.date) for name in _TABLES}
    read = {name: read_table(spark, settings, name) for name in _TABLES}
    is_window = manifests["interactions"]["stats"].get("split") == "window"
    return Judged(
        {
            "sequences": _flat(_known(read["sequences"], read["users"])),
            "training_set": _totals(settings, read["sequences"], read["interactions"], read["items"], is_window),
            "user_attributes": _user_attributes(lake, settings, spark),
        },
        {"last_item": manifests["items"]["rows"] - 1},
        {name: manifest["digest"] for name, manifest in manifests.items()},
    )


def _user_attributes(lake: Lake, settings: PipelineSettings, spark: SparkSession) -> DataFrame:
    """A row for each attribute of users; one that says so if there are none."""
    rows: list[tuple[str, float | None, float | None]] = [
        (f"attribute {found.name}", found.known, found.drift) for found in attribute_health(lake, settings.date)
    ]
    return spark.createDataFrame(rows or [("no attributes", None, None)], f"{ROW} string, known double, drift double")


def _known(sequences: DataFrame, users: DataFrame) -> DataFrame:
    """The sequences without those of users who were forgotten: the rows of these stay, empty and without an id."""
    return sequences.join(users.where("user_id = ''").select("user_index"), "user_index", "left_anti")


def _flat(sequences: DataFrame) -> DataFrame:
    events = F.arrays_zip("item_index", "timestamp")
    missing = F.expr("size(filter(item_index, x -> x is null)) + size(filter(timestamp, x -> x is null))")
    length = F.col("num_train") + F.col("num_validation") + F.col("num_holdout")
    difference = F.abs(F.size("item_index") - length) + F.abs(F.size("timestamp") - length)
    return sequences.select(
        F.concat(F.lit("user "), F.col("user_index").cast("string")).alias(ROW),
        "user_index",
        _num_events(sequences).alias("num_events"),
        difference.alias("length_difference"),
        F.least("num_train", "num_validation", "num_holdout").alias("least_count"),
        missing.alias("num_missing"),
        F.array_min("item_index").alias("first_item"),
        F.array_max("item_index").alias("last_item"),
        (F.col("timestamp") == F.array_sort("timestamp")).alias("in_order"),
        (F.array_min(_holdout(F.col("timestamp"))) - F.array_max(_train(F.col("timestamp")))).alias("seconds_to_holdout"),
        F.size(F.array_intersect(_train(events), _holdout(events))).alias("shared_events"),
    )


def _num_events(sequences: DataFrame) -> Column:
    """The number of events; null for a user without any, of whom something else is known."""
    size = F.size("item_index")
    return F.when((size > 0) | F.col("features").isNull(), size) if "features" in sequences.columns else size


def _totals(
    settings: PipelineSettings, sequences: DataFrame, interactions: DataFrame, items: DataFrame, is_window: bool
) -> DataFrame:
    in_sequences = sequences.agg(
        F.coalesce(F.sum("num_train"), F.lit(0)).alias("train_events"),
        F.coalesce(F.sum("num_validation"), F.lit(0)).alias("validation_events"),
        F.coalesce(F.sum("num_holdout"), F.lit(0)).alias("holdout_events"),
        F.count_if((F.col("num_train") > 0) & _has_target(sequences)).alias("evaluated_users"),
        F.max(F.array_max(_train(F.col("timestamp")))).alias("last_train"),
        F.min(F.array_min(_holdout(F.col("timestamp")))).alias("first_holdout"),
    )
    in_log = interactions.agg(
        F.count_if(F.col("split") == "train").alias("log_train"), F.count_if(F.col("split") == "holdout").alias("log_holdout")
    )
    counted = items.agg(F.coalesce(F.sum("num_train"), F.lit(0)).alias("popularity"))
    to_window = F.col("first_holdout") - F.col("last_train") if is_window else F.lit(None).cast("bigint")
    return (
        in_sequences.crossJoin(in_log)
        .crossJoin(counted)
        .select(
            F.lit(settings.ds).alias(ROW),
            "train_events",
            "validation_events",
            "evaluated_users",
            (F.col("train_events") - F.col("log_train")).alias("train_difference"),
            (F.col("holdout_events") - F.col("log_holdout")).alias("holdout_difference"),
            (F.col("popularity") - F.col("log_train")).alias("popularity_difference"),
            to_window.alias("seconds_to_window"),
        )
    )


def _has_target(sequences: DataFrame) -> Column:
    """Whether a user's hold-out has an event that is to be found. In a log with kinds, some only describe the user."""
    held = F.col("num_holdout") > 0
    return F.exists(_holdout(F.col("weight")), lambda weight: weight > 0) if "weight" in sequences.columns else held


def _train(values: Column) -> Column:
    return F.slice(values, F.lit(1), _size("num_train"))


def _holdout(values: Column) -> Column:
    return F.slice(values, _size("num_train") + _size("num_validation") + 1, _size("num_holdout"))


def _size(name: str) -> Column:
    # Another check reports a negative size. As the size of a slice it would end the whole query.
    return F.greatest(F.col(name), F.lit(0)).cast("int")
