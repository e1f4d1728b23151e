"""How well simple rules, which learn nothing but counts, predict one event of each user from the others.

Shape legend: S evaluated users, N items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.shop_statistics.logs import DAY, Log

PART, PART_OF_CLUSTER = 200, 6  # the best half per cent of the catalogue, the best sixth of a cluster: so size does not matter
USERS = 3_000  # evaluated at most, because item cosine is slow on long histories
_BLOCK = 200
_SEED = 0
_NEAREST = 3  # events up to so many places later count as followers of an item, the nearest for the most
_MIN_CLUSTER = 10
_OTHER_CLUSTERS = 0.1  # weight that the clusters of all events have beside those of the user's own history


@dataclass(frozen=True)
class Held:
    """What is held out, and what is left.

    Attributes:
        user, item: int64 [E'], the events that are left.
        users: int64 [S], the users who are evaluated; none has the held item among the events left.
        target: int64 [S], their held items.
        last: int64 [S], the item before the held one. It means something only if the last events are held out.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    users: NDArray[np.int64]
    target: NDArray[np.int64]
    last: NDArray[np.int64]


def hold_out(log: Log, which: Literal["last", "random", "visit"]) -> Held:
    """Hold out the last event of each user with three or more, or one at random, or the whole last visit.

    Of the last visit, the first event is the target. It needs two events before it, and a log with times. Targets that the
    user has also among the events left are not used.
    """
    random = np.random.default_rng(_SEED)
    count = np.bincount(log.user)
    ends = np.cumsum(count)
    place = (random.random(len(count)) * count).astype(np.int64) if which == "random" else count - 1
    kept = np.ones(len(log.user), dtype=bool)
    if which == "visit" and log.time is not None:
        day = np.floor(log.time / DAY)
        in_last = day == day[ends - 1][log.user]
        place = count - np.bincount(log.user, in_last).astype(np.int64)
        enough = place >= 2
        kept[in_last & enough[log.user]] = False
    else:
        enough = count >= 3
    chosen = (ends - count + place)[enough]
    kept[chosen] = False
    user, item = log.user[kept], log.item[kept]
    again = np.isin(log.user[chosen] * np.int64(log.num_items) + log.item[chosen], user * np.int64(log.num_items) + item)
    used = chosen[~again]
    used = np.sort(random.choice(used, min(USERS, len(used)), replace=False))
    return Held(user, item, log.user[used], log.item[used], log.item[used - 1])


def predictability(log: Log) -> dict[str, float]:
    """Share of the held items among the best half per cent of the catalogue and the best sixth of their cluster, by rule.

    Items of the user's history are left out of the answer. The rules:

    - `cosine` adds up the cosines of an item with all items of the history, where a user with n events counts 1 / n;
    - `last item` counts what followed the last item in other histories;
    - `cluster` multiplies an item's share of its cluster's events by the cluster's share of the history;
    - `content` compares with the mean content of the history, alone or together with popularity.

    Within a cluster, the cluster is given. So what is measured is whether one can tell its items apart.
    """
    held = hold_out(log, "last" if log.ordered else "random")
    found = _recalls(log, held)
    kept = {"best 0.5 % by popularity": found["popularity"], "best 0.5 % by cosine with the whole history": found["cosine"]}
    if log.ordered:
        kept["best 0.5 % by the last item"] = found["last item"]
        kept["last item over whole history"] = found["last item"] / found["cosine"]
        random = _recalls(log, hold_out(log, "random"), cosine_alone=True)
        kept["cosine: the last event over a random one"] = found["cosine"] / random["cosine"]
    if log.time is not None:
        visit = _recalls(log, hold_out(log, "visit"))
        kept["the next visit: best 0.5 % by popularity"] = visit["popularity"]
        kept["the next visit: best 0.5 % by cosine"] = visit["cosine"]
        kept["cosine: the next visit over the last event"] = visit["cosine"] / found["cosine"]
    kept["cosine over popularity"] = found["cosine"] / found["popularity"]
    kept["held items that no other event has"] = float((~np.isin(held.target, held.item)).mean())
    if log.cluster is not None:
        kept["best 0.5 % by the cluster alone"] = found["cluster"]
        kept["cluster alone over cosine"] = found["cluster"] / found["cosine"]
        best = max(
            found[name] for name in ("within cosine", "within last item", "within content and popularity") if name in found
        )
        kept["best sixth of the cluster by popularity"] = found["within popularity"]
        kept["best sixth of the cluster by content"] = found["within content"]
        kept["best sixth of the cluster by the best rule"] = best
        kept["within the cluster: best rule over popularity"] = best / found["within popularity"]
        kept["within the cluster: content over random"] = found["within content"] * PART_OF_CLUSTER
    return kept


def _recalls(log: Log, held: Held, cosine_alone: bool = False) -> dict[str, float]:
    hits: dict[str, list[NDArray[np.bool_]]] = {}
    rules = _Rules(log, held, cosine_alone)
    for start in range(0, len(held.users), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(held.users)))
        rows, target = np.arange(len(block)), held.target[block]
        history_SN = rules.events[held.users[block]]
        seen_SN = history_SN.toarray() > 0
        for name, score_SN in rules.scores(history_SN, held.last[block]):
            score_SN[seen_SN] = -np.inf
            ahead_SN = score_SN > score_SN[rows, target][:, None]
            if not name.startswith("content"):
                hits.setdefault(name, []).append(ahead_SN.sum(1) < log.num_items / PART)
            if log.cluster is None or cosine_alone:
                continue
            own_SN = (log.cluster[None] == log.cluster[target][:, None]) & ~seen_SN
            size_S = own_SN.sum(1)
            used = (log.cluster[target] >= 0) & (size_S >= _MIN_CLUSTER)
            hits.setdefault(f"within {name}", []).append((ahead_SN & own_SN).sum(1)[used] < size_S[used] / PART_OF_CLUSTER)
    return {name: float(np.concatenate(parts).mean()) for name, parts in hits.items()}


