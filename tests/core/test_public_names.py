"""What a user of the library imports: every name resolves, and they suffice to train."""

import ast
import subprocess
import sys
from pathlib import Path

import torch

import esans_core
from esans_core import (
    BatchPart,
    ClusterIndex,
    Loader,
    NegativeConfig,
    RetrievalObjective,
    SemanticNegativeSampler,
    Sequences,
    TwoTower,
    World,
    build_optimizers,
    evaluate,
    train_epoch,
)


def test_every_name_resolves_and_has_one_home() -> None:
    names = esans_core.__all__
    assert sorted(names) == sorted(set(names)) and set(names) <= set(dir(esans_core))
    for name in names:
        value = getattr(esans_core, name)
        module = getattr(value, "__module__", None)
        assert module in (None, f"esans_core.{esans_core._HOMES[name]}"), f"{name} comes from {module}"
    tree = ast.parse(Path(esans_core.__file__).read_text())
    told = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(set(told) - {"Any", "TYPE_CHECKING", "import_module"}) == sorted(names) == sorted(esans_core._HOMES)


def test_the_package_alone_loads_nothing() -> None:
    code = (
        "import sys, esans_core\n"
        "assert not {'torch', 'numpy', 'faiss'} & set(sys.modules), 'something was loaded'\n"
        "try:\n    esans_core.nothing\nexcept AttributeError as error:\n    print(error)\n"
        "esans_core.METHODS\n"
        "assert 'torch' not in sys.modules\n"
        "from esans_core import *\n"
        "print(TwoTower.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["module 'esans_core' has no attribute 'nothing'", "TwoTower"], done.stderr


def test_the_public_names_suffice_to_train_and_to_score() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randperm(20, generator=generator)[:12] * 2 + user % 2 for user in range(120)]
    log = Sequences(torch.cat(rows), torch.arange(121) * 12, torch.full((120,), 9), torch.ones(120, dtype=torch.long))
    torch.manual_seed(0)
    model = TwoTower(torch.randn(40, 4), torch.ones(40, dtype=torch.bool), dim=16, num_heads=2, max_history=8)
    loader = Loader(log, batch_size=64, max_history=8, world=World())
    index = ClusterIndex.from_labels(torch.arange(40) % 4, torch.arange(40) // 4 % 2)
    objective = RetrievalObjective(
        NegativeConfig.for_method("esans", num_pool=32),
        loader.target_frequency(40),
        temperature=0.1,
        sampler=SemanticNegativeSampler(index, torch.randn(4, 3)),
    )
    optimizers = build_optimizers(model, objective, learning_rate=1e-2, weight_decay=0.0)
    losses = [train_epoch(model, objective, loader, optimizers, seed=seed) for seed in range(8)]
    assert losses[-1] < losses[0]
    assert float(evaluate(model, log, "holdout", ks=(10,)).recall[10].mean()) > 0.5
    assert BatchPart().world == World()
