"""Two towers (method: embedding-based retrieval): an item tower over id and content, a user tower over the user's events.

Both give unit vectors in R^D; the score is their cosine. If items have a popularity, it is one more number of an item's vector,
where a user's vector has a 1, so that the inner product is the cosine and the popularity together.

An item without a trained id (a new item) gets a shared "unknown" id, so that only its content tells it apart. Training
practises this by hiding ids at random.

Shape legend: B users, L history length, N items, F content features, D embedding dimension, w excerpts
(`esans_core.loader`) with b targets, of E events at most.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.defaults import TRAINING
from esans_core.item_input import ItemInput
from esans_core.loader import Batch
from esans_core.sequences import Sequences, by_length
from esans_core.transfer import to_device
from esans_core.user_input import UserInput
from esans_core.user_towers import SequenceTower, SetTower

Order = Literal["sequence", "set"]
_PADDED_EVENTS = 1 << 18  # a GPU pads up to so many events, because to start work on groups takes longer than the padding


class ItemTower(nn.Module):
    """V = normalise(x) of an item input x, or, with a network, normalise(x + network(x))."""

    def __init__(self, dim: int, *, network: bool) -> None:
        super().__init__()
        self.network = (
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) if network else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., D] -> unit vectors [..., D]."""
        return functional.normalize(x if self.network is None else x + self.network(x), dim=-1)


