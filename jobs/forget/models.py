"""Which models have learned from a user's events. They cannot be rewritten, so they are listed, with how long they stay."""

import datetime as dt
from collections.abc import Collection
from typing import Any

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.forget.registry import has_registry
from jobs.lake.tables import Lake
from jobs.registry.versions import champion_version, version_date
from jobs.serving.store import ServingStore

_TRAINED = ("behaviour_features", "baseline", "challenger")  # tables of the lake
_NEXT = "the next promotion"
_RETRAIN = (
    "run esans_daily_retraining for a date from now on: ingest leaves the user out, so the next champion knows nothing of them"
)


def models_left(settings: PipelineSettings, dates: Collection[dt.date], today: dt.date) -> list[dict[str, Any]]:
    """Everything that was trained on one of these dates, the model that serves first.

    Args:
        settings: home, registry and serving store.
        dates: dates whose tables held the user. A model of a date that the lake no longer has is listed too.
        today: the day from which dates are counted.

    Returns:
        For each model its `kind` (bundle, version or tables), `name`, `date`, whether it is `in_force`, `until` (in words), and
        `out_of_force_from`, the earliest date; None for what is out of force already; `what_you_can_do`.
    """
    known = set(Lake.of(settings).begun_dates("users"))

    def meant(date: dt.date) -> bool:
        return date in dates or date not in known

    versions = _versions(settings, meant, today) if has_registry(settings) else ()
    found = [*_bundles(settings, meant, today), *versions, *_tables(settings, dates)]
    return sorted(found, key=lambda model: not model["in_force"])


def _bundles(settings: PipelineSettings, meant: Any, today: dt.date) -> list[dict[str, Any]]:
    store = ServingStore.of(settings)
    names, current = store.names(), store.current()
    found = []
    for place, name in enumerate(names):
        date = dt.date.fromisoformat(name[:10])
        if not meant(date):
            continue
        if name == current:
            until, earliest = _NEXT, _next_promotion(today)
        else:
            # `keep` counts the newest bundles. With one promotion a day, each day moves the bundle one place towards the end.
            more = max(1, settings.bundle.keep - (len(names) - 1 - place))
            until = f"{more} more bundles are published (bundle.keep is {settings.bundle.keep})"
            earliest = (today + dt.timedelta(days=more)).isoformat()
        folder = settings.serving_root / "bundles" / name
        act = _RETRAIN if name == current else f"it does not serve; to be rid of it at once, remove the folder {folder}"
        found.append(_model("bundle", name, date, name == current, until, earliest, act))
    return found


def _versions(settings: PipelineSettings, meant: Any, today: dt.date) -> list[dict[str, Any]]:
    registry, name = client(settings), settings.registry.model_name
    champion = champion_version(settings)
    found = []
    for version in registry.search_model_versions(f"name = '{name}'"):
        date = version_date(version)
        if not meant(date):
            continue
        in_force = champion is not None and champion.version == version.version
        until = _NEXT if in_force else "somebody deletes it in the registry; it is not in force"
        act = _RETRAIN if in_force else f"delete version {version.version} in the registry, and its run with its files"
        found.append(
            _model(
                "version", f"{name} {version.version}", date, in_force, until, _next_promotion(today) if in_force else None, act
            )
        )
    return found


def _next_promotion(today: dt.date) -> str:
    """The earliest day: a run of the day after the request may promote a model that has not learned from the user."""
    return (today + dt.timedelta(days=1)).isoformat()


def _tables(settings: PipelineSettings, dates: Collection[dt.date]) -> list[dict[str, Any]]:
    lake = Lake.of(settings)
    found = []
    for date in sorted(dates):
        tables = [table for table in _TRAINED if lake.exists(table, date)]
        if tables:
            act = f"run esans_daily_retraining for {date} again: it makes these tables without the user"
            found.append(_model("tables", ", ".join(tables), date, False, "its date is run again", None, act))
    return found


def _model(kind: str, name: str, date: dt.date, in_force: bool, until: str, earliest: str | None, act: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "date": date.isoformat(),
        "in_force": in_force,
        "until": until,
        "out_of_force_from": earliest,
        "what_you_can_do": act,
    }
