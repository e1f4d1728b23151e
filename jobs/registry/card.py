"""The model card: what a person must know before serving a version, on one page of Markdown."""

from collections.abc import Mapping
from typing import Any

from jobs.base.cutoffs import Cutoffs
from jobs.base.settings import PipelineSettings
from jobs.pages.templates import markdown
from jobs.registry.promotion import Difference

_SHORT = 110  # characters of a gate's finding: the registry holds 5,000 of the whole card
_SETTINGS = (
    "sampling.num_easy_clusters",
    "sampling.items_per_cluster",
    "sampling.num_hard",
    "sampling.virtual_weight",
    "sampling.log_q",
    "clusters.num_primary",
    "clusters.num_secondary",
    "training.embedding_dim",
    "training.max_history",
    "training.temperature",
    "training.batch_size",
    "training.learning_rate",
    "training.seed",
)


def model_card(
    settings: PipelineSettings,
    metrics: Mapping[str, Any],
    intervals: Mapping[str, Mapping[str, Difference]],
    manifests: Mapping[str, Mapping[str, Any]],
    gates: Mapping[str, Mapping[str, Any] | None],
    *,
    serving: Mapping[str, float] | None = None,
    more: str = "",
) -> str:
    """The card of the day's challenger.

    Args:
        settings: of the run.
        metrics: content of metrics.json.
        intervals: challenger minus each opponent, by its name in metrics.json and the metric's (`metric_intervals`).
        manifests: lake manifests of `items`, `interactions` and `challenger`.
        gates: record of each stage's gate, None where it was not run.
        serving: metrics `serving_...` of the version's run, measured on its bundle.
        more: Markdown that comes before the limits, such as pictures.

    Returns:
        Markdown.
    """
    values = settings.flat()
    return markdown("card.md").render(
        settings=settings,
        manifests=manifests,
        trained=manifests["challenger"],
        chosen={name.split(".")[1]: values[name] for name in _SETTINGS},
        table=quality(metrics, intervals),
        gates=gates,
        short=_SHORT,
        serving=serving,
        more=more,
        depth=Cutoffs.of(metrics).first,
    )


def quality(metrics: Mapping[str, Any], intervals: Mapping[str, Mapping[str, Difference]]) -> dict[str, Any]:
    """Metrics of challenger, champion and baseline beside each other, with their differences, for the template `facts.md`.

    Args:
        metrics: content of metrics.json.
        intervals: as for `model_card`.

    Returns:
        users, columns (their titles), rows (label of a metric -> its cells), and notes (sentences).
    """
    cutoffs = Cutoffs.of(metrics)
    columns: list[tuple[str, Any]] = [("challenger", metrics["models"]["challenger"])]
    for name, title in (("champion", "champion"), ("anchor", "best ever"), ("baseline", "baseline")):
        if metrics["models"].get(name) is not None:
            columns += [(title, metrics["models"][name]), ("difference", intervals.get(name, {}))]
    if metrics.get("popularity"):
        columns.append(("most popular", metrics["popularity"]))
    rows = {
        label: [_cell(values.get(key)) for _, values in columns]
        for key, label in cutoffs.labels.items()
        if any(values.get(key) is not None for _, values in columns)
    }
    notes = _notes(metrics, intervals, cutoffs)
    return {"users": metrics["users"], "columns": [title for title, _ in columns], "rows": rows, "notes": notes}


def _notes(metrics: Mapping[str, Any], intervals: Mapping[str, Mapping[str, Difference]], cutoffs: Cutoffs) -> list[str]:
    """What the table means for promotion, and what it lacks."""
    incumbent = metrics.get("incumbent_version")
    names = {
        "champion": f"champion (version {incumbent})",
        "anchor": f"the best version ever in force (version {metrics.get('anchor_version')})",
    }
    notes = []
    for name, found in intervals.items():
        gap = found[cutoffs.recall]
        interval = f"{gap.confidence:.0%} interval {_interval(gap)}"
        notes.append(f"Recall@{cutoffs.first} against {names.get(name, name)}: {gap.mean:+.4f}, {interval}.")
    if incumbent is None:
        why = metrics.get("incumbent_note")
        notes.append(f"Nothing was compared with the champion: {why}." if why else "There was no champion to compare with.")
    elif "champion" not in intervals:
        notes.append(f"Champion version {incumbent} could not be compared: {metrics.get('incumbent_note') or 'no rows'}.")
    if metrics.get("anchor_note"):
        notes.append(f"The best version ever in force, {metrics.get('anchor_version')}, has no rank: {metrics['anchor_note']}.")
    if metrics.get("k_note"):
        notes.append(f"Mind: {metrics['k_note']}.")
    return notes


def _cell(value: float | Difference | None) -> str:
    if isinstance(value, Difference):
        return f"{value.mean:+.4f} {_interval(value)}"
    return "" if value is None else f"{value:.4f}"


def _interval(gap: Difference) -> str:
    return f"[{gap.low:+.4f}, {gap.high:+.4f}]"
