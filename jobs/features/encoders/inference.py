"""Runs a model encoder on a GPU if the machine has one, in the precision that the settings ask for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def on_device(model: Any) -> Any:
    """A transformers model ready to encode, on one of the machine's GPUs, which its Python workers share, or on the CPU.

    On a CPU, Spark gives each worker as many threads as a task has cores (`spark.task.cpus`, by OMP_NUM_THREADS). torch keeps
    to this, so workers do not slow each other down.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return model.eval().to(f"cuda:{os.getpid() % count}" if count else "cpu")


@contextmanager
def encoding(device: "torch.device", precision: str) -> Iterator[None]:
    """A block to run a model in: without gradients, matrix products in `precision`, weights and sums in float32."""
    import torch

    kind = getattr(torch, precision)
    with torch.inference_mode(), torch.autocast(device.type, kind, enabled=kind is not torch.float32):
        yield


def unit_rows(vectors: "torch.Tensor") -> np.ndarray:
    """[N, D] of any precision, on any device, to float32 rows of unit length."""
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
