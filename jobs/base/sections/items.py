"""Settings of the three views of an item, and of the clusters."""

from typing import Literal

from pydantic import Field

from esans_core.defaults import CLUSTERS
from jobs.base.sections.section import Section
from jobs.base.sections.source import EMBEDDED


class FeatureSettings(Section):
    """The three views of an item: visual, textual, behavioural (paper section on MSAC)."""

    visual_encoder: str = Field(
        EMBEDDED,
        description="'embedded' (classical image descriptor), or a CLIP-class model: its folder, a URI, or package:<name>.",
    )
    text_encoder: str = Field(
        EMBEDDED, description="'embedded' (TF-IDF + SVD), or a BERT-class model: its folder, a URI, or package:<name>."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Precision of a model encoder's matrix products; 16 bits pay on a GPU. A change encodes all items again.",
    )
    text_dim: int = Field(128, ge=2, le=4096, description="Dimension of the embedded text vector.")
    behaviour_method: Literal["word2vec", "als"] = Field(
        "als",
        description="Spark MLlib method that learns the behavioural view (compared in docs/LOG.md). word2vec reads all events "
        "alike, so it refuses kinds of different weights.",
    )
    behaviour_dim: int = Field(64, ge=2, le=512, description="Dimension of the behavioural view.")
    min_behaviour_events: int = Field(3, ge=1, description="Fewest training events that an item needs for a behavioural view.")
    behaviour_blocks: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Number of parts that the behavioural fit is split into; 0: one for each 5 million training events. With "
        "one part, every run gives the same bytes. With several, runs differ by the rounding of sums.",
    )
    encode_batch_size: int = Field(64, ge=1, description="Number of items that a model encoder takes at once.")
    keep_retired_days: int = Field(
        30, ge=0, le=3650, description="Days for which the vectors of items that have left are kept, in case they return."
    )
    read_unchanged_files: bool = Field(
        False, description="Read every picture file on every run, even if its path, size and times have not changed."
    )


class ClusterSettings(Section):
    """MSAC: alignment of the views and the cascaded codebooks."""

    dim: int = Field(CLUSTERS.dim, ge=2, le=1024, description="Dimension d of the aligned space.")
    alignment: bool = Field(True, description="Train the contrastive alignment. If off: use a fixed random projection.")
    alignment_epochs: int = Field(
        CLUSTERS.alignment_epochs, ge=1, description="Passes over the items when the alignment heads are trained."
    )
    alignment_temperature: float = Field(
        CLUSTERS.alignment_temperature, gt=0, le=1, description="Temperature of the symmetric InfoNCE loss."
    )
    num_primary: int = Field(CLUSTERS.num_primary, ge=2, le=65_535, description="K_p, number of primary codes.")
    num_secondary: int = Field(CLUSTERS.num_secondary, ge=2, le=65_535, description="K_s, number of secondary codes.")
    secondary_per_primary: bool = Field(
        False, description="One secondary codebook for each primary cluster, instead of one for all."
    )
    min_cluster_size: int = Field(
        CLUSTERS.min_cluster_size,
        ge=2,
        description="m_o, fewest items of a primary cluster. Smaller ones are repaired and reported.",
    )
    warm_start: bool = Field(True, description="Start from the codebooks of the previous date.")
    force_refit: bool = Field(False, description="Ignore the previous codebooks on this run.")
    max_train_items: int = Field(
        CLUSTERS.max_train_items,
        ge=100,
        description="Most items to fit alignment and codebooks on, sampled by views and popularity.",
    )
    seed: int = Field(11, ge=0, description="Seed of the alignment heads, k-means and the sample of items.")
