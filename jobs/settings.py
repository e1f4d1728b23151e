"""Every setting of the pipeline, in one typed schema.

The command line of each job, the trigger form of the DAG and the parameters logged to MLflow all come from here.
Precedence, highest first: command line, values passed in code (or a settings file), environment (`ESANS_...`, nested
names joined by `__`), defaults.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from esans_core.defaults import CLUSTERS, SAMPLER, TRAINING, Schedule
from esans_core.negatives import METHODS, NegativeConfig

EMBEDDED = "embedded"
_NEGATIVES = NegativeConfig()
_DRAWN = NegativeConfig.for_method("dns")  # a method that draws for each positive and keeps the hardest
_WHEN_AND_WHERE = frozenset({"date", "home", "lake", "serving"})  # of a run
_NO_RESULT = frozenset({"spark", "registry", "run"})  # sections that say how and where steps run


class Section(BaseModel):
    """A group of settings; unknown names are refused, so that a typing error is never ignored."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class DataSettings(Section):
    """Where the catalogue and the interaction log come from."""

    source: str = Field(
        EMBEDDED,
        description="Folder or URI (file, s3, gs, webhdfs) with the tables of docs/data-contract.md, or 'embedded' "
        "for the built-in shop.",
    )
    timestamp_unit: Literal["s", "ms", "us"] = Field("s", description="Unit of a numeric timestamp column.")
    lookback_days: int = Field(0, ge=0, description="Use only events of the last so many days; 0 uses the whole log.")
    max_rejected_fraction: float = Field(
        0.05, ge=0, le=1, description="Largest share of rows of a table that may be quarantined before the run stops."
    )


class ShopSettings(Section):
    """Size of the embedded shop (used only when data.source is 'embedded')."""

    num_items: int = Field(
        3000, ge=50, le=5_000_000, description="Items in the catalogue on 2026-01-28; on other dates see shop.grows."
    )
    num_users: int = Field(4000, ge=20, le=50_000_000, description="Users on 2026-01-28; on other dates see shop.grows.")
    grows: bool = Field(
        True,
        description="New items (0.3 % of num_items, at least 1) and users (0.5 %, at least 1) come every day: later dates have "
        "more, earlier ones fewer. Off: exactly num_items and num_users on every date.",
    )
    num_days: int = Field(35, ge=7, le=400, description="Days of events in each snapshot.")
    noise: float = Field(0.15, ge=0, le=1, description="Share of events made by popularity alone, without taste.")
    seed: int = Field(2025, ge=0, description="Seed of the hidden world.")


class IngestSettings(Section):
    """Cleaning and splitting of the interaction log."""

    max_events_per_user_day: int = Field(
        1000, ge=1, description="A user with more events than this on one day is treated as a bot and quarantined."
    )
    split: Literal["auto", "window", "per_user_tail"] = Field(
        "auto",
        description="Hold-out: the last days of the log ('window'), each user's latest events ('per_user_tail'), or "
        "'auto': the window if it holds at least min_holdout_users users with a history, else the tail.",
    )
    holdout_days: int = Field(3, ge=1, description="Length of the hold-out window, in days up to the logical date.")
    validation_days: int = Field(2, ge=1, description="Length of the validation window, in days before the hold-out.")
    holdout_fraction: float = Field(0.2, gt=0, lt=0.9, description="Share of a user's events held out by per_user_tail.")
    validation_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share used for validation by per_user_tail.")
    min_holdout_users: int = Field(200, ge=1, description="Users a hold-out window needs before 'auto' chooses it.")


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
        description="Matrix products of a model encoder; the halves pay on a GPU. Another one encodes all items anew.",
    )
    text_dim: int = Field(128, ge=2, le=4096, description="Dimension of the embedded text vector.")
    behaviour_method: Literal["word2vec", "als"] = Field(
        "als", description="Spark MLlib method behind the behavioural view (measured choice: docs/LOG.md)."
    )
    behaviour_dim: int = Field(64, ge=2, le=512, description="Dimension of the behavioural view.")
    min_behaviour_events: int = Field(3, ge=1, description="Training events an item needs to have a behavioural view.")
    behaviour_blocks: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Parts that the behavioural fit is split into; 0: one for each 5 million training events. One gives "
        "the same bytes on every run, several give them up to the rounding of sums.",
    )
    encode_batch_size: int = Field(64, ge=1, description="Items encoded at once by a model encoder.")
    keep_retired_days: int = Field(
        30, ge=0, le=3650, description="Days for which the vectors of items that left are kept, in case they return."
    )
    read_unchanged_files: bool = Field(
        False, description="Read every picture file on every run, also where its path, size and times have not changed."
    )


