"""Several processes that do one job together: started here on one machine, or by torchrun on many.

Every job imports this file, and most jobs do not use torch. So torch is imported inside the functions that need it.
"""

import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.base.errors import EXIT_BAD_DATA

if TYPE_CHECKING:
    import torch

    from esans_core.world import World

_FOLDER = "WORKERS_FOLDER"  # where workers started here find each other and report; torchrun does both in its own way
_PR_SET_PDEATHSIG = 1


def rank() -> int | None:
    """This process's number among the workers of a job; None if it is no worker."""
    number = os.environ.get("RANK")
    return None if number is None else int(number)


def report_file() -> Path | None:
    """Where a worker that was started here leaves its record (a JSON object with its exit `status`)."""
    return Path(os.environ[_FOLDER]) / f"rank-{rank()}.json" if _FOLDER in os.environ else None


def run_workers(count: int) -> tuple[dict[str, Any], int]:
    """Run this process's own command line in `count` workers. If one fails, the others are stopped.

    The workers find each other by a file and talk over the loopback interface, so no port is open to other machines.

    Returns:
        The record of the first worker, or of the one whose failure caused the others; and its exit status.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    with tempfile.TemporaryDirectory() as folder:
        shared = {"WORLD_SIZE": str(count), _FOLDER: folder, "OMP_NUM_THREADS": _threads(count)}
        shared |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
        context = start_processes(
            name="worker",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(count), ("-u", *sys.orig_argv[1:])),
            envs={number: shared | {"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(count)},
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            result = context.wait()
        finally:
            context.close()
        reports = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("rank-*.json"))]
    if result is not None and not result.failures:
        return _record(reports[0]), 0
    # If any worker reports bad data, that is the cause. The others may only report that they lost a partner.
    failed = sorted((report for report in reports if report["status"]), key=lambda report: report["status"] != EXIT_BAD_DATA)
    if failed:
        return _record(failed[0]), failed[0]["status"]
    codes = {} if result is None else {number: failure.exitcode for number, failure in sorted(result.failures.items())}
    return {"message": f"a worker was ended from outside; exit status of each worker: {codes}"}, 1


@contextmanager
def joined(device: "torch.device") -> Iterator["World"]:
    """The world of all workers while the block runs. If this process is no worker, a world of one.

    Args:
        device: where the work is done: NCCL connects GPUs, gloo connects CPUs.
    """
    import torch
    from torch import distributed

    from esans_core.world import World

    if rank() is None:
        yield World()
        return
    folder = os.environ.get(_FOLDER)
    if folder:  # if the parent is killed, the worker must end too: a retry would train beside it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{folder}/store" if folder else "env://",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    try:
        yield World.current()
    finally:
        distributed.destroy_process_group()


def _record(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != "status"}


def _threads(count: int) -> str:
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
