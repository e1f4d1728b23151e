"""What the start page says of the state of things: by whose decision a bundle is in force, and what waits for a person."""

import json
import os
from typing import Any

import pytest

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.report.state import in_force, since_verdict, trouble, waiting
from jobs.serving.store import ServingStore

FIRST, SECOND = "2026-01-28-v1-0123abcd", "2026-01-29-v2-0123abcd"


def entry(name: str, at: str, by: str, reason: str) -> dict[str, Any]:
    return {"at": f"2026-01-30T{at}:00.5+00:00", "name": name, "version": name[12], "by": by, "reason": reason}


def action(command: str, bundle: str, at: str) -> dict[str, Any]:
    return {"action": command, "summary": {"bundle": bundle}, "started_at": f"2026-01-30T{at}:00+00:00"}


GATE = entry(FIRST, "03:00", "scheduler", "all floors are met (promoted by pipeline)")
PERSON = entry(SECOND, "04:00", "scheduler", "I was on the train (promoted by anna)")
BACK = entry(FIRST, "05:00", "ben", "the new one is slow")
ACTIONS = [
    action("publish_champion", FIRST, "06:00"),  # the hourly one, after the rollback: it changed nothing
    action("rollback", FIRST, "05:00"),
    action("publish_champion", SECOND, "04:00"),
    action("publish_champion", FIRST, "03:00"),
]


@pytest.mark.parametrize(
    ("history", "version", "since", "decided", "reason"),
    [
        ([GATE], "1", "2026-01-30 03:00", "the promotion gate", "all floors are met"),
        ([GATE, PERSON], "2", "2026-01-30 04:00", "anna, a person", "I was on the train"),
        ([GATE, PERSON, BACK], "1", "2026-01-30 05:00", "ben, by a rollback", "the new one is slow"),
    ],
)
def test_a_bundle_is_in_force_by_gate_person_or_rollback(
    history: list[dict[str, Any]], version: str, since: str, decided: str, reason: str
) -> None:
    found = in_force(history, ACTIONS)
    assert found is not None
    assert (found["version"], found["since"], found["decided"], found["reason"]) == (version, since, decided, reason)
    assert in_force([], ACTIONS) is None


def test_a_version_waits_until_somebody_has_answered(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESANS_AIRFLOW_UI", "http://127.0.0.1:8080")
    folder = settings.run_dir
    write_json(folder / "verdict.json", {"verdict": "awaiting_review", "version": "3"})
    assert waiting(settings.home) == [{"what": f"Version 3 of {settings.ds} waits", "address": ""}]
    write_json(folder / "steps" / "prepare.json", {"run": "manual__1+00:00"})
    run = "http://127.0.0.1:8080/dags/esans_daily_retraining/runs/manual__1%2B00%3A00"
    assert waiting(settings.home)[0]["address"] == f"{run}/tasks/registry.review/required_actions"
    write_json(folder / "review.json", {"decision": "rejected"})
    assert waiting(settings.home) == []


def test_a_proposal_of_settings_waits_until_somebody_has_answered_it(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESANS_AIRFLOW_UI", "http://127.0.0.1:8080")
    folder = settings.home / "tuning" / settings.ds
    write_json(folder / "review.json", {"decision": "approved"})  # of an earlier search of the date
    os.utime(folder / "review.json", (0, 0))
    write_json(folder / "proposal.json", {"changes": {}})
    assert waiting(settings.home) == []
    write_json(folder / "proposal.json", {"changes": {"training.epochs": [1, 2]}})
    write_json(folder / "steps" / "tuning.json", {"run": "manual__2"})
    address = "http://127.0.0.1:8080/dags/esans_tune/runs/manual__2/tasks/review/required_actions"
    assert waiting(settings.home) == [{"what": f"A proposal of settings, from {settings.ds}, waits", "address": address}]
    write_json(folder / "review.json", {"decision": "rejected"})
    assert waiting(settings.home) == []


def test_a_date_says_at_which_step_it_was_stopped(settings: PipelineSettings) -> None:
    write_json(settings.run_dir / "steps" / "ingest.json", {"step": "ingest", "state": "success", "message": ""})
    assert trouble(settings.run_dir) == ""
    write_json(settings.run_dir / "steps" / "evaluate.json", {"step": "evaluate", "state": "killed", "message": "no memory"})
    assert trouble(settings.run_dir) == "evaluate killed: no memory"


STORE_LINES = {"promoted": [GATE], "replaced": [GATE, PERSON], "rolled back": [GATE, PERSON, BACK], "by hand": [PERSON]}


@pytest.mark.parametrize(
    ("lines", "date", "word", "text", "tone"),
    [
        ("promoted", "2026-01-28", "promoted", None, ""),
        (
            "replaced",
            "2026-01-28",
            "promoted",
            "Version 1 was replaced on 2026-01-30 04:00 UTC. Version 2 is in force.",
            "plain",
        ),
        (
            "rolled back",
            "2026-01-29",
            "promoted",
            "Version 2 was taken back on 2026-01-30 05:00 UTC by ben: the new one is slow. Version 1 is in force.",
            "bad",
        ),
        (
            "rolled back",
            "2026-01-28",
            "promoted",
            "Version 1 is in force since 2026-01-30 05:00 UTC. Decided by ben, by a rollback: the new one is slow.",
            "",
        ),
        (
            "by hand",
            "2026-01-29",
            "rejected_in_review",
            "Version 2 is in force since 2026-01-30 04:00 UTC. Decided by anna, a person: I was on the train.",
            "warn",
        ),
        ("promoted", "2026-01-27", "kept_champion", None, ""),
    ],
)
def test_what_has_become_of_a_version_since_its_verdict(
    settings: PipelineSettings, lines: str, date: str, word: str, text: str | None, tone: str
) -> None:
    store = ServingStore.of(settings)
    store.root.mkdir(parents=True)
    (store.root / "CURRENT").write_text(json.dumps(STORE_LINES[lines][-1]))
    (store.root / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in STORE_LINES[lines]))
    for number, record in enumerate(ACTIONS):
        write_json(settings.home / "actions" / str(number) / f"{record['action']}.json", record)
    taken = {"decision": "withdrawn", "by": "ben", "at": "2026-01-30T05:00:00+00:00", "reason": "the new one is slow."}
    write_json(settings.home / "decisions" / "w2.json", taken | {"version": "2"})
    version = {"2026-01-28": "1", "2026-01-29": "2"}.get(date, "3")
    found = since_verdict(settings, date, {"verdict": word, "version": version, "weights": f"w{version}"})
    assert (found.text if found else None) == text and (found.tone if found else "") == tone