class ClusterSettings(Section):
    """MSAC: alignment of the views and the cascaded codebooks."""

    dim: int = Field(CLUSTERS.dim, ge=2, le=1024, description="Dimension d of the aligned space.")
    alignment: bool = Field(True, description="Train the contrastive alignment; off: a fixed random projection.")
    alignment_epochs: int = Field(
        CLUSTERS.alignment_epochs, ge=1, description="Passes over the items when the alignment heads are trained."
    )
    alignment_temperature: float = Field(
        CLUSTERS.alignment_temperature, gt=0, le=1, description="Temperature of the symmetric InfoNCE loss."
    )
    num_primary: int = Field(CLUSTERS.num_primary, ge=2, le=65_535, description="K_p, codes of the primary codebook.")
    num_secondary: int = Field(CLUSTERS.num_secondary, ge=2, le=65_535, description="K_s, codes of the secondary codebook.")
    secondary_per_primary: bool = Field(
        False, description="One secondary codebook per primary cluster instead of one shared cascade."
    )
    min_cluster_size: int = Field(
        CLUSTERS.min_cluster_size, ge=2, description="Smallest primary cluster, m_o; smaller ones are repaired and reported."
    )
    warm_start: bool = Field(True, description="Start from the codebooks of the previous date.")
    force_refit: bool = Field(False, description="Ignore the previous codebooks on this run.")
    max_train_items: int = Field(
        CLUSTERS.max_train_items, ge=100, description="Items sampled to fit alignment and codebooks, by views and popularity."
    )
    seed: int = Field(11, ge=0, description="Seed of the alignment heads, k-means and the sample of items.")


SamplingMethod = Literal[METHODS]  # type: ignore[valid-type]


