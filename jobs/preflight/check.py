"""Looks at a source as a run would, without Airflow and without leaving anything behind but a proposal for `data.yaml`.

The check lands the source, runs the raw gate and the ingest in a home that is thrown away, and adds what a person would ask.
Gate and ingest are those of a run, so that the check and the run agree.
"""

import datetime as dt
import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pyspark.sql import SparkSession
from upath import UPath

from jobs.base.accounting import accounting, set_aside, splits
from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError, doing
from jobs.base.files import write_json, write_text
from jobs.base.forgotten import lend_forgotten
from jobs.base.places import existing_folder
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.gates import gate
from jobs.lake.tables import Lake
from jobs.landing.dates import last_event_date
from jobs.landing.land import land
from jobs.landing.mapping import FILE_NAME, DataMapping
from jobs.landing.records import Landing
from jobs.preflight import profile
from jobs.preflight.cost import cost_sentence
from jobs.preflight.files import of_files
from jobs.preflight.guess import as_yaml, guess_mapping
from jobs.preflight.suggest import suggestions
from jobs.source import ingest
from jobs.source.tables import Source, read_source

Verdict = Literal["fit", "but", "not"]
# Compiling code well takes longer than a minute of running it would save.
_FOR_A_MINUTE = "-XX:TieredStopAtLevel=1 -XX:+UseParallelGC"


@dataclass
class Check:
    """What a check found.

    Attributes:
        verdict: fit, `but` (it will run, with warnings), or `not`.
        reasons: why it will not run, or what to mind.
        sections: heading -> sentences.
        date: the logical date that was checked.
        proposal: file with a proposed `data.yaml`, if there is one.
        ingest: the summary of the ingest, as a run's would be; empty if it stopped before.
    """

    verdict: Verdict = "fit"
    reasons: list[str] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=dict)
    date: dt.date | None = None
    proposal: Path | None = None
    ingest: dict[str, Any] = field(default_factory=dict)

    def stop(self, reason: object) -> None:
        """Note why a run would stop."""
        self.reasons = [*(self.reasons if self.verdict == "not" else []), str(reason)]
        self.verdict = "not"


def check(
    settings: PipelineSettings,
    *,
    date: dt.date | None,
    today: dt.date,
    cache: Path | None,
    proposal: Path,
    say: Callable[[str], None],
) -> Check:
    """Check the source of some settings.

    Args:
        settings: of the run that is meant. Its home is only read, for what a run takes from the date before.
        date: logical date; None takes the last day of the log.
        today: no later day is a logical date.
        cache: where landed parts may stay for a run; None throws them away.
        proposal: where a proposed `data.yaml` is written.
        say: takes a line for each part that takes long.
    """
    found = Check(date=date)
    with TemporaryDirectory(prefix="esans-check-") as scratch:
        meant, values = settings, settings.model_dump()
        values |= {"home": Path(scratch), "lake": ""}
        settings = PipelineSettings(**values)
        say("reading the tables")
        with ThreadPoolExecutor(1) as beside:
            landed = beside.submit(_landing, settings, found, cache or Path(scratch) / "landing", proposal, today)
            with spark_session(settings, "check", _FOR_A_MINUTE) as spark:  # it starts while the tables are read
                landing = landed.result()
                if landing is not None:
                    found.sections |= {f"Table {name}": lines for name, lines in of_files(landing).items()}
                if landing is not None and found.date is not None:
                    settings.date = found.date
                    with doing("reading what the home keeps of earlier dates"):
                        _bring_past(meant, settings)
                    _judge(landing, settings, found, spark, beside, say)
    return found


def _bring_past(meant: PipelineSettings, settings: PipelineSettings) -> None:
    """Bring what a run takes from the past into the home of the check: size and split of the log, and who was forgotten.

    Args:
        meant: settings of the run.
        settings: of the check.
    """
    lake = Lake.of(meant)
    before = lake.previous_date("interactions", settings.date)
    if before is not None:
        Lake.of(settings).adopt_manifest(lake.manifest("interactions", before))
    lend_forgotten(meant, settings)


def _judge(
    landing: Landing,
    settings: PipelineSettings,
    found: Check,
    spark: SparkSession,
    beside: ThreadPoolExecutor,
    say: Callable[[str], None],
) -> None:
    """Do what a run would do with a landed source, and look at it meanwhile."""
    frozen = {"uri": landing.folder, "kind": "folder", "landing": landing.as_json()}
    write_json(settings.run_dir / "source.json", frozen)
    say("looking at users, items and times, and judging the tables as the first gate of a run does")
    source = read_source(spark, settings, check_log=False)
    looked = beside.submit(profile.of_source, source, settings)
    with doing("judging the tables as the first gate of a run does"):
        warnings = _gate(settings, found)
    say("cleaning and splitting the log as a run does")
    with doing(f"cleaning and splitting the table interactions, {source.file('interactions')}"):
        ingested = _ingest(settings, found)
    with doing("looking at users, items and pictures"):
        seen = looked.result()
    warnings += seen.warnings
    for reason in seen.stops:
        found.stop(reason)
    found.sections |= seen.sections
    if warnings:
        found.sections["Mind"] = warnings
    if ingested:
        found.sections["What a run would do"] = _consequences(settings, found.ingest, seen.pictures)
        if found.verdict == "fit" and warnings:
            found.verdict, found.reasons = "but", warnings
        _clusters(settings, found, source)


