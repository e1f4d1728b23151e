"""RECE: cross-entropy against the items that random hashing puts near a user, over several rounds.

Gusak, Mezentsev, Oseledets and Frolov, "RECE: Reduced Cross-Entropy Loss for Large-Catalogue Sequential Recommenders",
CIKM 2024, arXiv 2408.02354. It was written from the authors' published code and its description (github.com/dalibra/RECE), as
the paper's full text was not at hand.

Shape legend: B positives, b of them this process's, N items, D dimension, H rounds, K chunks, k of them this process's, X users
of a chunk, Y items that they meet.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esans_core.recipes import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from esans_core.unscored_step import UnscoredStep

_PRODUCTS = 1 << 22  # products of directions and items that are held at a time: 16 MB


@dataclass(frozen=True)
class ReducedCrossEntropy:
    """Cross-entropy of each user against the union of the items that it meets in some rounds of hashing. A `StepLoss`.

    In each round, K random directions are drawn. The bucket of a user or an item is the direction with which its product is
    largest. Users are sorted by bucket and cut into K chunks of equal length; so are the items. The users of a chunk meet the
    items of the chunk of the same number, and of its neighbours on both sides. What a user meets in any round is one set of
    negatives: an item that it meets several times counts once, in the first of these rounds.

    Chunks go by rank and not by bucket, so all have the same length, and a user may meet the items of another bucket.
    Neighbours are there for the items at the ends of a chunk. Nothing corrects for the choice of items, so the loss leaves
    out what a user does not meet, and the more rounds there are, the nearer it comes to the full softmax.

    What it costs: no tensor has B x N numbers, but each round makes B N (1 + 2 neighbours) / K logits (28 M at B = 1,024 and
    N = 1,000,000 with one neighbour, where B x N is 1,024 M), and some copies of the (1 + 2 neighbours) N D numbers of the
    vectors that meet. So it saves memory only where B is many times D. One round is in memory at a time, because the backward
    pass computes it again. All items are met by somebody, so each step encodes the whole catalogue **with gradient**. For an
    item tower that is a table of vectors, as in the paper, this costs next to nothing. For a deep one it needs as much memory
    and time as in full softmax.

    Two things are simpler than in the authors' code. Lengths that K does not divide give chunks that differ by one, where
    theirs pad users and items with zeros. And to count an item once that is met c times, theirs subtracts log c from its logit
    each time, which gives the same sum. Their settings all have one bucket for each chunk, and so has this.

    Attributes:
        neighbours: chunks on either side whose items a user meets too. The authors have 1 for three of their logs, 3 and 8 for
            the others.
        rounds: H. The authors have 8 for three of their logs, 16 and 64 for the others.

    Raises:
        ValueError: a number is too small.
    """

    neighbours: int = 1
    rounds: int = 8

    def __post_init__(self) -> None:
        if self.neighbours < 0 or self.rounds < 1:
            raise ValueError(f"there must be a round, and neighbours cannot be fewer than none, got {self}")

    def num_chunks(self, batch_size: int, num_items: int) -> int:
        """K = sqrt(4 (1 + 2 neighbours) min(B, N)), at which the authors find the least memory in all."""
        smaller = min(batch_size, num_items)
        return max(1, min(smaller, int(math.sqrt(4 * (1 + 2 * self.neighbours) * smaller))))

    def mean_loss(self, step: "UnscoredStep") -> "Tensor":
        """See `StepLoss`."""
        import torch  # imported here, so that the names of methods can be read without it
        from torch.utils.checkpoint import checkpoint

        users_BD, positives_B, items_ND = step.of_batch(step.users_bD), step.of_batch(step.positives_b), step.catalogue()
        num_chunks = self.num_chunks(step.batch_size, step.num_items)
        with torch.no_grad():
            size = (self.rounds, num_chunks, users_BD.shape[1])
            directions_HKD = torch.randn(size, generator=step.generator, device=users_BD.device)
            users, items = _Sorted.by_hash(users_BD, directions_HKD), _Sorted.by_hash(items_ND, directions_HKD)
        log_sums = [(step.users_bD * torch.nn.functional.embedding(step.positives_b, items_ND)).sum(-1)]
        for number in range(self.rounds):
            # Each process has some of the chunks.
            met = _Met(users, items, number, self.neighbours, step.world.rows(num_chunks))
            sum_kX = checkpoint(met.log_sums, users_BD, items_ND, positives_B, use_reentrant=False, preserve_rng_state=False)
            places_KX, inside_KX = users.chunks(number)
            sum_KX = step.world.gather(sum_kX, step.world.counts(num_chunks)).where(inside_KX, 0.0)
            sum_B = sum_KX.new_zeros(step.batch_size).scatter_add(0, places_KX.flatten(), sum_KX.flatten())
            log_sums.append(sum_B[step.world.own(step.counts)])
        loss_b = torch.stack(log_sums).logsumexp(0) - log_sums[0]
        if step.weights_b is None:
            return loss_b.sum() / step.batch_size
        return (loss_b * step.weights_b).sum() / step.of_batch(step.weights_b).sum()


@dataclass(frozen=True)
class _Sorted:
    """How the rounds sort and cut some vectors: B users, or N items, which are written B here too.

    Attributes:
        order_HB: int64, the vectors in the order of their buckets.
        chunk_HB: int32, the chunk of each vector.
        num_chunks: K.
    """

    order_HB: "Tensor"
    chunk_HB: "Tensor"
    num_chunks: int

    @classmethod
    def by_hash(cls, vectors_BD: "Tensor", directions_HKD: "Tensor") -> "_Sorted":
        """Hash, sort and cut; of the vectors, a block is hashed at a time."""
        import torch

        count, num_chunks = len(vectors_BD), directions_HKD.shape[1]
        blocks = vectors_BD.split(max(1, _PRODUCTS // num_chunks))
        bucket_HB = torch.stack(
            [torch.cat([(block @ directions_KD.T).argmax(1) for block in blocks]) for directions_KD in directions_HKD]
        )
        order_HB = bucket_HB.argsort(dim=1, stable=True)
        chunk_B = torch.arange(count, device=vectors_BD.device) * num_chunks // count  # by rank
        chunk_HB = torch.empty_like(order_HB).scatter_(1, order_HB, chunk_B.expand_as(order_HB))
        return cls(order_HB, chunk_HB.int(), num_chunks)

    def chunks(self, number: int, neighbours: int = 0) -> "tuple[Tensor, Tensor]":
        """The vectors of each chunk and its neighbours in a round, int64 [K, W], and which are no padding, bool [K, W]."""
        import torch

        count, total = self.order_HB.shape[1], self.num_chunks
        numbers_K = torch.arange(total, device=self.order_HB.device)

        def first_rank(chunk_K: "Tensor") -> "Tensor":
            return (chunk_K.clamp(0, total) * count + total - 1) // total

        width = min(count, -(-(1 + 2 * neighbours) * count // total))
        rank_KW = first_rank(numbers_K - neighbours)[:, None] + torch.arange(width, device=numbers_K.device)
        inside_KW = rank_KW < first_rank(numbers_K + neighbours + 1)[:, None]
        return self.order_HB[number][rank_KW.clamp_max(count - 1)], inside_KW


@dataclass(frozen=True)
class _Met:
    """The users and items that meet in one round.

    Attributes:
        users: how the rounds sort users.
        items: how they sort items.
        number: which round.
        neighbours: how many chunks on either side are met too.
        mine: this process's chunks.
    """

    users: _Sorted
    items: _Sorted
    number: int
    neighbours: int
    mine: slice

    def log_sums(self, users_BD: "Tensor", items_ND: "Tensor", positives_B: "Tensor") -> "Tensor":
        """float32 [k, X]: log of the summed exponentials of what each user meets. Its positive does not count."""
        from torch.nn.functional import embedding

        from esans_core.shared_softmax import NEVER

        users_kX, _ = (part[self.mine] for part in self.users.chunks(self.number))
        items_kY, inside_kY = (part[self.mine] for part in self.items.chunks(self.number, self.neighbours))
        logits_kXY = embedding(users_kX, users_BD) @ embedding(items_kY, items_ND).transpose(1, 2)
        excluded_kXY = (positives_B[users_kX][..., None] == items_kY[:, None]) | ~inside_kY[:, None]
        for earlier in range(self.number):  # what has met in an earlier round has been counted there
            user_chunk_kX, item_chunk_kY = self.users.chunk_HB[earlier][users_kX], self.items.chunk_HB[earlier][items_kY]
            excluded_kXY |= (user_chunk_kX[..., None] - item_chunk_kY[:, None]).abs_() <= self.neighbours
        return logits_kXY.masked_fill(excluded_kXY, NEVER).logsumexp(-1)


RECE = Recipe.of("rece", step_loss=ReducedCrossEntropy(), log_q=0.0)
