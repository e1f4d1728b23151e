"""Codebooks, towers and encoders in an object store: the same bytes and the same values as in a folder."""

from pathlib import Path

import numpy as np
import torch

from esans_core.clusters.alignment import fit_alignment
from esans_core.clusters.codebooks import fit_codebooks
from esans_core.towers import TwoTower
from jobs.base.files import folder_digest
from jobs.base.places import place
from jobs.clusters.codebook_store import load_codebooks, save_codebooks
from jobs.features.encoders.text import HashedTextEncoder
from jobs.training.model_store import load_towers, save_towers


def test_what_is_kept_in_a_store_is_what_is_kept_in_a_folder(tmp_path: Path) -> None:
    vectors, present = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32), np.ones((40, 1), bool)
    heads, _ = fit_alignment({"text": vectors}, present, dim=4, epochs=0, temperature=0.1, seed=1)
    codebooks, _ = fit_codebooks(
        heads.align({"text": vectors}, present), present, num_primary=3, num_secondary=2, min_cluster_size=2, seed=1
    )
    texts = ["red cotton shirt", "blue steel hammer", "red steel thing"]
    encoder = HashedTextEncoder.fit(texts, 2)
    towers = TwoTower(torch.randn(40, 6), torch.ones(40, dtype=torch.bool), dim=8, num_heads=2, max_history=5, id_dropout=0.1)
    digests = []
    for folder in (place(tmp_path), place(f"memory://artefacts/{tmp_path.name}")):
        save_codebooks(folder / "codebooks", heads, codebooks, {"settings": {}})
        encoder.save(folder / "encoder")
        save_towers(folder / "towers", towers, [f"i{row}" for row in range(40)], {"role": "challenger"})
        loaded_heads, loaded, about = load_codebooks(folder / "codebooks")
        assert about["modalities"] == ["text"] and np.array_equal(loaded.primary_PD, codebooks.primary_PD)
        assert loaded_heads.input_dims == heads.input_dims
        assert np.array_equal(HashedTextEncoder.load(folder / "encoder").encode(texts), encoder.encode(texts))
        model, meta, ids = load_towers(folder / "towers")
        assert meta["role"] == "challenger" and ids[39] == "i39"
        assert all(torch.equal(value, towers.state_dict()[name]) for name, value in model.state_dict().items())
        digests.append(folder_digest(folder))
    assert digests[0] == digests[1]
