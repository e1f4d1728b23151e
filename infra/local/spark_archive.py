"""Makes a class-data archive for the JVMs of Spark, because half of a short step's start-up is loading the same classes again.

The start of a session and a first count take 8.2 s on two cores without the archive, and 4.4 s with it. The JVM checks whether
an archive fits its own build and the files of its class path, and says nothing when it ignores one that does not. So the
archive's name says which Java and which files it is for.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyspark

_EXERCISE = Path(__file__).with_name("spark_exercise.py")
_LOG_CONFIG = Path(__file__).resolve().parents[1] / "spark" / "log4j2.properties"
# A Spark step lives for seconds, and the JVM's second compiler and its parallel collector would take half the cores meanwhile
# (ingest of a small log on two busy cores: 32 s with them, 18 s without). The log configuration is given as an option, because
# an archive is impossible with a folder on the class path.
_OPTIONS = f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.configurationFile={_LOG_CONFIG.as_uri()}"


def java_options(environment: Mapping[str, str], say: Callable[[str], None]) -> str:
    """Options for every short-lived JVM, as `JDK_JAVA_OPTIONS` takes them. It makes the archive if there is none yet.

    Args:
        environment: environment of the local stack.
        say: gets a line when there is something to wait for, and one if no archive can be made.
    """
    archive = _archive_path()
    if not archive.exists():
        say("archiving Spark's classes once, so that every step starts sooner (about 30 s)")
        if problem := _make(archive, environment):
            say(f"Spark's classes could not be archived, so steps start more slowly: {problem}")
            return _OPTIONS
    return f"{_OPTIONS} -XX:SharedArchiveFile={archive} -Xlog:cds=off -Xlog:cds+dynamic=off"


def _archive_path() -> Path:
    """Where the archive for this Java and these files of Spark belongs: inside the virtual environment.

    The JVM compares the path, size and time of each file of the class path. So a virtual environment that was moved or copied
    gets a new archive.
    """
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    files = [(str(path), path.stat()) for path in sorted((Path(pyspark.__file__).parent / "jars").glob("*.jar"))]
    stamps = [(name, stamp.st_size, int(stamp.st_mtime)) for name, stamp in files]
    key = hashlib.sha256(f"{java.stderr}{stamps}{_EXERCISE.read_text()}".encode()).hexdigest()[:12]
    return Path(sys.prefix) / f"spark-classes-{key}.jsa"


def _make(archive: Path, environment: Mapping[str, str]) -> str | None:
    """Run in Spark once what the steps do, and keep the classes that it loaded; returns what went wrong."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        made = Path(folder) / archive.name
        done = subprocess.run(
            [str(Path(sys.executable).with_name("spark-submit")), str(_EXERCISE), folder],
            env={**environment, "JDK_JAVA_OPTIONS": f"{_OPTIONS} -XX:ArchiveClassesAtExit={made} -Xlog:disable"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not made.exists():
            return next(filter(None, reversed(done.stderr.splitlines())), "spark-submit said nothing")
        made.replace(archive)
    return None
