"""Paired tests between methods. Runs with the same seed start from the same towers and see the events in the same order."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats


def paired_p(ours: Sequence[float], other: Sequence[float]) -> float:
    """p of the two-sided paired t-test over seeds; 1 if there are fewer than two pairs or no difference at all."""
    difference = np.asarray(ours) - np.asarray(other)
    if len(difference) < 2 or not difference.any():
        return 1.0
    if np.ptp(difference) == 0:
        return 0.0
    return float(stats.ttest_rel(ours, other).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for testing several hypotheses at once: adjusted p-values, at most 1."""
    adjusted, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        adjusted[name] = largest
    return adjusted
