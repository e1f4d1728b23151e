"""Makes a version of the registry the champion by hand: a person decides, and the gate report still has to allow it."""

import datetime as dt

from jobs.base.errors import DataError
from jobs.registry.actions import Action
from jobs.registry.champion import put_in_force, record_decision
from jobs.registry.decisions import Review, held_back, read_decision
from jobs.registry.gate_report import check_gate_report, passing_report
from jobs.registry.versions import aliased_version, champion_version, required_version, version_date


def promote_version(action: Action) -> dict[str, object]:
    """Move the alias to the version, and tag the version with who did it and why. If it is there already, nothing changes.

    Under the policy `review` this counts as the approval, unless somebody has rejected the version.

    Raises:
        DataError: there is no such version, its gate report does not allow it, or a person has rejected it.
    """
    settings, number = action.settings, str(action.options["version"])
    version, champion = required_version(settings, number), champion_version(settings)
    before, aliased = None if champion is None else str(champion.version), aliased_version(settings)
    if aliased is not None and aliased.version == version.version:
        return {
            "message": f"version {number} is the champion already.",
            "version": number,
            "before": before,
            "changed": False,
        }
    report = passing_report(settings, version)
    decision = read_decision(settings, version, report.subject) if report.policy == "review" else None
    if decision is not None and decision.decision == "rejected" and not decision.timed_out:
        raise DataError(
            f"version {number} was {decision}.",
            remedy=f"clear the review step of {report.date}, so that somebody looks at it again.",
        )
    held = held_back(settings, report.weights)
    if held is not None and held.decision == "rejected":
        raise DataError(
            f"version {number} cannot be promoted: {held}.",
            remedy=f"run {report.date} again with registry.promotion=review, so that somebody looks at it again.",
        )
    if report.policy == "review" and (decision is None or decision.decision == "rejected"):
        approval = Review(decision="approved", by=action.by, at=dt.datetime.now(dt.UTC), reason=action.reason)
        record_decision(settings, version, report, approval)
    check_gate_report(settings, version)
    put_in_force(settings, version, incumbent=report.incumbent_version, by=action.by, reason=action.reason, previous=champion)
    message = f"version {number} ({report.date}) is the champion now (before: {before or 'none'})."
    if champion is not None and version_date(champion) > version_date(version):
        message += f" It is older than the champion before ({version_date(champion)})."
    return {"message": message, "version": number, "before": before, "changed": True}
