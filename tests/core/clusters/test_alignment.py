"""Alignment heads and their loss, against a slow InfoNCE written from its definition."""

import math

import numpy as np
import pytest
import torch

from esans_core.clusters.alignment import AlignmentHeads, alignment_loss, fit_alignment

NAMES = ("visual", "text", "behaviour")


def make_views(count: int = 300, *, seed: int = 0, missing: float = 0.2) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Three noisy linear pictures of one hidden vector, on very different scales."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((count, 6))
    views = {}
    for name, size, scale in zip(NAMES, (20, 12, 8), (1000.0, 1.0, 1e-3), strict=True):
        values = hidden @ rng.standard_normal((6, size)) + 0.1 * rng.standard_normal((count, size))
        views[name] = (scale * values + scale * 5).astype(np.float32)
    return views, rng.random((count, 3)) >= missing


def slow_info_nce(aligned: np.ndarray, present: np.ndarray, temperature: float) -> float:
    """The loss by loops, in float64."""
    modalities = aligned.shape[1]
    losses = []
    for a in range(modalities):
        for b in range(a + 1, modalities):
            rows = [i for i in range(len(aligned)) if present[i, a] and present[i, b]]
            total = 0.0
            for x, y in ((a, b), (b, a)):
                for i in rows:
                    weights = [math.exp(float(aligned[i, x].astype(float) @ aligned[j, y]) / temperature) for j in rows]
                    own = math.exp(float(aligned[i, x].astype(float) @ aligned[i, y]) / temperature)
                    total -= math.log(own / sum(weights)) / len(rows) / 2
            losses.append(total)
    return sum(losses) / len(losses)


def test_forward_gives_unit_vectors_and_zero_where_absent() -> None:
    views, present = make_views()
    views["text"][~present[:, 1]] = np.nan  # rows of absent views may hold anything
    heads = AlignmentHeads({name: values.shape[1] for name, values in views.items()}, 16, seed=3)
    aligned = heads({name: torch.from_numpy(values) for name, values in views.items()}, torch.from_numpy(present))
    assert aligned.shape == (300, 3, 16) and aligned.dtype == torch.float32
    norms = aligned.detach().norm(dim=-1).numpy()
    np.testing.assert_allclose(norms[present], 1, atol=1e-5)
    assert (aligned.detach().numpy()[~present] == 0).all()


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_loss_equals_the_slow_one(missing: float) -> None:
    rng = np.random.default_rng(1)
    aligned = rng.standard_normal((25, 3, 8)).astype(np.float32)
    aligned /= np.linalg.norm(aligned, axis=2, keepdims=True)
    present = rng.random((25, 3)) >= missing
    aligned *= present[:, :, None]
    loss = alignment_loss(torch.from_numpy(aligned), torch.from_numpy(present), 0.2)
    assert loss.item() == pytest.approx(slow_info_nce(aligned, present, 0.2), rel=1e-5)


def test_masked_rows_do_not_reach_the_loss() -> None:
    views, present = make_views(40, missing=0.0)
    heads = AlignmentHeads({name: values.shape[1] for name, values in views.items()}, 8)
    tensors = {name: torch.from_numpy(values) for name, values in views.items()}
    present[:10, 2] = False
    mask = torch.from_numpy(present)
    loss = alignment_loss(heads(tensors, mask), mask, 0.1)
    tensors["behaviour"][:10] = 1e6
    assert alignment_loss(heads(tensors, mask), mask, 0.1).item() == loss.item()


def test_a_pair_nobody_has_gives_zero_with_a_gradient() -> None:
    aligned = torch.randn(5, 2, 4, requires_grad=True)
    present = torch.tensor([[True, False]] * 5)
    loss = alignment_loss(aligned, present, 0.1)
    loss.backward()
    assert loss.item() == 0 and aligned.grad is not None and (aligned.grad == 0).all()


def test_one_modality_and_one_item_have_zero_loss() -> None:
    assert alignment_loss(torch.randn(5, 1, 4), torch.ones(5, 1, dtype=torch.bool), 0.1).item() == 0
    assert alignment_loss(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool), 0.1).item() == 0


def test_fit_brings_views_of_one_item_together_on_any_scale() -> None:
    views, present = make_views(600, missing=0.1)
    options = {"dim": 16, "temperature": 0.1, "seed": 0, "batch_size": 128}
    seen: list[tuple[int, float]] = []
    heads, losses = fit_alignment(views, present, epochs=40, progress=lambda *step: seen.append(step), **options)
    assert losses[-1] < 0.6 * losses[0]
    assert seen == list(enumerate(losses, start=1))

    fresh, fresh_present = make_views(600, seed=0, missing=0.0)

    def retrieval(model: AlignmentHeads) -> float:
        aligned = model.align(fresh, fresh_present)
        return float(((aligned[:, 0] @ aligned[:, 1].T).argmax(axis=1) == np.arange(600)).mean())

    untrained, none = fit_alignment(views, present, epochs=0, **options)
    assert none == [] and retrieval(heads) > 0.5 > 0.1 > retrieval(untrained)


