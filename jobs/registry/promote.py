"""Carries out the verdict of the date: moves the alias `champion` if the verdict and, under `review`, a person say so."""

import json
import logging
from typing import Any

from pydantic import ValidationError

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.base.verdicts import AWAITING_PROMOTION, AWAITING_REVIEW, BLOCKED_BY_GATE, PROMOTED, REJECTED_IN_REVIEW
from jobs.registry.champion import (
    PROMOTED_AT,
    PROMOTED_BY,
    PROMOTION_REASON,
    REVIEW_DECISION,
    REVIEW_REASON,
    REVIEWED_AT,
    REVIEWED_BY,
    challenger_version,
    exclusive,
    keep_verdict,
    put_in_force,
    record_decision,
    tag_version,
    verdict_word,
)
from jobs.registry.decisions import Review
from jobs.registry.gate_report import check_gate_report, passing_report
from jobs.registry.versions import champion_version, incumbent_version

log = logging.getLogger(__name__)

_WHO = (PROMOTED_BY, PROMOTED_AT, PROMOTION_REASON, REVIEW_DECISION, REVIEWED_BY, REVIEWED_AT, REVIEW_REASON)


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Move the alias if the verdict in `<run_dir>/verdict.json` still allows it, and write the outcome into that file.

    Under the policy `review` the decision is read from `<run_dir>/review.json`. Without that file nothing is approved. Tags of
    the version say who decided, when and why, and the decision is signed. A repeat changes nothing.

    Raises:
        DataError: there is no verdict about this challenger and this champion, the decision cannot be read, or the version
            is not the one that was judged.
    """
    with exclusive(settings):
        return _promote(settings)


def _promote(settings: PipelineSettings) -> dict[str, Any]:
    path = settings.run_dir / "verdict.json"
    if not path.exists():
        raise DataError("there is no verdict for this date.", file=path, remedy="run judge for this date first.")
    record, version, incumbent = json.loads(path.read_text()), challenger_version(settings), incumbent_version(settings)
    number = None if incumbent is None else str(incumbent.version)
    if (record["version"], record["incumbent_version"]) != (str(version.version), number):
        raise DataError(
            f"the verdict is about version {record['version']} against champion version {record['incumbent_version']}, "
            f"but now it would be version {version.version} against {number}.",
            file=path,
            remedy="run the steps from evaluate on again for this date.",
        )
    blocked = record["verdict"] == BLOCKED_BY_GATE
    word, notes = verdict_word(settings, version, passed=record["passed"], blocked=blocked)
    review = None
    if word == AWAITING_REVIEW:
        report, review = passing_report(settings, version), _read_review(settings)
        if review is not None:
            record_decision(settings, version, report, review)
        word = AWAITING_PROMOTION if review is not None and review.decision == "approved" else REJECTED_IN_REVIEW
        if word == REJECTED_IN_REVIEW:
            notes = ["nobody has decided on the review" if review is None else str(review)]
    if word == AWAITING_PROMOTION:
        report = check_gate_report(settings, version)
        by, reason = ("pipeline", record["because"]) if review is None else (review.by, review.reason or str(review))
        put_in_force(settings, version, incumbent=report.incumbent_version, by=by, reason=reason)
        word = PROMOTED
    champion, tags = champion_version(settings), challenger_version(settings).tags
    if word == PROMOTED and tags.get(REVIEW_DECISION) == "approved":
        why = f" ({tags[REVIEW_REASON]})" if tags.get(REVIEW_REASON) else ""
        notes = [*notes, f"approved by {tags.get(REVIEWED_BY)}{why}"]
    reasons = [*record["findings"], *notes]
    record |= {
        "verdict": word,
        "needs_review": word == REJECTED_IN_REVIEW,
        "reasons": reasons,
        "champion_version": None if champion is None else str(champion.version),
    } | {tag.removeprefix("esans."): tags.get(tag) for tag in _WHO}
    tag_version(settings, version, {"esans.verdict": word, "esans.verdict_reasons": "; ".join(reasons)})
    keep_verdict(settings, record)
    log.info("version %s: %s (%s)", version.version, word, "; ".join(reasons))
    names = ("verdict", "version", "champion_version", "incumbent_version", "reasons", "promoted_by")
    return {name: record[name] for name in names}


def _read_review(settings: PipelineSettings) -> Review | None:
    path = settings.run_dir / "review.json"
    try:
        return Review.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot be read as a decision ({error}).", file=path, remedy="clear the review step of this date and decide again."
        ) from error