class SamplingSettings(Section):
    """Negatives: the shared pool, the ESANS draws, and EDIS."""

    method: SamplingMethod = Field(
        "esans",
        description="Which negatives the challenger is trained with. esans: the ESANS draws on top of a debiased shared pool; "
        "esans_paper: the paper's draws alone; uniform, popularity: drawn per positive; in_batch, in_batch_logq; mns, "
        "debiased_mns: in-batch + uniform pool; cross_batch: in-batch + cached; dns: hardest of the drawn; mixgcf: mixed with "
        "the positive; fairneg: groups by their loss; adap_tau: a temperature per user; full_softmax: the whole catalogue.",
    )
    num_pool: int = Field(_NEGATIVES.num_pool, ge=0, description="Uniform negatives shared by the batch.")
    num_easy_clusters: int = Field(SAMPLER.num_easy_clusters, ge=0, description="m_c, easy clusters drawn per positive.")
    items_per_cluster: int = Field(SAMPLER.items_per_cluster, ge=2, description="m_o, items drawn in each easy cluster.")
    num_hard: int = Field(SAMPLER.num_hard, ge=0, description="Hard negatives drawn per positive.")
    easy_temperature: float = Field(
        SAMPLER.easy_temperature, gt=0, description="Temperature of softmax(-distance) over primary clusters."
    )
    simple_interpolation: bool = Field(
        _NEGATIVES.simple_interpolation, description="EDIS: virtual negatives inside each easy cluster."
    )
    hard_interpolation: bool = Field(
        _NEGATIVES.hard_interpolation, description="EDIS: virtual negatives between positive and hard negatives."
    )
    lambda_low: float = Field(
        _NEGATIVES.lambda_low, ge=-1, lt=1, description="Lower end of the range hard interpolation draws lambda from."
    )
    lambda_high: float = Field(
        _NEGATIVES.lambda_high, ge=-1, lt=1, description="Upper end of that range; equal ends give a fixed lambda."
    )
    virtual_weight: float = Field(
        _NEGATIVES.virtual_weight,
        ge=0,
        le=1000,
        description="Weight of a virtual negative in the softmax, relative to the real ones it is made of. With share_draws "
        "some thirty of them stand beside thousands of real ones: at 50 they weigh a tenth as much, at 0.02 next to nothing.",
    )
    log_q: float = Field(
        _NEGATIVES.log_q,
        ge=0,
        le=1,
        description="Share of the logQ correction, the log of each item's expected count, where the method leaves it open.",
    )
    share_draws: bool = Field(
        _NEGATIVES.share_draws, description="The ESANS draws of one positive are negatives of the whole batch."
    )
    same_group_weight: float = Field(
        _NEGATIVES.same_group_weight,
        ge=0,
        le=1,
        description="Weight, in the shared pool, of items of the positive's own (primary, secondary) cluster.",
    )
    num_per_positive: int = Field(
        _DRAWN.num_per_positive,
        ge=1,
        description="Negatives drawn for each positive: uniform, popularity, dns, mixgcf, fairneg, adap_tau.",
    )
    num_hardest: int = Field(_DRAWN.num_hardest, ge=1, description="How many of the drawn negatives dns and mixgcf keep.")
    popularity_exponent: float = Field(
        _NEGATIVES.popularity_exponent, ge=0, le=2, description="Negatives of 'popularity' are drawn by frequency^this."
    )
    num_cached: int = Field(
        NegativeConfig.for_method("cross_batch").num_cached,
        ge=1,
        description="Earlier positives that 'cross_batch' keeps as negatives.",
    )

    @model_validator(mode="after")
    def _ordered_lambda(self) -> "SamplingSettings":
        if self.lambda_low > self.lambda_high:
            raise ValueError(f"lambda_low ({self.lambda_low}) must not exceed lambda_high ({self.lambda_high})")
        return self


