"""The champion: which word a verdict is, and how the alias moves. Tags say who moved it, when and why.

Everything that moves the alias, or publishes the version it names, holds the lock `exclusive`, so one runs at a time.
"""

import datetime as dt
from collections.abc import Mapping
from contextlib import AbstractContextManager
from itertools import takewhile
from typing import Any, Literal

from mlflow.entities.model_registry import ModelVersion

from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.home import CHAMPION_FILE
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.base.verdicts import (
    AWAITING_PROMOTION,
    AWAITING_REVIEW,
    BLOCKED_BY_GATE,
    CHAMPION_IS_NEWER,
    KEPT_CHAMPION,
    NO_CHAMPION,
    NOT_PROMOTED_BY_POLICY,
    PROMOTED,
)
from jobs.lake.tables import Lake
from jobs.registry.choices import versions_folder
from jobs.registry.decisions import Review, Standing, decide, held_back, sign_decision
from jobs.registry.gate_report import GateReport, read_gate_report
from jobs.registry.versions import (
    CHAMPION,
    MAX_TEXT,
    REPLACED,
    aliased_version,
    champion_line,
    champion_version,
    find_version,
    lost_champion,
    version_date,
)

PROMOTED_BY, PROMOTED_AT = "esans.promoted_by", "esans.promoted_at"
PROMOTION_REASON = "esans.promotion_reason"
WITHDRAWN_BY, WITHDRAWN_AT = "esans.withdrawn_by", "esans.withdrawn_at"  # a person took it back
WITHDRAWAL_REASON = "esans.withdrawal_reason"
REVIEW_DECISION, REVIEW_REASON = "esans.review_decision", "esans.review_reason"
REVIEWED_BY, REVIEWED_AT = "esans.reviewed_by", "esans.reviewed_at"
_RECORDED = "esans.recorded_champion"  # on the registered model: the version to which this pipeline last moved the alias


def exclusive(settings: PipelineSettings) -> AbstractContextManager[None]:
    """A lock: while it is held, nobody else with this home folder moves the alias or publishes."""
    return alone_in(settings.home / "actions")


def challenger_version(settings: PipelineSettings) -> ModelVersion:
    """The registered version of the date's challenger.

    Raises:
        DataError: there is none.
    """
    version = find_version(settings, _challenger(settings)["run_key"])
    if version is None:
        raise DataError(
            f"no version of {settings.registry.model_name} is registered for the challenger of {settings.ds}.",
            file=settings.tracking_uri,
            remedy="run register for this date first.",
        )
    return version


def _challenger(settings: PipelineSettings) -> dict[str, Any]:
    """What the date's training noted about its challenger: `run_key`, and since version 0.3 `weights`."""
    return dict(Lake.of(settings).manifest("challenger", settings.date)["stats"])


def verdict_word(settings: PipelineSettings, version: ModelVersion, *, passed: bool, blocked: bool) -> tuple[str, list[str]]:
    """The word of a verdict as things stand now, and the reasons why the alias stays although the model passed.

    Returns:
        blocked_by_gate; kept_champion or no_champion (it did not pass, a person decided against its weights, or only a person
        can replace what is in force); champion_is_newer (it passed, but the champion is of a later date); promoted (it is
        champion, or was until a later one came); not_promoted_by_policy; awaiting_review or awaiting_promotion (`promote`
        still has to carry this out).
    """
    champion = champion_version(settings)
    if blocked:
        return BLOCKED_BY_GATE, []
    lost = lost_champion(settings)
    stays = NO_CHAMPION if champion is None and lost is None else KEPT_CHAMPION
    if not passed:
        return stays, []
    if champion is not None and champion.version == version.version:
        return PROMOTED, []
    held = held_back(settings, _challenger(settings).get("weights", "")) or withdrawal_of(version)
    if held is not None and held.decision == "withdrawn":
        return stays, [f"{held}; only a promotion by hand puts it in force again"]
    if champion is not None and version_date(champion) > settings.date:
        newer = f"champion version {champion.version} is newer ({version_date(champion)})"
        if PROMOTED_AT in version.tags:
            return PROMOTED, [f"{newer} and has taken its place since"]
        return CHAMPION_IS_NEWER, [newer]
    policy, notes = settings.registry.promotion, []
    if held is not None:
        notes.append(f"{held}; only a review of this date (registry.promotion=review) can allow it")
    if lost is not None:
        notes.append(f"{lost_words(settings, lost)}; only a person can put another version in force")
    if policy == "never":
        return NOT_PROMOTED_BY_POLICY, ["registry.promotion is 'never'"]
    if policy == "auto" and notes:
        return stays, notes
    return (AWAITING_REVIEW if policy == "review" else AWAITING_PROMOTION), notes


def keep_verdict(settings: PipelineSettings, record: Mapping[str, Any]) -> None:
    """Write the verdict of the date, and keep it for its version, too, because the date may be run again."""
    write_json(settings.run_dir / "verdict.json", record)
    write_json(versions_folder(settings) / f"{record['version']}.json", {**record, "date": settings.ds})


def lost_words(settings: PipelineSettings, bundle: str) -> str:
    """Says that the registry has no version of the bundle in force."""
    return f"bundle {bundle} is in force, but {settings.registry.model_name} has no such version in the registry"


