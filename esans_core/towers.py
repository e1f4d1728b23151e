"""Two towers (method: embedding-based retrieval): an item tower over id and content, a user tower that attends over history.

Both give unit vectors in R^D; the score is their cosine. An item without a trained id (a new item) gets a shared "unknown" id,
so that only its content tells it apart. Training practises this by hiding ids at random.

Shape legend: B users, L history length, N items, F content features, D embedding dimension.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.defaults import TRAINING
from esans_core.hashing import uniform_hash
from esans_core.sequences import Sequences, by_length
from esans_core.standardisation import SMALLEST_DEVIATION, feature_statistics, standardise_blocks
from esans_core.transfer import to_device

_NEGATIVE_LARGE = -1e9  # finite stand-in for -inf: a history without a single item must not give NaN
_PADDED_EVENTS = 1 << 18  # a GPU pads up to so many events, because to start work on groups takes longer than the padding


class ItemInput(nn.Module):
    """Sum of an id embedding and a projection of standardised content: the input of an item to both towers.

    Args:
        content_NF: float32 [N, F], raw content features; NaN marks a missing view and becomes the mean.
            `esans_core.standardisation` says what happens to constant features and to values far from the mean.
        known_N: bool [N], whether the item's own id may be used (it has training events).
        dim: D.
        id_dropout: chance that training hides an item's id.
        sparse_ids: True makes the gradient of the id embedding hold only the rows that a step used. With an optimizer for such
            gradients (`torch.optim.SparseAdam`), the cost of a step then does not grow with the catalogue.

    Raises:
        ValueError: a value of the content is infinite.

    Attributes:
        dropout_seed: decides which ids are hidden, in histories and as targets alike, until it is changed. So a hidden item
            looks the way a new item does in serving, and all processes hide the same ids. None: each occurrence of an id is
            hidden or not on its own.
    """

    def __init__(
        self,
        content_NF: Tensor,
        known_N: Tensor,
        dim: int,
        id_dropout: float = TRAINING.id_dropout,
        *,
        sparse_ids: bool = False,
    ) -> None:
        super().__init__()
        num_items, num_features = content_NF.shape
        mean_F, std_F = feature_statistics(content_NF)
        self.register_buffer("content_mean", mean_F)
        self.register_buffer("content_std", std_F)
        self.register_buffer("content", standardise_blocks(content_NF, mean_F, std_F))
        self.register_buffer("known", known_N.clone())
        self.id_embedding = nn.Embedding(num_items + 1, dim, sparse=sparse_ids)  # the last row is the unknown id
        nn.init.normal_(self.id_embedding.weight, std=dim**-0.5)
        self.content_projection = nn.Linear(num_features, dim)
        self.id_dropout = id_dropout
        self.dropout_seed: int | None = None
        self.register_load_state_dict_post_hook(_mark_constant_features)

    content: Tensor
    content_mean: Tensor
    content_std: Tensor
    known: Tensor

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.known)

    def forward(self, items: Tensor) -> Tensor:
        """int64 [...] -> float32 [..., D]. Never projects the content of more than N items, however many are asked for."""
        if items.numel() > self.num_items:
            return functional.embedding(items, self._encode(torch.arange(self.num_items, device=items.device)))
        return self._encode(items)

    def _encode(self, items: Tensor) -> Tensor:
        known = self.known[items]
        if self.training and self.id_dropout:
            seed = self.dropout_seed
            chance = torch.rand(items.shape, device=items.device) if seed is None else uniform_hash(items, seed)
            known = known & (chance >= self.id_dropout)
        ids = torch.where(known, items, self.num_items)
        return self.id_embedding(ids) + self.content_projection(functional.embedding(items, self.content))

    def for_catalogue(self, rows: Tensor, content_NF: Tensor) -> "ItemInput":
        """The same trained parameters over another catalogue.

        Args:
            rows: int64 [N'], row of each new item in this catalogue, -1 for an item this one has never seen.
            content_NF: float32 [N', F], content of the new catalogue, from the same encoders.

        Raises:
            ValueError: another number of features, or a value that is infinite.
        """
        if content_NF.shape[1] != len(self.content_mean):
            raise ValueError(f"content has {content_NF.shape[1]} features, the trained towers expect {len(self.content_mean)}")
        known = (rows >= 0) & self.known[rows.clamp_min(0)]
        other = ItemInput(content_NF, known, self.id_embedding.embedding_dim, self.id_dropout)
        other.content_mean, other.content_std = self.content_mean.clone(), self.content_std.clone()
        other.content = standardise_blocks(content_NF, other.content_mean, other.content_std)
        other.content_projection.load_state_dict(self.content_projection.state_dict())
        source = torch.cat([torch.where(known, rows, self.num_items), torch.tensor([self.num_items])])
        with torch.no_grad():
            other.id_embedding.weight.copy_(self.id_embedding.weight[source])
        return other


def _mark_constant_features(item_input: nn.Module, _: object) -> None:
    """Correct towers that version 0.1 saved: they hold the smallest deviation for a constant feature; today it is infinite."""
    assert isinstance(item_input, ItemInput)
    item_input.content_std.masked_fill_(item_input.content_std <= SMALLEST_DEVIATION, torch.inf)


class ItemTower(nn.Module):
    """V = normalise(x + MLP(x)) of an item input x."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., D] -> unit vectors [..., D]."""
        return functional.normalize(x + self.mlp(x), dim=-1)


class UserTower(nn.Module):
    """Multi-head attention over the behaviour sequence, queried by its mean and its latest item.

    Args:
        dim: D.
        num_heads: attention heads; each can follow a different taste of the user.
        max_history: longest history, which sets the number of recency embeddings.
    """

    def __init__(self, dim: int, num_heads: int, max_history: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be divisible by num_heads ({num_heads})")
        self.num_heads, self.max_history = num_heads, max_history
        self.recency = nn.Embedding(max_history, dim)
        nn.init.normal_(self.recency.weight, std=0.02)
        self.query = nn.Linear(2 * dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)  # a key bias would cancel in the softmax
        self.value = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """User embeddings.

        Args:
            x_BLD: float32 [B, L, D], item inputs of the history, oldest first, aligned to the right.
            mask_BL: bool [B, L], True where there is an item. A user without any item gets the embedding of an empty history.

        Returns:
            float32 [B, D], unit vectors.
        """
        B, L, D = x_BLD.shape
        heads, width = self.num_heads, D // self.num_heads
        weight_BL1 = mask_BL[..., None].to(x_BLD.dtype)
        mean_BD = (x_BLD * weight_BL1).sum(1) / weight_BL1.sum(1).clamp_min(1.0)
        latest_BD = x_BLD[:, -1] * weight_BL1[:, -1]
        recency_LD = self.recency(torch.arange(L - 1, -1, -1, device=x_BLD.device))
        # There is one query per head, so keys and values need not be computed: q'(W_k x) = (W_k' q)'x, and
        # sum_l a_l W_v x_l = W_v sum_l a_l x_l.
        # That is 2 B H L D multiplications instead of 2 B L D^2 (16 times fewer at D = 64 and 4 heads).
        query_BHW = self.query(torch.cat([mean_BD, latest_BD], dim=-1)).view(B, heads, width) * width**-0.5
        query_BHD = torch.einsum("bhw,hwd->bhd", query_BHW, self.key.weight.view(heads, width, D))
        score_BHL = query_BHD @ x_BLD.transpose(1, 2) + query_BHD @ recency_LD.T
        attention_BHL = score_BHL.masked_fill(~mask_BL[:, None], _NEGATIVE_LARGE).softmax(-1)
        pooled_BHW = torch.einsum("bhd,hwd->bhw", attention_BHL @ x_BLD, self.value.weight.view(heads, width, D))
        pooled_BD = (pooled_BHW.reshape(B, D) + self.value.bias) * mask_BL.any(1, keepdim=True)
        return functional.normalize(mean_BD + self.mlp(torch.cat([pooled_BD, mean_BD], dim=-1)), dim=-1)


class TwoTower(nn.Module):
    """Item and user tower over one shared item input.

    Args:
        content_NF: float32 [N, F], content features, NaN where a view is missing.
        known_N: bool [N], items with training events.
        dim: D, output dimension.
        num_heads: heads of the user tower.
        max_history: L, longest history.
        id_dropout: chance that training hides an item's id.
        sparse_ids: see `ItemInput`.

    Attributes:
        item_input: makes the item input that both towers read, from an item's content and its id.
        item_tower: from item inputs to item embeddings.
        user_tower: from the item inputs of a history to the user's embedding.
    """

    def __init__(
        self,
        content_NF: Tensor,
        known_N: Tensor,
        *,
        dim: int,
        num_heads: int,
        max_history: int,
        id_dropout: float = TRAINING.id_dropout,
        sparse_ids: bool = False,
    ) -> None:
        super().__init__()
        self.item_input = ItemInput(content_NF, known_N, dim, id_dropout, sparse_ids=sparse_ids)
        self.item_tower = ItemTower(dim)
        self.user_tower = UserTower(dim, num_heads, max_history)

    @property
    def num_items(self) -> int:
        """N."""
        return self.item_input.num_items

    def encode_items(self, items: Tensor) -> Tensor:
        """int64 [...] item rows -> float32 [..., D], unit vectors."""
        return self.item_tower(self.item_input(items))

    def encode_users(self, history_BL: Tensor) -> Tensor:
        """int64 [B, L] item rows, oldest first, aligned to the right, padded with -1 -> float32 [B, D], unit vectors."""
        return self.user_tower(self.item_input(history_BL.clamp_min(0)), history_BL >= 0)

    def encode_histories(self, history_BL: Tensor) -> Tensor:
        """`encode_users` for histories on the CPU. Short ones are padded to the longest only if this is quicker, on a GPU.

        Returns:
            float32 [B, D], unit vectors on the model's device.
        """
        device = self.item_input.content.device
        if device.type != "cpu" and history_BL.numel() <= _PADDED_EVENTS:
            return self.encode_users(to_device(history_BL, device))
        groups, place = by_length(history_BL)
        # All groups share one look-up, because the gradient of each look-up in a dense id table is as large as the table.
        flat = to_device(torch.cat([group.flatten() for group in groups]), device)
        inputs_nD, is_item_n = self.item_input(flat.clamp_min(0)), flat >= 0
        sizes = [group.numel() for group in groups]
        parts = zip(groups, inputs_nD.split(sizes), is_item_n.split(sizes), strict=True)
        users = [self.user_tower(x_nD.view(*group.shape, -1), mask_n.view(group.shape)) for group, x_nD, mask_n in parts]
        return torch.cat(users)[to_device(place, device)]

    def encode_users_of(self, sequences: Sequences, users: Tensor, ends: Tensor) -> Tensor:
        """User embeddings from the events before `ends`.

        Args:
            sequences: the users' events, on the CPU.
            users: int64 [B], on the CPU.
            ends: int64 [B], position in `sequences.items` where each user's past ends.

        Returns:
            float32 [B, D], unit vectors on the model's device.
        """
        return self.encode_histories(sequences.histories(users, ends, self.user_tower.max_history))

    def for_catalogue(self, rows: Tensor, content_NF: Tensor) -> "TwoTower":
        """The same trained towers over another catalogue; see `ItemInput.for_catalogue`."""
        reference = self.item_input
        other = TwoTower(
            content_NF,
            torch.zeros(len(rows), dtype=torch.bool),
            dim=reference.id_embedding.embedding_dim,
            num_heads=self.user_tower.num_heads,
            max_history=self.user_tower.max_history,
            id_dropout=reference.id_dropout,
        )
        other.item_input = reference.for_catalogue(rows, content_NF)
        other.item_tower.load_state_dict(self.item_tower.state_dict())
        other.user_tower.load_state_dict(self.user_tower.state_dict())
        return other.train(self.training)
