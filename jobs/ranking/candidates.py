"""Finds the candidates: the k best unseen items of every user, from the model that is in force for the date.

It reads `sequences`, `users`, `items` and their content, the verdict of `promote` and the model in it; it writes `candidates`.
"""

import json
import logging
from typing import Any

from pyspark.sql import functions as F
from upath import UPath

from esans_core.serving.retriever import Retriever
from jobs.base.errors import DataError
from jobs.base.places import open_dataset
from jobs.base.scratch import scratch_in
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.base.tracking import client
from jobs.base.verdicts import AWAITING_PROMOTION, AWAITING_REVIEW, PROMOTED
from jobs.lake.availability import available_items
from jobs.lake.spark_tables import read_table, write_table
from jobs.lake.tables import Lake
from jobs.lake.user_features import num_features
from jobs.ranking.evaluate import champion_on_catalogue
from jobs.registry.versions import MODEL_DIGEST, download_version, version_date
from jobs.serving.candidate_search import SCHEMA, recommender
from jobs.serving.index import sampled_users, tuned_index
from jobs.serving.store import bundle_name
from jobs.serving.verified import BUNDLE_DIGEST
from jobs.training.data import read_content, user_encoder
from jobs.training.model_store import load_served

log = logging.getLogger(__name__)

_USERS_PER_BLOCK = 1024  # users scored at once. It is a constant, because the last bits of a score depend on it


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `candidates`: user_index int64, user_id string, item_id list<string> (best first), score list<float> (cosine),
    model_version string (of the model that found them), bundle string (that version's serving bundle; null if it has none).

    There is one row for each user with an event, and for each other user of whom something is known. The history is all of the
    user's events up to the date. None of these items is a candidate, unless people come back to items (`repeats: again`), none
    that the user is known not to want, and none that cannot be had when the date ends. If no model is in force, or it cannot
    run on today's features, nothing is published. So readers keep the candidates they have.

    Raises:
        DataError: a table or the verdict is missing.
    """
    if not settings.candidates.enabled:
        return {"skipped": "candidates.enabled is off"}
    number = model_in_force(settings)
    if number is None:
        return _skip("no model is in force for this date")
    lake, date = Lake.of(settings), settings.date
    version = client(settings).get_model_version(settings.registry.model_name, number)
    items = lake.read("items", date, ["item_index", "item_id"]).sort_by("item_index")
    item_ids, content = items["item_id"].to_pylist(), read_content(settings, items["item_index"].to_numpy())[0]
    features = sum(map(num_features, user_encoder(settings).values()))
    model, note = champion_on_catalogue(
        download_version(version, settings), lake.path("challenger", date), item_ids, content, load=load_served
    )
    if model is None:
        return _skip(f"version {number} cannot run on this catalogue: {note}")
    digest, bundle = version.tags.get(BUNDLE_DIGEST), None
    if digest:
        bundle = bundle_name(version_date(version).isoformat(), number, digest)
    # It is in the home folder, because the executors of a cluster must reach it.
    with scratch_in(settings.home) as folder:
        chosen, available = settings.candidates, available_items(lake, date, item_ids)
        index, compared = tuned_index(chosen, model, sampled_users(settings), chosen.k, available)
        Retriever.save(folder, model, item_ids, index)
        tables = ["sequences", "users", "items", "visual_features", "text_features"]
        made_by = {"model": version.tags.get(MODEL_DIGEST, "")}
        with (
            spark_session(settings, "candidates") as spark,
            lake.write("candidates", settings, inputs=tables, extra_inputs=made_by) as pending,
        ):
            block = F.floor(F.col("user_index") / _USERS_PER_BLOCK).alias("block")
            sequences = read_table(spark, settings, "sequences")
            further = [name for name in ("unwanted", "features") if name in sequences.columns]
            # A user who was forgotten since ingest has no event left. Who has none yet may be known by attributes.
            known = (F.size("item_index") > 0) | (F.col("features").isNotNull() if "features" in further else F.lit(False))
            users = (
                sequences.join(read_table(spark, settings, "users", ["user_index", "user_id"]), "user_index")
                .where(known)
                .select(block, "user_index", "user_id", "item_index", *further)
                # The number of partitions is given, because Spark would otherwise merge small inputs into one task.
                .repartition(2 * spark.sparkContext.defaultParallelism, "block")
                .sortWithinPartitions("user_index")
            )
            again = bool(lake.manifest("sequences", date)["stats"].get("again"))
            found = users.mapInArrow(recommender(folder, settings.candidates.k, again=again, user_features=features), SCHEMA)
            # A reader of the files alone, or of a copy of them, sees by these columns which model it has.
            found = found.withColumn("model_version", F.lit(number)).withColumn("bundle", F.lit(bundle).cast("string"))
            write_table(found, pending, by=["user_index"], keys=lake.manifest("users", date)["rows"])
            pending.stats = {
                "model_version": number,
                "bundle": bundle,
                "k": settings.candidates.k,
                "items": len(item_ids),
            } | compared
            pending.stats |= _shape(pending.path, settings.candidates.k)
            return dict(pending.stats)


def model_in_force(settings: PipelineSettings) -> str | None:
    """Number of the version that serves after this date's verdict: the challenger if it was promoted, else the champion before.

    The alias as it is now does not count, because a rerun of an old date must give that date's table again.

    Raises:
        DataError: there is no verdict, or `promote` has not carried it out yet.
    """
    path = settings.run_dir / "verdict.json"
    if not path.exists():
        raise DataError("there is no verdict for this date.", file=path, remedy="run promote for this date first.")
    verdict = json.loads(path.read_text())
    if verdict["verdict"] in (AWAITING_REVIEW, AWAITING_PROMOTION):
        raise DataError("the verdict has not been carried out yet.", file=path, remedy="run promote for this date first.")
    number = verdict["version"] if verdict["verdict"] == PROMOTED else verdict["incumbent_version"]
    return None if number is None else str(number)


def _shape(folder: UPath, k: int) -> dict[str, int]:
    """The number of users, of those who have seen so much that fewer than k items are left, and the shortest list."""
    lengths = open_dataset(folder).to_table(columns=["item_id"])["item_id"].combine_chunks().value_lengths()
    fewer = int((lengths.to_numpy() < k).sum())
    return {"users": len(lengths), "users_with_fewer": fewer, "fewest": int(lengths.to_numpy().min(initial=k))}


def _skip(reason: str) -> dict[str, Any]:
    log.warning("no candidates: %s", reason)
    return {"skipped": reason}
