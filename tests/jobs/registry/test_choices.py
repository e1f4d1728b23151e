"""What the forms of promotion and rollback offer."""

import json
from pathlib import Path
from typing import Any

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.registry.champion import keep_verdict
from jobs.registry.choices import bundle_choices, version_choices


def _judged(home: Path, day: str, **verdict: Any) -> None:
    folder = home / "runs" / day
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text(json.dumps(verdict))


def _served(home: Path, *entries: tuple[str, str]) -> None:
    store = home / "serving"
    for _, name in entries:
        (store / "bundles" / name).mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"at": f"2026-02-0{day}T03:00:00+00:00", "name": name}) for day, name in entries]
    (store / "history.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (store / "CURRENT").write_text(lines[-1])


def test_nothing_is_offered_before_the_first_run(tmp_path: Path) -> None:
    settings = PipelineSettings(home=tmp_path / "none")
    assert version_choices(settings) == [] and bundle_choices(settings) == []


def test_all_versions_of_a_day_are_offered_but_those_that_a_person_took_back_or_rejected(tmp_path: Path) -> None:
    settings = PipelineSettings(home=tmp_path)
    for number, decision in ((1, None), (2, "allowed"), (3, "withdrawn"), (4, "rejected")):
        verdict = {"version": str(number), "verdict": "kept_champion", "weights": f"w{number}", "checks": []}
        keep_verdict(settings, verdict)
        if decision:
            write_json(tmp_path / "decisions" / f"w{number}.json", {"decision": decision})
    day = settings.ds
    assert version_choices(settings) == [f"2 | {day} | kept champion", f"1 | {day} | kept champion"]
    server = PipelineSettings(home=tmp_path, registry={"tracking_uri": "http://127.0.0.1:5000"})
    assert version_choices(server) == [], "4, the last verdict of the day, is held back; the others are not of that registry"


def test_versions_and_bundles_say_what_speaks_for_them(tmp_path: Path) -> None:
    settings = PipelineSettings(home=tmp_path)
    checks = [{"name": "head_recall_50", "value": 0.9}, {"name": "recall_50", "value": 0.41234}]
    _judged(tmp_path, "2026-01-27", version="9", verdict="promoted", checks=checks)
    _judged(tmp_path, "2026-01-28", version="10", verdict="kept_champion", checks=[])
    _judged(tmp_path, "2026-01-29", version=None, verdict="blocked_by_gate")
    assert version_choices(settings) == ["10 | 2026-01-28 | kept champion", "9 | 2026-01-27 | Recall@50 0.412 | promoted"]

    first, second, third = "2026-01-27-v9-0a1b2c3d", "2026-01-28-v10-0a1b2c3d", "2026-01-30-v11-0a1b2c3d"
    _served(tmp_path, ("1", second), ("2", first))
    assert version_choices(settings)[1] == "9 | 2026-01-27 | Recall@50 0.412 | in force now"
    _served(tmp_path, ("1", first), ("2", second), ("3", first), ("4", third))
    (tmp_path / "serving" / "bundles" / "2026-01-31-v12-0a1b2c3d").mkdir()
    assert bundle_choices(settings) == [
        f"{first} | Recall@50 0.412 | in force until 2026-02-04 03:00 UTC",
        f"{second} | in force until 2026-02-03 03:00 UTC",
        "2026-01-31-v12-0a1b2c3d | never in force",
    ]
