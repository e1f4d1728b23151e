"""The trials on disk: what is asked for, what is never run twice, and what a kill leaves."""

from dataclasses import replace
from pathlib import Path

import pytest
from training_tables import write_training_tables

from jobs.base.settings import PipelineSettings
from jobs.tuning.space import Space, Values
from jobs.tuning.study import Asked, Study, values_of


@pytest.fixture
def space(settings: PipelineSettings) -> Space:
    write_training_tables(settings)
    return Space.of(settings)


def asked_of(study: Study, most: int = 100) -> Asked:
    asked = study.ask(most)
    assert asked is not None
    return asked


def score(values: Values) -> float:
    """A made-up recall, best at a dropout of 0.2."""
    return 0.5 - abs(float(values["training.dropout"]) - 0.2)


def search(study: Study, count: int) -> list[Values]:
    found = []
    for _ in range(count):
        asked = asked_of(study)
        study.finish(asked, score(asked.values))
        found.append(asked.values)
    return found


def test_today_is_first_and_a_search_in_two_halves_proposes_what_one_in_a_whole_does(space: Space, tmp_path: Path) -> None:
    whole = search(Study(tmp_path / "whole", "s", space, 3), 14)
    halves = search(Study(tmp_path / "halves", "s", space, 3), 5)
    killed = asked_of(Study(tmp_path / "halves", "s", space, 3))  # and never finished
    again = Study(tmp_path / "halves", "s", space, 3)
    assert killed.values == whole[5]
    halves += search(again, 9)
    assert whole[0] == space.today and halves == whole
    assert [values_of(trial) for trial in again.trials] == whole  # the killed one is shown once, by what it came to
    other = search(Study(tmp_path / "other", "s", space, 4), 3)
    assert other[0] == space.today and other[1:] != whole[1:3]


def test_the_sampler_learns(space: Space, tmp_path: Path) -> None:
    study = Study(tmp_path, "s", space, 0)
    tried = search(study, 22)
    assert sum(map(score, tried[-8:])) > sum(map(score, tried[1:9])) + 0.5
    best = study.best()
    assert best is not None and best.value == max(map(score, tried))


def test_a_trial_that_was_killed_runs_once_more_and_then_never_again(space: Space, tmp_path: Path) -> None:
    search(Study(tmp_path, "s", space, 0), 1)
    first = asked_of(Study(tmp_path, "s", space, 0))
    second = asked_of(Study(tmp_path, "s", space, 0))
    assert second.values == first.values and second.number != first.number
    study = Study(tmp_path, "s", space, 0)
    assert asked_of(study).values != first.values
    states = {trial.number: study.state(trial) for trial in study.trials if values_of(trial) == first.values}
    assert states == {second.number: "killed twice"}


def test_a_trial_that_was_killed_after_some_epochs_may_be_killed_again(space: Space, tmp_path: Path) -> None:
    search(Study(tmp_path, "s", space, 0), 1)
    tried = []
    for _ in range(4):
        asked = asked_of(Study(tmp_path, "s", space, 0))
        asked.trial.report(0.1, 2)
        tried.append(asked.values)
    assert all(values == tried[0] for values in tried)


def test_settings_that_were_given_up_before_run_to_their_end_once_they_are_todays(space: Space, tmp_path: Path) -> None:
    study = Study(tmp_path, "s", space, 0)
    search(study, 1)
    given_up = asked_of(study)
    study.prune(given_up)
    assert study.ask(2) is None
    later = Study(tmp_path, "s", replace(space, today=given_up.values), 0)
    asked = asked_of(later, 2)
    assert asked.is_today and asked.values == given_up.values and later.trial_of_today() is None
    later.finish(asked, 0.3)
    assert later.ask(2) is None and later.trial_of_today().number == asked.number  # type: ignore[union-attr]
    assert later.best().number == asked.number or later.best().value > 0.3  # type: ignore[union-attr, operator]


