"""Who the anchor is, over days of judging and promoting in a real registry."""

from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.registry import judge
from jobs.registry.anchor import anchor_of, look_at
from jobs.registry.gate_report import read_gate_report
from jobs.registry.versions import incumbent_version, numbered_version
from tests.jobs.registry.test_registry import alias, enter, on_day, prepare_day, settle, verdict

pytestmark = pytest.mark.mlflow


def day(settings: PipelineSettings, number: int, **recall: float) -> dict:
    """Judge and promote on a day; returns its verdict."""
    today = on_day(settings, number)
    prepare_day(today, **recall)
    enter(today)
    settle(today)
    return verdict(today)


def anchor(settings: PipelineSettings, number: int) -> tuple[str, int]:
    """Version and look of the anchor that a day's challenger is compared with."""
    today = on_day(settings, number)
    incumbent = incumbent_version(today)
    assert incumbent is not None
    found = anchor_of(today, incumbent)
    return found.number, found.look


def test_a_chain_of_hardly_worse_models_ends_at_the_margin(settings: PipelineSettings, home: Path) -> None:
    """Each challenger is 0.6 % below its champion. The first one passes, but the second has lost too much to the anchor."""
    assert day(settings, 0)["verdict"] == "promoted" and anchor(settings, 1) == ("1", 1)
    first = day(settings, 1, recall=0.1988, champion=0.2)
    assert first["verdict"] == "promoted" and (first["anchor_version"], first["takes_anchor"]) == ("1", False)
    assert anchor(settings, 2) == ("1", 2)
    second = day(settings, 2, recall=0.1976, champion=0.1988, anchor=0.2)
    assert second["verdict"] == "kept_champion" and alias(settings) == "2"
    assert [compared["role"] for compared in second["comparisons"]] == ["champion", "anchor"]
    assert "the best version ever in force, version 1," in second["reasons"][0] and "loses more than" in second["reasons"][0]
    # As good as the anchor on the same hold-out: it takes the place, and the next day is held against it alone.
    third = day(settings, 3, recall=0.2, champion=0.1988, anchor=0.2)
    assert third["verdict"] == "promoted" and third["takes_anchor"]
    assert anchor(settings, 4) == ("4", 1)
    # A rerun of an earlier date meets the anchor of that date.
    assert anchor(settings, 2) == ("1", 2)
    said = verdict(on_day(settings, 3))
    settle(on_day(settings, 3))
    assert verdict(on_day(settings, 3)) == said


def test_an_anchor_that_cannot_be_ranked_gives_its_place_to_the_champion(settings: PipelineSettings, home: Path) -> None:
    day(settings, 0)
    day(settings, 1, recall=0.1988, champion=0.2)
    found = day(settings, 2, recall=0.198, champion=0.1988)  # no rows of the anchor
    assert found["verdict"] == "promoted"
    assert "version 1, cannot be ranked any more" in found["reasons"][0]
    assert "champion version 2 takes its place" in found["reasons"][0]
    assert (found["anchor_version"], found["takes_anchor"]) == ("2", False)
    assert anchor(settings, 3) == ("2", 2)


def test_without_champion_and_anchor_to_rank_a_new_line_begins(settings: PipelineSettings, home: Path) -> None:
    day(settings, 0)
    day(settings, 1, recall=0.1988, champion=0.2)
    found = day(settings, 2, recall=0.18)
    assert found["verdict"] == "promoted" and found["takes_anchor"]
    assert "cannot be compared, and the baseline takes its place" in found["reasons"][0]
    assert "this version takes its place" in found["reasons"][1]
    assert [compared["role"] for compared in found["comparisons"]] == ["baseline"]


def test_below_the_baseline_of_the_night_nothing_is_promoted_unless_allowed(settings: PipelineSettings, home: Path) -> None:
    found = day(settings, 0, recall=0.19, baseline=0.2)
    assert found["verdict"] == "no_champion" and "below the uniform-negatives baseline" in found["reasons"][0]
    gate = settings.gate.model_copy(update={"allow_below_baseline": True})
    found = day(settings.model_copy(update={"gate": gate}), 0, recall=0.19, baseline=0.2)
    assert found["verdict"] == "promoted" and "allow_below_baseline lets it pass" in found["reasons"][0]


def test_every_version_held_against_a_champion_is_a_look(settings: PipelineSettings, home: Path) -> None:
    day(settings, 0)
    for seed in (0, 1):  # a night, and the same night again with other settings
        tuesday = on_day(settings, 1)
        prepare_day(tuesday, recall=0.15, champion=0.2, seed=seed)
        enter(tuesday)
        judge.run(tuesday)
        assert verdict(tuesday)["comparisons"][0]["look"] == seed + 1
    assert day(settings, 2, recall=0.21, champion=0.2)["comparisons"][0]["look"] == 3
    assert day(settings, 3, recall=0.21, champion=0.21)["comparisons"][0]["look"] == 1, "a promotion starts the count anew"
    first, third = numbered_version(settings, "1"), numbered_version(settings, "3")
    assert first is not None and third is not None
    assert look_at(on_day(settings, 1), first, third) == 2, "later dates do not count for a rerun"


def test_the_report_of_an_earlier_release_makes_its_version_the_anchor(settings: PipelineSettings, home: Path) -> None:
    day(settings, 0)
    champion = numbered_version(settings, "1")
    assert champion is not None
    report = read_gate_report(settings, champion)
    assert report.takes_anchor and report.anchor_version == ""
    old = report.model_dump(exclude={"anchor_version", "anchor_look", "takes_anchor", "comparisons"})
    assert type(report).model_validate(old).takes_anchor


def test_who_changes_the_registry_changes_no_anchor(settings: PipelineSettings, home: Path) -> None:
    """The signed report names it; if the registry no longer has it, that is said."""
    day(settings, 0)
    day(settings, 1, recall=0.1988, champion=0.2)
    client(settings).delete_model_version(settings.registry.model_name, "1")
    incumbent = incumbent_version(on_day(settings, 2))
    assert incumbent is not None
    found = anchor_of(settings, incumbent)
    assert (found.number, found.version) == ("1", None)
