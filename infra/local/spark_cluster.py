"""A Spark standalone cluster on this machine: a master and its workers as processes of their own, on loopback.

Jobs run there as they would on machines of a cluster: a driver, executors in other JVMs, tasks that are run again when a
worker dies. Every process must show the secret of `spark-defaults.conf`, which only its owner can read; no process carries it
on its command line.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from infra.local.environment import MARKER, REPOSITORY, write_private
from infra.local.processes import StackError, end_processes, free_port, stack_processes, tail
from infra.local.spark_archive import java_options

FOLDER = REPOSITORY / "var" / "spark-cluster"
_START_SECONDS = 120.0  # 10 s on two idle cores
_MASTER, _WORKER = "org.apache.spark.deploy.master.Master", "org.apache.spark.deploy.worker.Worker"


@dataclass(frozen=True)
class SparkCluster:
    """A master and its workers.

    Attributes:
        folder: configuration, logs, the executors' work and, while it is up, scratch files. A folder holds one cluster.
        workers: number of workers.
        slots: tasks that a worker runs at once (what Spark calls its cores).
        memory_mb: heap that a worker can give to executors.
        executor_memory_mb: heap of an executor, unless a job asks for another size. A job has one executor with one slot on
            each worker, so that `slots` jobs run side by side.
    """

    folder: Path = FOLDER
    workers: int = 2
    slots: int = 2
    memory_mb: int = 2048
    executor_memory_mb: int = 1024

    @property
    def properties(self) -> Path:
        """The file of Spark properties that every process of the cluster, and every job on it, needs."""
        return _properties(self.folder)

    @property
    def _scratch(self) -> Path:
        return self.folder / "scratch"

    def start(self, *, port: int = 7077, say: Callable[[str], None] = print) -> str:
        """Start master and workers, wait until all workers are there, and return the master's URL.

        Args:
            port: loopback port of the master; 0 takes a free one.
            say: gets each line of progress.

        Raises:
            StackError: a cluster runs in the folder already, the port is taken, or a process does not come up.
        """
        if stack_processes(self.folder):
            raise StackError(f"a Spark cluster is running already in {self.folder}; stop it with `make spark-cluster-down`.")
        port, page = free_port(port), free_port()
        url = f"spark://127.0.0.1:{port}"
        for name in ("logs", "work", "scratch"):  # what an earlier cluster left
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self._configure(url)
        self._scratch.mkdir()
        environment = self._environment(say)
        try:
            master = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]
            started = {"master": self._spawn("master", environment, _MASTER, *master)}
            for number in range(self.workers):
                given = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0", "--cores", str(self.slots)]
                given += ["--memory", f"{self.memory_mb}m", "--work-dir", str(self.folder / "work" / str(number)), url]
                name = f"worker-{number}"
                started[name] = self._spawn(name, environment, _WORKER, *given)
            self._wait(page, started)
        except BaseException:
            self.stop()
            raise
        say(f"Spark master at {url} with {self.workers} workers; its page: http://127.0.0.1:{page}")
        return url

    def stop(self) -> int:
        """End every process of the cluster, executors and Python workers included; returns how many there were.

        Their scratch files are removed. Logs, and what executors said (`work`), stay until the next start.
        """
        ended = end_processes(self.folder)
        shutil.rmtree(self._scratch, ignore_errors=True)
        return ended

    def alive_workers(self, page: int) -> int:
        """Number of workers that are alive according to the master's page."""
        try:
            with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{page}/json/", timeout=5) as reply:
                return int(json.load(reply)["aliveworkers"])
        except (URLError, OSError, ValueError, KeyError):  # not up yet
            return 0

    def _configure(self, url: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        values = {
            "spark.master": url,
            "spark.authenticate": "true",
            "spark.authenticate.secret": secrets.token_hex(32),
            "spark.master.rest.enabled": "false",
            "spark.ui.killEnabled": "false",
            "spark.cores.max": self.workers,
            "spark.executor.cores": 1,
            "spark.executor.memory": f"{self.executor_memory_mb}m",
        }
        write_private(self.properties, "".join(f"{name} {value}\n" for name, value in values.items()))

    def _environment(self, say: Callable[[str], None]) -> dict[str, str]:
        environment = os.environ | {
            MARKER: str(self.folder),  # inherited by executors and their Python workers
            "SPT_NOENV": "1",  # setproctitle would write over it
            "PYSPARK_PYTHON": sys.executable,  # by which spark-class finds Spark
            "SPARK_LOCAL_IP": "127.0.0.1",  # for the web pages too
            "SPARK_LOCAL_DIRS": str(self._scratch),
            "SPARK_DAEMON_MEMORY": "512m",
        }
        if "JDK_JAVA_OPTIONS" not in environment:  # what the caller says about Java wins
            environment["JDK_JAVA_OPTIONS"] = java_options(environment, say)
        environment["JDK_JAVA_OPTIONS"] = f'"-Djava.io.tmpdir={self._scratch}" {environment["JDK_JAVA_OPTIONS"]}'
        return environment

    def _spawn(self, name: str, environment: Mapping[str, str], kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self._log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as stream:
            return subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("spark-class")),
                    kind,
                    "--properties-file",
                    str(self.properties),
                    *arguments,
                ],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it stays when the shell that started it ends
            )

    def _wait(self, page: int, started: Mapping[str, subprocess.Popen[bytes]]) -> None:
        """Wait until all workers are there, or one has ended. Each is asked itself: one that just starts has no marker yet."""
        deadline = time.monotonic() + _START_SECONDS
        while self.alive_workers(page) < self.workers:
            if any(process.poll() is not None for process in started.values()) or time.monotonic() > deadline:
                last = "\n".join(f"{name}:\n{tail(self._log(name))}" for name in started)
                raise StackError(f"the Spark cluster did not come up; see the logs in {self.folder / 'logs'}\n{last}")
            time.sleep(0.3)

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"


def cluster_properties(master: str, folder: Path = FOLDER) -> Path | None:
    """The properties that a job on this master needs, or None if it is not the cluster of `folder`."""
    path = _properties(folder)
    ours = path.exists() and f"spark.master {master}" in path.read_text().splitlines()
    return path if ours else None


def _properties(folder: Path) -> Path:
    return folder / "spark-defaults.conf"  # Spark looks for this name in the folder that SPARK_CONF_DIR names


def main(argv: Sequence[str] | None = None) -> int:
    """`up` or `down`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.spark_cluster", description=__doc__)
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--port", type=int, default=7077, help="loopback port of the master (0: a free one)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=2, help="tasks that a worker runs at once")
    parser.add_argument("--memory-mb", type=int, default=2048, help="heap that a worker can give to executors")
    given = parser.parse_args(argv)
    cluster = SparkCluster(workers=given.workers, slots=given.slots, memory_mb=given.memory_mb)
    if given.action == "down":
        print(f"ended {cluster.stop()} processes of the Spark cluster")
        return 0
    try:
        url = cluster.start(port=given.port)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"  a run:   make run SPARK_MASTER={url}")
    print(f"  one job: SPARK_CONF_DIR={cluster.folder} .venv/bin/python -m jobs.ingest --spark.master={url} ...")
    print(f"  logs:    {cluster.folder / 'logs'}\n  stop it: make spark-cluster-down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
