"""The gate report of a version says what was judged, how, and with which outcome. It is a signed artefact of the version's run.

Everybody who reaches MLflow can move an alias, change a tag or replace a file there. So this report alone, and the digests of
files in it, decide what may reach production.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.base.errors import DataError
from jobs.base.files import file_digest
from jobs.base.places import files_below
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import LOGICAL_DATE, RUN_KEY
from jobs.lake.tables import Lake
from jobs.registry.comparison import gate_outcomes
from jobs.registry.decisions import read_decision
from jobs.registry.signing import seal, unseal
from jobs.registry.verdict import Verdict
from jobs.registry.version_records import files_of, read_record, said, version_copy, write_record
from jobs.registry.versions import MODEL_DIGEST
from jobs.serving.verified import BUNDLE_DIGEST

KIND = "gate report"
_AGAIN = "judge the version again: run the date again from the step judge."


class GateReport(BaseModel):
    """What was found about one version.

    Attributes:
        model: name of the registered model.
        version: number of the version.
        date: logical date of its data, YYYY-MM-DD.
        run_key: hash of all that decided the model.
        model_digest: digest of the table `challenger` from which it was registered.
        bundle_digest: digest of its serving bundle, "" if it has none.
        weights: digest of the weights that serve (`jobs.training.model_store.weights_digest`); "" where training noted none.
        incumbent_version: the champion it was compared with, "" for none.
        anchor_version: the best version ever in force, with which it was compared, "" for none (`jobs.registry.anchor`).
        anchor_look: how many champions, counting this version, have been compared with that anchor.
        takes_anchor: whether it becomes the anchor once it is champion. Reports of releases without anchors count as true.
        policy: `registry.promotion` when it was judged; under `review` the version also needs a signed approval.
        verdict: outcome of the comparison; `blocked` means that a data-quality gate ruled it out.
        reasons: the reasons for the verdict.
        checks: each condition with its value and bound.
        comparisons: the comparison with each opponent that it must not lose to.
        difference: only in reports of earlier releases.
        gates: outcome, failures and judged digests of each data-quality gate; None if it was not run.
        files: SHA-256 of each file of the version, by path.
        config_hash: hash of the settings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    version: str
    date: str
    run_key: str
    model_digest: str
    bundle_digest: str
    weights: str = ""
    incumbent_version: str
    anchor_version: str = ""
    anchor_look: int = 1
    takes_anchor: bool = True
    policy: Literal["auto", "review", "never"]
    verdict: Literal["passed", "failed", "blocked"]
    reasons: tuple[str, ...]
    checks: tuple[dict[str, Any], ...]
    comparisons: tuple[dict[str, Any], ...] = ()
    difference: dict[str, float] | None = None
    gates: dict[str, dict[str, Any] | None]
    files: dict[str, str]
    config_hash: str

    @property
    def subject(self) -> dict[str, Any]:
        """What a person decides about: exactly this model, however often it is judged."""
        names = {"model", "version", "date", "run_key", "model_digest", "bundle_digest", "files"}
        return self.model_dump(mode="json", include=names)


def write_gate_report(
    settings: PipelineSettings,
    version: ModelVersion,
    verdict: Verdict,
    *,
    incumbent: str,
    blockers: Sequence[str],
    anchor: str = "",
    anchor_look: int = 1,
    takes_anchor: bool = True,
) -> GateReport:
    """Sign what was found about the date's challenger and keep it with the version. The same findings give the same bytes.

    Args:
        settings: settings of the run.
        version: the challenger's version.
        verdict: the verdict on it.
        incumbent: number of the champion it was compared with, "" for none.
        blockers: reasons of the gates that rule it out.
        anchor: number of the anchor it was compared with, "" for none.
        anchor_look: number of this comparison with that anchor, counted from 1.
        takes_anchor: whether it becomes the anchor if it is promoted.

    Raises:
        DataError: the version's files are not those of the date's challenger, or not those that were judged before.
    """
    with version_copy(settings, version) as copy:
        files = files_of(copy)
    digest = _checked_source(settings, version, files)
    found = verdict.as_json()
    report = GateReport(
        model=version.name,
        version=str(version.version),
        date=settings.ds,
        run_key=version.tags[RUN_KEY],
        model_digest=digest,
        bundle_digest=version.tags.get(BUNDLE_DIGEST, ""),
        weights=Lake.of(settings).manifest("challenger", settings.date)["stats"].get("weights", ""),
        incumbent_version=incumbent,
        anchor_version=anchor,
        anchor_look=anchor_look,
        takes_anchor=takes_anchor,
        policy=settings.registry.promotion,
        verdict="blocked" if blockers else "passed" if verdict.passed else "failed",
        reasons=found["reasons"],
        checks=found["checks"],
        comparisons=found["comparisons"],
        gates={stage: _gate(record) for stage, record in gate_outcomes(settings).items()},
        files=files,
        config_hash=settings.config_hash(),
    )
    before = _genuine(settings, version)
    if before is not None:
        _same_files(version, before.files, files)
    if report != before:
        write_record(settings, version, "report", seal(settings, KIND, report.model_dump(mode="json")))
    return report


