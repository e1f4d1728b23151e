"""Settings of a model: its negatives, its towers, and how it is trained."""

from typing import Literal

from pydantic import Field, model_validator

from esans_core.defaults import SAMPLER, TRAINING, Schedule
from esans_core.negatives import METHODS, NegativeConfig
from jobs.base.sections.section import Section

_NEGATIVES = NegativeConfig()
_DRAWN = NegativeConfig.for_method("dns")  # a method that draws for each positive and keeps the hardest


SamplingMethod = Literal[METHODS]  # type: ignore[valid-type]


class SamplingSettings(Section):
    """Negatives: the shared pool, the ESANS draws, and EDIS."""

    method: SamplingMethod = Field(
        "esans",
        description="Which negatives the challenger is trained with. esans: ESANS draws and a debiased shared pool; "
        "esans_paper: the paper's draws alone; uniform, popularity: drawn for each positive; in_batch, in_batch_logq: the rest "
        "of the batch; mns, debiased_mns: that and a uniform pool; cross_batch: that and a cache; dns: the hardest of many; "
        "mixgcf: mixed with the positive; fairneg: from groups, by their loss; adap_tau: a temperature for each user; "
        "gbce: a calibrated binary loss; sce, rece: items that random buckets or hashes put near the user, out of the whole "
        "catalogue; full_softmax: the whole catalogue.",
    )
    num_pool: int = Field(_NEGATIVES.num_pool, ge=0, description="Number of uniform negatives that the batch shares.")
    num_easy_clusters: int = Field(SAMPLER.num_easy_clusters, ge=0, description="m_c, easy clusters drawn for each positive.")
    items_per_cluster: int = Field(SAMPLER.items_per_cluster, ge=2, description="m_o, items drawn from each easy cluster.")
    num_hard: int = Field(SAMPLER.num_hard, ge=0, description="Hard negatives drawn for each positive.")
    easy_temperature: float = Field(
        SAMPLER.easy_temperature, gt=0, description="Temperature of the softmax(-distance) by which easy clusters are drawn."
    )
    simple_interpolation: bool = Field(
        _NEGATIVES.simple_interpolation, description="EDIS: virtual negatives inside each easy cluster."
    )
    hard_interpolation: bool = Field(
        _NEGATIVES.hard_interpolation, description="EDIS: virtual negatives between positive and hard negatives."
    )
    lambda_low: float = Field(
        _NEGATIVES.lambda_low, ge=-1, lt=1, description="Lower end of the range that hard interpolation draws lambda from."
    )
    lambda_high: float = Field(
        _NEGATIVES.lambda_high, ge=-1, lt=1, description="Upper end of that range. Equal ends give a fixed lambda."
    )
    virtual_weight: float = Field(
        _NEGATIVES.virtual_weight,
        ge=0,
        le=1000,
        description="Weight of a virtual negative in the softmax, relative to the real ones it is made of. With share_draws "
        "about thirty stand beside thousands of real ones: at 50 they weigh a tenth as much in all, at 0.02 next to nothing.",
    )
    log_q: float = Field(
        _NEGATIVES.log_q,
        ge=0,
        le=1,
        description="Share of the logQ correction (log of each item's expected count) to apply, if the method leaves it open.",
    )
    share_draws: bool = Field(
        _NEGATIVES.share_draws, description="Use the ESANS draws of one positive as negatives of the whole batch."
    )
    same_group_weight: float = Field(
        _NEGATIVES.same_group_weight,
        ge=0,
        le=1,
        description="Weight of those items of the shared pool that are in the positive's own (primary, secondary) cluster.",
    )
    num_per_positive: int = Field(
        _DRAWN.num_per_positive,
        ge=1,
        description="Number of negatives that uniform, popularity, dns, mixgcf, fairneg, adap_tau and gbce draw for each "
        "positive.",
    )
    num_hardest: int = Field(_DRAWN.num_hardest, ge=1, description="How many of the drawn negatives dns and mixgcf keep.")
    popularity_exponent: float = Field(
        _NEGATIVES.popularity_exponent, ge=0, le=2, description="'popularity' draws in proportion to frequency^this."
    )
    num_cached: int = Field(
        NegativeConfig.for_method("cross_batch").num_cached,
        ge=1,
        description="Number of earlier positives that 'cross_batch' keeps as negatives.",
    )

    @model_validator(mode="after")
    def _ordered_lambda(self) -> "SamplingSettings":
        if self.lambda_low > self.lambda_high:
            raise ValueError(f"lambda_low ({self.lambda_low}) must not exceed lambda_high ({self.lambda_high})")
        return self


POPULARITY = {"auto": None, "on": True, "off": False}  # what `popularity` means to the towers


