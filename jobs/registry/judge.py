"""Compares the challenger with its opponents on the same hold-out, and signs what was found. Nothing is promoted here."""

import logging
from dataclasses import dataclass
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError, GateFailed
from jobs.base.settings import PipelineSettings
from jobs.base.verdicts import AWAITING_REVIEW
from jobs.registry.anchor import Anchor, anchor_of, look_at
from jobs.registry.champion import challenger_version, exclusive, keep_verdict, lost_words, tag_version, verdict_word
from jobs.registry.comparison import gate_blockers, read_metrics, recall_change
from jobs.registry.gate_report import write_gate_report
from jobs.registry.intervals import metric_intervals
from jobs.registry.promotion import level_of_look
from jobs.registry.verdict import Comparison, Facts, decide
from jobs.registry.versions import CHAMPION, VALIDATION_STATUS, champion_version, incumbent_version, lost_champion

log = logging.getLogger(__name__)


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Write `<run_dir>/verdict.json` and the signed gate report, and tag the version. The alias does not move.

    `verdict` is the word of `verdict_word`; `needs_review` says whether a person has to decide before `promote`.

    Raises:
        GateFailed: a gate was not run, found a critical failure, or judged other data.
        DataError: the version, the metrics or the evaluation is missing or does not belong to the challenger.
    """
    with exclusive(settings):
        return _judge(settings)


def _judge(settings: PipelineSettings) -> dict[str, Any]:
    metrics, version, incumbent = read_metrics(settings), challenger_version(settings), incumbent_version(settings)
    anchor = None if incumbent is None else anchor_of(settings, incumbent)
    _check_opponents(settings, metrics, incumbent, anchor)
    cutoffs, blockers = Cutoffs.of(metrics), gate_blockers(settings)
    found = _compared(settings, metrics, version, incumbent, anchor)
    intervals = metric_intervals(settings, cutoffs)
    facts = Facts(
        metrics=metrics["models"]["challenger"],
        cutoffs=cutoffs,
        comparisons=found.comparisons,
        baseline=intervals.get("baseline", {}).get(cutoffs.recall),
        against_champion=intervals.get("champion", {}),
        blockers=blockers,
        concerns=found.concerns,
        remarks=[metrics["k_note"]] if metrics.get("k_note") else [],
    )
    verdict = decide(facts, settings.gate, embedding_dim=settings.training.embedding_dim)
    number = None if incumbent is None else str(incumbent.version)
    report = write_gate_report(
        settings,
        version,
        verdict,
        incumbent=number or "",
        blockers=blockers,
        anchor=found.anchor,
        anchor_look=found.anchor_look,
        takes_anchor=found.takes_anchor,
    )
    word, notes = verdict_word(settings, version, passed=verdict.passed, blocked=bool(blockers))
    reasons = [*verdict.reasons, *notes]
    # An answer to the review of an earlier judgement does not count for this judgement.
    (settings.run_dir / "review.json").unlink(missing_ok=True)
    tags = {VALIDATION_STATUS: "passed" if verdict.passed else "failed"}
    tag_version(settings, version, tags | {"esans.verdict": word, "esans.verdict_reasons": "; ".join(reasons)})
    champion = champion_version(settings)
    record = verdict.as_json() | {
        "verdict": word,
        "needs_review": word == AWAITING_REVIEW,
        "findings": list(verdict.reasons),
        "reasons": reasons,
        "version": str(version.version),
        "weights": report.weights,
        "champion_version": None if champion is None else str(champion.version),
        "incumbent_version": number,
        "anchor_version": found.anchor or None,
        "takes_anchor": found.takes_anchor,
        "alias": CHAMPION,
    }
    keep_verdict(settings, record)
    log.info("version %s: %s (%s)", version.version, word, "; ".join(reasons))
    if blockers:
        raise GateFailed(
            f"{'; '.join(blockers)}. The champion stays {record['champion_version'] or 'unset'}.",
            remedy="run the steps from that gate on again for this date.",
            file=settings.run_dir / "gates",
        )
    names = ("verdict", "needs_review", "version", "champion_version", "incumbent_version", "reasons")
    return {name: record[name] for name in names} | {"gate_report": report.verdict}


def _check_opponents(
    settings: PipelineSettings, metrics: dict[str, Any], incumbent: ModelVersion | None, anchor: Anchor | None
) -> None:
    wanted = {
        "champion": None if incumbent is None else str(incumbent.version),
        "anchor": None if anchor is None else anchor.number,
    }
    keys = {"champion": "incumbent_version", "anchor": "anchor_version"}
    for role, number in wanted.items():
        evaluated = metrics.get(keys[role])
        if number != (None if evaluated is None else str(evaluated)):
            raise DataError(
                f"the evaluation compared with {role} version {evaluated}, but the {role} before {settings.ds} is {number}.",
                file=settings.run_dir / "metrics.json",
                remedy="run evaluate and gate model again for this date.",
            )


@dataclass(frozen=True)
class _Compared:
    """The comparisons that the challenger has to pass, and what becomes of the anchor if it is promoted.

    Attributes:
        comparisons: comparisons with the opponents that it must not lose to.
        concerns: sentences about opponents that could not be ranked, and about what was done instead.
        anchor: number of the version that is the anchor unless this version takes its place, "" for none.
        anchor_look: number of this comparison with that version, counted from 1.
        takes_anchor: whether this version takes its place.
    """

    comparisons: list[Comparison]
    concerns: list[str]
    anchor: str
    anchor_look: int
    takes_anchor: bool


def _without_incumbent(settings: PipelineSettings, cutoffs: Cutoffs, level: float) -> tuple[list[Comparison], list[str]]:
    """Comparisons and concerns where no version is the champion: none, unless the registry lost the version that serves."""
    lost = lost_champion(settings)
    if lost is None:
        return [], []
    change = recall_change(settings, cutoffs, "baseline", level=level)
    words = f"the baseline (bundle {lost} cannot be compared)"
    return [] if change is None else [Comparison("baseline", words, change, 1)], [lost_words(settings, lost)]


def _compared(
    settings: PipelineSettings,
    metrics: dict[str, Any],
    version: ModelVersion,
    incumbent: ModelVersion | None,
    anchor: Anchor | None,
) -> _Compared:
    """Compare with champion and anchor, if they can be ranked on today's hold-out.

    A champion that was trained with other encoders cannot be ranked, and never will be. Then the challenger is compared with
    the uniform-negatives baseline instead. That baseline is trained anew every night, so each look at it is the first. If the
    anchor cannot be ranked, the champion takes its place, because it was within the margin of the anchor. If the champion
    cannot be ranked either, this version takes that place.
    """
    rate, cutoffs = 1 - settings.gate.confidence, Cutoffs.of(metrics)
    if incumbent is None or anchor is None:
        return _Compared(*_without_incumbent(settings, cutoffs, level_of_look(1, rate)), "", 1, takes_anchor=True)
    look = look_at(settings, incumbent, version)
    level = level_of_look(look, rate)
    comparisons, concerns = [], []
    one_version = anchor.number == str(incumbent.version)
    champion = f"champion version {incumbent.version}"
    if (change := recall_change(settings, cutoffs, CHAMPION, level=level)) is not None:
        best = ", the best version ever in force," if one_version else ""
        comparisons.append(Comparison(CHAMPION, champion + best, change, look))
    else:
        note = metrics.get("incumbent_note") or "it has no rows in the evaluation"
        concerns.append(f"{champion} cannot be compared, and the baseline takes its place: {note}")
        change = recall_change(settings, cutoffs, "baseline", level=level_of_look(1, rate))
        if change is not None:
            comparisons.append(Comparison("baseline", f"the baseline ({champion} cannot be compared)", change, 1))
    rows = CHAMPION if one_version else "anchor"
    held = None if one_version else recall_change(settings, cutoffs, rows, level=level)
    if held is not None:
        comparisons.append(Comparison("anchor", f"the best version ever in force, version {anchor.number},", held, look))
    number, anchor_look = anchor.number, anchor.look
    if held is None and not one_version:
        note = metrics.get("anchor_note") or "it has no rows in the evaluation"
        rows, number, anchor_look = CHAMPION, str(incumbent.version), 1
        heir = "this version" if comparisons[0].role == "baseline" else champion
        concerns.append(
            f"the best version ever in force, version {anchor.number}, cannot be ranked any more ({note}); "
            f"{heir} takes its place"
        )
    against = recall_change(settings, cutoffs, rows, level=level_of_look(anchor_look, rate))
    return _Compared(comparisons, concerns, number, anchor_look, takes_anchor=against is None or against.low >= 0)
