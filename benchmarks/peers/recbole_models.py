"""RecBole's own models and trainer, unmodified, on a fixed split. They give a score for every item."""

from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch


def recbole_scores(model: str, train: sp.csr_matrix, validation: sp.csr_matrix, seed: int, **config: Any) -> Any:
    """Train one of RecBole's general models; recall@50 on validation events decides when it stops.

    Args:
        model: RecBole's name of it, such as `LightGCN`.
        train: 0/1 [U, N].
        validation: 0/1 [U, N].
        seed: seed of all randomness.
        config: the model's own settings.

    Returns:
        A function from users int64 [B] and (unused) histories to scores float32 [B, N]. Users keep their trained vectors, and
        items that RecBole never saw come last.
    """
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.interaction import Interaction
    from recbole.utils import get_model, get_trainer, init_seed

    with TemporaryDirectory(prefix="recbole-") as folder, chdir(folder):  # RecBole logs into the folder in which it runs
        for part, events in (("train", train), ("valid", validation), ("test", validation)):
            _write_log(Path(folder) / "log" / f"log.{part}.inter", events)
        settings = Config(
            model=model,
            dataset="log",
            config_dict={
                "data_path": folder,
                "checkpoint_dir": folder,
                "benchmark_filename": ["train", "valid", "test"],
                "load_col": {"inter": ["user_id", "item_id"]},
                "eval_args": {"group_by": "user", "order": "RO", "mode": "full", "split": {"RS": [8, 1, 1]}},
                "metrics": ["Recall"],
                "topk": [50],
                "valid_metric": "Recall@50",
                "eval_batch_size": 2**22,
                "seed": seed,
                "use_gpu": False,
                "show_progress": False,
                "state": "ERROR",
            }
            | config,
        )
        init_seed(seed, reproducibility=True)
        log = create_dataset(settings)
        train_data, validation_data, _ = data_preparation(settings, log)
        found = get_model(model)(settings, train_data.dataset)
        trainer = get_trainer(settings["MODEL_TYPE"], model)(settings, found)
        trainer.fit(train_data, validation_data, saved=True, show_progress=False, verbose=False)
        best = torch.load(trainer.saved_model_file, weights_only=False)  # written by RecBole just now
        found.load_state_dict(best["state_dict"])
        found.load_other_parameter(best.get("other_parameter"))
    found.eval()
    ids = {name: log.field2token_id[name] for name in ("user_id", "item_id")}
    rows = np.array([row for row in range(train.shape[1]) if str(row) in ids["item_id"]])
    columns = np.array([ids["item_id"][str(row)] for row in rows])

    @torch.no_grad()
    def scores(users: np.ndarray, history: sp.csr_matrix) -> np.ndarray:
        wanted = Interaction({"user_id": torch.tensor([ids["user_id"][str(user)] for user in users])})
        full_BN = found.full_sort_predict(wanted).view(len(users), -1).numpy()
        out_BN = np.full((len(users), train.shape[1]), np.finfo(np.float32).min, np.float32)
        out_BN[:, rows] = full_BN[:, columns]
        return out_BN

    return scores


def _write_log(path: Path, events: sp.csr_matrix) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{user}\t{item}\n" for user, item in zip(*events.nonzero(), strict=True)]
    path.write_text("user_id:token\titem_id:token\n" + "".join(lines))
