"""Settings of the input: where it comes from, the embedded shop, cleaning and splitting."""

from typing import Literal

from pydantic import Field

from jobs.base.sections.section import Section

EMBEDDED = "embedded"


class DataSettings(Section):
    """Where the catalogue and the interaction log come from."""

    source: str = Field(
        EMBEDDED,
        description="Folder or URI (file, s3, gs, webhdfs) with the tables of docs/data-contract.md, or 'embedded' "
        "for the built-in shop.",
    )
    mapping: str = Field(
        "", description="File that maps the source's tables and columns (docs/data-contract.md). If empty: its own data.yaml."
    )
    timestamp_unit: Literal["s", "ms", "us", "ns"] = Field("s", description="Unit of a numeric timestamp column.")
    lookback_days: int = Field(0, ge=0, description="Use only the events of this many days up to the date; 0: the whole log.")
    max_rejected_fraction: float = Field(
        0.05, ge=0, le=1, description="Largest share of a table's rows that may be quarantined. With more, the run stops."
    )
    max_log_shrinkage: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest share of its rows by which the log may be shorter than on the date before. Beyond it the run "
        "stops, because today's export is probably not complete.",
    )


class ShopSettings(Section):
    """The embedded shop (used only when data.source is 'embedded')."""

    generator: Literal["v1", "v2"] = Field(
        "v2",
        description="How the shop is drawn. v2: visits start with a wish, items of a leaf differ by what one sees and reads, "
        "and the log is like real ones (docs/results/shop.md). v1: the shop of the releases up to 0.2, in which the items of "
        "a leaf differ by popularity alone.",
    )
    num_items: int = Field(
        3000, ge=50, le=5_000_000, description="Items in the catalogue on 2026-01-28; on other dates see shop.grows."
    )
    num_users: int = Field(4000, ge=20, le=50_000_000, description="Users on 2026-01-28; on other dates see shop.grows.")
    grows: bool = Field(
        True,
        description="New items (0.3 % of num_items, at least 1) and users (0.5 %, at least 1) come every day, so later dates "
        "have more and earlier dates have fewer. If off, every date has exactly num_items and num_users.",
    )
    num_days: int = Field(35, ge=7, le=400, description="Days of events in each snapshot.")
    noise: float = Field(0.15, ge=0, le=1, description="Share of events that follow popularity alone, not the user's taste.")
    seed: int = Field(2025, ge=0, description="Seed of the hidden world.")


class IngestSettings(Section):
    """Cleaning and splitting of the interaction log."""

    max_events_per_user_day: int = Field(
        1000, ge=1, description="A user with more events than this on one day is treated as a bot and quarantined."
    )
    split: Literal["auto", "window", "per_user_tail"] = Field(
        "auto",
        description="Which events are held out. window: the last days of the log; per_user_tail: each user's latest events; "
        "auto: the window if at least min_holdout_users users with a history are in it, else the tail.",
    )
    holdout_days: int = Field(3, ge=1, description="Length of the hold-out window, in days up to the logical date.")
    validation_days: int = Field(2, ge=1, description="Length of the validation window, in days before the hold-out.")
    holdout_fraction: float = Field(0.2, gt=0, lt=0.9, description="Share of a user's events that per_user_tail holds out.")
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of a user's events that per_user_tail validates on."
    )
    min_holdout_users: int = Field(200, ge=1, description="Fewest users in the hold-out window for which 'auto' chooses it.")
