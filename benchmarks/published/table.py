"""The published benchmark's rows as markdown: the head of the page, which says the bad news first, and a table for each log."""

from typing import Any

from benchmarks.published.logs import LOGS, METRICS, Log

NAMES = {metric: f"{'Recall' if metric.startswith('recall') else 'NDCG'}@{metric.rsplit('_', 1)[1]}" for metric in METRICS}
RECIPE, TUNED = "recipe", "tuned"
PLAIN, REFIT, REPEATS, TIES_SHUFFLED = "", ", refit", ", seen items kept", ", ties shuffled"
QUOTED_AS, YARDSTICK = "quoted: ", "yardstick: "
_YARDSTICKS = {"popularity": "most popular items", "item_cosine": "item cosine", "ease": "EASE"}
_BAR = " against the bar"

Result = dict[str, Any]
Rows = list[dict[str, Any]]


def head(result: Result) -> str:
    """What was missed, what is not measured, and what was met, in this order.

    A log whose recipe meets its bars needs no tuning.

    Args:
        result: what `write_result` wrote.
    """
    bars = {name: [row for row in _of(result, name) if row["metric"].endswith(_BAR)] for name in LOGS}
    tuned = {name: [row for row in rows if row["subject"].startswith(TUNED)] for name, rows in bars.items()}
    recipe = {name: [row for row in rows if row["subject"].startswith(RECIPE)] for name, rows in bars.items()}
    missed = [_missed(row) for rows in tuned.values() for row in rows if not row["holds"]]
    met = [_where(row) for rows in tuned.values() for row in rows if row["holds"]]
    low = [_missed(row) for rows in recipe.values() for row in rows if not row["holds"]]
    untuned = [name for name in LOGS if not tuned[name]]
    enough = [name for name in untuned if recipe[name] and all(row["ratio"] >= 1 for row in recipe[name])]
    waiting = [LOGS[name].title for name in untuned if name not in enough]
    lines = []
    if missed:
        lines.append(f"- **Missed, tuned:** {'; '.join(missed)}.")
    if low:
        lines.append(f"- **The defaults alone are below 95 % of the bar:** {'; '.join(low)}.")
    if waiting:
        lines.append(f"- **Not tuned yet with all seeds:** {'; '.join(waiting)}.")
    if met:
        lines.append(f"- Met, tuned: {'; '.join(met)}.")
    if enough:
        named = "; ".join(f"{_where(row)} {row['value']:.4f}" for name in enough for row in recipe[name])
        lines.append(f"- Met by the defaults alone, so nothing was tuned: {named}.")
    return "\n".join(lines)


def block(result: Result) -> str:
    """A table for each log, best first by its main metric, and its bars.

    Args:
        result: what `write_result` wrote.
    """
    return "\n\n".join(_log(log, result) for log in LOGS.values())


def _log(log: Log, result: Result) -> str:
    rows = _of(result, log.name)
    value = {(row["subject"], row["metric"]): row["value"] for row in rows}
    seeds = {row["subject"]: row["repeats"] for row in rows}
    subjects = list(dict.fromkeys(row["subject"] for row in rows if row["metric"] in METRICS))
    lines = [f"### {log.title}", "", f"Split: {log.split}."]
    if log.tables_use_validation:
        lines[-1] += " The tables train on all that is not test, so the refit is the row to compare."
    if subjects:
        lines += ["", f"| | {' | '.join(NAMES.values())} | seeds | seconds |", f"|---|{'---|' * (len(NAMES) + 2)}"]
    for subject in sorted(subjects, key=lambda subject: -value.get((subject, log.main), value.get((subject, METRICS[0]), 0.0))):
        cells = [number(value.get((subject, metric)), value.get((subject, f"{metric}_sd"))) for metric in METRICS]
        ours = subject.startswith((RECIPE, TUNED))
        took = f"{value[subject, 'seconds']:,.0f}" if ours else ""
        lines.append(f"| {_title(subject)} | {' | '.join(cells)} | {seeds[subject] if ours else ''} | {took} |")
    if not any(subject.startswith((RECIPE, TUNED)) for subject in subjects):
        lines += ["", "Ours was not run yet."]
    for row in rows:
        if row["metric"].endswith(_BAR):
            verdict = "met" if row["holds"] else "**missed**"
            bar = float(row["bar"].removeprefix("value >= "))
            lines += ["", f"Bar, {_where(row)} ≥ {bar:.4f} ({row['peer']}), {row['subject']}: {row['value']:.4f}, {verdict}."]
    tuned = result.get("tuned", {}).get(log.name, {})
    if tuned.get("settings"):
        named = ", ".join(f"`{name}` {value}" for name, value in sorted(tuned["settings"].items()))
        lines += [
            "",
            f"Chosen on validation, with the method `{tuned['method']}`: {named}. All else is a default of the library.",
        ]
    if log.name in result.get("pictures", {}):
        lines += ["", f"![Validation by epoch on {log.title}](../images/{result['pictures'][log.name]})"]
    return "\n".join(lines)


def _of(result: Result, name: str) -> Rows:
    return [row for row in result["rows"] if row["case"] == name]


def _title(subject: str) -> str:
    if subject.startswith(YARDSTICK):
        return f"*{_YARDSTICKS[subject.removeprefix(YARDSTICK)]}*"
    return subject if subject.startswith(QUOTED_AS) else f"**{subject}**"


def _where(row: dict[str, Any]) -> str:
    title = LOGS[row["case"]].title
    name = title if title.startswith("Amazon Beauty,") else title.split(",")[0]
    return f"{name} {NAMES[row['metric'].removesuffix(_BAR)]}"


def _missed(row: dict[str, Any]) -> str:
    return f"{_where(row)} {row['value']:.4f}, {row['ratio']:.1%} of the bar"


def number(mean: float | None, sd: float | None) -> str:
    """A mean with its standard deviation, if there is one; nothing without a mean."""
    return "" if mean is None else f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}")
