"""The statistics of logs against values that one can see, and against a brute-force rule."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from benchmarks.record import Row
from benchmarks.shop_statistics.__main__ import bounded, ranges, rows
from benchmarks.shop_statistics.logs import DAY, Log, real_logs, shop_log
from benchmarks.shop_statistics.measures import gini, histories, new_items, popularity, repeats, times
from benchmarks.shop_statistics.page import statistics_block
from benchmarks.shop_statistics.rules import hold_out, predictability
from jobs.base.settings import ShopSettings

# Two users: three events on day 0, two on day 4; and one each on days 0, 2 and 3. Item 1 comes twice for the first user.
USER = np.array([0, 0, 0, 0, 0, 1, 1, 1])
ITEM = np.array([1, 2, 3, 1, 4, 1, 2, 5])
TIME = np.array([0, 60, 180, 4 * DAY, 4 * DAY + 30, 0, 2 * DAY, 3 * DAY], dtype=float)
LOG = Log("two users", USER, ITEM, TIME, dated=True)


def test_popularity_counts_events_of_the_first_items() -> None:
    log = Log("ten items", np.zeros(19, dtype=np.int64), np.array([3] * 10 + [0, 1, 2, 4, 5, 6, 7, 8, 9]))
    found = popularity(log)
    assert found["events on the top 10 % of items"] == pytest.approx(10 / 19)
    assert found["events on the top 20 % of items"] == pytest.approx(11 / 19)


@pytest.mark.parametrize(("counts", "wanted"), [([4, 4, 4], 0.0), ([0, 0, 0, 1], 0.75), ([1, 3], 0.25)])
def test_gini(counts: list[int], wanted: float) -> None:
    values = np.array(counts)
    assert gini(values) == pytest.approx(wanted)
    brute = np.abs(values[:, None] - values[None]).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(brute)


def test_histories_repeats_and_times_of_two_users() -> None:
    assert histories(LOG)["events of a user, median"] == 4
    assert repeats(LOG) == {"repeats": pytest.approx(1 / 8)}
    found = times(LOG)
    assert found["events of a visit, mean"] == pytest.approx(8 / 5)
    assert found["visits of one event"] == pytest.approx(3 / 5)
    assert found["events on the same day as the one before"] == pytest.approx(3 / 6)
    assert found["days between visits, median"] == 2  # of 4, 2 and 1
    assert found["seconds between events of a visit, median"] == 60
    assert times(Log("no times", USER, ITEM)) == {}


def test_new_items_are_those_that_the_first_nine_tenths_lack() -> None:
    time = np.arange(20, dtype=float)
    log = Log("one user", np.zeros(20, dtype=np.int64), np.array([0] * 19 + [1]), time, dated=True)
    assert new_items(log) == {"events of the last tenth on items that are new": 0.5}


def test_what_is_held_out_is_not_left() -> None:
    last = hold_out(LOG, "last")
    assert last.users.tolist() == [0, 1] and last.target.tolist() == [4, 5] and last.last.tolist() == [1, 2]
    assert last.item.tolist() == [1, 2, 3, 1, 1, 2]
    visit = hold_out(LOG, "visit")  # the first target of user 0 is a repeat, and user 1 has two events before the last visit
    assert visit.users.tolist() == [1] and visit.target.tolist() == [5]
    assert visit.item.tolist() == [1, 2, 3, 1, 2]
    random = hold_out(LOG, "random")
    assert len(random.item) == 6


def test_cosine_agrees_with_a_loop_and_clusters_are_ranked_alone() -> None:
    source = np.random.default_rng(0)
    taste = source.integers(0, 4, 300)
    user = np.repeat(np.arange(300), 6)
    item = taste[user] * 50 + source.integers(0, 50, len(user))
    content = sp.csr_matrix(np.eye(4, dtype=np.float32)[np.arange(200) // 50])
    log = Log("four tastes", user, item, content=content, cluster=np.arange(200) // 50)
    found = predictability(log)
    held = hold_out(log, "last")
    events = np.zeros((300, 200))
    events[held.user, held.item] = 1
    count = np.maximum(np.bincount(held.item, minlength=200), 1)
    scaled = events / np.sqrt(count)
    scores = (events[held.users] / np.sqrt(count)) @ (scaled / events.sum(1, keepdims=True)).T @ scaled
    scores[events[held.users] > 0] = -1
    ranks = (scores > scores[np.arange(len(held.users)), held.target][:, None]).sum(1)
    assert found["best 0.5 % by cosine with the whole history"] == pytest.approx((ranks < 1).mean(), abs=0.02)
    assert found["best sixth of the cluster by popularity"] == pytest.approx(1 / 6, abs=0.12)  # all of a cluster are alike
    assert found["best 0.5 % by the cluster alone"] < 0.1


def test_a_shop_has_all_statistics_and_no_real_log_is_needed(tmp_path) -> None:
    assert real_logs(tmp_path) == {}
    log = shop_log("tiny", ShopSettings(num_items=150, num_users=200, num_days=21))
    assert (np.diff(log.user) >= 0).all() and log.content is not None and log.content.shape[0] == 150
    found = {row.metric: row.value for row in rows("shop", "tiny", log)}
    assert len(found) > 30 and found["items"] == 150
    pd.testing.assert_index_equal(pd.Index(found).dropna(), pd.Index(found))


def test_a_range_needs_two_logs_and_bounds_are_judged() -> None:
    real = [Row("real log", name, "repeats", "", value) for name, value in (("a", 0.1), ("b", 0.3))]
    found = ranges([*real, Row("real log", "a", "events", "", 5.0), Row("real log", "a", "Gini", "", 5.0)])
    assert found == {"repeats": (0.1, 0.3)}
    inside, outside = (bounded(Row("shop", name, "repeats", "", value), found) for name, value in (("in", 0.2), ("out", 0.4)))
    assert inside.holds and inside.bar == "0.1 to 0.3" and outside.holds is False
    shown = [row.__dict__ for row in (*real, inside, outside)]
    assert statistics_block({"rows": shown}).splitlines()[-1] == "| repeats | 0.1 | 0.3 | 0.1 to 0.3 | 0.2 | **0.4** |"