def test_a_trial_that_ran_out_of_time_is_first_next_time_however_often(space: Space, tmp_path: Path) -> None:
    values = None
    for _ in range(4):
        study = Study(tmp_path, "s", space, 0)
        asked = asked_of(study)
        assert asked.is_today and values in (None, asked.values)
        study.stop(asked)
        values = asked.values
        assert study.trial_of_today() is None and study.ended == 0
        assert [study.state(trial) for trial in study.trials] == ["stopped"]
    study = Study(tmp_path, "s", space, 0)
    search(study, 1)
    assert study.trial_of_today() is not None and len(study.trials) == 1


def test_no_finished_trial_runs_twice(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, once, calls = Study(tmp_path, "s", space, 0), [], []

    def few(self: Space, trial: object) -> Values:
        calls.append(self.parts["training.dropout"].suggest(trial, "training.dropout"))  # type: ignore[arg-type]
        return self.today | {"training.epochs": 4 if len(calls) % 2 else 6}

    monkeypatch.setattr(Space, "suggest", few)
    while (asked := study.ask(8)) is not None:
        once.append(asked.values)
        study.prune(asked) if asked.values["training.epochs"] == 6 else study.finish(asked, 0.1)
    assert [values["training.epochs"] for values in once] == [2, 6, 4]
    assert study.ended == 8 and [study.state(trial) for trial in study.trials] == ["finished", "pruned", "finished"]


def test_a_trial_that_is_refused_is_not_run_again(space: Space, tmp_path: Path) -> None:
    study = Study(tmp_path, "s", space, 0)
    search(study, 1)
    refused = asked_of(study)
    study.refuse(refused, "too few events")
    again = Study(tmp_path, "s", space, 0)
    assert asked_of(again).values != refused.values
    assert [again.state(trial) for trial in again.trials[:2]] == ["finished", "refused"]
    assert again.trials[1].user_attrs["why"] == "too few events"


def test_a_poor_trial_is_pruned_once_others_show_what_is_usual(space: Space, tmp_path: Path) -> None:
    study = Study(tmp_path, "s", space, 0)
    for number in range(6):
        asked = asked_of(study)
        for tenth in range(1, 11):
            asked.trial.report(0.01 * tenth, tenth)
            assert not asked.trial.should_prune()
        study.finish(asked, 0.1 + number / 100)
    poor, good = asked_of(study), None
    poor.trial.report(0.001, 2)
    assert not poor.trial.should_prune(), "the first tenths say little"
    poor.trial.report(0.002, 4)
    assert poor.trial.should_prune()
    study.prune(poor)
    good = asked_of(study)
    good.trial.report(0.05, 4)
    assert not good.trial.should_prune()


def test_of_equal_trials_today_is_the_best(space: Space, tmp_path: Path) -> None:
    study = Study(tmp_path, "s", space, 0)
    for _ in range(3):
        study.finish(asked_of(study), 0.25)
    assert study.best() is study.trial_of_today() or study.best().number == study.trial_of_today().number  # type: ignore[union-attr]


def test_what_a_kill_leaves_in_the_journal_is_mended(space: Space, tmp_path: Path) -> None:
    search(Study(tmp_path, "s", space, 0), 2)
    journal = tmp_path / "journal.log"
    with journal.open("ab") as stream:
        stream.write(b'{"op_code": 5, "worker')
    (tmp_path / "journal.log.lock").symlink_to(journal)
    study = Study(tmp_path, "s", space, 0)
    search(study, 1)
    assert len(Study(tmp_path, "s", space, 0).trials) == 3


def test_another_name_is_another_study(space: Space, tmp_path: Path) -> None:
    search(Study(tmp_path, "s", space, 0), 2)
    assert asked_of(Study(tmp_path, "t", space, 0)).is_today
    assert len(Study(tmp_path, "s", space, 0).trials) == 2
