"""Which negatives a training step uses. The field's methods are named configurations of the same step.

The names of methods and their defaults stand only here. Nothing here imports torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from esans_core.gbce import GBCE
from esans_core.mixgcf import MIXGCF
from esans_core.rece import RECE
from esans_core.recipes import Recipe, RowLoss, RowMixing, StepLoss
from esans_core.sce import SCE

if TYPE_CHECKING:
    from esans_core.parts import Catalogue
    from esans_core.proposals import ItemProposal
    from esans_core.sources import Source


@dataclass(frozen=True)
class NegativeConfig:
    """Sources of negatives, and what happens to their logits. The sources add up; any of them may be off.

    Attributes:
        in_batch: source: the other positives of the batch.
        num_pool: source: uniform negatives shared by the batch.
        num_cached: source: so many of the latest positives of earlier steps, with the embeddings they had then. Users learn
            from them and from every other source; items learn only from the other sources.
        all_items: source: the whole catalogue, in place of every other source.
        num_per_positive: source: negatives drawn for each positive by `proposal`.
        proposal: `uniform`, `popularity` (frequency^popularity_exponent) or `fair` (adapts to the loss of item groups), or a
            function that makes a method's own proposal.
        popularity_exponent: exponent of the popularity proposal.
        semantic: source: easy and hard draws of the semantic-aware sampler.
        share_draws: the semantic draws for one positive are negatives of the whole batch.
        simple_interpolation: virtual negatives inside each easy cluster.
        hard_interpolation: virtual negatives between the positive and each hard negative.
        lambda_low: lower end of the range that lambda is drawn from.
        lambda_high: upper end of this range.
        virtual_weight: weight of a virtual negative in the softmax, relative to the real ones it is made of. With `share_draws`
            there are about thirty of them and thousands of real ones: at 50 they weigh a tenth as much, at 0.02 nearly nothing.
        normalise_virtual: scale virtual items to unit length, as the towers do with real ones.
        same_group_weight: weight, in the shared negatives, of items of the positive's own cluster (primary and secondary):
            1 treats them as any other, 0 never counts them.
        num_hardest: how many of the negatives drawn for a positive count, those with the highest scores; 0 keeps all.
        mixing: turns the negatives drawn for a positive into others, before the hardest are kept.
        adaptive_temperature: whether each user has a temperature, which depends on the user's loss in the epoch before.
        log_q: share, 0 to 1, of the correction of each logit by the log of the item's expected count among the draws. 1 makes
            the sampled softmax an estimate of the full one; with less, items that are drawn often stay pushed down. At any
            share but 0, what the semantic draws favour is corrected in full; 0 corrects nothing.
        more_sources: functions that make a method's own sources.
        row_loss: takes the place of the softmax; it needs negatives that are drawn for each positive, and no others.
        step_loss: chooses its negatives by their vectors, in place of every source, and takes the place of the softmax.
    """

    in_batch: bool = True
    num_pool: int = 1024
    num_cached: int = 0
    all_items: bool = False
    num_per_positive: int = 0
    proposal: "str | Callable[[NegativeConfig, Catalogue], ItemProposal]" = "uniform"
    popularity_exponent: float = 0.75
    semantic: bool = True
    share_draws: bool = True
    simple_interpolation: bool = True
    hard_interpolation: bool = True
    lambda_low: float = -0.3
    lambda_high: float = 0.1
    virtual_weight: float = 0.02
    normalise_virtual: bool = True
    same_group_weight: float = 1.0
    num_hardest: int = 0
    mixing: RowMixing | None = None
    adaptive_temperature: bool = False
    log_q: float = 1.0
    more_sources: "tuple[Callable[[NegativeConfig, Catalogue], Source], ...]" = ()
    row_loss: RowLoss | None = None
    step_loss: StepLoss | None = None

    def __post_init__(self) -> None:
        sources = [name for name in _SOURCES if getattr(self, name)]
        if not sources:
            raise ValueError("the configuration has no negatives at all")
        for alone in ("all_items", "step_loss"):
            if getattr(self, alone) and len(sources) > 1:
                raise ValueError(f"{alone} takes the place of every other source of negatives")
        if self.step_loss and (self.row_loss or self.adaptive_temperature):
            raise ValueError("step_loss takes the place of row_loss, and knows no temperature of each user")
        if self.row_loss and sources != ["num_per_positive"]:
            raise ValueError("row_loss needs negatives that are drawn for each positive: num_per_positive and no other source")
        if sources == ["num_cached"]:
            raise ValueError("cached negatives take no gradient: give items another source to learn from, such as in_batch")
        if not 0 <= self.log_q <= 1:
            raise ValueError(f"log_q is a share of the correction, 0 to 1, got {self.log_q}")

    @property
    def needs_sampler(self) -> bool:
        """Whether item clusters decide what is drawn, or how much a shared negative weighs."""
        shared = self.in_batch or self.num_pool or self.num_cached or self.all_items
        return self.semantic or bool(shared and self.same_group_weight != 1)

    @classmethod
    def for_method(cls, method: str, *, own: Mapping[str, Any] | None = None, **values: Any) -> "NegativeConfig":
        """The configuration of a named method (`docs/methods.md`).

        Args:
            method: one of `METHODS`.
            own: values for fields of what the method brings along, such as `calibration` of `esans_core.gbce`.
            values: values of the fields above. A source that is not part of the method stays off even if it has a value here,
                so that one set of values serves every method. Unknown names are refused.

        Raises:
            ValueError: the method or a field is unknown.
        """
        if method not in _RECIPES:
            raise ValueError(f"unknown method {method!r}: choose {', '.join(METHODS)}")
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"there is no such field: {', '.join(sorted(unknown))}")
        recipe = _RECIPES[method].with_own(own or {})
        off = {name: _OFF[name] for name in _OFF if name not in recipe.chosen}
        return cls(**{**DEFAULTS, **recipe.defaults, **values, **off, **recipe.fixed})


_SOURCES = ("in_batch", "num_pool", "num_cached", "all_items", "num_per_positive", "semantic", "more_sources", "step_loss")
_SWITCHES = ("share_draws", "num_hardest", "mixing", "adaptive_temperature", "row_loss")
_OFF = {name: type(getattr(NegativeConfig, name))() for name in (*_SOURCES, *_SWITCHES)}  # False, 0, () or None
_SIZES = {"num_per_positive": 16, "num_cached": 16_384, "num_hardest": 4}  # sizes of sources that are off without a method
DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(NegativeConfig)} | _SIZES
"""Value of every field that neither the method nor the values given to `NegativeConfig.for_method` decide."""
_RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe.of("esans", "in_batch", "num_pool", "share_draws", semantic=True),
        Recipe.of("esans_paper", semantic=True, log_q=0.0, virtual_weight=1.0),
        Recipe.of("uniform", "num_per_positive", proposal="uniform"),
        Recipe.of("popularity", "num_per_positive", proposal="popularity"),
        Recipe.of("in_batch", in_batch=True, log_q=0.0),
        Recipe.of("in_batch_logq", in_batch=True),
        Recipe.of("mns", "num_pool", in_batch=True, log_q=0.0),
        Recipe.of("debiased_mns", "num_pool", in_batch=True),
        Recipe.of("cross_batch", "num_cached", in_batch=True),
        Recipe.of("dns", "num_per_positive", "num_hardest", proposal="uniform", log_q=0.0),
        MIXGCF,
        Recipe.of("fairneg", "num_per_positive", proposal="fair", log_q=0.0),
        Recipe.of("adap_tau", "num_per_positive", proposal="uniform", adaptive_temperature=True),
        GBCE,
        SCE,
        RECE,
        Recipe.of("full_softmax", all_items=True, log_q=0.0),
    )
}
METHODS: tuple[str, ...] = tuple(_RECIPES)
"""Names of all methods that `NegativeConfig.for_method` knows (`docs/methods.md`)."""