def read_gate_report(settings: PipelineSettings, version: ModelVersion) -> GateReport:
    """The genuine report of a version.

    Raises:
        DataError: there is none, it was changed, or it is about another version or date.
    """
    text = read_record(settings, version, "report")
    if text is None:
        raise DataError("has no gate report.", file=said(version), remedy=_AGAIN)
    content = unseal(settings, KIND, text, where=said(version), remedy=_AGAIN)
    try:
        report = GateReport.model_validate(content)
    except ValidationError as error:
        raise DataError(f"its gate report comes from another release ({error}).", file=said(version), remedy=_AGAIN) from error
    wanted = (version.name, str(version.version), version.tags.get(LOGICAL_DATE), version.tags.get(RUN_KEY))
    if (report.model, report.version, report.date, report.run_key) != wanted:
        raise DataError(
            f"its gate report is about {report.model} version {report.version} of {report.date} ({report.run_key}), "
            f"but this is version {wanted[1]} of {wanted[2]} ({wanted[3]}).",
            file=said(version),
            remedy=_AGAIN,
        )
    return report


def check_gate_report(settings: PipelineSettings, version: ModelVersion) -> GateReport:
    """The report of a version that may serve. It raises the errors of `checked_copy`."""
    with checked_copy(settings, version) as (report, _):
        return report


@contextmanager
def checked_copy(settings: PipelineSettings, version: ModelVersion) -> Iterator[tuple[GateReport, Path]]:
    """The report of a version that may serve, and a copy of its files, which nobody can change between check and use.

    A version may serve if its report is genuine and says that it passed, if it was approved where its policy asks for that,
    and if its files are those that were judged.

    Raises:
        DataError: one of these conditions does not hold; the error says which.
    """
    report = passing_report(settings, version)
    if report.policy == "review":
        decision = read_decision(settings, version, report.subject)
        if decision is None or decision.decision != "approved":
            raise DataError(
                f"passed the gate, but policy 'review' asks for an approval too: {decision or 'nobody has decided yet'}.",
                file=said(version),
                remedy=f"approve it in the review step of {report.date}, or promote it by hand with a reason.",
            )
    with version_copy(settings, version) as copy:
        _same_files(version, report.files, files_of(copy))
        yield report, copy


def passing_report(settings: PipelineSettings, version: ModelVersion) -> GateReport:
    """The genuine report of a version that passed; raises `DataError` if it did not pass."""
    report = read_gate_report(settings, version)
    if report.verdict != "passed":
        raise DataError(
            f"did not pass the gate: {'; '.join(report.reasons)}.",
            file=said(version),
            remedy="promote a version that passed; the reasons say what this one lacks.",
        )
    return report


def _checked_source(settings: PipelineSettings, version: ModelVersion, files: dict[str, str]) -> str:
    """Digest of the date's challenger, after a check that the version holds that challenger's files."""
    lake = Lake.of(settings)
    digest = lake.manifest("challenger", settings.date)["digest"]
    by_name: dict[str, set[str]] = {}
    for path, value in files.items():
        by_name.setdefault(PurePosixPath(path).name, set()).add(value)
    trained = {path.name: path for path in files_below(lake.path("challenger", settings.date))}
    held = [name for name in sorted(trained) if name in by_name]
    other = [name for name in held if file_digest(trained[name]) not in by_name[name]]
    if "towers.safetensors" not in held or other or version.tags.get(MODEL_DIGEST, digest) != digest:
        raise DataError(
            f"does not hold the challenger of {settings.ds} ({', '.join(other) or 'another model'}).",
            file=said(version),
            remedy="delete this version in the registry, and run register again for this date.",
        )
    return digest


def _genuine(settings: PipelineSettings, version: ModelVersion) -> GateReport | None:
    """The report of an earlier judgement, if there is a genuine one."""
    try:
        return read_gate_report(settings, version)
    except DataError:
        return None


def _same_files(version: ModelVersion, judged: dict[str, str], now: dict[str, str]) -> None:
    changed = sorted(path for path in judged.keys() | now.keys() if judged.get(path) != now.get(path))
    if changed:
        raise DataError(
            f"its files are not those that were judged ({', '.join(changed[:5])}{', ...' if changed[5:] else ''}).",
            file=said(version),
            remedy="delete this version in the registry, and run its date again from the step register.",
        )


def _gate(record: dict[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    failures = [{key: failure.get(key) for key in ("severity", "message")} for failure in record["failures"]]
    return {key: record[key] for key in ("success", "worst", "checked", "digests")} | {"failures": failures}
