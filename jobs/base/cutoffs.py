"""The depths that recall, NDCG and coverage are measured at, and the names that metrics get from them.

In a small catalogue a list of 50 items tells nothing: with 60 items, every model has all that a user wants among 50 of them.
So a depth is at most a tenth of the catalogue, and the name of a metric says at which depth it was measured. `metrics.json`
holds the depths. Code that reads a metric gets its name from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KS = (50, 200)  # wanted depths, the first one for all metrics, the deeper one for recall alone
_LARGEST_SHARE = 10  # a depth is at most the size of the catalogue divided by this
SLICES = {"head": "head", "tail": "tail", "new": "new_item"}  # parts of the catalogue, and what metrics call them
_SLICE_WORDS = {"head": "head items", "tail": "tail items", "new": "new items"}
_VALIDATION = "validation_recall_"


@dataclass(frozen=True)
class Cutoffs:
    """The depths of one evaluation.

    Attributes:
        ks: ascending, at least one. The first decides about promotion.
    """

    ks: tuple[int, ...] = KS

    @classmethod
    def for_catalogue(cls, num_items: int) -> "Cutoffs":
        """The wanted depths, each cut to a tenth of the catalogue. Depths that become equal are kept once.

        >>> Cutoffs.for_catalogue(3_000).ks, Cutoffs.for_catalogue(1_000).ks, Cutoffs.for_catalogue(60).ks
        ((50, 200), (50, 100), (6,))
        """
        most = max(1, num_items // _LARGEST_SHARE)
        return cls(tuple(sorted({min(k, most) for k in KS})))

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> "Cutoffs":
        """The depths that `metrics.json` (or a summary) was made with. A file of an earlier release has the wanted ones."""
        return cls(tuple(metrics.get("ks") or KS))

    @property
    def first(self) -> int:
        """The depth of all metrics but the deeper recall."""
        return self.ks[0]

    @property
    def recall(self) -> str:
        """Name of the recall that promotion is about."""
        return f"recall_{self.first}"

    @property
    def recalls(self) -> tuple[str, ...]:
        """Names of the recall at each depth."""
        return tuple(f"recall_{k}" for k in self.ks)

    @property
    def ndcg(self) -> str:
        """Name of the NDCG."""
        return f"ndcg_{self.first}"

    @property
    def coverage(self) -> str:
        """Name of the coverage: the share of the catalogue that some user gets among the first items."""
        return f"coverage_{self.first}"

    @property
    def validation_recall(self) -> str:
        """Name of the recall on validation after each epoch."""
        return f"{_VALIDATION}{self.first}"

    def slice_recall(self, part: str) -> str:
        """Name of the recall over the relevant items of one of `SLICES`."""
        return f"{SLICES[part]}_recall_{self.first}"

    @property
    def of_users(self) -> tuple[str, ...]:
        """Names of the metrics with one value for each user. They are columns of the table `evaluation`."""
        return (*self.recalls, self.ndcg, *map(self.slice_recall, SLICES))

    @property
    def labels(self) -> dict[str, str]:
        """Name of each metric -> how people read it, in the order of a table."""
        at = f"@{self.first}"
        return (
            {f"recall_{k}": f"Recall@{k}" for k in self.ks}
            | {self.ndcg: f"NDCG{at}"}
            | {self.slice_recall(part): f"Recall{at}, {words}" for part, words in _SLICE_WORDS.items()}
            | {self.coverage: f"Coverage{at}"}
        )

    def note(self, num_items: int) -> str | None:
        """What to tell the reader if the depths are not the wanted ones; None if they are."""
        if self.ks == KS:
            return None
        used, wanted = " and ".join(map(str, self.ks)), " and ".join(map(str, KS))
        return (
            f"metrics are at {used}, not at {wanted}: the catalogue has {num_items:,} items, and a list of more than a tenth "
            "of them would let every model look good"
        )


def validation_recall(epochs: Sequence[Mapping[str, Any]]) -> str:
    """Name of the validation recall in the epochs of a learning curve; for the wanted depth if they have none."""
    return next((name for epoch in epochs for name in epoch if name.startswith(_VALIDATION)), Cutoffs().validation_recall)
