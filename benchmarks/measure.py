"""How benchmarks measure: they take turns, report medians, and judge bars that are written as text."""

import json
import operator
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from benchmarks.record import Row

Name = TypeVar("Name", bound=Hashable)
_BAR = re.compile(r"(ratio|value) (>=|<=) ([\d.]+)")
_COMPARE = {">=": operator.ge, "<=": operator.le}


def seconds(
    actions: Mapping[Name, Callable[[], object]], repeats: int, *, synchronize: Callable[[], object] | None = None
) -> dict[Name, float]:
    """Median wall-clock seconds of each action.

    Each action runs once without being measured. Then every round runs each of them once, and each round begins with another
    one. So if the machine slows down for a while, it slows all of them down.

    Args:
        actions: what to measure, by name.
        repeats: number of rounds.
        synchronize: waits until a device has finished its work.
    """
    wait = synchronize or (lambda: None)
    names = list(actions)
    taken: dict[Name, list[float]] = {name: [] for name in names}
    for action in actions.values():
        action()
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            wait()
            start = time.perf_counter()
            actions[name]()
            wait()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak_bytes(action: Callable[[], object]) -> int:
    """Most bytes of CPU tensors alive at once during the action, temporaries included, above those alive at its start.

    It is read from torch's own allocator. So it is the same to the byte each time, unlike a process's resident set. Work space
    inside BLAS is not counted.
    """
    from torch import profiler

    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        action()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    alive = peak = 0
    for _, change in changes:
        alive += change
        peak = max(peak, alive)
    return peak


def beside(row: Row, peer: Row, bar: str | None = None) -> Row:
    """The row with its peer's name, the ratio of the two values and, if there is a bar, whether it holds."""
    compared = replace(row, peer=peer.subject, ratio=row.value / peer.value)
    return compared if bar is None else judged(compared, bar)


def judged(row: Row, bar: str) -> Row:
    """The row with a bar such as `ratio >= 10` or `value <= 24`, and whether it holds.

    Raises:
        ValueError: the bar does not have this form, or the row has no ratio to judge.
    """
    match = _BAR.fullmatch(bar)
    number = getattr(row, match[1]) if match else None
    if match is None or number is None:
        raise ValueError(f"expected a bar such as 'ratio >= 10' for a row that has that number, got {bar!r} for {row}")
    return replace(row, bar=bar, holds=bool(_COMPARE[match[2]](number, float(match[3]))))
