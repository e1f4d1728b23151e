"""Answers requests together that wait at the same time, because one pass over many histories takes far less than many passes.

Nobody waits for others to come: a request that finds a free slot is computed at once, with all like it that wait by then.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from esans_core.serving.bundle import Recommendation
from esans_core.serving.published import Served

_MOST = 256  # histories of several requests that are answered in one pass; a larger request has a pass of its own


class _Waiting:
    def __init__(
        self,
        histories: Sequence[Sequence[str]],
        users: Sequence[Mapping[str, Any] | None] | None,
        unwanted: Sequence[Sequence[str]] | None,
    ) -> None:
        self.histories, self.users = histories, users if users is not None else [None] * len(histories)
        self.unwanted: Sequence[Sequence[str]] = unwanted if unwanted is not None else [()] * len(histories)
        self.done = threading.Event()
        self.answers: list[Recommendation] = []
        self.error: ValueError | None = None


class Together:
    """Safe to call from many threads, each of which waits for its own answer.

    Args:
        slots: passes that are computed at a time.
    """

    def __init__(self, slots: int) -> None:
        self._slots, self._lock = threading.Semaphore(slots), threading.Lock()
        self._waiting: dict[tuple[str, str], list[_Waiting]] = defaultdict(list)

    def recommend(
        self,
        served: Served,
        histories: Sequence[Sequence[str]],
        users: Sequence[Mapping[str, Any] | None] | None = None,
        unwanted: Sequence[Sequence[str]] | None = None,
        **asked: Any,
    ) -> list[Recommendation]:
        """`ServingBundle.recommend`, in one pass with other requests to the same bundle that ask for the same.

        Args:
            served: the bundle to answer from.
            histories: item ids of each user, oldest first.
            users: what is known of each user.
            unwanted: ids of items that each user does not want.
            asked: the other arguments, as JSON values.

        Raises:
            ValueError: the bundle refuses this request. Others that were answered with it are not touched.
        """
        mine, key = _Waiting(histories, users, unwanted), (served.name, json.dumps(asked, sort_keys=True))
        with self._lock:
            self._waiting[key].append(mine)
        with self._slots:
            while some := self._taken(key, mine):
                _answer(served, some, asked)
        mine.done.wait()  # another request may have taken this one, and be at work on it
        if mine.error is not None:
            raise mine.error
        return mine.answers

    def _taken(self, key: tuple[str, str], mine: _Waiting) -> list[_Waiting]:
        """Those that have waited longest; none if somebody has taken `mine` already."""
        with self._lock:
            waiting = self._waiting[key]
            if mine not in waiting:
                if not waiting:
                    del self._waiting[key]
                return []
            count, histories = 1, len(waiting[0].histories)
            while count < len(waiting) and (histories := histories + len(waiting[count].histories)) <= _MOST:
                count += 1
            self._waiting[key] = waiting[count:]
            return waiting[:count]


def _answer(served: Served, some: list[_Waiting], asked: dict[str, Any]) -> None:
    histories = [history for one in some for history in one.histories]
    users = [user for one in some for user in one.users]
    unwanted = [items for one in some for items in one.unwanted]
    try:
        answers = iter(served.bundle.recommend(histories, users=users, unwanted=unwanted if any(unwanted) else None, **asked))
        for one in some:
            one.answers = [next(answers) for _ in one.histories]
    except ValueError as error:
        if len(some) == 1:
            some[0].error = error
        else:
            for one in some:  # one of them is at fault, and its own message names its own histories
                _answer(served, [one], asked)
    except BaseException:
        for one in some:
            one.error = ValueError("the request was stopped with another one; send it again")
        raise
    finally:
        for one in some:
            one.done.set()
