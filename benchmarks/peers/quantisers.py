"""Vector quantisers of other libraries: vectors float32 [N, d] and K -> codes float32 [K, d] and labels [N]."""

from collections.abc import Callable

import numpy as np
import torch

FitLevel = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
_BATCH, _EPOCHS, _DEAD_BELOW = 4096, 3, 2


def mini_batch_k_means(iterations: int, seed: int) -> FitLevel:
    """`MiniBatchKMeans` of scikit-learn, with its defaults except for the number of passes."""
    from sklearn.cluster import MiniBatchKMeans

    def fit(x_ND: np.ndarray, num_codes: int) -> tuple[np.ndarray, np.ndarray]:
        found = MiniBatchKMeans(num_codes, max_iter=iterations, random_state=seed).fit(x_ND)
        return found.cluster_centers_.astype(np.float32), found.labels_

    return fit


def residual_vq(iterations: int, seed: int) -> FitLevel:
    """One level of `ResidualVQ`: k-means over all vectors, then epochs of moving averages; dead codes are replaced."""
    from vector_quantize_pytorch import ResidualVQ

    @torch.no_grad()
    def fit(x_ND: np.ndarray, num_codes: int) -> tuple[np.ndarray, np.ndarray]:
        torch.manual_seed(seed)
        x = torch.from_numpy(x_ND)
        quantiser = ResidualVQ(
            dim=x.shape[1],
            num_quantizers=1,
            codebook_size=num_codes,
            kmeans_init=True,
            kmeans_iters=iterations,
            threshold_ema_dead_code=_DEAD_BELOW,
        )
        quantiser(x[None])
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(x)).split(_BATCH):
                quantiser(x[None, rows])
        quantiser.eval()
        labels = quantiser(x[None])[1][0, :, 0]
        return quantiser.codebooks[0].numpy(), labels.numpy()

    return fit
