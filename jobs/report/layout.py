"""The summary as plain text: aligned, at most 100 columns where values allow, about 45 lines."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.base.accounting import accounting, set_aside, splits
from jobs.base.cutoffs import Cutoffs
from jobs.gates.stages import STAGES
from jobs.lake.views import MODALITIES
from jobs.pages.words import MODELS, duration, verdict_text
from jobs.report.sentences import picture_sentences, user_sentences

_WIDTH, _LABEL = 100, 14
_SAMPLERS = {
    "uniform": "uniform", "in_batch": "in-batch", "easy": "easy", "hard": "hard", "same_cluster": "same cluster (excluded)"
}  # fmt: skip
_MAX_FINDINGS = 6


def format_summary(summary: Mapping[str, Any]) -> str:
    """The text printed at the end of a run.

    Args:
        summary: as `build_summary` makes it (or `summary.json` holds it); missing parts are left out or said to be missing.
    """
    source = "embedded shop" if summary.get("embedded") else str(summary.get("source") or "unknown source")
    lines = ["", f"ESANS daily retraining, {summary.get('date')}   ({source})", "=" * _WIDTH]
    sections: tuple[tuple[str, Iterable[str]], ...] = (
        ("FAILED", _failed(summary)),
        ("INGESTED", _ingested(summary)),
        ("REJECTED", _rejected(summary)),
        ("VIEWS", _views(summary)),
        ("CLUSTERS", _clusters(summary)),
        ("TRAINING", [line for sentence in training_sentences(summary) for line in _wrap(sentence)]),
        ("RETRIEVAL", _retrieval(summary)),
        ("FALSE NEG.", _false_negatives(summary)),
        ("VERDICT", _verdict(summary)),
        ("CANDIDATES", _candidates(summary)),
        ("GATES", _gates(summary)),
        ("STEPS", _steps(summary)),
        ("LOOK NEXT", _where(summary)),
    )
    for label, body in sections:
        for number, line in enumerate(body):
            lines.append(f"{label if number == 0 else '':<{_LABEL}}{line}".rstrip())
    lines.append("=" * _WIDTH)
    if total := summary.get("total"):
        lines.append(f"done in {total['minutes']} min, peak memory of all processes {total['peak_memory_mb']:,} MB")
    return "\n".join(lines)


def _failed(summary: Mapping[str, Any]) -> list[str]:
    failed = [step for step in summary.get("steps") or () if step["state"] != "success"]
    return [line for step in failed for line in _wrap(f"{step['step']}: {step.get('message') or step['state']}")]


def _ingested(summary: Mapping[str, Any]) -> list[str]:
    ingest = summary.get("ingest")
    if not ingest:
        return ["nothing: the run stopped before"]
    events = sum((ingest.get("events") or {}).values())
    return [
        f"{_count(ingest.get('items'))} items, {_count(ingest.get('users'))} users, {_count(events)} events "
        f"from {ingest.get('first')} to {ingest.get('last')}",
        *_out_of_stock(ingest),
        *(line for sentence in (*splits(ingest), *user_sentences(summary)) for line in _wrap(sentence)),
    ]


def _out_of_stock(ingest: Mapping[str, Any]) -> list[str]:
    count = ingest.get("out_of_stock")
    return [f"out of stock: {_count(count)} items, which are in no answer"] if count else []


def training_sentences(summary: Mapping[str, Any]) -> list[str]:
    """How the challenger was trained. The model that serves comes first, because customers get that one."""
    training = summary.get("training")
    if not training:
        return []
    refit, found = training.get("refit"), []
    if refit and refit["problem"]:
        seen = "Mind: the model that serves has not seen the latest days. One was trained on them too, but"
        found.append(f"{seen} {refit['problem']}.")
    elif refit and refit["overlap"] is not None:
        found.append(
            f"The model that serves was trained again on all events. It shares {refit['overlap']:.0%} of a user's best items "
            "with the judged one, whose figures these are."
        )
    read = "as a set, without order" if training.get("order") == "set" else "one after the other"
    found.append(
        f"Events were read {read}. Of {training['epochs']} epochs, {training['best_epoch']} was the best on validation."
    )
    found += [training["negatives"]["text"]] if training.get("negatives") else []
    return found + _agreed(summary.get("agreed"))


def _agreed(agreed: Mapping[str, Any] | None) -> list[str]:
    """Which settings of the run a person agreed to, and which of these somebody has given another value for this run."""
    if not agreed:
        return []
    found, otherwise = [], agreed["otherwise"]
    who = f"by {agreed['by']} on {agreed['at'][:10]}, after the search of {agreed['date']}"
    if used := [f"{name} {value}" for name, value in agreed["settings"].items() if name not in otherwise]:
        found.append(f"Tuned settings are in force, agreed {who}: {', '.join(used)}.")
    if otherwise:
        given = ", ".join(f"{name} {value} instead of {agreed['settings'][name]}" for name, value in otherwise.items())
        found.append(f"Mind: this run was given other values than those agreed {who}: {given}.")
    return found


def _rejected(summary: Mapping[str, Any]) -> list[str]:
    ingest = summary.get("ingest")
    if not ingest:
        return []
    return [line for sentence in (set_aside(ingest) or ["nothing"]) + accounting(ingest) for line in _wrap(sentence)]


def _views(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    views = summary.get("views") or {}
    for view in MODALITIES:
        if view not in views:
            continue
        stats = views[view]
        items, ok = stats.get("items") or 0, stats.get("ok")
        gaps = [
            f"{name.replace('_', ' ')} {_count(stats[name])}"
            for name in ("missing", "unreadable", "too_few_events")
            if stats.get(name)
        ]
        work = [f"{_count(stats[name])} {name}" for name in ("encoded", "reused") if stats.get(name)]
        share = f"{ok / items:6.1%} of items" if items and ok is not None else "unknown"
        lines.append(f"{view:<10}{share}   {'; '.join(filter(None, [', '.join(gaps), ', '.join(work)]))}")
        lines += [line for sentence in picture_sentences(stats) for line in _wrap(sentence)]
    return lines


def _clusters(summary: Mapping[str, Any]) -> list[str]:
    clusters = summary.get("clusters")
    if not clusters:
        return []
    primary, pairs = clusters["primary"], clusters["pairs"]
    balance = "" if primary.get("balance") is None else f", balance {primary['balance']:.2f}"
    lines = [
        f"{primary['count']} primary, sizes {_sizes(primary)}{balance}",
        f"{pairs['count']} (primary, secondary) pairs, sizes {_sizes(pairs)}",
    ]
    if clusters.get("distortion") is not None:
        growth = (
            "" if clusters.get("distortion_growth") is None else f", {clusters['distortion_growth']:+.1%} since the date before"
        )
        empty = f"{clusters.get('empty_codes')} codes without items ({clusters.get('retired_codes')} retired)"
        lines.append(f"{empty}; distortion {clusters['distortion']:.4f}{growth}")
    repairs = f"{clusters.get('repairs') or 0} repaired"
    churn = clusters.get("churn")
    if churn:
        start = f"churn since {churn.get('since')}: {churn.get('primary', 0):.1%} of unchanged items"
    else:
        start = f"cold start ({clusters.get('cold_because')})" if clusters.get("cold_because") else "no churn measured"
    lines += _wrap(f"{repairs}; {start}")
    if clusters.get("without_view"):
        lines.append(f"items without any view, and so without a cluster: {_count(clusters['without_view'])}")
    truth = summary.get("clusters_vs_truth")
    if truth:
        lines.append(
            f"against the planted world: primary ~ category NMI {_number(truth.get('nmi_category'))}, "
            f"pair ~ leaf NMI {_number(truth.get('nmi_leaf'))}"
        )
    return lines


def _retrieval(summary: Mapping[str, Any]) -> list[str]:
    models = summary.get("models")
    if not models:
        return ["not measured: the run stopped before"]
    cutoffs = Cutoffs.of(summary)
    shown = (*cutoffs.recalls, cutoffs.ndcg, cutoffs.coverage)
    columns = {name: cutoffs.labels[name].replace("Coverage", "coverage") for name in shown}
    lines = [f"{_count(summary.get('users')) + ' hold-out users':<30}" + "".join(f"{name:>13}" for name in columns.values())]
    for key, name in MODELS.items():
        values = models.get(key)
        if key == "champion" and summary.get("incumbent_version"):
            name = f"champion (version {summary['incumbent_version']})"
        if key == "anchor" and summary.get("anchor_version"):
            name = f"best ever (version {summary['anchor_version']})"
        if values:
            lines.append(f"{name:<30}" + "".join(f"{_number(values.get(column), 4):>13}" for column in columns))
        elif key == "champion":
            note = summary.get("incumbent_note")
            lines.append(f"{name:<30}{'':>4}" + (f"not comparable: {note}" if note else "none yet"))
        elif key == "anchor" and summary.get("anchor_note"):
            lines.append(f"{name:<30}{'':>4}not comparable: {summary['anchor_note']}")
    for name, found in (summary.get("recall_apart") or {}).items():
        recall = ", ".join(f"{MODELS[key]} {_number(found['recall'][key], 4)}" for key in MODELS if key in found["recall"])
        lines += _wrap(f"{name}: {recall} ({_count(found['users'])} users, {cutoffs.labels[cutoffs.recall]})")
    if summary.get("k_note"):
        lines += _wrap(str(summary["k_note"]))
    return lines


def _false_negatives(summary: Mapping[str, Any]) -> list[str]:
    rates = summary.get("false_negative_rate")
    if not rates:
        return []
    known = [f"{label} {rates[key]:.1%}" for key, label in _SAMPLERS.items() if rates.get(key) is not None]
    return _wrap("share of drawn negatives the user truly likes: " + ", ".join(known))


def _verdict(summary: Mapping[str, Any]) -> list[str]:
    verdict = summary.get("verdict") or {}
    head = verdict_text(verdict)
    lines = _wrap(head)
    for reason in verdict.get("reasons") or ():
        # A promotion with bad news has it in its head, and the note on the depths stands beside the metrics.
        if reason not in head and reason != summary.get("k_note"):
            lines += _wrap(f"- {reason}")
    return lines


def _candidates(summary: Mapping[str, Any]) -> list[str]:
    found = summary.get("candidates")
    if not found:
        return []
    how, recall = f"{found['index']} search", found.get("index_recall")
    if recall is not None:
        how += f", which finds {recall:.1%} of the exact top"
    fewer, fewest = found.get("users_with_fewer", 0), found.get("fewest", 0)
    count = f"{found['k']} for each of {found['users']:,} users"
    if fewer:  # they have met so much of a small catalogue
        count = f"up to {found['k']} for each of {found['users']:,} users; {fewer:,} have fewer, the fewest {fewest:,}"
    return _wrap(f"{count}, from version {found['model_version']} ({how})")


def _gates(summary: Mapping[str, Any]) -> list[str]:
    gates = summary.get("gates") or {}
    if not gates:
        return []
    word = {None: "passed", "warning": "warned", "critical": "STOPPED"}
    lines = _wrap(
        ", ".join(
            f"{stage.replace('_', ' ')} {word.get(gates[stage].get('worst'), '?')} ({gates[stage].get('checked')})"
            for stage in STAGES
            if stage in gates
        )
    )
    findings = summary.get("findings") or []
    for finding in findings[:_MAX_FINDINGS]:
        lines += _wrap(f"- {finding['severity']}, {finding['stage']}: {finding['message']}")
    if len(findings) > _MAX_FINDINGS:
        lines.append(f"- and {len(findings) - _MAX_FINDINGS} more on the report")
    return lines


def _steps(summary: Mapping[str, Any]) -> list[str]:
    steps = summary.get("steps") or []
    if not steps:
        return []
    peak = max((step.get("peak_memory_mb") or 0 for step in steps), default=0)
    total = sum(step.get("seconds") or 0 for step in steps)
    cells = [_step_cell(step) for step in steps]
    height = -(-len(cells) // 2)
    rows = [cells[row] + ("      " + cells[row + height] if row + height < len(cells) else "") for row in range(height)]
    return [f"{duration(total)} of work in {len(steps)} steps, peak memory {_count(peak)} MB", *rows]


def _step_cell(step: Mapping[str, Any]) -> str:
    memory = "unchanged" if step.get("reused") else f"{step.get('peak_memory_mb') or 0:6d} MB"
    return f"{step['step']:<19}{step.get('seconds') or 0:6.1f} s{memory:>11}"


def _where(summary: Mapping[str, Any]) -> list[str]:
    where = summary.get("where") or {}
    names = {"report": "report", "data_docs": "Data Docs", "mlflow": "MLflow"}
    return [f"{label:<11}{where[key]}" for key, label in names.items() if where.get(key)]


def _sizes(sizes: Mapping[str, Any]) -> str:
    return f"{_count(sizes['smallest'])} / {sizes['median']:,.0f} / {_count(sizes['largest'])} (min / median / max)"


def _count(value: Any) -> str:
    return "?" if value is None else f"{value:,}"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - _LABEL, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
