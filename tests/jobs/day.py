"""One day of the pipeline in one process: the steps of the DAG in their order, without Airflow."""

from importlib import import_module
from typing import Any

from jobs.base.settings import PipelineSettings

# Each is a command, and its choice if it has one. The review is left out: it waits for a person.
STEPS = """prepare, gate raw, ingest, visual_features, text_features, behaviour_features, gate features, fit_codebooks,
assign_clusters, gate clusters, build_training_set, gate training_set, train baseline, train challenger, evaluate, gate model,
register, judge, promote, candidates""".replace("\n", " ")


def run_day(settings: PipelineSettings) -> dict[str, Any]:
    """Run all steps of the date. Returns the summary of each by its name in the DAG, such as `gate_raw`.

    Raises:
        DataError: a step stops, as it would in a run.
    """
    made = {}
    for step in STEPS.split(", "):
        command, *choice = step.split()
        made["_".join([command, *choice])] = import_module(f"jobs.{command}").run(settings, *choice)
    return made
