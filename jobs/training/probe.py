"""Measures the negatives after every epoch: how hard they are for the model, and how many are false negatives."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from esans_core.evaluation import Relevant, encode_catalogue
from esans_core.objective import RetrievalObjective
from esans_core.partition_variance import doubled_sizes, sampling_noise
from esans_core.sampling_verdict import sampling_verdict
from esans_core.towers import TwoTower
from jobs.base.settings import PipelineSettings
from jobs.lake.event_log import some_users_by_row
from jobs.shop.truth import HiddenTruth
from jobs.training.data import TrainingData

# Number of users, and of negatives for each user if a method draws only negatives that the whole batch shares.
_USERS, _SHARED = 1024, 20
_JUDGED = 256  # users for whom it is measured what uniform negatives miss


class NegativeProbe:
    """Draws negatives for the last training event of a fixed sample of users, who are the same after every epoch.

    It only measures: it has its own generator, it leaves the model as it was, and what it knows about the users' tastes
    never reaches the loss.

    Args:
        settings: settings of the run.
        data: tables with at least one user who has validation events.
        objective: draws the negatives.

    Attributes:
        false_means: what counts as a false negative. `truth`: the user truly likes the item, which only the embedded
            shop can tell; `later_event`: the item is among the user's validation events, which finds only some of them.
    """

    def __init__(self, settings: PipelineSettings, data: TrainingData, objective: RetrievalObjective) -> None:
        self._objective, self._seed = objective, settings.training.seed
        sequences, self._rows = some_users_by_row(data.log, "validation", _USERS)
        users = torch.arange(sequences.num_users)
        last = sequences.offsets[:-1] + sequences.num_train - 1
        self._history_BL, self._features = sequences.histories(users, last, settings.training.max_history), sequences.features
        self._positives = sequences.items[last]
        self._later = Relevant(*sequences.relevant(users, "validation"), len(users), len(data.item_ids))
        self._truth = HiddenTruth.load(settings)
        self.false_means = "later_event" if self._truth is None else "truth"

    @torch.no_grad()
    def measure(self, model: TwoTower) -> dict[str, float]:
        """Measure the negatives with the model as it is now, as three shares.

        Returns:
            hardness: weight of the drawn negatives in a softmax over them and the positive; at 0 they give no gradient.
            false_negative_rate: share of the draws that are false negatives.
            false_negative_weight: share of the draws' softmax weight that the false negatives have.
        """
        was_training, device = model.training, model.item_input.content.device
        model.eval()
        positives = self._positives.to(device)
        drawn_BR = self._draw(positives)
        users_BD = model.encode_histories(self._history_BL, self._features) / self._objective.temperature
        items, place = torch.unique(torch.cat([positives[:, None], drawn_BR], 1), return_inverse=True)
        logits = torch.einsum("bd,brd->br", users_BD, model.encode_items(items)[place])
        model.train(was_training)
        valid_BR = drawn_BR != positives[:, None]
        logits[:, 1:] = logits[:, 1:].masked_fill(~valid_BR, -torch.inf)
        weight_BR = logits.softmax(1)[:, 1:].cpu()
        false_BR = self._false(drawn_BR.cpu()) & valid_BR.cpu()
        total = weight_BR.sum().clamp_min(torch.finfo(torch.float32).tiny)
        return {
            "hardness": float(weight_BR.sum(1).mean()),
            "false_negative_rate": float(false_BR.sum() / valid_BR.sum().clamp_min(1).cpu()),
            "false_negative_weight": float(weight_BR[false_BR].sum() / total),
        }

    @torch.no_grad()
    def verdict(self, model: TwoTower, pool_size: int) -> dict[str, Any]:
        """What better negatives could still win with the model as it is: a `SamplingVerdict` as JSON values.

        Args:
            model: trained towers.
            pool_size: uniform negatives to judge.
        """
        was_training, device = model.training, model.item_input.content.device
        model.eval()
        features = None if self._features is None else self._features[:_JUDGED]
        users_BD = model.encode_histories(self._history_BL[:_JUDGED], features)
        items_ND = encode_catalogue(model)
        model.train(was_training)
        generator = torch.Generator(device=device).manual_seed(self._seed)
        size = min(pool_size, len(items_ND))
        noise = sampling_noise(
            users_BD,
            self._positives[:_JUDGED].to(device),
            items_ND,
            temperature=self._objective.temperature.item(),
            pool_sizes=[*doubled_sizes(len(items_ND)), size],
            generator=generator,
        )
        return asdict(sampling_verdict(noise, size))

    def _draw(self, positives: Tensor) -> Tensor:
        """int64 [B, R]: the negatives drawn for each positive; if there are none, a sample of those that the batch shares."""
        generator = torch.Generator(device=positives.device).manual_seed(self._seed)
        drawn = self._objective.sources.draw(positives, generator)
        own_BR = drawn.rows_BR(positives)
        if own_BR.shape[1] or not len(drawn.shared_S):
            return own_BR
        size = (len(positives), _SHARED)
        return drawn.shared_S[torch.randint(len(drawn.shared_S), size, generator=generator, device=positives.device)]

    def _false(self, drawn_BR: Tensor) -> Tensor:
        """bool [B, R]: which draws are false negatives."""
        if self._truth is None:
            return self._later.hits(drawn_BR)
        return torch.from_numpy(self._truth.false_negative_mask(self._rows.numpy(), drawn_BR.numpy()))
