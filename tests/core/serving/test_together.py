"""Requests that are answered in one pass: each gets its own answer, and only its own error."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from esans_core.serving.bundle import Recommendation
from esans_core.serving.published import Served
from esans_core.serving.together import Together


class Slow:
    """A bundle whose first pass goes on until others wait. It answers a history with the history itself."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.started, self.go_on = threading.Event(), threading.Event()

    def recommend(self, histories: Sequence[Sequence[str]], users: Sequence[Any], k: int, **_: Any) -> list[Recommendation]:
        self.passes.append(len(histories))
        self.started.set()
        self.go_on.wait(60)
        bad = [number for number, history in enumerate(histories) if "bad" in history]
        if bad:
            raise ValueError(f"history {bad[0]}: bad")
        return [Recommendation([*history, str(user)][:k], [], False) for history, user in zip(histories, users, strict=True)]


def served(bundle: Any) -> Served:
    return Served("a bundle", bundle)


def asked_at_once(bundle: Slow, requests: list[dict[str, Any]]) -> list[Any]:
    """The answer or the error of each request. The first is in its pass before the others come, one after the other."""
    together = Together(1)

    def ask(request: dict[str, Any]) -> Any:
        try:
            return [answer.item_ids for answer in together.recommend(served(bundle), **request)]
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(len(requests)) as pool:
        asked = [pool.submit(ask, requests[0])]
        assert bundle.started.wait(60)
        for request in requests[1:]:
            asked.append(pool.submit(ask, request))
            while sum(map(len, together._waiting.values())) < len(asked) - 1:
                time.sleep(0.001)
        bundle.go_on.set()
        return [one.result(60) for one in asked]


def test_those_that_wait_are_answered_in_one_pass_and_each_with_its_own() -> None:
    bundle = Slow()
    requests = [{"histories": [[f"i{number}"], ["j"]], "users": [number, None], "k": 2} for number in range(30)]
    assert asked_at_once(bundle, requests) == [[[f"i{number}", str(number)], ["j", "None"]] for number in range(30)]
    assert bundle.passes == [2, 58]


def test_other_wishes_have_a_pass_of_their_own_and_no_pass_is_too_long() -> None:
    bundle, many = Slow(), [["i"]] * 200
    requests = [{"histories": [["a"]], "k": 1}, *[{"histories": many, "k": k} for k in (1, 1, 2)]]
    requests.append({"histories": many * 2, "k": 1})
    assert [len(found) for found in asked_at_once(bundle, requests)] == [1, 200, 200, 200, 400]
    assert sorted(bundle.passes) == [1, 200, 200, 200, 400]


def test_one_that_is_refused_harms_no_other() -> None:
    requests = [{"histories": [["a"]], "k": 1}, {"histories": [["b"]], "k": 1}, {"histories": [["c"], ["bad"]], "k": 1}]
    assert asked_at_once(Slow(), requests) == [[["a"]], [["b"]], "history 1: bad"]


def test_many_threads_each_get_their_own() -> None:
    bundle, together = Slow(), Together(3)
    bundle.go_on.set()
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda n: together.recommend(served(bundle), [[str(n)]], k=1)[0].item_ids, range(2000)))
    assert found == [[str(number)] for number in range(2000)] and sum(bundle.passes) == 2000
    assert not together._waiting, "nothing is kept of what was answered"


def test_what_goes_wrong_in_a_pass_leaves_nobody_waiting() -> None:
    class Broken:
        def recommend(self, *_: Any, **__: Any) -> list[Recommendation]:
            raise MemoryError

    together = Together(1)
    for _ in range(2):
        with pytest.raises(MemoryError):
            together.recommend(served(Broken()), [["a"]], k=1)
