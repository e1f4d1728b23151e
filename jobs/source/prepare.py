"""Prepare a run: freeze its settings and find its input tables. For the embedded shop, make them."""

from pathlib import Path
from typing import Any

from jobs.base.files import write_json
from jobs.base.places import existing_folder, hadoop_uri, place
from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.lake.tables import Lake
from jobs.landing.land import land
from jobs.shop.snapshot import write_snapshot


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Write `settings.json` and `source.json` below `settings.run_dir`.

    Every later step of the run is started with `settings.json`. `source.json` holds `uri` (the folder with the input
    tables), `kind` (`embedded` or `folder`), and `landing`: the tables as they were landed (`jobs.landing.records`). If a
    person has agreed to other settings after a search, `agreed.json` says so (`PipelineSettings.agreement`). First, the
    records of an earlier run of the date (steps, gates, metrics, verdict, review, summary) are removed, so a run that stops
    half-way is never reported with the numbers of another.

    Raises:
        DataError: the source is not a folder that can be read or landed, there is no client for the lake, or the shop has no
            such date.
    """
    _forget_earlier_run(settings.run_dir)
    hadoop_uri(Lake.of(settings).root)  # fails before any work is done if there is no client for the store
    if embedded := settings.data.source == EMBEDDED:
        folder = place(write_snapshot(settings.shop, settings.home, settings.date))
    else:
        folder = existing_folder(settings.data.source)
        folder = place(folder.resolve()) if isinstance(folder, Path) else folder  # what a link leads to now
    landing = land(folder, settings, settings.home / "landing")
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    frozen = settings.run_dir / ".settings.json-new"
    frozen.write_text(settings.model_dump_json(indent=2) + "\n")
    frozen.replace(settings.run_dir / "settings.json")
    source = {"uri": landing.folder, "kind": EMBEDDED if embedded else "folder"}
    write_json(settings.run_dir / "source.json", source | {"landing": landing.as_json()})
    if agreement := settings.agreement():
        write_json(settings.run_dir / "agreed.json", agreement)
    return source | {"config_hash": settings.config_hash()}


def _forget_earlier_run(folder: Path) -> None:
    for record in (*folder.glob("steps/*.json"), *folder.glob("gates/*.json")):
        record.unlink()
    for name in ("metrics.json", "verdict.json", "review.md", "review.json", "summary.json", "agreed.json"):
        (folder / name).unlink(missing_ok=True)
