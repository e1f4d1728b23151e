"""The text of a check."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from jobs.landing.mapping import FILE_NAME
from jobs.preflight.check import Check

_WIDTH = 110


def lines_of(check: Check, source: str) -> Iterator[str]:
    """The lines of a check, with the verdict at the end."""
    yield f"Check of {source}" + (f", logical date {check.date}" if check.date else "")
    for heading, sentences in check.sections.items():
        if heading == "Mind" and check.verdict != "not":
            continue  # they are the reasons of the verdict
        yield ""
        yield heading
        for sentence in sentences:
            yield from _wrapped(sentence)
    yield ""
    yield from verdict_lines(check)


def verdict_lines(check: Check) -> Iterator[str]:
    """The end of a check: what was proposed, whether a run would work, and why not or what to mind."""
    yield from proposal_lines(check.proposal)
    if check.verdict == "fit":
        yield "VERDICT: fit to run"
        return
    yield "VERDICT: will run, but ..." if check.verdict == "but" else "VERDICT: will not run, because ..."
    for reason in check.reasons:
        yield from _wrapped(reason)


def proposal_lines(proposal: Path | None) -> Iterator[str]:
    """What to do with a proposed `data.yaml`."""
    if proposal is not None:
        yield f"A data.yaml to edit was written to {proposal}. Put it into the folder of the source when it is right."
        if proposal.stem != Path(FILE_NAME).stem:
            yield f"The file {FILE_NAME} beside it says something else, and stays as it is."


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(
        sentence, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