class TwoTower(nn.Module):
    """Item and user tower over item inputs.

    Args:
        content_NF: float32 [N, F], content features, NaN where a view is missing.
        known_N: bool [N], items with training events.
        order: `sequence` for a log whose events have an order, `set` for one whose events have none.
        dim: D, output dimension.
        num_heads: attention heads of the user tower; a set tower has none.
        num_layers: layers of the user tower; a set tower has none.
        max_history: L, longest history.
        dropout: dropout rate of the user tower.
        item_network: whether the item tower has a network of its own.
        popularity: whether items have a popularity (`ItemInput`); None: only for a set tower.
        own_context: whether items have other vectors in a history than as targets; None: only for a set tower.
        id_dropout: chance that training hides an item's id.
        num_user_features: G, features of users (`UserInput`); 0: nothing is known of them but their events.
        history_dropout: chance that training hides the events of a user, if users have features.
        sparse_ids: see `ItemInput`.

    Attributes:
        options: all that, but for the content, by name: with it, the same towers can be made again.
        item_input: makes the input of the item tower from an item's content and its id.
        own_context: makes the input of the user tower, if items have vectors of their own in a history.
        item_tower: from item inputs to item embeddings.
        user_tower: from the item inputs of a user's events to the user's embedding.
        user_input: adds what is known of users beside events; None if nothing is.
        step_seed: decides which numbers and ids a training step drops; None drops at random (`esans_core.mask_dropout`).
    """

    def __init__(
        self,
        content_NF: Tensor,
        known_N: Tensor,
        *,
        order: Order = "sequence",
        dim: int = TRAINING.dim,
        num_heads: int = TRAINING.num_heads,
        num_layers: int = TRAINING.num_layers,
        max_history: int = TRAINING.max_history,
        dropout: float = TRAINING.dropout,
        item_network: bool = TRAINING.item_network,
        popularity: bool | None = TRAINING.popularity,
        own_context: bool | None = None,
        id_dropout: float = TRAINING.id_dropout,
        num_user_features: int = 0,
        history_dropout: float = TRAINING.history_dropout,
        sparse_ids: bool = False,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "order": order,
            "dim": dim,
            "num_heads": num_heads,
            "num_layers": num_layers,
            "max_history": max_history,
            "dropout": dropout,
            "item_network": item_network,
            "popularity": popularity,
            "own_context": own_context,
            "id_dropout": id_dropout,
        }
        if num_user_features:
            self.options |= {"num_user_features": num_user_features, "history_dropout": history_dropout}
        popular = order == "set" if popularity is None else popularity
        self.item_input = ItemInput(content_NF, known_N, dim, id_dropout, popularity=popular, sparse_ids=sparse_ids)
        own = order == "set" if own_context is None else own_context
        self.own_context = ItemInput(content_NF, known_N, dim, id_dropout, sparse_ids=sparse_ids) if own else None
        self.item_tower = ItemTower(dim, network=item_network)
        self.user_tower = (
            SequenceTower(dim, num_heads, num_layers, max_history, dropout)
            if order == "sequence"
            else SetTower(dim, max_history, dropout)
        )
        self.user_input = UserInput(num_user_features, dim, history_dropout) if num_user_features else None
        self.step_seed: int | None = None

    @property
    def num_items(self) -> int:
        """N."""
        return self.item_input.num_items

    @property
    def context_input(self) -> ItemInput:
        """Makes the input of the user tower."""
        return self.item_input if self.own_context is None else self.own_context

    def begin_step(self, seed: int) -> None:
        """Let a training step drop what its seed says, whatever was drawn before."""
        self.step_seed = self.item_input.dropout_seed = self.context_input.dropout_seed = seed

    def encode_items(self, items: Tensor) -> Tensor:
        """int64 [...] item rows -> float32 [..., D], unit vectors; with popularity, [..., D + 1]."""
        vectors = self.item_tower(self.item_input(items))
        if self.item_input.popularity is None:
            return vectors
        return torch.cat([vectors, self.item_input.popularity_of(items)], dim=-1)

    def encode_users(self, history_BL: Tensor, features_BG: Tensor | None = None) -> Tensor:
        """int64 [B, L] item rows, oldest first, -1 after the last one -> float32 [B, D], unit vectors; with popularity, D + 1.

        A user without any event has the zero vector, or, with popularity, the most popular items. If users have features,
        float32 [B, G], these say what such a user gets.
        """
        events_BD = self.user_tower(self.context_input(history_BL.clamp_min(0)), history_BL >= 0)
        return self._beside_popularity(self._beside_events(events_BD, features_BG))

    def encode_histories(self, history_BL: Tensor, features_BG: Tensor | None = None) -> Tensor:
        """`encode_users` for histories on the CPU. Short ones are padded to the longest only if this is quicker, on a GPU.

        Returns:
            float32 [B, D], unit vectors on the model's device; with popularity, [B, D + 1].
        """
        groups = self._groups(history_BL)
        inputs = self._inputs([history_BL[rows, :width] for rows, width in groups])
        events_BD = torch.cat([self.user_tower(x_BLD, mask_BL) for x_BLD, mask_BL in inputs])
        events_BD = events_BD[self._places(torch.cat([rows for rows, _ in groups]))]
        return self._beside_popularity(self._beside_events(events_BD, features_BG))

    def encode_contexts(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The user of each target of a batch of excerpts, without the target itself.

        Args:
            batch: excerpts, on the CPU.

        Returns:
            float32 [b, D], unit vectors on the model's device, in the order of `batch.positives`; and, if events are sets, the
            users of the whole excerpts, [w, D]. With popularity, D + 1.
        """
        number_wE = batch.is_target_wE.flatten().cumsum(0).view(batch.items_wE.shape) - 1
        keys_wE = (torch.arange(len(batch.items_wE))[:, None] + batch.first) * batch.items_wE.shape[1]
        keys_wE = keys_wE + torch.arange(batch.items_wE.shape[1])
        groups = self._groups(batch.items_wE)
        inputs = self._inputs([batch.items_wE[rows, :width] for rows, width in groups])
        found, numbers, wholes = [], [], []
        for (rows, width), (x_BLD, mask_BL) in zip(groups, inputs, strict=True):
            contexts_BLD, whole_BD = self.user_tower.contexts(x_BLD, mask_BL, self._keys(keys_wE[rows, :width]))
            wholes += [] if whole_BD is None else [whole_BD]
            targets = torch.nonzero(batch.is_target_wE[rows, :width].flatten()).flatten()
            found.append(contexts_BLD.flatten(0, 1)[to_device(targets, contexts_BLD.device)])
            numbers.append(number_wE[rows, :width].flatten()[targets])
        events_bD = torch.cat(found)[self._places(torch.cat(numbers))]
        users_bD = self._beside_popularity(self._in_training(events_bD, batch, batch.excerpt_of_target))
        if not wholes:
            return users_bD, None
        events_wD = torch.cat(wholes)[self._places(torch.cat([rows for rows, _ in groups]))]
        return users_bD, self._beside_popularity(self._in_training(events_wD, batch, torch.arange(len(batch.users))))

    def encode_users_of(self, sequences: Sequences, users: Tensor, ends: Tensor) -> Tensor:
        """User embeddings from the events before `ends`.

        Args:
            sequences: the users' events, on the CPU.
            users: int64 [B], on the CPU.
            ends: int64 [B], position in `sequences.items` where each user's past ends.

        Returns:
            float32 [B, D], unit vectors on the model's device; with popularity, [B, D + 1].
        """
        features = None if sequences.features is None else sequences.features[users]
        return self.encode_histories(sequences.histories(users, ends, self.user_tower.max_history), features)

    def for_catalogue(self, rows: Tensor, content_NF: Tensor) -> "TwoTower":
        """The same trained towers over another catalogue; see `ItemInput.for_catalogue`."""
        other = TwoTower(content_NF, torch.zeros(len(rows), dtype=torch.bool), **self.options)
        other.item_input = self.item_input.for_catalogue(rows, content_NF)
        if self.own_context is not None:
            other.own_context = self.own_context.for_catalogue(rows, content_NF)
        other.item_tower.load_state_dict(self.item_tower.state_dict())
        other.user_tower.load_state_dict(self.user_tower.state_dict())
        if self.user_input is not None and other.user_input is not None:
            other.user_input.load_state_dict(self.user_input.state_dict())
        return other.train(self.training)

    @property
    def _device(self) -> torch.device:
        return self.item_input.content.device

    def _beside_popularity(self, users_BD: Tensor) -> Tensor:
        return users_BD if self.item_input.popularity is None else functional.pad(users_BD, (0, 1), value=1.0)

    def _beside_events(self, events_BD: Tensor, features_BG: Tensor | None) -> Tensor:
        if self.user_input is None:
            return events_BD
        return self.user_input(events_BD, None if features_BG is None else to_device(features_BG, self._device))

    def _in_training(self, events_nD: Tensor, batch: Batch, excerpts_n: Tensor) -> Tensor:
        """Users of some excerpts of a batch, int64 [n], whose events may be hidden."""
        if self.user_input is None:
            return events_nD
        kept_n1 = self.user_input.kept(to_device(batch.users[excerpts_n], self._device), self.step_seed)
        features_wG = batch.features_wG
        return self._beside_events(events_nD * kept_n1, None if features_wG is None else features_wG[excerpts_n])

    def _groups(self, rows_BL: Tensor) -> list[tuple[Tensor, int]]:
        if self._device.type != "cpu" and rows_BL.numel() <= _PADDED_EVENTS:
            return [(torch.arange(len(rows_BL)), rows_BL.shape[1])]
        return by_length(rows_BL)

    def _inputs(self, groups: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Inputs [g, l, D] of the user tower, and mask [g, l], of groups of rows int64 [g, l].

        All groups share one look-up, because the gradient of each look-up in a dense id table is as large as the table.
        """
        flat = to_device(torch.cat([group.flatten() for group in groups]), self._device)
        inputs_nD, is_item_n = self.context_input(flat.clamp_min(0)), flat >= 0
        sizes = [group.numel() for group in groups]
        parts = zip(groups, inputs_nD.split(sizes), is_item_n.split(sizes), strict=True)
        return [(x_nD.view(*group.shape, -1), mask_n.view(group.shape)) for group, x_nD, mask_n in parts]

    def _keys(self, place_BL: Tensor) -> Tensor | None:
        if self.step_seed is None or not self.training:
            return None
        return to_device(place_BL, self._device) + self.step_seed * 1_000_003 % (1 << 62)

    def _places(self, order: Tensor) -> Tensor:
        """Where each row is, after rows were put into `order`."""
        return to_device(order.argsort(), self._device)
