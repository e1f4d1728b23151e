"""Gate on the evaluated models: the numbers can be true, and the towers did not collapse.

Nothing here demands a level of recall, because `jobs/judge.py` decides whether a model is good enough to be champion.
"""

import json
import math
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd

from jobs.base.cutoffs import SLICES, Cutoffs, validation_recall
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.gates.checks import ROW, Judged, Suite, check, parameter, true
from jobs.lake.tables import Lake

_POPULARITY_FACTOR = 0.5  # below half the recall of "the most popular items for everyone", a model is probably broken


def suites(settings: PipelineSettings) -> list[Suite]:
    """What must hold for the metrics of every model, for the challenger beside the others, and for its learning curve.

    The names of the metrics contain the depths of the date's evaluation, or `KS` if there is no evaluation.
    """
    cutoffs = Cutoffs.of(_metrics(settings))
    between, present, gate = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToNotBeNull, settings.gate
    again = "run evaluate again for this date; if the failure stays, look at the training curves."
    retrain = "look at the training curves; lower training.learning_rate or change training.temperature, and train again."
    metrics = Suite.of(
        "metrics",
        *(check(present, name, "critical", f"{name} is a number", again) for name in _shares(cutoffs)),
        *(
            check(between, name, "critical", f"{name} lies in [0, 1]", again, min_value=0, max_value=1)
            for name in (*_shares(cutoffs), *map(cutoffs.slice_recall, SLICES))
        ),
        *(
            check(between, _gain(deep), "critical", f"{deep} is not below {cutoffs.recall}", again, min_value=-1e-9)
            for deep in cutoffs.recalls[1:]
        ),
        true("finite", "critical", "all item embeddings are finite", retrain),
        check(present, "finite", "critical", "item embeddings were checked", again),
    )
    challenger = Suite.of(
        "challenger",
        check(
            between,
            "users",
            "critical",
            "enough users were evaluated (gate.min_evaluated_users)",
            "provide a longer log, or change ingest.split.",
            min_value=gate.min_evaluated_users,
        ),
        check(present, "embedding_spread", "critical", "the spread of the item embeddings is a number", again),
        check(
            between,
            "embedding_spread",
            "critical",
            "item embeddings are not collapsed (std x sqrt(D), gate.min_embedding_spread)",
            retrain,
            min_value=gate.min_embedding_spread,
        ),
        check(present, "embedding_norm_mean", "critical", "the norm of the item embeddings is a number", again),
        check(
            between,
            "embedding_norm_mean",
            "critical",
            "item embeddings are unit vectors",
            again,
            min_value=0.99,
            max_value=1.01,
        ),
        check(
            between,
            cutoffs.recall,
            "warning",
            f"{cutoffs.recall} is at least {_POPULARITY_FACTOR} of what popularity alone reaches",
            retrain,
            min_value=parameter("popularity_floor"),
        ),
        check(
            between,
            cutoffs.recall,
            "warning",
            f"{cutoffs.recall} is not below the uniform-negatives baseline",
            "look at the samplers' false negatives on the report; change the sampling settings.",
            min_value=parameter("baseline_recall"),
        ),
        check(
            between,
            cutoffs.coverage,
            "warning",
            f"the users' top {cutoffs.first} items cover enough of the catalogue (gate.min_coverage)",
            "look at sampling.log_q and at the popularity of what is recommended.",
            min_value=gate.min_coverage,
        ),
    )
    curve = Suite.of(
        "learning_curve",
        check(present, "train_loss", "critical", "the loss of every epoch is a number", retrain),
        check(between, "train_loss", "critical", "the loss stays finite", retrain, max_value=1e6),
        check(present, cutoffs.validation_recall, "critical", "the validation recall of every epoch is a number", retrain),
    )
    return [metrics, challenger, curve]


def tables(settings: PipelineSettings, spark: None = None) -> Judged:
    """The metrics with one row for each model, the challenger alone, and its learning curve, as pandas frames.

    Raises:
        DataError: metrics.json or a table is missing, or has no entry for the challenger or the baseline.
    """
    lake, path = Lake.of(settings), settings.run_dir / "metrics.json"
    if not path.exists():
        raise DataError("there are no metrics for this date.", file=path, remedy="run evaluate for this date first.")
    report = _metrics(settings)
    cutoffs = Cutoffs.of(report)
    models = {name: values for name, values in report["models"].items() if values is not None}
    for name in ("challenger", "baseline"):
        if name not in models:
            raise DataError(f"holds no metrics of the {name}.", file=path, remedy=f"run train {name}, then evaluate.")
    challenger = models["challenger"]
    columns = [*_shares(cutoffs), *map(cutoffs.slice_recall, SLICES), "finite"]
    metrics = pd.DataFrame(
        [
            {ROW: name, "model": name} | {column: _number(values.get(column)) for column in columns}
            for name, values in models.items()
        ]
    )
    for deep in cutoffs.recalls[1:]:
        metrics[_gain(deep)] = metrics[deep] - metrics[cutoffs.recall]
    metrics["finite"] = metrics["finite"].map({1.0: True, 0.0: False})
    facts = {column: _number(challenger.get(column)) for column in (cutoffs.recall, cutoffs.coverage, "embedding_norm_mean")}
    spread = _number(challenger.get("embedding_std")) * math.sqrt(settings.training.embedding_dim)
    alone = pd.DataFrame([{ROW: "challenger", "users": report["users"], "embedding_spread": spread} | facts])
    epochs = json.loads((lake.path("challenger", settings.date) / "curves.json").read_text())["epochs"]
    recall = validation_recall(epochs)
    curve = pd.DataFrame(
        [
            {
                ROW: f"epoch {values['epoch']}",
                "train_loss": _number(values.get("train_loss")),
                # An epoch without the entry was not validated, because the log has no user to validate on. The gate on the
                # training set has warned about that.
                cutoffs.validation_recall: _number(values.get(recall, 0.0)),
            }
            for values in epochs
        ],
        columns=[ROW, "train_loss", cutoffs.validation_recall],
    )
    popularity, baseline = (report.get("popularity") or {}).get(cutoffs.recall), models["baseline"].get(cutoffs.recall)
    return Judged(
        {"metrics": metrics, "challenger": alone, "learning_curve": curve},
        {"popularity_floor": _POPULARITY_FACTOR * _bound(popularity), "baseline_recall": _bound(baseline)},
        {name: lake.manifest(name, settings.date)["digest"] for name in ("challenger", "baseline", "evaluation")},
    )


def _metrics(settings: PipelineSettings) -> dict[str, Any]:
    path = settings.run_dir / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _shares(cutoffs: Cutoffs) -> tuple[str, ...]:
    """Metrics that every model has and that lie between 0 and 1."""
    return (*cutoffs.recalls, cutoffs.ndcg, cutoffs.coverage)


def _gain(deep: str) -> str:
    """Column for a deeper recall minus the first one, such as `recall_gain_200`."""
    return deep.replace("recall_", "recall_gain_")


def _number(value: Any) -> float:
    """The value as a float. Null and infinity become NaN, so that one not-null expectation catches all three."""
    number = float("nan") if value is None else float(value)
    return number if math.isfinite(number) else float("nan")


def _bound(value: Any) -> float:
    """The value as a bound; 0 if it is no finite number, which the suite `metrics` reports."""
    number = _number(value)
    return 0.0 if math.isnan(number) else number
