"""The anchor: the best version ever in force, which every challenger is held against besides the champion.

A chain of champions each "hardly worse than the last" walks downhill. The anchor stops it: it is ranked anew on the hold-out
of every date, and no challenger may lose more than the margin to it either. Each version was measured on another day's
hold-out, so numbers of two days do not say which version is better. The anchor therefore moves only by comparisons on one
hold-out: to a new champion that is shown to be at least as good as the anchor on the hold-out of its date.

The signed gate report of a version says which anchor it was held against, and whether it takes that place if it is promoted. So
the anchor of a date follows from the champion of that date alone, and a rerun finds the same one.
"""

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.registry.gate_report import read_gate_report
from jobs.registry.versions import numbered_version, version_date


@dataclass(frozen=True)
class Anchor:
    """The anchor of a date.

    Attributes:
        number: of its version.
        version: it, or None where the registry has it no more.
        look: how many champions, with the one to come, have been held against it since it took the place.
    """

    number: str
    version: ModelVersion | None
    look: int


def anchor_of(settings: PipelineSettings, incumbent: ModelVersion) -> Anchor:
    """The anchor of the dates that compete with a champion.

    Args:
        settings: of the run.
        incumbent: the champion before the date.

    Raises:
        DataError: the champion has no genuine gate report.
    """
    report = read_gate_report(settings, incumbent)
    if report.takes_anchor:
        return Anchor(str(incumbent.version), incumbent, 1)
    return Anchor(report.anchor_version, numbered_version(settings, report.anchor_version), report.anchor_look + 1)


def look_at(settings: PipelineSettings, incumbent: ModelVersion, version: ModelVersion) -> int:
    """The how-manieth version this is that is held against a champion, counted from 1.

    Every version counts that was registered for a date after the champion's and not after the run's, whether it was made on
    another night or on the same one with other settings: each is another chance to pass by luck. Later versions do not count,
    so that a rerun of a date gets the same number.
    """
    registry, number, token, count = client(settings), int(version.version), None, 0
    while True:
        page = registry.search_model_versions(f"name = '{settings.registry.model_name}'", page_token=token)
        count += sum(version_date(incumbent) < version_date(one) <= settings.date and int(one.version) < number for one in page)
        token = page.token
        if not token:
            return count + 1
