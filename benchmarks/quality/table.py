"""The quality benchmark's rows as markdown: for the terminal and for the pages of docs."""

from typing import Any

from benchmarks.quality.methods import CONTENDERS
from benchmarks.quality.plan import ESTIMATES_IT, OURS

CHANGED = {OURS: "ESANS: ", ESTIMATES_IT: f"{CONTENDERS[ESTIMATES_IT].title}: "}  # how the subject of a change to one begins
_HEADINGS = {OURS: ("ours, changed", "to ours"), ESTIMATES_IT: (f"{CONTENDERS[ESTIMATES_IT].title}, changed", "to the whole")}
YARDSTICK, AGAINST = "yardstick: ", f"{CONTENDERS[OURS].title} against "
LEFT_OUT = "recall_50 on validation, left out"
_METRICS = {"recall_50": "Recall@50", "recall_200": "Recall@200", "ndcg_50": "NDCG@50"}
TITLES = {
    "tiktok": "TikTok, 6,710 items",
    "movielens": "MovieLens with posters, 9,487 items",
    "quick": "small shop, 3,000 items",
    "shop-100k-low": "shop, 100,000 items, little noise",
    "shop-100k-mid": "shop, 100,000 items",
    "shop-100k-high": "shop, 100,000 items, much noise",
    "shop-1m": "shop, 1,000,000 items",
}
_YARDSTICKS = {
    "popularity": "most popular items",
    "planted_taste": "an oracle that knows every user's taste",
    "item_cosine": "item cosine",
    "ease": "EASE",
    "als": "ALS (implicit)",
    "bpr": "BPR (implicit)",
    "recbole_bpr": "BPR (RecBole)",
    "recbole_lightgcn": "LightGCN (RecBole)",
}

Rows = list[dict[str, Any]]


def block(result: dict[str, Any]) -> str:
    """A table for each data set with finished methods, best Recall@50 first, and tables of the changes to one of them.

    Args:
        result: what `write_result` wrote.
    """
    cases = {row["case"]: [other for other in result["rows"] if other["case"] == row["case"]] for row in result["rows"]}
    finished = {case: rows for case, rows in cases.items() if any(row["metric"] == "recall_50_sd" for row in rows)}
    parts = ((_methods(case, rows), *(_changes(rows, method) for method in CHANGED)) for case, rows in finished.items())
    return "\n\n".join(part for of_case in parts for part in of_case if part)


def _methods(case: str, rows: Rows) -> str:
    value = {(row["subject"], row["metric"]): row["value"] for row in rows}
    reached = {row["subject"] for row in rows if row["metric"] == "recall_50"}
    subjects = {subject for subject in reached if not subject.startswith(tuple(CHANGED.values()))}
    lines = [
        f"**{TITLES.get(case, case)}**",
        "",
        f"| | {' | '.join(_METRICS.values())} | ours against it: p (Holm) |",
        f"|---|{'---|' * (len(_METRICS) + 1)}",
    ]
    for subject in sorted(subjects, key=lambda subject: -value[subject, "recall_50"]):
        cells = [_number(value.get((subject, metric)), value.get((subject, f"{metric}_sd"))) for metric in _METRICS]
        p = value.get((AGAINST + subject, "p (Holm)"))
        yardstick = subject.removeprefix(YARDSTICK)
        name = subject if yardstick == subject else f"*{_YARDSTICKS.get(yardstick, yardstick)}*"
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if p is None else f'{p:.2g}'} |")
    for row in rows:
        if row["metric"] == "gain":
            lines += ["", f"Ours over the best baseline, {row['peer']}: {row['ratio']:.3f}; bar {row['bar']}: {_verdict(row)}."]
        elif row["metric"] == "recall_50 over EASE":
            lines += ["", f"Ours over EASE: {row['ratio']:.3f}; bar {row['bar']}: {_verdict(row)}."]
        elif row["metric"].startswith("gap closed"):
            lines += [
                "",
                f"Of the gap from uniform to full softmax, ours closes {row['value']:.2f}; bar {row['bar']}: {_verdict(row)}.",
            ]
    left_out = [row for row in rows if row["metric"] == LEFT_OUT]
    for tried in sorted({row["repeats"] for row in left_out}):
        best_first = sorted((row for row in left_out if row["repeats"] == tried), key=lambda row: -row["ratio"])
        named = ", ".join(f"{row['subject']} {row['ratio']:.3f}" for row in best_first)
        lines += ["", f"Left out after {tried} settings, by Recall@50 on validation ({best_first[0]['peer']} is 1): {named}."]
    return "\n".join(lines)


def _changes(rows: Rows, method: str) -> str:
    p_of = {row["subject"]: f"{row['value']:.2g}" for row in rows if row["metric"] == "p"}
    prefix = CHANGED[method]
    changed = [row for row in rows if row["subject"].startswith(prefix) and row["metric"] == "recall_50"]
    if not changed:
        return ""
    what, to = _HEADINGS[method]
    lines = [f"| {what} | Recall@50 | {to} | p | seeds |", "|---|---|---|---|---|"]
    for row in changed:
        name, p = row["subject"].removeprefix(prefix), p_of.get(row["subject"], "")
        lines.append(f"| {name} | {row['value']:.4f} | {row['ratio']:.3f} | {p} | {row['repeats']} |")
    return "\n".join(lines)


def _number(mean: float | None, sd: float | None) -> str:
    return "" if mean is None else f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}")


def _verdict(row: dict[str, Any]) -> str:
    return "holds" if row["holds"] else "**missed**"