def record_decision(settings: PipelineSettings, version: ModelVersion, report: GateReport, review: Review) -> None:
    """Sign what a person decided about a version, put it into the version's tags, and keep it for the weights.

    If nobody decided in time, the weights are as free as before.
    """
    sign_decision(settings, version, report.subject, review)
    at = review.at.isoformat(timespec="seconds")
    said = {REVIEW_DECISION: review.decision, REVIEW_REASON: review.reason, REVIEWED_BY: review.by}
    tag_version(settings, version, said | {REVIEWED_AT: at})
    if not review.timed_out:
        word: Literal["allowed", "rejected"] = "allowed" if review.decision == "approved" else "rejected"
        about = Standing(decision=word, by=review.by, at=at, reason=review.reason, version=str(version.version))
        decide(settings, report.weights, about)


def put_in_force(
    settings: PipelineSettings,
    version: ModelVersion,
    *,
    incumbent: str,
    by: str,
    reason: str,
    previous: ModelVersion | None = None,
) -> None:
    """Make a version the champion, and tag it with who did so and why. The alias moves last; a repeat ends in the same state.

    Args:
        settings: settings of the run or the action.
        version: a version whose gate report was checked.
        incumbent: number of the champion it was compared with, "" for none (`GateReport.incumbent_version`).
        by: who decided.
        reason: why.
        previous: the champion until now, for a decision by hand. It is taken back (`take_back`).
    """
    registry, name = client(settings), settings.registry.model_name
    weights = _weights_of(settings, version)
    if previous is not None:
        take_back(settings, previous, since=version_date(version), by=by, reason=reason, spared=version)
    if held_back(settings, weights) is not None:
        about = Standing(decision="allowed", by=by, at=now(), reason=reason, version=str(version.version))
        decide(settings, weights, about)
    # The tags come before the alias, because a champion must always name the version it competed with. This is a champion of
    # an earlier date. So the line of champions goes back in time and ends, however often a date is run with other settings.
    tag_version(settings, version, {REPLACED: incumbent, PROMOTED_BY: by, PROMOTED_AT: now(), PROMOTION_REASON: reason})
    for key in {WITHDRAWN_BY, WITHDRAWN_AT, WITHDRAWAL_REASON} & version.tags.keys():
        registry.delete_model_version_tag(name, version.version, key)
    registry.set_registered_model_tag(name, _RECORDED, str(version.version))
    champion = aliased_version(settings)
    if champion is None or champion.version != version.version:
        registry.set_registered_model_alias(name, CHAMPION, version.version)
    _keep_champion(settings, version)


def take_back(
    settings: PipelineSettings,
    champion: ModelVersion,
    *,
    since: dt.date,
    by: str,
    reason: str,
    spared: ModelVersion | None = None,
) -> None:
    """Mark a champion, and those before it back to a date, as taken back by a person. So no rerun promotes them again.

    Args:
        settings: settings of the action.
        champion: the champion until now.
        since: champions of an earlier date than this are left alone.
        by: who took it back.
        reason: why.
        spared: the version that comes in force instead.
    """
    for version in takewhile(lambda one: version_date(one) >= since, champion_line(settings, champion)):
        if spared is None or version.version != spared.version:
            tag_version(settings, version, {WITHDRAWN_BY: by, WITHDRAWN_AT: now(), WITHDRAWAL_REASON: reason})
            about = Standing(decision="withdrawn", by=by, at=now(), reason=reason, version=str(version.version))
            decide(settings, _weights_of(settings, version), about)


def _weights_of(settings: PipelineSettings, version: ModelVersion) -> str:
    """Digest of a version's weights by its gate report; "" if it has no genuine report, or that of an earlier release."""
    try:
        return read_gate_report(settings, version).weights
    except DataError:
        return ""


def withdrawal_of(version: ModelVersion) -> Standing | None:
    """What the tags of a version say of a person who took it back; None if they say nothing."""
    if WITHDRAWN_AT not in version.tags:
        return None
    by, at, reason = (version.tags.get(name, "") for name in (WITHDRAWN_BY, WITHDRAWN_AT, WITHDRAWAL_REASON))
    return Standing(decision="withdrawn", by=by, at=at, reason=reason, version=str(version.version))


def moved_in_registry(settings: PipelineSettings, champion: ModelVersion) -> bool:
    """Whether somebody other than this pipeline put the alias where it is."""
    tags = client(settings).get_registered_model(settings.registry.model_name).tags
    return tags.get(_RECORDED) != str(champion.version)


def put_back(settings: PipelineSettings, version: ModelVersion | None) -> None:
    """Undo a move of the alias: it goes back to the given version, or is removed if that is None."""
    registry, name = client(settings), settings.registry.model_name
    if version is None:
        registry.delete_registered_model_alias(name, CHAMPION)
    else:
        registry.set_registered_model_tag(name, _RECORDED, str(version.version))
        registry.set_registered_model_alias(name, CHAMPION, version.version)
    _keep_champion(settings, version)


def _keep_champion(settings: PipelineSettings, version: ModelVersion | None) -> None:
    """Keep in the home which version is the champion by the last decision, for the metrics, which do not ask MLflow."""
    write_json(settings.home / CHAMPION_FILE, {"version": None if version is None else str(version.version)})


def tag_version(settings: PipelineSettings, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set the tags that have another value now, cut to the length that the registry can hold."""
    registry, name = client(settings), settings.registry.model_name
    present = registry.get_model_version(name, version.version).tags
    for key, value in tags.items():
        if present.get(key) != value[:MAX_TEXT]:
            registry.set_model_version_tag(name, version.version, key, value[:MAX_TEXT])


def now() -> str:
    """The present time, in the form that records use."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
