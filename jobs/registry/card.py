"""The model card: what a person must know before serving a version, on one page of Markdown."""

from collections.abc import Mapping
from typing import Any

from jobs.registry.promotion import Difference
from jobs.settings import PipelineSettings

_METRICS = ("recall_50", "recall_200", "ndcg_50", "coverage_50")
_SLICES = ("head_recall_50", "tail_recall_50", "new_item_recall_50")
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
    differences: Mapping[str, Difference],
    manifests: Mapping[str, Mapping[str, Any]],
    gates: Mapping[str, Mapping[str, Any] | None],
) -> str:
    """The card of the day's challenger.

    Args:
        settings: of the run.
        metrics: content of metrics.json.
        differences: of Recall@50, challenger minus each opponent, by its name in metrics.json.
        manifests: lake manifests of `items`, `interactions` and `challenger`.
        gates: record of each stage's gate, None where it was not run.

    Returns:
        Markdown.
    """
    challenger = manifests["challenger"]
    sections = [
        f"# {settings.registry.model_name}, trained for {settings.ds}",
        "Retrieves items for a user from the user's latest items: a two-tower model trained with semantic-aware negatives "
        "and interpolation (ESANS, WWW 2025, arXiv 2502.16077). Input: item rows of a history, padded with -1 on the left; "
        "output: rows of the best unseen items. `item_ids.parquet` maps rows to ids.",
        "## Data",
        _data(settings, manifests),
        "## Method",
        _method(settings, challenger["stats"]),
        "## Quality on the hold-out",
        _quality(metrics, differences),
        "## Gates",
        "\n".join(f"- {stage}: {_gate(record)}" for stage, record in gates.items()),
        "## Known limits",
        "- Judged offline, on items that users found by themselves or through earlier recommendations.\n"
        "- Answers only with items of its own catalogue; items that came later need the next version.\n"
        "- A user without any known item gets the same answer as every other such user.\n"
        "- Compared on Recall@50 alone; the slices above have floors, not intervals.",
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


def _quality(metrics: Mapping[str, Any], differences: Mapping[str, Difference]) -> str:
    order = ("challenger", "champion", "baseline")
    models = {name: metrics["models"][name] for name in order if metrics["models"].get(name) is not None}
    if metrics.get("popularity"):
        models["popularity"] = metrics["popularity"]
    lines = [f"| {metrics['users']:,} users | {' | '.join(models)} |", "|---" * (len(models) + 1) + "|"]
    for name in (*_METRICS, *_SLICES):
        lines.append(f"| {name} | {' | '.join(_number(values.get(name)) for values in models.values())} |")
    lines.append("")
    incumbent = metrics.get("incumbent_version")
    for name, gap in differences.items():
        opponent = f"champion (version {incumbent})" if name == "champion" else name
        lines.append(
            f"- Recall@50 against {opponent}: {gap.mean:+.4f}, {gap.confidence:.0%} interval [{gap.low:+.4f}, {gap.high:+.4f}]."
        )
    if incumbent is None:
        lines.append("- There was no champion to compare with.")
    elif "champion" not in differences:
        lines.append(f"- Champion version {incumbent} could not be compared: {metrics.get('incumbent_note') or 'no rows'}.")
    return "\n".join(lines)


def _gate(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "not run"
    if not record["failures"]:
        return f"{record['checked']} checks passed"
    messages = [f"{failure['severity']}: {failure['message'][:160]}" for failure in record["failures"][:2]]
    return f"{record['checked']} checks, {len(record['failures'])} not met ({'; '.join(messages)})"


def _lineage(challenger: Mapping[str, Any]) -> str:
    rows = [
        f"- code {challenger['git_sha']}, settings {challenger['config_hash']}, weights {challenger['digest'][:16]}",
        f"- MLflow run {challenger['stats'].get('mlflow_run_id', 'unknown')}, run key {challenger['stats']['run_key']}",
    ]
    inputs = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(challenger["inputs"].items()))
    return "\n".join([*rows, f"- tables: {inputs or 'none recorded'}"])


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"
