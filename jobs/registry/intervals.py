"""Intervals of the differences between the challenger and its opponents, for every metric that has a value for each user."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.registry.promotion import Difference

OPPONENTS = ("champion", "anchor", "baseline")
_DRAWN = 8_000_000  # users drawn at once, for all resamples of a block: about 200 MB


def metric_intervals(settings: PipelineSettings, cutoffs: Cutoffs) -> dict[str, dict[str, Difference]]:
    """The challenger minus each opponent, for each metric, over the users of the date's `evaluation`.

    Args:
        settings: settings of the run.
        cutoffs: depths of the evaluation, which are part of the names of its metrics.

    Returns:
        Opponent -> metric -> difference. Opponents without rows and metrics without a value for any user are left out.

    Raises:
        DataError: the models were not evaluated on the same users.
    """
    lake = Lake.of(settings)
    table = lake.read_pandas("evaluation", settings.date)
    metrics = [name for name in cutoffs.of_users if name in table]
    models = {str(name): rows.set_index("user_index")[metrics].sort_index() for name, rows in table.groupby("model")}
    found = {}
    for name in OPPONENTS:
        if name not in models or models[name][cutoffs.recall].isna().all():
            continue
        gaps = models["challenger"] - models[name]
        if not models["challenger"].index.equals(models[name].index) or gaps[cutoffs.recall].isna().any():
            raise DataError(
                f"the challenger and the {name} were not evaluated on the same users.",
                file=lake.path("evaluation", settings.date),
                column="user_index",
                remedy="run evaluate again for this date.",
            )
        gate = settings.gate
        differences = paired_intervals(
            gaps.to_numpy(np.float64), samples=gate.bootstrap_samples, confidence=gate.confidence, seed=settings.training.seed
        )
        pairs = zip(metrics, differences, strict=True)
        found[name] = {metric: difference for metric, difference in pairs if difference is not None}
    return found


def recall_intervals(settings: PipelineSettings, recall: Mapping[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    """The interval of the challenger minus each opponent, over one part of the hold-out.

    Args:
        settings: settings of the run.
        recall: model -> float64 [U], recall of the same users in the same order.

    Returns:
        Opponent -> lower and upper end.
    """
    present = [name for name in OPPONENTS if name in recall]
    if not present:
        return {}
    gaps_UM = np.stack([recall["challenger"] - recall[name] for name in present], axis=1)
    found = paired_intervals(
        gaps_UM, samples=settings.gate.bootstrap_samples, confidence=settings.gate.confidence, seed=settings.training.seed
    )
    return {name: [gap.low, gap.high] for name, gap in zip(present, found, strict=True) if gap is not None}


def paired_intervals(gaps_UM: NDArray[np.float64], *, samples: int, confidence: float, seed: int) -> list[Difference | None]:
    """Percentile intervals of mean differences. Users are resampled in pairs; every metric has the same resamples.

    Args:
        gaps_UM: float64 [U, M], difference of each metric for each user, NaN if the user has no value.
        samples: resamples of U users.
        confidence: level of the two-sided intervals.
        seed: seed of the resampling.

    Returns:
        One difference for each metric, None if no user has a value.
    """
    has_UM = np.isfinite(gaps_UM)
    both_U2M = np.concatenate([np.where(has_UM, gaps_UM, 0.0), has_UM], axis=1)
    generator, (users, metrics) = np.random.default_rng(seed), gaps_UM.shape
    sums, block = np.empty((samples, 2 * metrics)), max(1, min(64, _DRAWN // users))
    for start in range(0, samples, block):
        drawn = generator.integers(0, users, size=(min(block, samples - start), users))
        sums[start : start + len(drawn)] = np.stack([np.bincount(row, minlength=users) @ both_U2M for row in drawn])
    with np.errstate(invalid="ignore"):
        means = sums[:, :metrics] / sums[:, metrics:]
    found: list[Difference | None] = []
    for column in range(metrics):
        if not has_UM[:, column].any():
            found.append(None)
            continue
        low, high = np.nanquantile(means[:, column], [(1 - confidence) / 2, (1 + confidence) / 2])
        mean = gaps_UM[has_UM[:, column], column].mean()
        found.append(Difference(float(mean), float(low), float(high), confidence))
    return found
