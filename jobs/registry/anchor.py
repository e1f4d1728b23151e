"""The anchor: the best version that was ever in force. Every challenger is compared with it, besides the champion.

If each champion is only a little worse than the last, the chain of champions still walks downhill. The anchor stops this. It is
ranked anew on the hold-out of every date, and no challenger may lose more than the margin to it either. Each date has its own
hold-out, so recall of two dates does not say which version is better. So the anchor moves only after a comparison on one
hold-out: to a new champion that is shown to be at least as good as the anchor on the hold-out of its date.

The signed gate report of a version says which anchor it was compared with, and whether it becomes the anchor if it is promoted.
So the anchor of a date follows from the champion of that date alone, and a rerun finds the same one.
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
        number: number of its version.
        version: the version, or None if the registry no longer has it.
        look: how many champions, counting the next one, have been compared with it since it became the anchor.
    """

    number: str
    version: ModelVersion | None
    look: int


def anchor_of(settings: PipelineSettings, incumbent: ModelVersion) -> Anchor:
    """The anchor of the dates whose challengers compete with this champion.

    Args:
        settings: settings of the run.
        incumbent: the champion before the date.

    Raises:
        DataError: the champion has no genuine gate report.
    """
    report = read_gate_report(settings, incumbent)
    if report.takes_anchor:
        return Anchor(str(incumbent.version), incumbent, 1)
    return Anchor(report.anchor_version, numbered_version(settings, report.anchor_version), report.anchor_look + 1)


def look_at(settings: PipelineSettings, incumbent: ModelVersion, version: ModelVersion) -> int:
    """Number of the look at a champion that this version is, counted from 1.

    All earlier versions count that were registered for a date after the champion's and not after the run's. It does not matter
    whether they were made on another night, or on the same one with other settings: each was a chance to pass by luck. Later
    versions do not count, so a rerun of a date gets the same number.
    """
    registry, number, token, count = client(settings), int(version.version), None, 0
    while True:
        page = registry.search_model_versions(f"name = '{settings.registry.model_name}'", page_token=token)
        count += sum(version_date(incumbent) < version_date(one) <= settings.date and int(one.version) < number for one in page)
        token = page.token
        if not token:
            return count + 1
