"""Several processes against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esans_core.world import World

SCRIPT = Path(__file__).with_name("world_run.py")
CASES = (
    *("uniform", "uniform:sparse", "in_batch_logq", "debiased_mns", "cross_batch", "mixgcf", "fairneg", "adap_tau"),
    *("gbce", "sce", "rece", "esans", "esans:shared", "debiased_mns:large_sets"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict]]:
    """What each process found, by the number of processes."""
    folder, found = tmp_path_factory.mktemp("world"), {}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    for size in (1, 2):
        start = [] if size == 1 else [*torchrun, str(size)]
        command = [sys.executable, *start, str(SCRIPT), str(folder / f"of-{size}"), *CASES]
        environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found[size] = [json.loads((folder / f"of-{size}-{rank}.json").read_text()) for rank in range(size)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", CASES)
def test_any_number_of_processes_gives_the_losses_of_one(runs: dict[int, list[dict]], method: str) -> None:
    alone = runs[1][0][method]
    assert alone["losses"][-1] < alone["losses"][0]
    for there in (found[method] for found in runs[2]):
        torch.testing.assert_close(there["losses"], alone["losses"], rtol=2e-5, atol=0)
        torch.testing.assert_close(there["weights"], alone["weights"], rtol=2e-4, atol=1e-4)
        assert there == runs[2][0][method], "both hold the same weights"


@pytest.mark.parametrize("size", [1, 2, 5])
def test_rows_are_shared_out_evenly(size: int) -> None:
    for count in (size, 7, 23):
        runs = [World(rank, size).rows(count) for rank in range(size)]
        assert [row for run in runs for row in range(count)[run]] == list(range(count))
        lengths = [run.stop - run.start for run in runs]
        assert max(lengths) - min(lengths) <= 1
