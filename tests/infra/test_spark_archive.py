"""The archive of Spark's classes: the JVM takes it, and other files get another one."""

import os
from pathlib import Path
from typing import Any

import pyspark
import pytest

from infra.local.spark_archive import _archive_path


@pytest.mark.spark
def test_the_jvm_of_a_session_has_mapped_the_archive(spark: Any) -> None:
    jvm = spark._jvm.java.lang.ProcessHandle.current().pid()
    assert str(_archive_path().resolve()) in Path(f"/proc/{jvm}/maps").read_text()


def test_a_moved_spark_and_a_changed_jar_get_an_archive_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JVM ignores an archive that was made for other files, and no step says so: it only starts more slowly."""
    for place in ("here", "moved"):
        (tmp_path / place / "jars").mkdir(parents=True)
        (tmp_path / place / "jars" / "spark.jar").write_bytes(b"classes")
        os.utime(tmp_path / place / "jars" / "spark.jar", (0, 0))

    def name(place: str) -> str:
        monkeypatch.setattr(pyspark, "__file__", str(tmp_path / place / "__init__.py"))
        return _archive_path().name

    before = name("here")
    assert name("here") == before != name("moved")
    os.utime(tmp_path / "here" / "jars" / "spark.jar", (0, 1))
    assert name("here") != before
