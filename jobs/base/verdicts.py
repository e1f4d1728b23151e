"""The words that a verdict can be, in `verdict.json`, on a version and in the metrics file. Each stands here once.

A verdict is made by `judge` and carried out by `promote`; `jobs.registry.champion` says which word applies when.
"""

PROMOTED = "promoted"
KEPT_CHAMPION, NO_CHAMPION = "kept_champion", "no_champion"  # it did not pass, or a person took it back
CHAMPION_IS_NEWER = "champion_is_newer"
NOT_PROMOTED_BY_POLICY = "not_promoted_by_policy"
BLOCKED_BY_GATE = "blocked_by_gate"
AWAITING_REVIEW, AWAITING_PROMOTION = "awaiting_review", "awaiting_promotion"  # for `promote` to go on with
REJECTED_IN_REVIEW = "rejected_in_review"

VERDICTS = (
    PROMOTED,
    KEPT_CHAMPION,
    NO_CHAMPION,
    CHAMPION_IS_NEWER,
    NOT_PROMOTED_BY_POLICY,
    BLOCKED_BY_GATE,
    AWAITING_REVIEW,
    AWAITING_PROMOTION,
    REJECTED_IN_REVIEW,
)