class TrainingSettings(Section):
    """The two towers and how they are trained."""

    embedding_dim: int = Field(TRAINING.dim, ge=4, le=1024, description="Output dimension D of both towers.")
    num_heads: int = Field(TRAINING.num_heads, ge=1, description="Attention heads of the user tower.")
    max_history: int = Field(
        TRAINING.max_history, ge=1, le=2000, description="Latest events of a user that the user tower sees."
    )
    temperature: float = Field(TRAINING.temperature, gt=0, le=1, description="tau, temperature of the cosine score.")
    baseline_temperature: float = Field(
        TRAINING.uniform_temperature,
        gt=0,
        le=1,
        description="tau of the uniform-negatives baseline; each method has its own best one.",
    )
    batch_size: int = Field(TRAINING.batch_size, ge=2, description="Positives per step.")
    epochs: int = Field(TRAINING.epochs, ge=1, le=1000, description="Largest number of passes over the training events.")
    patience: int = Field(
        TRAINING.patience,
        ge=1,
        description="Stop after so many epochs without a better validation recall; as many as epochs: never before the last.",
    )
    learning_rate: float = Field(TRAINING.learning_rate, gt=0, lt=1, description="Step size of AdamW, at the first step.")
    schedule: Schedule = Field(
        TRAINING.schedule, description="linear: the step size falls to zero along a line over all epochs; constant: it stays."
    )
    weight_decay: float = Field(TRAINING.weight_decay, ge=0, lt=1, description="Decoupled weight decay.")
    precision: Literal["float32", "bfloat16"] = Field(
        TRAINING.precision,
        description="Of the towers' and the loss's matrix products; bfloat16 is faster on GPUs and on CPUs that have it.",
    )
    id_dropout: float = Field(
        TRAINING.id_dropout, ge=0, lt=1, description="Chance to hide an item's id, so that new items can be served."
    )
    sample_fraction: float = Field(1.0, gt=0, le=1, description="Share of users whose events are trained on.")
    table_updates: Literal["auto", "dense", "sparse"] = Field(
        "auto",
        description="Update every row of the id table in each step (dense: AdamW), or those that the step used (sparse: "
        "SparseAdam, without weight decay); auto is dense up to 100,000 items.",
    )
    window_events: int = Field(
        8_000_000, ge=1, description="Training events shuffled together; more than these are never in memory (40 bytes each)."
    )
    num_shards: int = Field(
        1, ge=1, le=4096, description="Parts of a log larger than a window that are read side by side, best one per process."
    )
    validation_users: int = Field(20_000, ge=1, description="Most users that validation after each epoch looks at.")
    processes: int = Field(
        1, ge=1, le=64, description="Processes that train one model together on this machine, on CUDA one for each GPU."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    seed: int = Field(7, ge=0, description="Seed of initialisation, shuffling and sampling.")


class GateSettings(Section):
    """When a challenger replaces the champion, and when a gate stops the run."""

    bootstrap_samples: int = Field(2000, ge=100, description="Resamples of the paired bootstrap over hold-out users.")
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Level of the intervals shown; 1 minus it is the share of promotions that may in truth lose more than the "
        "margin, with all looks counted.",
    )
    max_relative_loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Margin: the share of the champion's Recall@k that a challenger may lose. A larger loss must be ruled out, "
        "against the best version ever in force too.",
    )
    allow_below_baseline: bool = Field(
        False, description="Promote a challenger whose recall is shown to be below the uniform-negatives baseline's."
    )
    min_recall: float = Field(
        0.02, ge=0, le=1, description="Absolute floor of Recall@k; k is 50, and at most a tenth of the catalogue."
    )
    min_head_recall: float = Field(0.005, ge=0, le=1, description="Absolute floor of Recall@k on head items.")
    min_tail_recall: float = Field(0.0, ge=0, le=1, description="Absolute floor of Recall@k on tail items.")
    min_coverage: float = Field(0.05, ge=0, le=1, description="Least share of the catalogue in the users' top k.")
    max_cluster_share: float = Field(0.3, gt=0, le=1, description="Largest share of items one primary cluster may hold.")
    max_label_churn: float = Field(
        0.5, ge=0, le=1, description="Stop when more unchanged items change primary cluster; warn when a refit was asked for."
    )
    max_empty_codes: float = Field(0.25, ge=0, le=1, description="Warn when more primary codes, as a share, hold no item.")
    max_distortion_growth: float = Field(
        0.25,
        ge=0,
        description="Warn when the mean squared distance of items to their codes grows by a larger share.",
    )
    min_evaluated_users: int = Field(
        20, ge=1, description="Hold-out users with a history below which no model is judged; also the fewest users of a log."
    )
    min_view_coverage: float = Field(0.5, ge=0, le=1, description="Warn when fewer items have a picture, a text or events.")
    min_volume_share: float = Field(
        0.3, ge=0, le=1, description="Warn when the day has fewer events than this share of the mean of the 7 days before."
    )
    max_unclustered: float = Field(0.2, ge=0, le=1, description="Largest share of items without any view, so without cluster.")
    min_embedding_spread: float = Field(
        0.1, ge=0, le=1, description="Least spread of the item embeddings; 1 is even over the sphere, 0 one single point."
    )


class RegistrySettings(Section):
    """MLflow tracking and the model registry."""

    tracking_uri: str = Field("", description="MLflow tracking URI; empty: SQLite inside the home folder.")
    experiment: str = Field("esans-daily-retraining", description="MLflow experiment.")
    model_name: str = Field("esans-retrieval", pattern=r"^[A-Za-z0-9_.-]+$", description="Registered model.")
    promotion: Literal["auto", "review", "never"] = Field(
        "auto",
        description="auto: a pass moves the champion alias; review: a person approves it first; never: register only.",
    )
    review_hours: float = Field(
        24, gt=0, le=168, description="Hours that a review waits for an answer; no answer is a rejection."
    )


