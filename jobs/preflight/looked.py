"""What a look at a source has found: sentences to read, and what the gates of a run will warn of or stop at."""

from dataclasses import dataclass, field


@dataclass
class Looked:
    """What was found.

    Attributes:
        pictures: how many there are.
        sections: heading -> sentences.
        warnings: what a run will warn of.
        stops: why a run will stop.
    """

    pictures: int = 0
    sections: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)

    def foresee(self, what: str, most: int, total: int, *, surely: bool) -> None:
        """Note what the gate of the features will say of items that share one content, such as a placeholder.

        Args:
            what: the content, such as `picture`.
            most: how many of those that were compared are one and the same.
            total: how many were compared.
            surely: whether they are those that the gate will compare, and not a sample, so that a stop can be foretold.
        """
        from jobs.gates.features import COLLAPSED, REPEATED  # Great Expectations takes seconds to import

        share = (most - 1) / max(total - 1, 1)
        if share <= REPEATED:
            return
        stops = surely and share > COLLAPSED
        bound = f"lets no run pass above {COLLAPSED:.0%}" if share > COLLAPSED else f"warns above {REPEATED:.0%}"
        (self.stops if stops else self.warnings).append(
            f"{most:,} of {total:,} {what}s that were compared are one and the same, such as a placeholder. The gate of the "
            f"features {bound}. Remedy: leave that {what} out of the source."
        )
