"""What the HTTP server takes and gives, as types. The page /docs is made from them.

It needs pydantic (`pip install ".[http]"`).
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from esans_core.serving.bundle import Recommendation

MOST_HISTORIES = 1000  # of a request
_MOST_EVENTS = 10_000  # of a history
_MOST_EXCLUDED = 10_000

ItemId = Annotated[StrictStr, Field(max_length=1024)]
History = Annotated[list[ItemId], Field(max_length=_MOST_EVENTS)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    k: Annotated[
        int | None, Field(ge=1, strict=True, description="How many items; without it, as many as the bundle says.")
    ] = None
    exclude: Annotated[list[ItemId], Field(max_length=_MOST_EXCLUDED, description="Ids of items that are in no answer.")] = []
    filter: Annotated[
        dict[str, Any] | None,
        Field(
            description="Attributes, and what they must be.",
            examples=[{"category": ["shoes"], "price": {"min": 10, "max": 50}}],
        ),
    ] = None


class RecommendRequest(_Asked):
    """Histories of users, and what may be in the answers."""

    histories: Annotated[
        list[History],
        Field(
            min_length=1,
            max_length=MOST_HISTORIES,
            description="Item ids of each user, oldest first.",
            examples=[[["item-17", "item-4"], []]],
        ),
    ]
    users: Annotated[
        list[dict[str, Any] | None] | None,
        Field(description="What is known of the user of each history.", examples=[[{"country": "DE"}, None]]),
    ] = None
    unwanted: Annotated[
        list[History] | None,
        Field(description="Ids of items that the user of each history does not want.", examples=[[["item-9"], []]]),
    ] = None
    keys: Annotated[
        list[Annotated[StrictStr, Field(max_length=1024)]] | None,
        Field(description="A name for each user. The same name gets the same bundle as long as a canary lasts."),
    ] = None
    popularity: Annotated[
        float, Field(ge=0, le=10, description="Weight of the items' popularity in the scores; only if the model has one.")
    ] = 1.0
    strict: Annotated[bool, Field(description="Refuse a history with an id that the catalogue does not have.")] = False
    why: Annotated[
        int, Field(ge=0, le=20, strict=True, description="How many items of the history to name for each item of the answer.")
    ] = 0

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        for name, given in (("users", self.users), ("unwanted", self.unwanted), ("keys", self.keys)):
            if given is not None and len(given) != len(self.histories):
                raise ValueError(f"{name}: expected one for each of the {len(self.histories)} histories, got {len(given)}")
        return self


class SimilarRequest(_Asked):
    """Items, and what may be in the answers."""

    items: Annotated[
        list[ItemId], Field(min_length=1, max_length=MOST_HISTORIES, description="Item ids.", examples=[["item-17"]])
    ]


class Answer(BaseModel):
    """The answer to one history or one item."""

    item_id: list[str] = Field(description="Best first.")
    score: list[float]
    fallback: bool = Field(description="Whether these are the most popular items, because nothing is known that could be used.")
    unknown_item_id: list[str] = Field(description="Ids that the catalogue does not have.")
    because: list[list[str]] = Field(description="Of each item, the nearest items of the history, if they were asked for.")
    bundle: str = Field(description="The bundle that gave this answer.")

    @classmethod
    def of(cls, found: Recommendation, bundle: str) -> "Answer":
        """The answer of a bundle."""
        return cls.model_construct(
            item_id=found.item_ids,
            score=found.scores,
            fallback=found.fallback,
            unknown_item_id=found.unknown_ids,
            because=found.because,
            bundle=bundle,
        )


class Answers(BaseModel):
    """One answer for each history or item, in their order."""

    answers: list[Answer]


class State(BaseModel):
    """What the server answers from."""

    bundle: str
    about: dict[str, Any]
    item_attributes: dict[str, str] = Field(description="Attributes that a filter may name, and their kinds.")
    user_attributes: dict[str, str] = Field(description="Attributes that `users` may tell, and their kinds.")
    canary: str | None = Field(description="A second bundle, which a share of the users get.")
    canary_share: float
