"""Runs a job as the command that a person or a scheduler runs, and measures its time and the memory of each of its parts."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.record import REPOSITORY

_SECONDS = 0.5  # between two samples of memory
_THREADS = str(max(1, (os.cpu_count() or 1) // 2))  # threads of a step: as in a run, where two steps share the cores


@dataclass(frozen=True)
class Measured:
    """One run of a job.

    Attributes:
        seconds: from start to exit.
        driver_mb: peak of the Python process that drives the job, or of all training processes together.
        jvm_mb: peak of Spark's JVM, which in local mode is both driver and executor; 0 without Spark.
        workers_mb: peak of all Python workers of Spark together; pages that they share are counted once.
        cpu_seconds: of all these processes together, as last seen; what is started and ended between two looks is missed.
    """

    seconds: float
    driver_mb: int
    jvm_mb: int
    workers_mb: int
    cpu_seconds: float = 0.0


def run_job(job: str, settings: Path, *arguments: str, log: Path) -> Measured:
    """Run `python -m jobs.<job>` and wait.

    Args:
        job: module in `jobs/`.
        settings: the settings file.
        arguments: a choice before the flags.
        log: file for the job's output.

    Raises:
        RuntimeError: the job failed; the message has the end of its log.
    """
    command = [sys.executable, "-m", f"jobs.{job}", *arguments, "--settings", str(settings)]
    return run_command(command, log)


def run_command(command: Sequence[str], log: Path) -> Measured:
    """Run a command in the repository and watch it; raises `RuntimeError` when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": _THREADS} | os.environ
    started = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        watch = _Watch(process.pid)
        try:
            status = process.wait()
        finally:
            watch.stop()
            if process.poll() is None:
                process.terminate()
                process.wait()
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command[1:])} ended with {status}:\n{tail}")
    peak = watch.peak_mb
    return Measured(time.monotonic() - started, peak["driver"], peak["jvm"], peak["workers"], sum(watch.cpu.values()))


class _Watch:
    """Samples the memory of the parts of a process tree until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = {"driver": 0, "jvm": 0, "workers": 0}
        self.cpu: dict[psutil.Process, float] = {}
        self._root = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_SECONDS):
            total = dict.fromkeys(self.peak_mb, 0)
            try:
                processes = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            for process in processes:
                try:
                    total[_part(process)] += process.memory_full_info().pss // 2**20
                    times = process.cpu_times()
                    self.cpu[process] = times.user + times.system
                except psutil.Error:  # gone meanwhile
                    continue
            self.peak_mb = {name: max(peak, total[name]) for name, peak in self.peak_mb.items()}


def _part(process: psutil.Process) -> str:
    if "java" in process.name():
        return "jvm"
    return "workers" if any("pyspark" in part and "daemon" in part for part in process.cmdline()) else "driver"
