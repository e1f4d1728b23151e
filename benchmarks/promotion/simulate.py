"""Simulates nights of the promotion gate with a known truth: which models it passes how often, and what is lost over a year.

Power is simulated on users. A night draws hold-out users from a measured pair of models (`pairs.py`). The pair is made equal by
taking both orders equally often. The model that should be worse then loses each of its hits with some probability, which lowers
its recall by exactly that share. Years are simulated on measured changes: each model has a true recall and a normal error, and
the size of the error is that of the measured pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import binom

from jobs.registry.promotion import level_of_look

Floats = NDArray[np.float64]
Rule = Literal["absolute", "relative", "anchored"]
Story = Literal["equal", "retrained", "half a per cent down", "one and a half per cent down", "ageing"]
NIGHTS = 365
OLD_MARGIN, OLD_RECALL = 0.01, 0.166  # the absolute margin of earlier releases, and a recall at which it was used
RETRAINED, AGEING = 0.01, 0.006  # spread of the truth from one training to the next; share that a day of age costs
_DOWN = {"half a per cent down": 0.005, "one and a half per cent down": 0.015}


@dataclass(frozen=True)
class Cells:
    """Users of two models, counted by their recalls: recall under each, float64 [C], and share of users, float64 [C], sum 1."""

    challenger: Floats
    champion: Floats
    share: Floats


def pair_with_change(rows: Sequence[Sequence[int]], change: float) -> Cells:
    """A pair of models whose challenger truly reaches exactly `1 + change` times the champion's recall.

    Args:
        rows: [relevant items, hits of one, hits of the other, users], as `pairs.measure` counts them.
        change: relative change; above -1.
    """
    counted = np.array(rows)
    both = np.concatenate([counted, counted[:, [0, 2, 1, 3]]])
    kept = (1 + change, 1.0) if change < 0 else (1.0, 1 / (1 + change))
    relevant, first, second, users = both.T
    most = int(both[:, 1:3].max()) + 1
    # Each of h hits is kept with some probability, so the number kept is binomial; both models at once.
    left = [binom.pmf(np.arange(most), hits[:, None], chance) for hits, chance in zip((first, second), kept, strict=True)]
    share = users[:, None, None] * left[0][:, :, None] * left[1][:, None, :]
    row, ours, theirs = np.nonzero(share > 0)
    return Cells(ours / relevant[row], theirs / relevant[row], share[row, ours, theirs] / users.sum())


def changes(cells: Cells, users: int, nights: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Results of `relative_change` on each of many nights: change and its standard error, float64 [nights] each."""
    counts = random.multinomial(users, cells.share / cells.share.sum(), size=nights).astype(np.float64)
    ours, theirs = counts @ cells.challenger / users, counts @ cells.champion / users
    ratio = ours / theirs
    squares = (
        counts @ cells.challenger**2
        - 2 * ratio * (counts @ (cells.challenger * cells.champion))
        + ratio**2 * (counts @ cells.champion**2)
    )
    return ratio - 1, np.sqrt(squares / (users - 1) / users) / theirs


def power(cells: Cells, users: int, *, look: int, margin: float, error_rate: float, nights: int, seed: int) -> float:
    """Share of nights on which a challenger passes against one opponent at a look."""
    found, error = changes(cells, users, nights, np.random.default_rng(seed))
    reach = stdtrit(users - 1, 1 - level_of_look(look, error_rate)) * error
    return float((found - reach >= -margin).mean())


def spread_per_user(rows: Sequence[Sequence[int]]) -> float:
    """Standard error of the relative change of an equal pair, times the root of the users."""
    cells = pair_with_change(rows, 0.0)
    gap = cells.challenger - cells.champion
    return float(np.sqrt(cells.share @ gap**2) / (cells.share @ cells.champion))


@dataclass(frozen=True)
class Years:
    """Results of many simulated years, one number for each year.

    Attributes:
        promotions: how many versions were promoted.
        bad: how many of them are truly worse by more than the margin than the champion or the anchor they were compared with.
        lost: how far the last champion truly lies below the first, at the same age; negative if it is better.
        below_best: how far it lies below the best version that was ever in force.
        age: mean age in days of the champion over the nights.
    """

    promotions: NDArray[np.int64]
    bad: NDArray[np.int64]
    lost: Floats
    below_best: Floats
    age: Floats


def years(
    story: Story,
    rule: Rule,
    *,
    error: float,
    margin: float,
    error_rate: float,
    runs: int,
    seed: int,
    nights: int = NIGHTS,
    worse_by: float | None = None,
) -> Years:
    """Simulate years of nightly challengers.

    Args:
        story: truth of the challengers: all equal; equal except for the luck of training; each a little below the champion in
            force; or equal when they are made, while every model loses with each day of its age.
        rule: `anchored`: as in this release; `relative`: the margin counts only against the champion, and every look counts as
            the first one; `absolute`: as in earlier releases.
        error: standard error of a measured relative change.
        margin: relative margin.
        error_rate: error rate of all looks together.
        runs: years simulated side by side.
        seed: seed of the simulation.
        nights: nights in a year.
        worse_by: for a story that goes down, a step to use instead of its own.
    """
    random = np.random.default_rng(seed)
    champion, anchor, best = np.ones(runs), np.ones(runs), np.ones(runs)
    born, anchor_born, look, anchor_look = (np.full(runs, value) for value in (0, 0, 1, 1))
    promotions, bad, age = np.zeros(runs, np.int64), np.zeros(runs, np.int64), np.zeros(runs)
    step = worse_by if worse_by is not None else _DOWN.get(story, 0.0)
    luck = RETRAINED if story in ("retrained", "ageing") else 0.0
    daily = AGEING if story == "ageing" else 0.0
    # By how many standard errors each look must stay clear of the margin.
    reaches = ndtri(1 - np.array([level_of_look(number, error_rate) for number in range(1, nights + 2)])) * error
    for night in range(1, nights + 1):
        made = champion * (1 - step) if step else 1 + luck * random.standard_normal(runs)
        ours, theirs, best_ever = random.standard_normal((3, runs)) * error / np.sqrt(2)
        true_champion = made / (champion * (1 - daily) ** (night - born)) - 1
        true_anchor = made / (anchor * (1 - daily) ** (night - anchor_born)) - 1
        to_champion, to_anchor = true_champion + ours - theirs, true_anchor + ours - best_ever
        same = born == anchor_born  # champion and anchor are the same version, so they have the same error
        to_anchor = np.where(same, to_champion, to_anchor)
        if rule == "absolute":
            passed = to_champion - reaches[0] >= -OLD_MARGIN / OLD_RECALL
        elif rule == "relative":
            passed = to_champion - reaches[0] >= -margin
        else:
            reach = reaches[look - 1]
            passed = (to_champion - reach >= -margin) & (to_anchor - reach >= -margin)
        better = passed & (to_anchor - reaches[anchor_look - 1] >= 0)
        promotions += passed
        # Rounding must not turn a loss of exactly the margin into a larger one.
        bad += passed & (np.minimum(true_champion, true_anchor) < -margin - 1e-12)
        look = np.where(passed, 1, look + 1)
        anchor_look = np.where(better, 1, anchor_look + passed)
        anchor, anchor_born = np.where(better, made, anchor), np.where(better, night, anchor_born)
        champion, born = np.where(passed, made, champion), np.where(passed, night, born)
        best = np.maximum(best, champion)
        age += night - born
    return Years(promotions, bad, 1 - champion, 1 - champion / best, age / nights)