class CandidateSettings(Section):
    """Candidates of every user from the model in force."""

    enabled: bool = Field(True, description="Write the table of candidates after promotion.")
    k: int = Field(100, ge=1, le=10_000, description="Unseen items for each user.")
    index: Literal["auto", "exact", "ivf"] = Field(
        "auto",
        description="exact: every item is compared; ivf: the nearest lists of items; auto: exact up to exact_up_to items.",
    )
    exact_up_to: int = Field(
        50_000, ge=1, description="Items up to which 'auto' searches exactly (measured choice: docs/LOG.md)."
    )
    min_index_recall: float = Field(
        0.98, ge=0, le=1, description="Share of the exact top k that ivf must find, measured on a sample of users."
    )


class ServingSettings(Section):
    """The serving bundle that a version carries, and how many of them are kept (index: section candidates)."""

    k: int = Field(100, ge=1, le=10_000, description="Items that a bundle answers with when it is not told how many.")
    max_k: int = Field(1000, ge=1, le=10_000, description="Most items that a bundle can be asked for.")
    keep: int = Field(10, ge=1, le=10_000, description="Newest published bundles that are kept, besides the one in force.")

    @model_validator(mode="after")
    def _ordered(self) -> "ServingSettings":
        if self.k > self.max_k:
            raise ValueError(f"k ({self.k}) must not exceed max_k ({self.max_k})")
        return self


class SparkSettings(Section):
    """The Spark session of every Spark job."""

    master: str = Field("local[*]", description="Spark master URL.")
    driver_memory: str = Field("2g", pattern=r"^\d+[mg]$", description="Memory of the driver JVM.")
    shuffle_partitions: int = Field(4, ge=1, description="Partitions of a shuffle.")
    executor_memory: str = Field(
        "", pattern=r"^(\d+[mg])?$", description="Heap of an executor on a cluster; empty: as the cluster's configuration says."
    )
    executor_cores: int = Field(
        0, ge=0, description="Tasks an executor runs at once on a cluster; 0: as the cluster's configuration says."
    )
    driver_host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9.:-]*$",
        description="Address of this machine by which executors reach the driver, and on which alone it listens; empty leaves "
        "both to Spark, as in cluster deploy mode.",
    )


class RunSettings(Section):
    """How the steps of a run go about their work; none of this changes a result."""

    reuse: bool = Field(True, description="Skip a step whose inputs, settings and code are those of its last success.")
    checkpoint_minutes: float = Field(
        10, ge=0, description="Training also saves its state after so many minutes within an epoch; 0 after every step."
    )
    records: Literal["runs", "feature_runs"] = Field(
        "runs",
        description="Folder of the home for settings, records and verdicts; a backfill of features keeps its own, so that it "
        "never replaces what a date's retraining left.",
    )