def _landing(settings: PipelineSettings, found: Check, cache: Path, proposal: Path, today: dt.date) -> Landing | None:
    """The landed source, with the date to be checked in `found`.

    If it cannot be landed as it is, or its times make no sense, a mapping is proposed, and the check goes on with that.
    """
    try:
        folder = existing_folder(settings.data.source)
    except DataError as error:
        found.stop(error)
        return None
    landing, problem = _landed_and_dated(folder, settings, found, cache, today)
    if problem is None:
        return landing
    found.stop(problem)
    if landing is None or not (folder / FILE_NAME).exists():
        found.proposal = propose(folder, settings, proposal)
    if found.proposal is None:
        return landing
    settings.data.mapping = str(found.proposal)
    with_guess, problem = _landed_and_dated(folder, settings, found, cache, today)
    if problem is not None:
        found.reasons.append(f"With the proposed data.yaml: {problem}")
    return with_guess or landing


def propose(folder: UPath, settings: PipelineSettings, proposal: Path) -> Path | None:
    """Write a `data.yaml` that fits the tables of a folder as well as can be told; gives its place, None if nothing helps."""
    guessed = guess_mapping(folder, settings)
    if guessed == DataMapping() or settings.data.mapping:
        return None
    return _written(proposal, as_yaml(guessed) + suggestions(folder, guessed))


def suggest(settings: PipelineSettings, proposal: Path) -> Path | None:
    """Write a `data.yaml` that names what else tables hold that fit as they are; gives its place, None if there is nothing."""
    folder = existing_folder(settings.data.source)
    if settings.data.mapping or (folder / FILE_NAME).exists():
        return None
    more = suggestions(folder, guess_mapping(folder, settings), with_mapping=True)
    return _written(proposal, as_yaml(DataMapping()) + more) if more else None


def _written(proposal: Path, text: str) -> Path:
    """Write a proposal, beside one that says something else: a person may have edited that."""
    places = itertools.chain([proposal], (proposal.with_stem(f"{proposal.stem}-{number}") for number in itertools.count(2)))
    path = next(path for path in places if not path.exists() or path.read_bytes() == text.encode())
    write_text(path, text)
    return path


def _landed_and_dated(
    folder: UPath, settings: PipelineSettings, found: Check, cache: Path, today: dt.date
) -> tuple[Landing | None, DataError | None]:
    """The landed source, with its last day in `found` if no date was given; or why it cannot be landed or dated."""
    landing = None
    try:
        landing = land(folder, settings, cache)
        found.date = found.date or last_event_date(landing, settings, today=today)
    except DataError as error:
        return landing, error
    return landing, None


def _gate(settings: PipelineSettings, found: Check) -> list[str]:
    """The warnings of the gate. All that is critical is in `found`, because the gate's own record is thrown away."""
    stopped = None
    try:
        gate.run(settings, "raw")
    except DataError as error:
        stopped = error
    told: dict[str, list[str]] = {"critical": [], "warning": []}
    for each in json.loads(gate.verdict_path(settings, "raw").read_text())["failures"]:
        told[each["severity"]].append(f"{each['message']}. Remedy: {each['remedy']}")
    if stopped is not None:
        for reason in told["critical"] or [str(stopped)]:
            found.stop(reason)
    return told["warning"]


def _ingest(settings: PipelineSettings, found: Check) -> bool:
    """Whether the ingest came to its end."""
    try:
        found.ingest = ingest.run(settings, tables=("items",))
    except DataError as error:
        found.stop(error)
        return False
    return True


def _clusters(settings: PipelineSettings, found: Check, source: Source) -> None:
    """Stop if the gate of the clusters will."""
    items, lost = found.ingest["items"], profile.without_view(source, settings)
    if lost > settings.gate.max_unclustered * items:
        fewest = settings.features.min_behaviour_events
        found.stop(
            DataError(
                f"{lost:,} of {items:,} items have no title, no text, no picture and fewer than {fewest} training events, so "
                f"they will be in no cluster. The gate of the clusters allows {settings.gate.max_unclustered:.0%}.",
                file=source.file("items"),
                remedy="add titles, texts or pictures (attributes make no clusters), lower features.min_behaviour_events, or "
                "raise gate.max_unclustered.",
            )
        )


def _consequences(settings: PipelineSettings, summary: dict[str, Any], pictures: int) -> list[str]:
    told = [*accounting(summary), *set_aside(summary), *splits(summary)]
    lines = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in told]
    items, clusters = summary["items"], settings.clusters
    ks = " and ".join(str(k) for k in Cutoffs.for_catalogue(items).ks)
    lines.append(f"Recall is measured at {ks} of {items:,} items; {summary['users']:,} users get candidates.")
    lines.append(
        f"{clusters.num_primary} primary clusters will hold {items / clusters.num_primary:,.0f} items each on average."
    )
    return [*lines, cost_sentence(settings, items=items, pictures=pictures, events=summary["events"]["train"])]
