"""The champion: which word a verdict is, and how the alias moves. Tags say who moved it, when and why.

Everything that moves the alias, or publishes the version it names, holds the lock `exclusive`, so one runs at a time.
"""

import datetime as dt
from collections.abc import Mapping
from contextlib import AbstractContextManager
from itertools import takewhile

from mlflow.entities.model_registry import ModelVersion

from jobs.base.errors import DataError
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
from jobs.registry.decisions import Review, sign_decision
from jobs.registry.gate_report import GateReport
from jobs.registry.versions import CHAMPION, MAX_TEXT, REPLACED, champion_line, champion_version, find_version, version_date

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
    run_key = Lake.of(settings).manifest("challenger", settings.date)["stats"]["run_key"]
    version = find_version(settings, run_key)
    if version is None:
        raise DataError(
            f"no version of {settings.registry.model_name} is registered for the challenger of {settings.ds}.",
            file=settings.tracking_uri,
            remedy="run register for this date first.",
        )
    return version


def verdict_word(settings: PipelineSettings, version: ModelVersion, *, passed: bool, blocked: bool) -> tuple[str, list[str]]:
    """The word of a verdict as things stand now, and the reasons why the alias stays although the model passed.

    Returns:
        blocked_by_gate; kept_champion or no_champion (it did not pass, or a person took it back); champion_is_newer (it
        passed, but the champion is of a later date); promoted (it is champion, or was until a later one came);
        not_promoted_by_policy; awaiting_review or awaiting_promotion (`promote` still has to carry this out).
    """
    champion = champion_version(settings)
    if blocked:
        return BLOCKED_BY_GATE, []
    stays = NO_CHAMPION if champion is None else KEPT_CHAMPION
    if not passed:
        return stays, []
    if champion is not None and champion.version == version.version:
        return PROMOTED, []
    if WITHDRAWN_AT in version.tags:
        by, at, why = (version.tags.get(name, "") for name in (WITHDRAWN_BY, WITHDRAWN_AT, WITHDRAWAL_REASON))
        return stays, [f"it was taken back by {by} at {at} ({why}); only a promotion by hand puts it in force again"]
    if champion is not None and version_date(champion) > settings.date:
        newer = f"champion version {champion.version} is newer ({version_date(champion)})"
        if PROMOTED_AT in version.tags:
            return PROMOTED, [f"{newer} and has taken its place since"]
        return CHAMPION_IS_NEWER, [newer]
    policy = settings.registry.promotion
    if policy == "never":
        return NOT_PROMOTED_BY_POLICY, ["registry.promotion is 'never'"]
    return (AWAITING_REVIEW if policy == "review" else AWAITING_PROMOTION), []


def record_decision(settings: PipelineSettings, version: ModelVersion, report: GateReport, review: Review) -> None:
    """Sign what a person decided about a version, and put it into the version's tags."""
    sign_decision(settings, version, report.subject, review)
    said = {REVIEW_DECISION: review.decision, REVIEW_REASON: review.reason, REVIEWED_BY: review.by}
    tag_version(settings, version, said | {REVIEWED_AT: review.at.isoformat(timespec="seconds")})


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
        previous: the champion until now, for a decision by hand. This champion and those before it are marked as taken back
            unless they are of an earlier date than the version. So a rerun of their dates leaves the decision alone.
    """
    registry, name = client(settings), settings.registry.model_name
    since = version_date(version)
    line = champion_line(settings, previous) if previous is not None else ()
    for withdrawn in takewhile(lambda one: version_date(one) >= since, line):
        if withdrawn.version != version.version:
            stated = {WITHDRAWN_BY: by, WITHDRAWN_AT: now(), WITHDRAWAL_REASON: reason}
            tag_version(settings, withdrawn, stated)
    # The tags come before the alias, because a champion must always name the version it competed with. This is a champion of
    # an earlier date. So the line of champions goes back in time and ends, however often a date is run with other settings.
    tag_version(settings, version, {REPLACED: incumbent, PROMOTED_BY: by, PROMOTED_AT: now(), PROMOTION_REASON: reason})
    for key in {WITHDRAWN_BY, WITHDRAWN_AT, WITHDRAWAL_REASON} & version.tags.keys():
        registry.delete_model_version_tag(name, version.version, key)
    registry.set_registered_model_tag(name, _RECORDED, str(version.version))
    champion = champion_version(settings)
    if champion is None or champion.version != version.version:
        registry.set_registered_model_alias(name, CHAMPION, version.version)


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
