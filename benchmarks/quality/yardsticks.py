"""Results of others' methods on the data sets of the quality benchmark, tuned on validation and ranked over the full catalogue.

Parameters come from training events only. At test time, a user's history is training and validation events, which are masked.
Methods with a fixed vector for each user (BPR, LightGCN) cannot use the validation events; the others do.
`als`, `bpr` and `recbole_*` run in an environment of their own (benchmarks/peers/requirements-quality.txt).

python -m benchmarks.quality.yardsticks movielens --out var/bench/quality/yardsticks
python -m benchmarks.quality.yardsticks tiktok --methods ease --config '{"l2": 200}' --history train --out var/bench/published
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.peers.recbole_models import recbole_scores
from benchmarks.quality.data import DATA, QualityData, save_arrays
from benchmarks.quality.ranking import Scores, evaluate_scores, events_before, means
from esans_core.defaults import TRAINING

SEED = 17
DIM = TRAINING.dim  # dimension of matrix factorisations, the same as of the two towers
SELECT_BY = "recall_50"  # on validation
MAX_DENSE_ITEMS = 12_000  # EASE inverts a matrix of items x items: 80 GB at 100,000 items

GRIDS: dict[str, list[dict[str, Any]]] = {
    "popularity": [{}],
    "planted_taste": [{}],
    "item_cosine": [{"shrink": shrink} for shrink in (0, 5, 20, 80, 320, 1280)],
    "ease": [{"l2": l2} for l2 in (10, 50, 100, 200, 500, 1000)],
    "als": [{"alpha": alpha} for alpha in (1, 2, 5, 15, 40, 100)],
    "bpr": [{"learning_rate": rate, "regularization": l2} for rate in (0.03, 0.1) for l2 in (0.01, 0.05, 0.2)],
    "recbole_bpr": [{"learning_rate": rate} for rate in (3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)],
    "recbole_lightgcn": [{"learning_rate": rate, "n_layers": layers} for rate in (5e-4, 2e-3, 5e-3) for layers in (2, 3)],
}


def popularity(train: sp.csr_matrix) -> Scores:
    """Everyone gets the items with the most training events."""
    count_N = np.asarray(train.sum(axis=0), np.float32).ravel()
    return lambda users, history: np.tile(count_N, (len(users), 1))


def planted_taste(train: sp.csr_matrix, *, leaf: np.ndarray, liked_leaves: np.ndarray) -> Scores:
    """An oracle for the shops: first items of the leaves a user truly likes, most training events first; then all others alike.

    Only the maker of the shop knows these leaves, so no method needs to reach it. It shows how much can be gained at most.
    """
    count_N = np.asarray(train.sum(axis=0), np.float32).ravel() + 0.5

    def scores(users: np.ndarray, history: sp.csr_matrix) -> np.ndarray:
        likes = (liked_leaves[users][:, :, None] == np.arange(leaf.max() + 1)).any(axis=1)
        return np.where(likes[:, leaf], count_N, 1e-6 * count_N)

    return scores


def item_cosine(train: sp.csr_matrix, *, shrink: float) -> Scores:
    """Sum over the history of the cosine of item columns, `n_ij / (sqrt(n_i n_j) + shrink)`."""
    norm_N = np.sqrt(np.asarray(train.sum(axis=0)).ravel())
    together = (train.T @ train).tocoo()
    values = together.data / (norm_N[together.row] * norm_N[together.col] + shrink)
    cosine_NN = sp.csr_matrix((values.astype(np.float32), (together.row, together.col)), together.shape)
    return lambda users, history: (history @ cosine_NN).toarray()


def ease(train: sp.csr_matrix, *, l2: float) -> Scores:
    """EASE (Steck, WWW 2019, arXiv 1905.03375, eq. 8): `B = I - P / diag(P)` with `P = (X'X + l2 I)^-1`."""
    gram_NN = torch.from_numpy((train.T @ train).toarray()).double()
    gram_NN.diagonal().add_(l2)
    inverse_NN = torch.cholesky_inverse(torch.linalg.cholesky(gram_NN))
    weight_NN = -inverse_NN / inverse_NN.diagonal()
    weight_NN.fill_diagonal_(0.0)
    dense = weight_NN.float().numpy()
    return lambda users, history: history @ dense


def als(train: sp.csr_matrix, *, alpha: float) -> Scores:
    """Implicit matrix factorisation of `DIM` dimensions by the package implicit; users are folded in from their history."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(DIM, alpha=alpha, regularization=0.01, iterations=15, random_state=SEED, num_threads=1)
    model.fit(train, show_progress=False)

    def scores(users: np.ndarray, history: sp.csr_matrix) -> np.ndarray:
        return model.recalculate_user(np.arange(len(users)), history) @ model.item_factors.T

    return scores


