"""How the DAGs are put together: one step of a run, one action by hand, and the groups of steps that two DAGs share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from airflow.sdk import Asset, TaskGroup, chain

from dags import assets as a
from dags.alerts import STOPPED, AlertNotifier
from dags.days import DAY
from dags.operators import (
    HAND_POOL,
    HOME,
    RETRY_DEFAULTS,
    PrepareOperator,
    PythonJobOperator,
    SparkJobOperator,
    leave_word,
    renew_report,
    renew_report_of_run,
)
from dags.review import FORM, ReviewOperator

GPU_POOL = "gpu"  # as many slots as there are devices to train on; made with the stack
DEFAULTS: dict[str, Any] = {
    "owner": "retrieval",
    "execution_timeout": timedelta(minutes=30),
    "on_failure_callback": [leave_word, AlertNotifier(), renew_report],
} | RETRY_DEFAULTS

RUN_DEFAULTS: dict[str, Any] = {"on_failure_callback": [AlertNotifier("stopped", STOPPED), renew_report_of_run]}  # of each DAG

BY = "{{ dag_run.triggering_user_name or 'scheduler' }}"


@dataclass(frozen=True)
class Steps:
    """Makes the steps of a DAG that works on one logical date.

    Attributes:
        records: setting `run.records`: the folder of the home in which the DAG's runs keep settings and records.
    """

    records: Literal["runs", "feature_runs", "tuning"] = "runs"

    @property
    def folder(self) -> str:
        """Run folder of the logical date (a template)."""
        return f"{HOME}/{self.records}/{DAY}"

    def record(self, name: str) -> str:
        """The record that a step leaves (a template)."""
        return f"{self.folder}/steps/{name}.json"

    def settings(self) -> list[str]:
        """The flags by which a step gets the settings that `prepare` froze (a template)."""
        return ["--settings", f"{self.folder}/settings.json"]

    def spark(self, name: str, doc: str, *, job: str | None = None, **about: Any) -> SparkJobOperator:
        """A step that Spark runs; further arguments are those of `_about`."""
        kept = f"{HOME}/reuse/{DAY}/{name}.json"  # written by `jobs.step.reuse`
        return SparkJobOperator(task_id=name, job=job or name, record=self.record(name), kept=kept, **self._about(doc, **about))

    def python(self, name: str, doc: str, *, job: str | None = None, **about: Any) -> PythonJobOperator:
        """A step in Python; further arguments are those of `_about`."""
        return PythonJobOperator(task_id=name, job=job or name, record=self.record(name), **self._about(doc, **about))

    def prepare_group(self, *, scheduled: bool = True) -> tuple[PrepareOperator, SparkJobOperator]:
        """First and last step of the group that freezes the settings and judges the source.

        Args:
            scheduled: False skips the runs that the schedule starts.
        """
        with TaskGroup("prepare", tooltip="Settings frozen, source found and checked"):
            prepare = PrepareOperator(
                task_id="prepare",
                job="prepare",
                arguments=[f"--date={DAY}", f"--home={HOME}", f"--run.records={self.records}"],
                record=self.record("prepare"),
                scheduled=scheduled,
                outlets=[a.SOURCE],
                doc_md="Checks and freezes the run's settings; if the embedded shop is the source, draws its snapshot.",
            )
            gate = self.spark(
                "gate_raw", "Gate: checks that the source keeps the data contract.", job="gate", choice="raw", reads=[a.SOURCE]
            )
        chain(prepare, gate)
        return prepare, gate

    def ingest_group(self) -> SparkJobOperator:
        """The step that cleans and splits the log."""
        with TaskGroup("ingest", tooltip="Clean tables of this date"):
            made = [a.ITEMS, a.STOCK, a.USERS, a.INTERACTIONS, a.QUARANTINE]
            doc = "Cleans the log, splits it by time, counts popularity, and lists every row it sets aside."
            return self.spark("ingest", doc, reads=[a.SOURCE], writes=made, hours=2)

    def features_group(self) -> tuple[list[SparkJobOperator], SparkJobOperator]:
        """The steps of the three views, and the gate behind them."""
        with TaskGroup("features", tooltip="Three views of each item"):
            visual = self.spark(
                "visual_features", "Makes vectors of new or changed images.", reads=[a.ITEMS], writes=[a.VISUAL], hours=3
            )
            text = self.spark(
                "text_features", "Makes vectors of new or changed texts.", reads=[a.ITEMS], writes=[a.TEXT], hours=3
            )
            doc = "Learns item vectors from the users' sequences."
            behaviour = self.spark("behaviour_features", doc, reads=[a.INTERACTIONS], writes=[a.BEHAVIOUR], hours=3)
            doc = "Gate: checks that each item and view has one finite vector, and that enough items have each view."
            gate = self.spark("gate_features", doc, job="gate", choice="features", reads=a.FEATURES)
        chain([visual, text, behaviour], gate)
        return [visual, text, behaviour], gate

    def review(self, doc: str) -> ReviewOperator:
        """The step at which a run waits for a person if its policy asks for that."""
        record = self.record("review")
        return ReviewOperator(task_id="review", arguments=self.settings(), record=record, params=FORM, doc_md=doc)

    def _about(
        self,
        doc: str,
        *,
        choice: str | None = None,
        reads: Sequence[Asset] = (),
        writes: Sequence[Asset] = (),
        hours: float = 0.5,
        **further: Any,
    ) -> dict[str, Any]:
        """The arguments that both kinds of operators share.

        Args:
            doc: what the step does, shown beside the task.
            choice: positional argument of the job.
            reads: assets it reads.
            writes: assets it writes.
            hours: after how many hours it is stopped.
            further: other arguments of the operator.
        """
        return {
            "arguments": [*([choice] if choice else []), *self.settings()],
            "doc_md": doc,
            "inlets": list(reads),
            "outlets": list(writes),
            "execution_timeout": timedelta(hours=hours),
            **further,
        }


def action(job: str, doc: str, arguments: Sequence[str], *, by: str = BY, **about: Any) -> PythonJobOperator:
    """A command on the registry, the serving bundles or the agreed settings, which a person asks for.

    Args:
        job: name of the job in `jobs/`, and of its record.
        doc: what it does, shown beside the task.
        arguments: its arguments besides the home, the action's name and the person who asked for it (a template).
        by: who asks for it, if not the person who triggered the run (a template).
        about: further arguments of the operator.
    """
    return PythonJobOperator(
        task_id=job,
        job=job,
        arguments=[f"--home={HOME}", "--action={{ run_id }}", f"--by={by}", *arguments],
        record=f"{HOME}/actions/{{{{ run_id }}}}/{job}.json",
        doc_md=doc,
        # A person waits for it, perhaps while production gives wrong answers. So it has slots of its own, and goes first.
        pool=HAND_POOL,
        priority_weight=1000,
        weight_rule="absolute",
        **about,
    )