class TrainingSettings(Section):
    """The two towers and how they are trained."""

    embedding_dim: int = Field(TRAINING.dim, ge=4, le=1024, description="Output dimension D of both towers.")
    order: Literal["auto", "sequence", "set"] = Field(
        "auto",
        description="What the user tower reads. sequence: events one after the other; set: all events at once, without order; "
        "auto: a set if more than 80 % of the events have the time of the same user's event before, else a sequence.",
    )
    num_heads: int = Field(TRAINING.num_heads, ge=1, description="Attention heads of the user tower of sequences.")
    num_layers: int = Field(TRAINING.num_layers, ge=1, le=12, description="Layers of the user tower of sequences.")
    max_history: int = Field(
        TRAINING.max_history, ge=1, le=2000, description="Number of a user's latest events that the user tower reads."
    )
    dropout: float = Field(TRAINING.dropout, ge=0, lt=1, description="Dropout rate of the user tower.")
    item_network: bool = Field(
        TRAINING.item_network, description="Give the item tower a network of its own; else an item is its id and its content."
    )
    popularity: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Let every item have a popularity, which training learns and every score contains. auto: only if users are "
        "sets.",
    )
    start_ids: Literal["cooccurrence", "random"] = Field(
        TRAINING.start_ids,
        description="Where item ids start if events are read as a sequence. cooccurrence: near the ids of items that stand "
        "near them in histories; random: anywhere.",
    )
    mask_known: bool = Field(
        TRAINING.mask_known, description="Leave a user's other items out of the negatives of each of the user's events."
    )
    temperature: float = Field(
        TRAINING.temperature,
        gt=0,
        le=1,
        description="tau, temperature of the cosine score; if it is learnt, training starts from it.",
    )
    learn_temperature: bool = Field(
        TRAINING.learn_temperature, description="Let training learn tau, for the challenger and for the baseline."
    )
    baseline_temperature: float = Field(
        TRAINING.uniform_temperature,
        gt=0,
        le=1,
        description="tau of the uniform-negatives baseline; each method has its own best value.",
    )
    batch_size: int = Field(TRAINING.batch_size, ge=2, description="Number of positives in a step, on average.")
    epochs: int = Field(TRAINING.epochs, ge=1, le=1000, description="Largest number of passes over the training events.")
    patience: int = Field(
        TRAINING.patience,
        ge=1,
        description="Stop after this many epochs without a better validation recall; as many as epochs: never stop early.",
    )
    learning_rate: float = Field(TRAINING.learning_rate, gt=0, lt=1, description="Largest step size of AdamW.")
    schedule: Schedule = Field(
        TRAINING.schedule,
        description="How the step size goes on after the warm-up. cosine: it falls to zero along half a cosine; "
        "linear: along a line; constant: it stays.",
    )
    warm_up: float = Field(
        TRAINING.warm_up, ge=0, lt=1, description="Share of all steps in which the step size rises from zero to its largest."
    )
    weight_decay: float = Field(TRAINING.weight_decay, ge=0, lt=1, description="Decoupled weight decay.")
    precision: Literal["float32", "bfloat16"] = Field(
        TRAINING.precision,
        description="Precision of the matrix products in towers and loss; bfloat16 is faster on GPUs and on CPUs that have it.",
    )
    id_dropout: float = Field(
        TRAINING.id_dropout, ge=0, lt=1, description="Chance that an item's id is hidden, so that new items can be served."
    )
    history_dropout: float = Field(
        TRAINING.history_dropout,
        ge=0,
        lt=1,
        description="Chance that a user's events are hidden, so that new users can be served. Used if users have attributes.",
    )
    refit: bool = Field(
        True,
        description="Train the challenger once more, on all events up to the date, for as many epochs as were best: this model "
        "serves if it is sound and near the judged one. All figures are those of the judged one.",
    )
    sample_fraction: float = Field(1.0, gt=0, le=1, description="Share of users whose events are trained on.")
    table_updates: Literal["auto", "dense", "sparse"] = Field(
        "auto",
        description="dense: update every row of the id table in each step (AdamW); sparse: update only the rows that the step "
        "used (SparseAdam, without weight decay); auto: dense up to 100,000 items.",
    )
    window_events: int = Field(
        8_000_000, ge=1, description="Most training events that are in memory and are shuffled together (40 bytes each)."
    )
    num_shards: int = Field(
        1,
        ge=1,
        le=4096,
        description="Parts of a log larger than a window that are read in parallel; best: one for each process.",
    )
    validation_users: int = Field(20_000, ge=1, description="Most users that are validated on after each epoch.")
    processes: int = Field(
        1, ge=1, le=64, description="Processes that train one model together on this machine; on CUDA, one for each GPU."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="Where to train: auto, cpu, cuda or cuda:N.")
    seed: int = Field(7, ge=0, description="Seed of initialisation, shuffling and sampling.")
