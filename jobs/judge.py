"""Compare challenger and champion on the same hold-out, and sign what was found; nothing is promoted here."""

import logging
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from jobs.errors import DataError, GateFailed
from jobs.lake import write_json
from jobs.register import VALIDATION_STATUS
from jobs.registry.champion import AWAITING_REVIEW, challenger_version, exclusive, tag_version, verdict_word
from jobs.registry.comparison import gate_blockers, read_metrics, recall_difference
from jobs.registry.gate_report import write_gate_report
from jobs.registry.promotion import Difference, judge
from jobs.registry.versions import CHAMPION, champion_version, incumbent_version
from jobs.runtime import run_job
from jobs.settings import PipelineSettings

log = logging.getLogger(__name__)


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Write `<run_dir>/verdict.json` and the signed gate report, and tag the version; the alias stays where it is.

    `verdict` is the word of `verdict_word`, `needs_review` whether a person has to decide before `promote`.

    Raises:
        GateFailed: a gate was not run, found a critical failure, or judged other data.
        DataError: the version, the metrics or the evaluation is missing or does not belong to the challenger.
    """
    with exclusive(settings):
        return _judge(settings)


def _judge(settings: PipelineSettings) -> dict[str, Any]:
    metrics, version, incumbent = read_metrics(settings), challenger_version(settings), incumbent_version(settings)
    _check_opponent(settings, metrics, incumbent)
    blockers = gate_blockers(settings)
    difference, opponent = _difference(settings, metrics, incumbent)
    verdict = judge(
        metrics["models"]["challenger"],
        settings.gate,
        embedding_dim=settings.training.embedding_dim,
        difference=difference,
        opponent=opponent,
        blockers=blockers,
    )
    number = None if incumbent is None else str(incumbent.version)
    report = write_gate_report(settings, version, verdict, incumbent=number or "", blockers=blockers)
    word, notes = verdict_word(settings, version, passed=verdict.passed, blocked=bool(blockers))
    reasons = [*verdict.reasons, *notes]
    # An answer to the question that an earlier judgement asked is none to this one.
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
        "champion_version": None if champion is None else str(champion.version),
        "incumbent_version": number,
        "alias": CHAMPION,
    }
    write_json(settings.run_dir / "verdict.json", record)
    log.info("version %s: %s (%s)", version.version, word, "; ".join(reasons))
    if blockers:
        raise GateFailed(
            f"{'; '.join(blockers)}. The champion stays {record['champion_version'] or 'unset'}.",
            remedy="run the steps from that gate on again for this date.",
            file=settings.run_dir / "gates",
        )
    names = ("verdict", "needs_review", "version", "champion_version", "incumbent_version", "reasons")
    return {name: record[name] for name in names} | {"gate_report": report.verdict}


def _check_opponent(settings: PipelineSettings, metrics: dict[str, Any], incumbent: ModelVersion | None) -> None:
    number = None if incumbent is None else str(incumbent.version)
    evaluated = metrics.get("incumbent_version")
    if number != (None if evaluated is None else str(evaluated)):
        raise DataError(
            f"the evaluation compared with champion version {evaluated}, but the champion before {settings.ds} is {number}.",
            file=settings.run_dir / "metrics.json",
            remedy="run evaluate and gate model again for this date.",
        )


def _difference(
    settings: PipelineSettings, metrics: dict[str, Any], incumbent: ModelVersion | None
) -> tuple[Difference | None, str]:
    """What the challenger has to stand against.

    A champion that cannot run on today's features (another encoder) gives no numbers of its own; then the challenger
    must not lose to the uniform-negatives baseline, as waiting for a comparable champion would be waiting for ever.
    """
    if incumbent is None:
        return None, "none"
    if (against_champion := recall_difference(settings, CHAMPION)) is not None:
        return against_champion, f"champion version {incumbent.version}"
    note = metrics.get("incumbent_note") or "it has no rows in the evaluation"
    opponent = f"the baseline (champion version {incumbent.version} cannot be compared: {note})"
    return recall_difference(settings, "baseline"), opponent


if __name__ == "__main__":
    run_job("judge", run)
