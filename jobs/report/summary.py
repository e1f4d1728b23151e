"""The summary of a run: one JSON object, and the same as text that a person reads at a glance."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.base.cutoffs import Cutoffs
from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.lake.tables import Lake
from jobs.lake.user_features import attribute_health
from jobs.lake.views import MODALITIES
from jobs.report.facts import RunFacts
from jobs.report.layout import format_summary

__all__ = ["build_summary", "format_summary", "report_folder"]


def build_summary(settings: PipelineSettings, facts: RunFacts | None = None) -> dict[str, Any]:
    """Everything the summary says, as JSON values; a part that the run did not reach is empty or None."""
    facts = facts or RunFacts.collect(settings)
    return {
        "date": settings.ds,
        "source": facts.source.get("uri"),
        "embedded": settings.data.source == EMBEDDED,
        "ingest": _ingest(facts),
        "views": _views(facts),
        "clusters": _clusters(facts),
        "training": facts.training("challenger"),
        "agreed": facts.agreed or None,
        "ks": list(Cutoffs.of(facts.metrics).ks),
        "k_note": facts.metrics.get("k_note"),
        "user_attributes": _user_attributes(facts),
        "recall_apart": facts.metrics.get("recall_apart") or {},
        "models": _models(facts),
        "users": facts.metrics.get("users"),
        "incumbent_version": facts.metrics.get("incumbent_version"),
        "incumbent_note": facts.metrics.get("incumbent_note"),
        "anchor_version": facts.metrics.get("anchor_version"),
        "anchor_note": facts.metrics.get("anchor_note"),
        "false_negative_rate": facts.metrics.get("false_negative_rate"),
        "clusters_vs_truth": facts.metrics.get("clusters_vs_truth"),
        "verdict": facts.verdict or None,
        "candidates": facts.stats("candidates") or None,
        "gates": {
            stage: {key: gate.get(key) for key in ("success", "worst", "checked")} for stage, gate in facts.gates.items()
        },
        "findings": _findings(facts),
        "steps": [
            {key: record.get(key) for key in ("step", "state", "reused", "seconds", "peak_memory_mb", "message")}
            for record in facts.steps.values()
        ],
        "where": _where(facts),
    }


def _user_attributes(facts: RunFacts) -> dict[str, Any]:
    """Attribute of users -> the share of users who have it, and how far it has moved since the date before, in deviations."""
    if "sequences" not in facts.manifests:
        return {}
    found = attribute_health(Lake.of(facts.settings), facts.settings.date)
    return {each.name: {"known": each.known, "drift": each.drift} for each in found}


def _ingest(facts: RunFacts) -> dict[str, Any]:
    stats = facts.stats("items")
    if not stats:
        return {}
    counts = ("rows_read", "left_out", "items", "out_of_stock", "users", "events", "targets", "rejected", "not_used")
    keys = (*counts, "unused_rows", "forgotten", "split", "split_reason", "previous_split")
    days = {
        name: dt.datetime.fromtimestamp(stats[f"{name}_timestamp"], dt.UTC).date().isoformat()
        for name in ("first", "last")
        if stats.get(f"{name}_timestamp") is not None
    }
    return {key: stats.get(key) for key in keys} | days


def _views(facts: RunFacts) -> dict[str, dict[str, Any]]:
    keys = (
        "ok",
        "missing",
        "unreadable",
        "too_few_events",
        "encoded",
        "reused",
        "method",
        "dim",
        "traits",
        "pictures",
        "lost_pictures",
        "fetched",
    )
    out = {}
    for view in MODALITIES:
        table = f"{view}_features"
        if table in facts.manifests:
            stats = facts.stats(table)
            out[view] = {"items": facts.manifests[table]["rows"]} | {key: stats[key] for key in keys if key in stats}
    return out


def _clusters(facts: RunFacts) -> dict[str, Any]:
    labels = facts.frame("clusters", ["primary", "secondary"])
    if labels is None:
        return {}
    fit, assigned = facts.stats("codebooks"), facts.stats("clusters")
    inside = labels[labels["primary"] >= 0]
    primary = _sizes(inside["primary"].value_counts())
    return {
        "items": len(labels),
        "without_view": len(labels) - len(inside),
        "primary": primary | {"balance": (assigned.get("primary") or {}).get("balance")},
        "pairs": _sizes(inside.value_counts(["primary", "secondary"])),
        "empty_codes": (assigned.get("primary") or {}).get("empty"),
        "retired_codes": assigned.get("retired"),
        "distortion": (assigned.get("primary") or {}).get("distortion"),
        "distortion_growth": assigned.get("distortion_growth"),
        "repairs": len(fit.get("repairs") or ()),
        "warm": fit.get("warm"),
        "cold_because": fit.get("cold_because"),
        "churn": assigned.get("churn"),
    }


def _sizes(counts: pd.Series) -> dict[str, Any]:
    if counts.empty:
        return {"count": 0, "smallest": 0, "median": 0, "largest": 0}
    return {
        "count": len(counts),
        "smallest": int(counts.min()),
        "median": float(np.median(counts)),
        "largest": int(counts.max()),
    }


def _models(facts: RunFacts) -> dict[str, dict[str, Any] | None]:
    models: Mapping[str, Any] = facts.metrics.get("models") or {}
    if not models:
        return {}
    names = Cutoffs.of(facts.metrics).labels
    chosen = {name: models.get(name) for name in ("challenger", "champion", "anchor", "baseline")}
    chosen["popularity"] = facts.metrics.get("popularity")
    return {name: {key: values.get(key) for key in names} if values else None for name, values in chosen.items()}


def _findings(facts: RunFacts) -> list[dict[str, Any]]:
    """Failed expectations of all gates, the critical ones first."""
    found = [
        {key: failure.get(key) for key in ("severity", "table", "column", "expectation", "observed", "message")}
        | {"stage": stage}
        for stage, gate in facts.gates.items()
        for failure in gate.get("failures") or ()
    ]
    return sorted(found, key=lambda failure: failure["severity"] != "critical")


def _where(facts: RunFacts) -> dict[str, str]:
    settings = facts.settings
    where = {"report": str(report_folder(settings) / "index.html")}
    docs = [gate["data_docs"] for gate in facts.gates.values() if gate.get("data_docs")]
    if docs:
        where["data_docs"] = str(docs[-1])
    uri = settings.tracking_uri
    where["mlflow"] = uri if uri.startswith(("http://", "https://")) else f".venv/bin/mlflow ui --backend-store-uri {uri}"
    return where


def report_folder(settings: PipelineSettings) -> Path:
    """Folder of the date's report."""
    return settings.home / "reports" / settings.ds
