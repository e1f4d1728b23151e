"""Spark's temporary files go with the process that made them, also after kill -9, and nobody else's are touched."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra.local.processes import end_processes
from jobs.base import scratch
from jobs.base.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from jobs.base.scratch import spark_scratch
root = Path(sys.argv[1])
assert spark_scratch(root) == spark_scratch(root)
(spark_scratch(root) / "blockmgr-1").mkdir()
print("holds", flush=True)
sys.stdin.readline()
"""
SESSION = """
import sys, time
from pathlib import Path
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.step.runtime import attempt
settings = PipelineSettings(home=sys.argv[1], spark={"master": "local[1]", "shuffle_partitions": 2, "driver_memory": "512m"})
def work():
    with spark_session(settings, name) as spark:
        rows = spark.range(1000).repartition(3).mapInPandas(lambda batches: batches, "id long").cache()
        assert rows.count() == 1000
        print(name, flush=True)
        if name == sys.argv[2]:
            while not Path(sys.argv[1], "go-on").exists():
                time.sleep(0.1)
            rows.count()
            spark.range(10).repartition(2).count()
    return {}
for name in ("first", "second"):
    said = attempt(name, work)[0]
    with Path(sys.argv[1], "said").open("a") as file:  # under spark-submit, standard output ends with the JVM
        print(said, file=file)
"""


def until(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def hold(root: Path) -> subprocess.Popen[str]:
    """Another process that holds a folder below `root`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "holds\n"
    return process


def left(root: Path) -> list[str]:
    """What lies below a folder for temporary files, without what a JVM shares with all others of its account."""
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("hsperfdata"))


def test_a_folder_goes_with_its_process(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    assert len(list(tmp_path.glob("esans-spark-*/*/blockmgr-1"))) == 1
    assert scratch.sweep(tmp_path) == 0, "its process is at work"
    holder.communicate("\n")
    assert holder.returncode == 0 and left(tmp_path) == []


def test_what_a_killed_process_left_is_swept_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "blockmgr-of-somebody").mkdir()
    killed, at_work = hold(tmp_path), hold(tmp_path)
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.glob("esans-spark-*/*/"))) == 2
    third = hold(tmp_path)  # it sweeps before it takes a folder of its own
    assert len(list(tmp_path.glob("esans-spark-*/*/"))) == 2
    for process in (at_work, third):
        process.communicate("\n")
    assert left(tmp_path) == ["blockmgr-of-somebody"]


def test_a_place_that_another_account_has_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs" / "data").mkdir(parents=True)
    monkeypatch.setattr(scratch, "_held", {})
    (tmp_path / f"esans-spark-{os.getuid()}").symlink_to(tmp_path / "theirs")
    assert scratch.sweep(tmp_path) == 0 and (tmp_path / "theirs" / "data").exists()
    with pytest.raises(DataError, match="another account.*Remedy"):
        scratch.spark_scratch(tmp_path)


def test_the_end_of_a_stack_sweeps(tmp_path: Path) -> None:
    killed = hold(scratch.SYSTEM)
    (of_killed,) = (path for path in scratch._base(scratch.SYSTEM).iterdir() if (path / "blockmgr-1").exists())
    killed.kill()
    killed.wait()
    assert end_processes(tmp_path) == 0 and not of_killed.exists()


def test_a_folder_in_the_home_goes_with_its_block_and_a_killed_one_with_the_next(tmp_path: Path) -> None:
    program = "import sys, time; from pathlib import Path; from jobs.base.scratch import scratch_in\n"
    program += "with scratch_in(Path(sys.argv[1])) as folder: print(folder, flush=True); time.sleep(300)"
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout
    theirs = Path(other.stdout.readline().strip())
    with scratch.scratch_in(tmp_path) as first, scratch.scratch_in(tmp_path) as second:
        assert first.is_dir() and second.is_dir() and theirs.is_dir() and len({first, second, theirs}) == 3
    assert theirs.is_dir() and not first.exists() and not second.exists()
    other.kill()
    other.wait()
    with pytest.raises(OSError, match="disk gone"), scratch.scratch_in(tmp_path):
        assert not theirs.exists()
        raise OSError("disk gone")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Starts a process with a real Spark session, which waits in its first or second session until it is told to go on."""
    (tmp_path / "tmp").mkdir()
    script = tmp_path / "session.py"
    script.write_text(SESSION)
    started: list[subprocess.Popen[str]] = []

    def start(how: str, waits_in: str) -> subprocess.Popen[str]:
        program = {"python": sys.executable, "spark-submit": str(Path(sys.executable).with_name("spark-submit"))}[how]
        java = f"-Djava.io.tmpdir={tmp_path / 'tmp'} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"JDK_JAVA_OPTIONS": java, "PYTHONPATH": str(ROOT), "PATH": path}
        environment |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        command = [program, *(["--master", "local[1]"] if how == "spark-submit" else []), str(script), str(tmp_path), waits_in]
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout
        while (line := process.stdout.readline()) != f"{waits_in}\n":
            assert line, "the session did not come up"
        return process

    yield start
    for process in started:
        for one in _family(process):
            one.kill()
        process.wait()


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes of a session, its JVM among them."""
    return [one for one in psutil.process_iter() if one.pid == process.pid or _group(one.pid) == process.pid]


def _group(number: int) -> int | None:
    try:
        return os.getpgid(number)
    except ProcessLookupError:
        return None


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "killed"), [("python", ()), ("python", ("java", "python")), ("spark-submit", ()), ("spark-submit", ("java",))]
)
def test_nothing_of_a_real_session_stays(
    session: Callable[[str, str], subprocess.Popen[str]], tmp_path: Path, how: str, killed: tuple[str, ...]
) -> None:
    process = session(how, "first" if killed else "second")
    (folder,) = (path for path in (tmp_path / "tmp").glob("esans-spark-*/*") if path.is_dir())
    assert {path.name.split("-")[0] for path in folder.iterdir()} >= {"blockmgr", "spark", "artifacts"}
    assert left(tmp_path / "tmp") == [folder.parent.name], "all that Spark makes lies in one folder"
    for one in _family(process):
        if any(word in one.name() for word in killed):
            one.send_signal(signal.SIGKILL)
    (tmp_path / "go-on").touch()
    until(lambda: not [one for one in _family(process) if one.status() != psutil.STATUS_ZOMBIE], "the processes end")
    process.wait()
    assert bool(left(tmp_path / "tmp")) == ("python" in killed)
    if "python" not in killed:
        said = (tmp_path / "said").read_text()
        assert ("'state': 'killed'" in said and "has ended under the step" in said) == bool(killed), said
    assert scratch.sweep(tmp_path / "tmp") == ("python" in killed)
    assert left(tmp_path / "tmp") == []
