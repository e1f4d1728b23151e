"""Which MLflow runs the processes of a home are writing to, so that no run stays RUNNING in MLflow once its process is dead.

While a process writes to an MLflow run, it holds a lock on a file of the home that names the run. The system frees the lock
when the process ends, however it ends. So a file that nobody has locked names a run that nobody writes to any more.
"""

import datetime as dt
import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings

log = logging.getLogger(__name__)


@contextmanager
def writing_to(settings: PipelineSettings, run_key: str) -> Iterator[None]:
    """Say that this process writes to the MLflow run of a key and of the logical date, for as long as the block runs.

    If the block fails, the run is looked at again by the next `end_dead_runs`, because its end may not have reached MLflow.
    """
    folder = _folder(settings)
    path = folder / f"{settings.ds}-{run_key}.json"
    with alone_in(folder):
        handle = path.open("a+")
        fcntl.flock(handle, fcntl.LOCK_SH)
        if not handle.tell():
            handle.write(json.dumps({"experiment": settings.registry.experiment, "run_key": run_key, "date": settings.ds}))
            handle.flush()
    with handle:
        yield
    with alone_in(folder):
        path.unlink(missing_ok=True)


def end_dead_runs(settings: PipelineSettings) -> None:
    """End as KILLED what still runs in MLflow although the process that wrote to it is dead. It never raises.

    It takes no time if no process has died. If MLflow cannot be reached, the log says so, and the next call tries again.
    """
    folder = _folder(settings)
    if not any(folder.glob("*.json")):
        return
    with alone_in(folder):
        for path in sorted(folder.glob("*.json")):
            with path.open() as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # its process lives
                try:
                    _end(settings, handle.read())
                except Exception as error:  # such as a server that is down: no step may fail for that
                    log.warning("the MLflow run that %s names could not be ended: %s", path, error)
                    continue
            path.unlink()


def _end(settings: PipelineSettings, text: str) -> None:
    from jobs.base.tracking import end_run  # with MLflow, which most steps never need

    try:
        named = json.loads(text)
    except ValueError:
        return  # the process died while it wrote this, before it started the run
    registry = settings.registry.model_copy(update={"experiment": named["experiment"]})
    of_run = {"registry": registry, "date": dt.date.fromisoformat(named["date"])}
    end_run(settings.model_copy(update=of_run), named["run_key"])


def _folder(settings: PipelineSettings) -> Path:
    return settings.home / "mlflow" / "writing"
