"""The step at which a run under policy `review` waits for a person."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param
from airflow.sdk.exceptions import AirflowSkipException

from dags.alerts import AlertNotifier
from dags.operators import JobProcess

APPROVE, REJECT = "Approve", "Reject"
FORM = {"reason": Param("", type="string", title="Reason", description="Why? It is kept with the model version.")}
_MAX_REASON = 1000


class ReviewOperator(HITLOperator):
    """Shows what is known about a version and waits until somebody approves or rejects it. No answer in time rejects it.

    It is skipped unless `verdict.json` of the run folder says `needs_review`, so a repeated run asks only if there is something
    to decide. The answer goes to `review.json`: `decision` (approved or rejected), `by`, `at`, `reason` and `timed_out`. A
    rejection is an answer, not a failure: the steps after it run and record it.

    Args:
        arguments: command line of `jobs.review_page`, which makes the page (templated).
        record: the record that the job leaves in `<run folder>/steps/` (templated).
        kwargs: arguments of every operator; `params` must be `FORM`, because Airflow wants it passed from outside.
    """

    template_fields: Sequence[str] = (*HITLOperator.template_fields, "arguments", "record")
    ui_color = "#f6e3b4"

    def __init__(self, *, arguments: Sequence[str], record: str, **kwargs: Any) -> None:
        super().__init__(
            subject="Shall the version of {{ ds }} become champion?",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            notifiers=[AlertNotifier("awaiting_review", "A version waits for approval. Remedy: open the page and answer.")],
            response_timeout=timedelta(hours=24),  # replaced by the run's setting before it asks
            **kwargs,
        )
        self.arguments, self.record = list(arguments), record
        self._process = JobProcess()

    def execute(self, context: Context) -> None:
        """Ask if the verdict needs a review; otherwise raise `AirflowSkipException`."""
        folder = Path(self.record).parent.parent
        if not _read(folder / "verdict.json").get("needs_review"):
            raise AirflowSkipException("the verdict needs no review")
        (folder / "review.json").unlink(missing_ok=True)  # an answer to an earlier verdict does not answer this one
        self._process.run("review_page", self.arguments, self.record)
        self.body = (folder / "review.md").read_text()
        self.response_timeout = timedelta(hours=_read(folder / "settings.json")["registry"]["review_hours"])
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Record the answer."""
        from jobs.base.files import write_json  # it imports Arrow, and reading the DAG file must not wait for that

        answer = super().execute_complete(context, event)
        record = review_record(event)
        write_json(Path(self.record).parent.parent / "review.json", record)
        self.log.info("%s by %s: %s", record["decision"], record["by"], record["reason"])
        return answer

    def on_kill(self) -> None:
        """Stop making the page."""
        self._process.stop()


def review_record(event: Mapping[str, Any]) -> dict[str, Any]:
    """What `review.json` holds, from the answer as Airflow hands it over."""
    user, said = event["responded_by_user"], (event["params_input"] or {}).get("reason") or ""
    timed_out = user is None  # a person always has a name; without one Airflow has taken the default
    return {
        "decision": "approved" if event["chosen_options"] == [APPROVE] and not timed_out else "rejected",
        "by": "" if timed_out else user["name"] or user["id"],
        "at": event["responded_at"].astimezone(UTC).isoformat(timespec="seconds"),
        "reason": "nobody answered in time" if timed_out else " ".join(said.split())[:_MAX_REASON],
        "timed_out": timed_out,
    }


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
