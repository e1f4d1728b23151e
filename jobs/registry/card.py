"""The model card: what a person must know before serving a version, on one page of Markdown."""

from collections.abc import Mapping
from typing import Any

from jobs.base.cutoffs import Cutoffs
from jobs.base.settings import PipelineSettings
from jobs.registry.promotion import Difference

_SHORT = 110  # characters of a gate's finding: the registry holds 5,000 of the whole card
_SETTINGS = (
    "sampling.method",
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
    challenger = manifests["challenger"]
    sections = [
        f"# {settings.registry.model_name}, trained for {settings.ds}",
        "Retrieves items for a user from the user's latest items: a two-tower model trained with semantic-aware negatives "
        "and interpolation (ESANS, WWW 2025, arXiv 2502.16077). Input: the item ids of each history, oldest first; "
        "output: ids and scores of the best items that are not in it.",
        "## Data",
        _data(settings, manifests),
        "## Method",
        _method(settings, challenger["stats"]),
        "## Quality on the hold-out",
        quality(metrics, intervals),
        "## Gates",
        "\n".join(f"- {stage}: {_gate(record)}" for stage, record in gates.items()),
        *(["## Serving", _serving(serving)] if serving else []),
        *([more] if more else []),
        "## Known limits",
        "- Judged offline, on items that users found by themselves or through earlier recommendations.\n"
        "- Answers only with items of its own catalogue; items that came later need the next version.\n"
        "- A user without any known item gets the same answer as every other such user.\n"
        f"- Promotion asks for Recall@{Cutoffs.of(metrics).first} and for floors; the other intervals above are for the eye.",
        "## Lineage",
        _lineage(challenger),
    ]
    return "\n\n".join(sections) + "\n"


def _data(settings: PipelineSettings, manifests: Mapping[str, Mapping[str, Any]]) -> str:
    stats = manifests["interactions"]["stats"]
    split = f", split {stats['split']}" if stats.get("split") else ""
    return (
        f"Source `{settings.data.source}` up to {settings.ds}: {manifests['items']['rows']:,} items, "
        f"{manifests['interactions']['rows']:,} events{split}."
    )


def _method(settings: PipelineSettings, stats: Mapping[str, Any]) -> str:
    values = settings.flat()
    chosen = ", ".join(f"{name.split('.')[1]} {values[name]}" for name in _SETTINGS if name != "sampling.method")
    epoch = f", best epoch {stats['best_epoch']}" if "best_epoch" in stats else ""
    return f"Negatives: {stats.get('method', settings.sampling.method)}{epoch}. {chosen}."


def quality(metrics: Mapping[str, Any], intervals: Mapping[str, Mapping[str, Difference]]) -> str:
    """Metrics of challenger, champion and baseline beside each other, with their differences, in Markdown.

    Args:
        metrics: content of metrics.json.
        intervals: as for `model_card`.
    """
    incumbent, cutoffs = metrics.get("incumbent_version"), Cutoffs.of(metrics)
    names = {
        "champion": f"champion (version {incumbent})",
        "anchor": f"the best version ever in force (version {metrics.get('anchor_version')})",
    }
    columns: list[tuple[str, Any]] = [("challenger", metrics["models"]["challenger"])]
    for name, title in (("champion", "champion"), ("anchor", "best ever"), ("baseline", "baseline")):
        if metrics["models"].get(name) is not None:
            columns += [(title, metrics["models"][name]), ("difference", intervals.get(name, {}))]
    if metrics.get("popularity"):
        columns.append(("most popular", metrics["popularity"]))
    lines = [f"| {metrics['users']:,} users | {' | '.join(title for title, _ in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for key, label in cutoffs.labels.items():
        if any(values.get(key) is not None for _, values in columns):
            lines.append(f"| {label} | {' | '.join(_cell(values.get(key)) for _, values in columns)} |")
    lines.append("")
    for name, found in intervals.items():
        gap = found[cutoffs.recall]
        against = f"- Recall@{cutoffs.first} against {names.get(name, name)}"
        lines.append(f"{against}: {gap.mean:+.4f}, {gap.confidence:.0%} interval {_interval(gap)}.")
    if incumbent is None:
        lines.append("- There was no champion to compare with.")
    elif "champion" not in intervals:
        lines.append(f"- Champion version {incumbent} could not be compared: {metrics.get('incumbent_note') or 'no rows'}.")
    if metrics.get("anchor_note"):
        lines.append(
            f"- The best version ever in force, {metrics.get('anchor_version')}, has no rank: {metrics['anchor_note']}."
        )
    if metrics.get("k_note"):
        lines.append(f"- Mind: {metrics['k_note']}.")
    return "\n".join(lines)


def _cell(value: float | Difference | None) -> str:
    if isinstance(value, Difference):
        return f"{value.mean:+.4f} {_interval(value)}"
    return "" if value is None else f"{value:.4f}"


def _interval(gap: Difference) -> str:
    return f"[{gap.low:+.4f}, {gap.high:+.4f}]"


def _gate(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "not run"
    if not record["failures"]:
        return f"{record['checked']} checks passed"
    first, others = record["failures"][0], len(record["failures"]) - 1
    finding = f"{first['severity']}: {first['message'][:_SHORT]}" + (f", and {others} more" if others else "")
    return f"{record['checked']} checks, {others + 1} not met ({finding})"


def _serving(measured: Mapping[str, float]) -> str:
    return (
        f"The bundle's index finds {measured['serving_recall_200']:.4f} of the exact 200 best; one query takes "
        f"{measured['serving_p50_ms']:.1f} ms (median), {measured['serving_p99_ms']:.1f} ms (p99), on one thread of the "
        "machine that registered it."
    )


def _lineage(challenger: Mapping[str, Any]) -> str:
    rows = [
        f"- code {challenger['git_sha']}, settings {challenger['config_hash']}, weights {challenger['digest'][:16]}",
        f"- MLflow run {challenger['stats'].get('mlflow_run_id', 'unknown')}, run key {challenger['stats']['run_key']}",
    ]
    inputs = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(challenger["inputs"].items()))
    return "\n".join([*rows, f"- tables: {inputs or 'none recorded'}"])
