"""Runs steps one after the other in one Spark session, with the settings of a file, as a person would by hand."""

import sys
from importlib import import_module
from pathlib import Path

from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session


def main(file: str, master: str, *steps: str) -> None:
    settings = PipelineSettings.model_validate_json(Path(file).read_text())
    settings = settings.model_copy(update={"spark": settings.spark.model_copy(update={"master": master})})
    with spark_session(settings, "steps"):
        for step in steps:
            import_module(f"jobs.{step}").run(settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