class _Rules:
    """The counts behind all rules. `events` is the matrix of the events left, 0 or 1, [U, N]."""

    def __init__(self, log: Log, held: Held, cosine_alone: bool) -> None:
        ones = np.ones(len(held.user), dtype=np.float32)
        self.events = sp.csr_matrix((ones, (held.user, held.item)), (log.num_users, log.num_items))
        self.events.data[:] = 1  # a repeat counts once
        self._log, self._cosine_alone = log, cosine_alone
        self._count = np.bincount(held.item, minlength=log.num_items).astype(np.float32)
        random = np.random.default_rng(1).random(log.num_items)
        self._ties = ((self._count + random) / self._count.max() * 1e-5).astype(np.float32)
        self._scale = sp.diags((np.maximum(self._count, 1) ** -0.5).astype(np.float32))
        self._scaled = (self.events @ self._scale).tocsr()
        self._of_users = sp.diags((1 / np.maximum(np.asarray(self.events.sum(1)).ravel(), 1)).astype(np.float32))
        self._followers = None if cosine_alone or not log.ordered else _followers(log, held)

    def scores(self, history_SN: sp.csr_matrix, last_S: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Scores of all items by each rule, [S, N]. Popularity decides between equal scores, and chance if it is equal too."""
        log, ties = self._log, self._ties
        cosine_SN = ((history_SN @ self._scale) @ (self._scaled.T @ self._of_users) @ self._scaled).toarray()
        yield "cosine", cosine_SN / max(cosine_SN.max(), 1e-9) + ties
        if self._cosine_alone:
            return
        yield "popularity", np.repeat(ties[None], len(last_S), 0)
        if self._followers is not None:
            followers_SN = self._followers[last_S].toarray()
            yield "last item", followers_SN / max(followers_SN.max(), 1e-9) + ties
        if log.cluster is not None and log.content is not None:
            cluster = np.where(log.cluster >= 0, log.cluster, log.cluster.max() + 1)
            member = sp.csr_matrix((np.ones(len(cluster), np.float32), (np.arange(len(cluster)), cluster)))
            of_cluster = np.asarray(member.T @ self._count)
            own = (history_SN @ member).toarray()
            share = own / own.sum(1, keepdims=True) + _OTHER_CLUSTERS * of_cluster / of_cluster.sum()
            yield "cluster", share[:, cluster] * (self._count / np.maximum(of_cluster, 1)[cluster])[None] + ties * 1e-6
            content_SN = (history_SN @ log.content @ log.content.T).toarray()
            yield "content", content_SN + ties
            spread = np.maximum(content_SN.std(1, keepdims=True), 1e-9)
            yield "content and popularity", content_SN / spread + np.log1p(self._count)[None]


def _followers(log: Log, held: Held) -> sp.csr_matrix:
    """How often each item was followed by each other one, [N, N]: the next one counts 1, the second 1/2, the third 1/3."""
    total = sp.csr_matrix((log.num_items, log.num_items), dtype=np.float32)
    for away in range(1, _NEAREST + 1):
        together = held.user[away:] == held.user[:-away]
        pairs = (held.item[:-away][together], held.item[away:][together])
        weight = np.full(len(pairs[0]), 1 / away, dtype=np.float32)
        total = total + sp.csr_matrix((weight, pairs), total.shape)
    return total
