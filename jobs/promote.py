"""Compare challenger and champion on the same hold-out, and move the alias `champion` only on a pass."""

import datetime as dt
import logging
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from jobs.errors import DataError, GateFailed
from jobs.lake import Lake, write_json
from jobs.register import VALIDATION_STATUS
from jobs.registry.comparison import gate_blockers, read_metrics, recall_difference
from jobs.registry.promotion import Difference, Verdict, judge
from jobs.registry.tracking import client
from jobs.registry.versions import (
    CHAMPION,
    MAX_TEXT,
    REPLACED,
    champion_version,
    find_version,
    incumbent_version,
    version_date,
)
from jobs.runtime import run_job
from jobs.settings import PipelineSettings

log = logging.getLogger(__name__)

_PROMOTED_AT = "esans.promoted_at"


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Write `<run_dir>/verdict.json`, tag the version, and move the alias where the verdict allows it.

    The word in `verdict`: promoted; kept_champion (it did not pass); no_champion (it did not pass and there is none);
    champion_is_newer (it passed, but the alias is at a later date); not_promoted_by_policy; blocked_by_gate.

    Raises:
        GateFailed: a gate was not run, found a critical failure, or judged other data; the alias stays where it is.
        DataError: the version, the metrics or the evaluation is missing or does not belong to the challenger.
    """
    metrics = read_metrics(settings)
    run_key = Lake.of(settings).manifest("challenger", settings.date)["stats"]["run_key"]
    version = find_version(settings, run_key)
    if version is None:
        raise DataError(
            f"no version of {settings.registry.model_name} is registered for the challenger of {settings.ds}.",
            file=settings.tracking_uri,
            remedy="run register for this date first.",
        )
    incumbent = incumbent_version(settings)
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
    word, notes = _decide(settings, verdict, version, champion_version(settings), bool(blockers))
    reasons = [*verdict.reasons, *notes]
    if word == "promoted" and not notes:
        _promote(settings, version, incumbent)
    _tag(
        settings,
        version,
        {
            VALIDATION_STATUS: "passed" if verdict.passed else "failed",
            "esans.verdict": word,
            "esans.verdict_reasons": "; ".join(reasons)[:MAX_TEXT],
        },
    )
    champion = champion_version(settings)
    record = verdict.as_json() | {
        "verdict": word,
        "reasons": reasons,
        "version": str(version.version),
        "champion_version": None if champion is None else str(champion.version),
        "incumbent_version": None if incumbent is None else str(incumbent.version),
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
    return {name: record[name] for name in ("verdict", "version", "champion_version", "incumbent_version", "reasons")}


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


def _decide(
    settings: PipelineSettings, verdict: Verdict, version: ModelVersion, champion: ModelVersion | None, blocked: bool
) -> tuple[str, list[str]]:
    """The word of the verdict, and what keeps the alias where it is although the model passed."""
    if blocked:
        return "blocked_by_gate", []
    if not verdict.passed:
        return ("no_champion" if champion is None else "kept_champion"), []
    if champion is not None and version_date(champion) > settings.date:
        newer = f"champion version {champion.version} is newer ({version_date(champion)})"
        if _PROMOTED_AT in version.tags:
            return "promoted", [f"{newer} and has taken its place since"]
        return "champion_is_newer", [newer]
    if settings.registry.promotion == "never" and (champion is None or champion.version != version.version):
        return "not_promoted_by_policy", ["registry.promotion is 'never'"]
    return "promoted", []


def _promote(settings: PipelineSettings, version: ModelVersion, incumbent: ModelVersion | None) -> None:
    """Move the alias; nothing changes where it is already there."""
    registry, name = client(settings), settings.registry.model_name
    champion = champion_version(settings)
    # Before the alias: a champion must always be able to say whom it replaced. Only champions of earlier dates count,
    # so that the line of champions runs back in time and ends, however often a date is run with other settings.
    _tag(settings, version, {REPLACED: "" if incumbent is None else str(incumbent.version)})
    if champion is None or champion.version != version.version:
        registry.set_registered_model_alias(name, CHAMPION, version.version)
    if _PROMOTED_AT not in version.tags:
        _tag(settings, version, {_PROMOTED_AT: dt.datetime.now(dt.UTC).isoformat(timespec="seconds")})


def _tag(settings: PipelineSettings, version: ModelVersion, tags: dict[str, str]) -> None:
    registry, name = client(settings), settings.registry.model_name
    present = registry.get_model_version(name, version.version).tags
    for key, value in tags.items():
        if present.get(key) != value:
            registry.set_model_version_tag(name, version.version, key, value)


if __name__ == "__main__":
    run_job("promote", run)
