"""Finds where code makes the CPU wait for the GPU, by torch's own warnings and by the calls to the CUDA runtime."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import profiler

_ALARM = "called a synchronizing"
_OURS = ("esans_core", "benchmarks")
_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "Memcpy DtoH")


def never_waits(action: Callable[[], object]) -> bool:
    """Whether the action runs to its end if torch turns every synchronisation that it knows of into an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        action()
    except RuntimeError as error:
        if _ALARM not in str(error):
            raise
        return False
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return True


def waiting_places(action: Callable[[], object]) -> dict[str, int]:
    """Synchronisations that torch knows of, by the innermost line of this project that caused them.

    Returns:
        Such as {"esans_core/objective.py:102": 1}; "outside" if no line of the project is on the stack.
    """
    places: Counter[str] = Counter()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if _ALARM in str(message):
            places[_innermost(traceback.extract_stack())] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return dict(places)


def runtime_waits(action: Callable[[], object]) -> dict[str, int]:
    """Calls of the CUDA runtime that wait, and copies to the host, as the profiler counts them."""
    torch.cuda.synchronize()
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.CUDA]) as profile:
        action()
    counts: Counter[str] = Counter()
    for event in profile.events():
        counts.update(name for name in _WAITS if event.name.startswith(name))
    return {name: counts[name] for name in _WAITS}


def _innermost(stack: traceback.StackSummary) -> str:
    here = Path(__file__)
    for frame in reversed(stack):
        path = Path(frame.filename)
        if path.parent.name in _OURS and path != here:
            return f"{path.parent.name}/{path.name}:{frame.lineno}"
    return "outside"