def test_fit_is_deterministic_and_seeded() -> None:
    views, present = make_views(200)

    def fit(seed: int) -> dict[str, np.ndarray]:
        return fit_alignment(views, present, dim=8, epochs=2, temperature=0.1, seed=seed)[0].to_arrays()

    first, torch_noise, second, other = fit(1), torch.rand(3), fit(1), fit(2)
    assert torch_noise.shape == (3,) and all((first[name] == second[name]).all() for name in first)
    assert (first["heads.text.weight"] != other["heads.text.weight"]).any()


def test_warm_start_keeps_known_heads_and_begins_new_ones() -> None:
    views, present = make_views(300)
    first, _ = fit_alignment(views, present, dim=8, epochs=5, temperature=0.1, seed=0)
    same, _ = fit_alignment(views, present, dim=8, epochs=0, temperature=0.1, seed=9, initial=first)
    assert all((value == same.to_arrays()[name]).all() for name, value in first.to_arrays().items())

    wider = views | {"text": np.concatenate([views["text"], views["text"] ** 2], axis=1)}
    mixed, losses = fit_alignment(wider, present, dim=8, epochs=5, temperature=0.1, seed=9, initial=first)
    moved = {
        name: float((mixed.to_arrays()[f"heads.{name}.weight"] - first.to_arrays()[f"heads.{name}.weight"]).__abs__().max())
        for name in ("visual", "behaviour")
    }
    assert max(moved.values()) < 0.05 and losses[-1] < losses[0]
    np.testing.assert_allclose(mixed.to_arrays()["heads.text.mean"], wider["text"][present[:, 1]].mean(axis=0), rtol=1e-4)


def test_align_does_not_depend_on_the_block_size_and_survives_saving() -> None:
    views, present = make_views(257)
    heads, _ = fit_alignment(views, present, dim=8, epochs=1, temperature=0.1, seed=0)
    aligned = heads.align(views, present)
    for block_rows in (1, 7, 100):
        assert np.array_equal(heads.align(views, present, block_rows=block_rows), aligned)
    again = AlignmentHeads.from_arrays(heads.to_arrays(), NAMES)
    assert np.array_equal(again.align(views, present), aligned)
    forward = heads({name: torch.from_numpy(values) for name, values in views.items()}, torch.from_numpy(present))
    np.testing.assert_allclose(aligned, forward.numpy(), atol=1e-5)


def test_a_constant_feature_is_harmless() -> None:
    views, present = make_views(100)
    views["visual"][:, 0] = 1e6
    heads, losses = fit_alignment(views, present, dim=8, epochs=2, temperature=0.1, seed=0)
    assert np.isfinite(losses).all() and np.isfinite(heads.align(views, present)).all()


def test_bad_input_is_named() -> None:
    views, present = make_views(50, missing=0.0)
    options = {"dim": 8, "epochs": 1, "temperature": 0.1, "seed": 0}
    views["text"][[3, 8], 1] = np.nan
    with pytest.raises(ValueError, match=r"'text' is not finite in rows \[3, 8\]"):
        fit_alignment(views, present, **options)
    with pytest.raises(ValueError, match="present of shape"):
        fit_alignment(views, present[:, :2], **options)
    with pytest.raises(ValueError, match="view 'visual'"):
        fit_alignment(views | {"visual": views["visual"][:10]}, present, **options)


def test_a_feature_constant_in_training_never_moves_a_later_item() -> None:
    views, present = make_views(100)
    views["visual"][:, 0], views["text"][:, 1] = 1e6, 0.3
    views["text"][:, 1] += np.float32(3e-8) * (np.arange(100) % 2)  # what rounding leaves
    first, _ = fit_alignment(views, present, dim=8, epochs=2, temperature=0.1, seed=0)
    warm, _ = fit_alignment(views, present, dim=8, epochs=1, temperature=0.1, seed=0, initial=first)
    for heads in (first, warm, AlignmentHeads.from_arrays(first.to_arrays(), NAMES)):
        before = heads.align(views, present)
        other = {name: values.copy() for name, values in views.items()}
        other["visual"][:, 0], other["text"][:, 1] = -1e6, 1.3
        assert np.array_equal(heads.align(other, present), before)


def test_one_feature_far_off_does_not_decide_alone_where_an_item_lies() -> None:
    views, present = make_views(400, missing=0.0)
    views["text"][:, 1] = np.arange(400) == 0  # one item in four hundred has it: 20 deviations
    heads, _ = fit_alignment(views, present, dim=8, epochs=2, temperature=0.1, seed=0)
    far = {name: values[:2].copy() for name, values in views.items()}
    far["text"][1] = far["text"][0]
    far["text"][:, 1] = [1.0, 1e9]
    aligned = heads.align(far, present[:2])
    assert np.array_equal(aligned[0, 1], aligned[1, 1])
    forward = heads({name: torch.from_numpy(values) for name, values in far.items()}, torch.from_numpy(present[:2]))
    np.testing.assert_allclose(aligned, forward.numpy(), atol=1e-5)


def test_items_within_the_bound_are_aligned_to_the_bit_as_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    views, present = make_views(300)
    heads, _ = fit_alignment(views, present, dim=8, epochs=1, temperature=0.1, seed=0)
    bounded = heads.align(views, present)
    monkeypatch.setattr("esans_core.clusters.alignment.MAX_DEVIATIONS", 1e9)
    assert np.array_equal(heads.align(views, present), bounded)
