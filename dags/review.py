"""The steps at which a run waits for a person: to let a version become champion, or to agree to other settings."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param
from airflow.sdk.exceptions import AirflowSkipException

from dags.alerts import AWAITING_REVIEW, AlertNotifier
from dags.days import DAY
from dags.operators import JobProcess

APPROVE, REJECT = "Approve", "Reject"
FORM = {"reason": Param("", type="string", title="Reason", description="Why? It is kept with the model version.")}
_MAX_REASON = 1000


class AskOperator(HITLOperator):
    """Shows `review.md` of a folder and waits until somebody approves or rejects what it says. No answer in time rejects it.

    The answer goes to `review.json` of the folder: `decision` (approved or rejected), `by`, `at`, `reason` and `timed_out`. It
    is also the task's result. `settings.json` of the folder says how many hours an answer may take.

    Args:
        record: a file in the folder `steps` of that folder (templated).
        waits: what waits for approval, for the alert.
        kwargs: arguments of every operator, and `subject`. `params` must be `FORM`, because Airflow wants it passed from
            outside.
    """

    template_fields: Sequence[str] = (*HITLOperator.template_fields, "record")
    ui_color = "#f6e3b4"

    def __init__(self, *, record: str, waits: str, **kwargs: Any) -> None:
        super().__init__(
            options=[APPROVE, REJECT],
            defaults=REJECT,
            notifiers=[AlertNotifier(AWAITING_REVIEW, f"{waits} for approval. Remedy: open the page and answer.")],
            response_timeout=timedelta(hours=24),  # replaced by the run's setting before it asks
            **kwargs,
        )
        self.record = record

    @property
    def folder(self) -> Path:
        """Where page, answer and settings lie."""
        return Path(self.record).parent.parent

    def execute(self, context: Context) -> None:
        """Ask."""
        self.body = (self.folder / "review.md").read_text()
        self.response_timeout = timedelta(hours=_read(self.folder / "settings.json")["registry"]["review_hours"])
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Record the answer."""
        from jobs.base.files import write_json  # it imports Arrow, and reading the DAG file must not wait for that

        super().execute_complete(context, event)
        record = review_record(event)
        write_json(self.folder / "review.json", record)
        self.log.info("%s by %s: %s", record["decision"], record["by"], record["reason"])
        return record


class ReviewOperator(AskOperator):
    """Asks whether a version shall become champion.

    It is skipped unless `verdict.json` of the run folder says `needs_review`, so a repeated run asks only if there is something
    to decide. A rejection is an answer, not a failure: the steps after it run and record it.

    Args:
        arguments: command line of `jobs.review_page`, which makes the page (templated).
        record: the record that the job leaves in `<run folder>/steps/` (templated).
        kwargs: as for `AskOperator`.
    """

    template_fields: Sequence[str] = (*AskOperator.template_fields, "arguments")

    def __init__(self, *, arguments: Sequence[str], record: str, **kwargs: Any) -> None:
        subject = f"Shall the version of {DAY} become champion?"
        super().__init__(record=record, waits="A version waits", subject=subject, **kwargs)
        self.arguments = list(arguments)
        self._process = JobProcess()

    def execute(self, context: Context) -> None:
        """Ask if the verdict needs a review; otherwise raise `AirflowSkipException`."""
        if not _read(self.folder / "verdict.json").get("needs_review"):
            raise AirflowSkipException("the verdict needs no review")
        (self.folder / "review.json").unlink(missing_ok=True)  # an answer to an earlier verdict does not answer this one
        self._process.run("review_page", self.arguments, self.record)
        super().execute(context)

    def on_kill(self) -> None:
        """Stop making the page."""
        self._process.stop()


class ProposalOperator(AskOperator):
    """Asks whether the settings that a search proposes shall be in force. It is skipped if none are proposed.

    Without approval it is skipped too, so that nothing after it runs. The answer is kept all the same. The task's result is the
    answer, and `proposal`, the name of what was shown.

    Args:
        record: a file in `<folder of the search>/steps/` (templated).
        kwargs: as for `AskOperator`.
    """

    def __init__(self, *, record: str, **kwargs: Any) -> None:
        subject = f"Shall the settings found for {DAY} be in force?"
        super().__init__(record=record, waits="A proposal of settings waits", subject=subject, **kwargs)

    def execute(self, context: Context) -> None:
        """Ask if something is proposed; otherwise raise `AirflowSkipException`."""
        from jobs.base.files import write_json

        found = _read(self.folder / "proposal.json")
        if not found.get("changes"):
            raise AirflowSkipException(found.get("headline", "there is no proposal"))
        (self.folder / "review.json").unlink(missing_ok=True)
        write_json(self.folder / "asked.json", {"proposal": found["proposal"]})  # another search may end before the answer
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Record the answer; raise `AirflowSkipException` unless it is an approval."""
        record = super().execute_complete(context, event)
        if record["decision"] != "approved":
            raise AirflowSkipException(f"rejected{' by ' + record['by'] if record['by'] else ''}: {record['reason']}")
        return record | _read(self.folder / "asked.json") | {"reason": record["reason"] or "no reason was given"}


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