class PipelineSettings(BaseSettings):
    """All settings of one run of the pipeline."""

    model_config = SettingsConfigDict(
        env_prefix="ESANS_",
        env_nested_delimiter="__",
        extra="forbid",
        validate_default=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    date: dt.date = Field(dt.date(2026, 1, 28), description="Logical date, YYYY-MM-DD: the last day of events used.")
    home: Path = Field(Path("var/embedded"), description="Folder for all that the pipeline keeps.")
    lake: str = Field("", description="Folder or URI (s3, gs, webhdfs) of the tables; empty: `lake` in the home folder.")
    serving: str = Field(
        "", pattern=r"^[^:]*$", description="Folder of published serving bundles; empty: `serving` in the home folder."
    )
    data: DataSettings = DataSettings()
    shop: ShopSettings = ShopSettings()
    ingest: IngestSettings = IngestSettings()
    features: FeatureSettings = FeatureSettings()
    clusters: ClusterSettings = ClusterSettings()
    sampling: SamplingSettings = SamplingSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    candidates: CandidateSettings = CandidateSettings()
    bundle: ServingSettings = ServingSettings()
    registry: RegistrySettings = RegistrySettings()
    spark: SparkSettings = SparkSettings()
    run: RunSettings = RunSettings()

    _config_hash: str | None = PrivateAttr(None)  # of the whole, in a part that `only` made

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @model_validator(mode="after")
    def _consistent(self) -> "PipelineSettings":
        if self.clusters.min_cluster_size < self.sampling.items_per_cluster:
            raise ValueError(
                f"clusters.min_cluster_size ({self.clusters.min_cluster_size}) must be at least "
                f"sampling.items_per_cluster ({self.sampling.items_per_cluster}): m_o distinct items are drawn per cluster"
            )
        if self.training.embedding_dim % self.training.num_heads:
            raise ValueError(
                f"training.embedding_dim ({self.training.embedding_dim}) must be divisible by "
                f"training.num_heads ({self.training.num_heads})"
            )
        training = self.training
        if training.batch_size % training.num_shards or training.batch_size < training.processes:
            raise ValueError(
                f"training.batch_size ({training.batch_size}) must be divisible by training.num_shards "
                f"({training.num_shards}) and at least training.processes ({training.processes})"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment below explicit values; the command line is put above both by pydantic-settings."""
        return init_settings, env_settings

    @property
    def ds(self) -> str:
        """The logical date as YYYY-MM-DD."""
        return self.date.isoformat()

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking URI in force."""
        return self.registry.tracking_uri or f"sqlite:///{self.home}/mlflow/mlflow.db"

    @property
    def serving_root(self) -> Path:
        """Folder of the published serving bundles."""
        return Path(self.serving).expanduser().resolve() if self.serving else self.home / "serving"

    @property
    def run_dir(self) -> Path:
        """Folder of this date's settings, step records, verdicts and report."""
        return self.home / self.run.records / self.ds

    def config_hash(self) -> str:
        """Hash of all that can change a result: everything but the date, where tables are kept, and how and where steps run."""
        if self._config_hash:
            return self._config_hash
        values = self.model_dump(mode="json", exclude={*_WHEN_AND_WHERE, *_NO_RESULT})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def only(self, sections: Collection[str]) -> "PipelineSettings":
        """A copy without the other sections that can change a result: to read one of those raises `AttributeError`."""
        part = self.model_copy()
        part._config_hash = self.config_hash()
        for name in type(self).model_fields.keys() - {*_WHEN_AND_WHERE, *_NO_RESULT, *sections}:
            del part.__dict__[name]
        return part

    def flat(self) -> dict[str, str | int | float | bool]:
        """All settings as `section.name -> value`, for MLflow parameters and forms."""
        return flatten(self.model_dump(mode="json"))


def flatten(values: dict, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested mapping to one level, names joined by dots."""
    out: dict[str, str | int | float | bool] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            out.update(flatten(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value
    return out


def nest(values: Mapping[str, object]) -> dict[str, Any]:
    """Inverse of `flatten`: names joined by dots to a nested mapping.

    >>> nest({"training.epochs": 3, "home": "x"})
    {'training': {'epochs': 3}, 'home': 'x'}
    """
    out: dict[str, Any] = {}
    for name, value in values.items():
        section, _, rest = name.partition(".")
        if rest:
            out.setdefault(section, {})[rest] = value
        else:
            out[section] = value
    return out


def explain(error: ValidationError) -> str:
    """What the schema refuses, one `name: reason (got value)` per setting, on one line."""
    reasons = []
    for detail in error.errors():
        name = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            reasons.append(f"{name}: there is no such setting")
        elif name and not isinstance(detail["input"], dict):
            reasons.append(f"{name}: {detail['msg']} (got {detail['input']!r})")
        else:
            reasons.append(detail["msg"].removeprefix("Value error, "))
    return "; ".join(reasons)


def workspace_name(source: str) -> str:
    """A folder name for a data source: the embedded shop's, or a slug of the source's last path part.

    >>> workspace_name("embedded"), workspace_name("/data/Movie Lens/")
    ('embedded', 'movie-lens')
    """
    return re.sub(r"[^a-z0-9]+", "-", source.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-") or "data"
