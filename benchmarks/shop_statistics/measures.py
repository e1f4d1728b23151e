"""What a log looks like by counting: popularity, histories, repeats, times and new items."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.shop_statistics.logs import DAY, Log

WINDOW = 35  # days of the shop of 3,000 items
_HOUR = 3_600.0


def popularity(log: Log) -> dict[str, float]:
    """Shares of all events that go to the most popular items, and the Gini coefficient, among items with an event."""
    counts = np.sort(np.bincount(log.item))[::-1]
    counts = counts[counts > 0]
    shares = np.cumsum(counts) / counts.sum()
    top = {
        f"events on the top {part} % of items": float(shares[max(round(len(counts) * part / 100), 1) - 1])
        for part in (1, 10, 20)
    }
    return top | {"Gini of items' events": gini(counts)}


def histories(log: Log) -> dict[str, float]:
    """Events of a user: quantiles, and how unequal users are."""
    lengths = np.bincount(log.user)
    middle, most, extreme = np.quantile(lengths, (0.5, 0.9, 0.99))
    return {
        "events of a user, median": float(middle),
        "events of a user, 90th percentile over median": float(most / middle),
        "events of a user, 99th percentile over median": float(extreme / middle),
        "Gini of users' events": gini(lengths),
    }


def repeats(log: Log) -> dict[str, float]:
    """Share of the events whose user had the same item before."""
    pairs = len(np.unique(log.user * np.int64(log.num_items) + log.item))
    return {"repeats": 1 - pairs / len(log.user)}


def times(log: Log) -> dict[str, float]:
    """Visits (all events of a user on one day) and the time between them. Nothing if the log has no times.

    The time between visits is that of each user's first `WINDOW` days, because a log of so many days shows no longer gaps.
    Burstiness is (s - m) / (s + m), where m is the mean and s the standard deviation of the gaps between a user's visits
    (Goh and Barabasi 2008), as the mean over users with five or more visits. It is 0 for a Poisson process, and larger if
    visits come in bursts.
    """
    if log.time is None:
        return {}
    day = np.floor(log.time / DAY).astype(np.int64)
    new_user = np.concatenate([[True], log.user[1:] != log.user[:-1]])
    new_visit = new_user | np.concatenate([[True], day[1:] != day[:-1]])
    starts = np.flatnonzero(new_visit)
    lengths = np.diff(np.append(starts, len(day)))
    begun = day[np.maximum.accumulate(np.where(new_user, np.arange(len(day)), 0))]  # the first day of each event's user
    near = ~new_user[starts][1:] & (day - begun < WINDOW)[starts[1:]]
    gaps, visitor = np.diff(day[starts])[near], log.user[starts[1:]][near]
    within = np.diff(log.time)[~new_visit[1:]]
    found = {
        "events of a visit, mean": float(lengths.mean()),
        "visits of one event": float((lengths == 1).mean()),
        "events on the same day as the one before": float(len(within) / (~new_user).sum()),
        "days between visits, median": float(np.median(gaps)),
        "burstiness of visits": _burstiness(gaps, visitor),
    }
    if log.dated:  # times of day are known
        found["seconds between events of a visit, median"] = float(np.median(within[within < _HOUR]))
    return found


def new_items(log: Log) -> dict[str, float]:
    """Share of the events of the last tenth of a log that are on items which the first nine tenths do not have."""
    if not log.dated or log.time is None:
        return {}
    order = np.argsort(log.time, kind="stable")
    cut = round(0.9 * len(order))
    seen = np.zeros(log.num_items, dtype=bool)
    seen[log.item[order[:cut]]] = True
    return {"events of the last tenth on items that are new": float(1 - seen[log.item[order[cut:]]].mean())}


def gini(counts: NDArray) -> float:
    """Gini coefficient of positive numbers: 0 if all are equal, near 1 if one has nearly all."""
    ordered = np.sort(counts).astype(np.float64)
    places = np.arange(1, len(ordered) + 1)
    return float(2 * (places * ordered).sum() / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered))


def _burstiness(gaps: NDArray[np.int64], user: NDArray[np.int64]) -> float:
    count = np.bincount(user)
    mean = np.bincount(user, gaps) / np.maximum(count, 1)
    spread = np.sqrt(np.maximum(np.bincount(user, gaps.astype(np.float64) ** 2) / np.maximum(count, 1) - mean**2, 0))
    used = count >= 4
    return float(((spread[used] - mean[used]) / (spread[used] + mean[used])).mean()) if used.any() else float("nan")
