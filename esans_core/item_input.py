"""The input of an item to both towers: its id and its content, both small at the start.

Shape legend: N items, F content features, D embedding dimension.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.defaults import TRAINING
from esans_core.hashing import uniform_hash
from esans_core.standardisation import SMALLEST_DEVIATION, feature_statistics, standardise_blocks

# Deviation of every number of an item input at the start, as transformers have it. Inputs that start at 1/sqrt(D) hold the
# towers back: on the Beauty log, Recall@10 was .059 with them and .087 with small ones.
START = 0.02
# What the number that training learns counts for. At 1, a popularity learns faster than vectors do if the temperature is low,
# and holds what was popular by chance: on the Beauty log, Recall@50 on validation was .226 with it, .229 at a quarter, and .232
# without any. On Gowalla and TikTok, a quarter is as good.
POPULARITY = 0.25


class ContentMap(nn.Linear):
    """A linear map of standardised content, scaled so that an item's content has about unit length.

    Without the scale, content of hundreds of features learns hundreds of times as fast as an id, because each step of Adam
    moves every weight by the learning rate. On the embedded shop, that cost a fifth of the recall.

    Args:
        num_features: F.
        dim: D.
    """

    def __init__(self, num_features: int, dim: int) -> None:
        super().__init__(num_features, dim)
        nn.init.normal_(self.weight, std=START)
        nn.init.zeros_(self.bias)

    def forward(self, content: Tensor) -> Tensor:
        """float32 [..., F] -> float32 [..., D]."""
        return super().forward(content * max(1, self.in_features) ** -0.5)


class ItemInput(nn.Module):
    """Sum of an id embedding and a projection of standardised content: the input of an item to both towers.

    Args:
        content_NF: float32 [N, F], raw content features; NaN marks a missing view and becomes the mean.
            `esans_core.standardisation` says what happens to constant features and to values far from the mean.
        known_N: bool [N], whether the item's own id may be used (it has training events).
        dim: D.
        id_dropout: chance that training hides an item's id.
        popularity: whether items have a popularity, a number that every user's score of the item contains.
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
        popularity: bool = False,
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
        nn.init.normal_(self.id_embedding.weight, std=START)
        self.popularity = nn.Embedding(num_items + 1, 1, sparse=sparse_ids) if popularity else None
        if self.popularity is not None:
            nn.init.zeros_(self.popularity.weight)
        self.content_projection = ContentMap(num_features, dim)
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

    def popularity_of(self, items: Tensor) -> Tensor:
        """int64 [...] -> float32 [..., 1], what is added to every user's cosine with the item."""
        assert self.popularity is not None
        return POPULARITY * self.popularity(self._ids(items))

    def _encode(self, items: Tensor) -> Tensor:
        return self.id_embedding(self._ids(items)) + self.content_projection(functional.embedding(items, self.content))

    def _ids(self, items: Tensor) -> Tensor:
        """Rows of the id table: that of the unknown id for items without an id of their own, or whose id is hidden."""
        known = self.known[items]
        if self.training and self.id_dropout:
            seed = self.dropout_seed
            chance = torch.rand(items.shape, device=items.device) if seed is None else uniform_hash(items, seed)
            known = known & (chance >= self.id_dropout)
        return torch.where(known, items, self.num_items)

    @torch.no_grad()
    def start_from(self, vectors_ND: Tensor) -> None:
        """Let ids start from unit vectors, scaled as ids are at the start; NaN leaves an id as it is.

        Args:
            vectors_ND: float [N, D]; or, for several members, [N, D / M], from which each of them starts.
        """
        ids_ND = self.id_embedding.weight[:-1]
        start_ND = vectors_ND.to(ids_ND) * (START * vectors_ND.shape[1] ** 0.5)
        start_ND = start_ND.repeat(1, ids_ND.shape[1] // start_ND.shape[1])
        ids_ND.copy_(torch.where(start_ND.isnan(), ids_ND, start_ND))

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
        popularity = self.popularity is not None
        other = ItemInput(content_NF, known, self.id_embedding.embedding_dim, self.id_dropout, popularity=popularity)
        other.content_mean, other.content_std = self.content_mean.clone(), self.content_std.clone()
        other.content = standardise_blocks(content_NF, other.content_mean, other.content_std)
        other.content_projection.load_state_dict(self.content_projection.state_dict())
        source = torch.cat([torch.where(known, rows, self.num_items), torch.tensor([self.num_items])])
        with torch.no_grad():
            other.id_embedding.weight.copy_(self.id_embedding.weight[source])
            if self.popularity is not None and other.popularity is not None:
                other.popularity.weight.copy_(self.popularity.weight[source])
        return other


def _mark_constant_features(item_input: nn.Module, _: object) -> None:
    """Correct towers that version 0.1 saved: they hold the smallest deviation for a constant feature; today it is infinite."""
    assert isinstance(item_input, ItemInput)
    item_input.content_std.masked_fill_(item_input.content_std <= SMALLEST_DEVIATION, torch.inf)