def bpr(train: sp.csr_matrix, *, learning_rate: float, regularization: float) -> Scores:
    """Matrix factorisation of `DIM` dimensions by Bayesian personalised ranking, package implicit; user vectors as trained."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        DIM, learning_rate=learning_rate, regularization=regularization, iterations=150, random_state=SEED, num_threads=1
    )
    model.fit(train, show_progress=False)
    return lambda users, history: model.user_factors[users] @ model.item_factors.T


METHODS: dict[str, Callable[..., Scores]] = {
    "popularity": popularity,
    "planted_taste": planted_taste,
    "item_cosine": item_cosine,
    "ease": ease,
    "als": als,
    "bpr": bpr,
    "recbole_bpr": partial(recbole_scores, "BPR"),
    "recbole_lightgcn": partial(recbole_scores, "LightGCN"),
}


def measure(
    data: QualityData,
    method: str,
    *,
    fit: str = "train",
    history: str = "known",
    config: dict[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Tune one method on validation and measure it on the hold-out.

    Args:
        data: the data set.
        method: a key of `METHODS`.
        fit: events from which the final parameters come: "train", or "known" for training and validation events.
        history: events of a user that are known on the hold-out, and that are masked: "known" or "train".
        config: the method's settings; with them, nothing is tuned.

    Returns:
        One row for each configuration tried (split "validation") and one for the best (split "holdout"); and the metrics
        of each hold-out user with the best configuration.
    """
    train, known = events_before(data, 1), events_before(data, 2)
    fitted = METHODS[method]
    if method == "planted_taste":
        if data.leaf is None or data.liked_leaves is None:
            raise ValueError(f"{data.name} has no planted taste: only the shops do")
        fitted = partial(fitted, leaf=data.leaf.numpy(), liked_leaves=data.liked_leaves.numpy())
    if method.startswith("recbole"):
        fitted = partial(fitted, validation=known - train, seed=SEED, embedding_size=DIM)
    rows: list[dict[str, Any]] = []
    head: dict[str, Any] = {"data": data.name, "method": method}
    for tried in GRIDS[method] if config is None else []:
        found = means(evaluate_scores(fitted(train, **tried), data, "validation"))
        rows.append(head | {"config": tried, "split": "validation", "fit": "train", "history": "known"} | found)
    best = max(rows, key=lambda row: row[SELECT_BY])["config"] if config is None else config
    final = fitted(train if fit == "train" else known, **best)
    per_user = evaluate_scores(final, data, "holdout", history=history)
    rows.append(head | {"config": best, "split": "holdout", "fit": fit, "history": history} | means(per_user))
    return rows, per_user


def write(folder: Path, data: str, method: str, rows: list[dict[str, Any]], per_user: dict[str, np.ndarray]) -> None:
    """Put a method's rows into `<data>.jsonl`, in place of earlier ones, and its users' metrics into `<data>-<method>.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{data}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["method"] != method]
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text("\n".join(kept + [json.dumps(row) for row in rows]) + "\n")
    temporary.replace(path)
    save_arrays(folder / f"{data}-{method}.npz", per_user)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="name of a prepared data set")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=["popularity", "item_cosine", "ease"])
    parser.add_argument("--out", type=Path, required=True, help="folder for the rows and the metrics of each user")
    parser.add_argument("--fit", choices=["train", "known"], default="train")
    parser.add_argument("--history", choices=["train", "known"], default="known")
    parser.add_argument("--config", type=json.loads, help="settings as JSON, instead of tuning: '{\"l2\": 200}'")
    arguments = parser.parse_args()
    data = QualityData.load(DATA / f"{arguments.data}.npz")
    for method in arguments.methods:
        if method == "ease" and data.num_items > MAX_DENSE_ITEMS:
            print(f"{data.name}: EASE left out, it needs a dense matrix of {data.num_items:,} x {data.num_items:,}")
            continue
        began = time.monotonic()
        rows, per_user = measure(data, method, fit=arguments.fit, history=arguments.history, config=arguments.config)
        write(arguments.out, data.name, method, rows, per_user)
        print(json.dumps(rows[-1]), f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
