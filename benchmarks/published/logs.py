"""The public logs of the benchmark, in the order in which they are run, and how others measured on each."""

from dataclasses import dataclass

from esans_core.towers import Order

KS = (10, 20, 50)
METRICS = ("recall_10", "ndcg_10", "recall_20", "ndcg_20", "recall_50")
TIES = "/ties"  # ends the name of a log whose same-day events were put in random order


@dataclass(frozen=True)
class Log:
    """One log.

    Attributes:
        name: its folder.
        title: its name in the tables.
        order: what a user's events are. A log without order has a set tower.
        main: the metric that chooses epochs and settings on validation, and that orders the table.
        split: how the published tables split it.
        tables_use_validation: whether the published tables train on all that is not test. If not, they train on the training
            part alone. Either way, both figures are measured, and this says which of them stands beside theirs.
        ties: whether the log says which events of a user share a day, so that their order can be taken away.
        repeats: whether users come back to items, so that leaving seen items out of the answer costs hits.
    """

    name: str
    title: str
    order: Order
    main: str
    split: str
    tables_use_validation: bool = False
    ties: bool = False
    repeats: bool = False

    @property
    def compared(self) -> str:
        """Name of the test figure that stands beside the published ones."""
        return "refit" if self.tables_use_validation else "test"


_LAST = "each user's last event is test, the one before it validation"

LOGS: dict[str, Log] = {
    log.name: log
    for log in (
        Log("s3rec_beauty", "Amazon Beauty (S3-Rec), 12,101 items", "sequence", "recall_10", _LAST, ties=True),
        Log(
            "gowalla",
            "Gowalla, 40,981 items",
            "set",
            "recall_20",
            "the official training and test parts; a fixed tenth of each user's training items is validation",
            tables_use_validation=True,
        ),
        Log("tiktok", "TikTok, 6,710 items", "set", "recall_20", "the official training, validation and test parts"),
        Log(
            "movielens-posters",
            "MovieLens with posters, 9,487 items",
            "sequence",
            "recall_50",
            "each user's latest fifth is test, a tenth of the rest validation",
        ),
        Log("amazon_beauty_54k", "Amazon Beauty, 54,542 items", "sequence", "recall_10", _LAST),
        Log("s3rec_sports", "Amazon Sports (S3-Rec), 18,357 items", "sequence", "recall_10", _LAST, ties=True),
        Log("s3rec_yelp", "Yelp (S3-Rec), 20,033 items", "sequence", "recall_10", _LAST, repeats=True),
    )
}


def log_of(data: str) -> Log:
    """The log of a data set: itself, or what it was made of if its ties are shuffled."""
    return LOGS[data.removesuffix(TIES)]
