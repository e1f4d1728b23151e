"""Reads a serving bundle, the folder that production uses: it takes histories of item ids and answers with item ids.

It needs torch, faiss and pyarrow (`pip install ".[serving]"`), but nothing of the pipeline, no registry and no pickle.
The pipeline writes such folders (`jobs.serving.bundle`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from esans_core.attributes import AttributeEncoder, AttributeKind
from esans_core.sequences import Sequences
from esans_core.serving.attributes import ItemAttributes, named
from esans_core.serving.bundle_files import BUNDLE, checked
from esans_core.serving.retriever import Retriever
from esans_core.serving.user_attributes import encoded_users

__all__ = ["ATTRIBUTES", "POPULAR", "ROW", "SHARE", "Recommendation", "ServingBundle", "checked"]

POPULAR, ROW, SHARE = "popular.arrow", "row", "share"
ATTRIBUTES = "attributes.arrow"
_MOST_REASONS = 20
_MOST_POPULARITY = 10.0
_AT_ONCE = 1024  # histories answered together; this bounds the memory that a long list of them takes


@dataclass(frozen=True)
class Recommendation:
    """The answer to one history.

    Attributes:
        item_ids: best first, none of them in the history; fewer than k only if the catalogue has no more that may be listed.
        scores: cosine of user and item, plus the item's popularity if the model has one; in a fallback, the item's share of
            all training events.
        fallback: True if the history has no item of this catalogue, and nothing is known of the user. The answer is then the
            most popular items.
        unknown_ids: ids of the history that the catalogue does not have, each once, in the order of the history. The answer
            rests on the other ids. If there are many, the caller's catalogue is not the one that this bundle was built from.
        because: of each item of the answer, the ids of the history that are nearest to it by the cosine of their embeddings,
            nearest first. Empty unless they were asked for. Items of the history that are out of stock are never named.
    """

    item_ids: list[str]
    scores: list[float]
    fallback: bool
    unknown_ids: list[str] = field(default_factory=list)
    because: list[list[str]] = field(default_factory=list)


class ServingBundle:
    """A bundle in use. Large arrays are mapped: processes of a machine share their memory. Safe to call from many threads.

    Args:
        folder: folder of the bundle. It is not checked here; `checked` tells whether it is the one that was built.

    Attributes:
        about: what the bundle says about itself: date, model, data, index, bounds of k.
        attributes: the items' attributes that a query may filter by; None if there are none.
        user_attributes: the users' attributes that a query may tell, name -> kind; empty if the model knows none.
    """

    def __init__(self, folder: Path) -> None:
        folder = Path(folder)
        self.about: dict[str, Any] = json.loads((folder / BUNDLE).read_text())["about"]
        self._retriever = Retriever(folder)
        self.attributes = ItemAttributes(folder / ATTRIBUTES) if (folder / ATTRIBUTES).exists() else None
        fingerprint = self._retriever.preprocessing.get("encoders", {}).get("users")
        self._user_encoder = AttributeEncoder.from_fingerprint(fingerprint) if fingerprint else None
        self.user_attributes: dict[str, AttributeKind] = (
            {name: kind for name, (kind, _) in self._user_encoder.layout.items()} if self._user_encoder else {}
        )
        with pa.memory_map(str(folder / POPULAR)) as stream:
            popular = pa.ipc.open_file(stream).read_all().combine_chunks()
        # Bundles up to version 0.2 hold ids in place of rows.
        rows = popular[ROW].to_numpy() if ROW in popular.column_names else self._retriever.item_ids.rows(popular[0].to_pylist())
        self._popular: tuple[np.ndarray, np.ndarray] = rows, popular[SHARE].to_numpy()

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int | None = None,
        *,
        strict: bool = False,
        exclude: Sequence[str] = (),
        filter: Mapping[str, Any] | None = None,
        users: Sequence[Mapping[str, Any] | None] | None = None,
        unwanted: Sequence[Sequence[str]] | None = None,
        popularity: float = 1.0,
        why: int = 0,
    ) -> list[Recommendation]:
        """The k best items for each history, of those that pass.

        Args:
            histories: item ids of each user, oldest first. The model reads the latest of the ids that the catalogue has, and
                all of these are left out of the answer, unless people come `again` to the same items (`about`). The other
                ids are listed in `Recommendation.unknown_ids`.
            k: how many items; by default the number that the bundle was built with.
            strict: refuse to answer if a history has an id that the catalogue does not have.
            exclude: ids of items that are in no answer. Ids that the catalogue does not have are passed over.
            filter: attribute -> what it must be, such as `{"category": ["shoes"], "price": {"min": 10, "max": 50}}`; see
                `esans_core.serving.attributes.ItemAttributes.passing`. None, or an empty one, lets all items pass.
            users: what is known of the user of each history: attribute -> value, such as `{"country": "DE", "age": 31}`; see
                `esans_core.serving.user_attributes.encoded_users`. A user with an attribute needs no history: the answer is
                then the model's, and no fallback.
            unwanted: for each history, ids of items that the user is known not to want, such as disliked ones. They are in no
                answer to this user, whatever else is asked for. Ids that the catalogue does not have are passed over.
            popularity: weight of the items' popularity in the scores, from 0 (none) to 10; 1 is the one that the model was
                trained with. Less of it shows rarer items. Only models of logs without an order have a popularity.
            why: how many items of the history are named as reasons for each item of the answer (`Recommendation.because`).

        Raises:
            ValueError: k, `why` or `popularity` is out of bounds, or the model has no popularity to weigh; a history is not a
                list of strings, or, with `strict`, one has an unknown id; `exclude` or a list in `unwanted` is not a list of
                strings, `filter` or `users` name what is not there or have the wrong type, or there are not as many users, or
                lists of unwanted items, as histories.
        """
        k = self._allowed(k)
        if isinstance(why, bool) or not isinstance(why, int) or not 0 <= why <= _MOST_REASONS:
            raise ValueError(f"why: expected a whole number from 0 to {_MOST_REASONS}, got {why!r}")
        self._check_popularity(popularity)
        for number, history in enumerate(histories):
            _check_ids(history, f"history {number}")
        for name, given in (("users", users), ("unwanted", unwanted)):
            if given is not None and len(given) != len(histories):
                raise ValueError(f"{name}: expected one for each of the {len(histories)} histories, got {len(given)}")
        for number, items in enumerate(unwanted or ()):
            _check_ids(items, f"unwanted {number}")
        features_UG = encoded_users([None] * len(histories) if users is None else users, self._user_encoder)
        allowed_N = self._passing(exclude, filter)
        answers: list[Recommendation] = []
        for start in range(0, len(histories), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            of_part = None if unwanted is None else unwanted[part]
            first = start if strict else None
            answers += self._answers(histories[part], features_UG[part], k, first, allowed_N, of_part, popularity)
        if why:
            answers = [
                replace(answer, because=self._reasons(history, answer, why))
                for history, answer in zip(histories, answers, strict=True)
            ]
        return answers

    def similar(
        self,
        items: Sequence[str],
        k: int | None = None,
        *,
        exclude: Sequence[str] = (),
        filter: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """The k items that are most like each of some items, of those that pass.

        The score is the cosine of the two items' embeddings. An item that is out of stock has no embedding in the bundle: its
        answer, and its scores, are those of a user whose history is this item alone.

        Args:
            items: item ids. One that the catalogue does not have gets the most popular items, marked as a fallback.
            k: how many items; by default the number that the bundle was built with.
            exclude: ids of items that are in no answer.
            filter: attribute -> what it must be, as in `recommend`.

        Raises:
            ValueError: k is out of bounds, `items` or `exclude` is not a list of strings, or `filter` names what is not there.
        """
        k = self._allowed(k)
        _check_ids(items, "items")
        allowed_N = self._passing(exclude, filter)
        answers: list[Recommendation] = []
        for start in range(0, len(items), _AT_ONCE):
            answers += self._similar(items[start : start + _AT_ONCE], k, allowed_N)
        return answers

    def _similar(self, items: Sequence[str], k: int, allowed_N: np.ndarray | None) -> list[Recommendation]:
        rows = self._retriever.item_ids.rows(list(items))
        held, vectors_RD = self._retriever.directions(rows)
        seen = np.arange(held.sum() + 1), rows[held]
        near = iter(self._recommendations(*self._retriever.index.search(vectors_RD[held], k, seen, allowed_N)))
        alone = [[item] for item, here in zip(items, held, strict=True) if not here]
        others = iter(self._answers(alone, encoded_users([None] * len(alone), self._user_encoder), k, None, allowed_N))
        return [next(near if here else others) for here in held]

    def _reasons(self, history: Sequence[str], answer: Recommendation, count: int) -> list[list[str]]:
        known = list(dict.fromkeys(history))
        held, known_HD = self._retriever.directions(self._retriever.item_ids.rows(known))
        _, found_KD = self._retriever.directions(self._retriever.item_ids.rows(answer.item_ids))
        near_KH = found_KD @ known_HD[held].T
        ids = [item for item, here in zip(known, held, strict=True) if here]
        return [[ids[place] for place in row[:count]] for row in (-near_KH).argsort(axis=1, kind="stable")]

    def _passing(self, exclude: Sequence[str], wanted: Mapping[str, Any] | None) -> np.ndarray | None:
        """bool [N], the items that may be in an answer; None: all that the index holds."""
        _check_ids(exclude, "exclude")
        allowed_N = None
        if wanted is not None and named(wanted, self.attributes.kinds if self.attributes else {}) and self.attributes:
            allowed_N = self.attributes.passing(wanted)
        rows = self._retriever.item_ids.rows(list(exclude))
        return self._without(allowed_N, rows) if (rows >= 0).any() else allowed_N

    def _without(self, allowed_N: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
        """bool [N], the items that pass without those of some rows; -1 is no row."""
        allowed_N = np.ones(len(self._retriever.item_ids), bool) if allowed_N is None else allowed_N.copy()
        allowed_N[rows[rows >= 0]] = False
        return allowed_N

    def _answers(
        self,
        histories: Sequence[Sequence[str]],
        features_UG: np.ndarray,
        k: int,
        strict_from: int | None,
        allowed_N: np.ndarray | None,
        unwanted: Sequence[Sequence[str]] | None = None,
        popularity: float = 1.0,
    ) -> list[Recommendation]:
        """The answers to a block. If unknown ids are refused, `strict_from` is the number of its first history, else None."""
        items = [item for history in histories for item in history]
        rows = self._retriever.item_ids.rows(items)
        unknown = _unknown_of_each(items, rows, [len(history) for history in histories])
        if unknown and strict_from is not None:
            first, strangers = next(iter(unknown.items()))
            raise ValueError(
                f"history {strict_from + first}: {len(strangers)} ids are not in the catalogue of this bundle, such as "
                f"{strangers[:3]}; "
                "leave them out, or ask without strict"
            )
        known_U = _known_of_each(rows, [len(history) for history in histories])
        met = np.flatnonzero((known_U > 0) | ~np.isnan(features_UG).all(axis=1))
        offsets = np.concatenate([[0], np.cumsum(known_U[met])])
        past = Sequences.past(torch.from_numpy(rows[rows >= 0]), torch.from_numpy(offsets))
        past = replace(past, again=bool(self.about.get("again")), features=torch.from_numpy(features_UG[met]))
        disliked = [self._retriever.item_ids.rows(list(items)) for items in unwanted or ()]
        if disliked:
            past = replace(past, unwanted=_pairs([disliked[user] for user in met]))
        found = self._found(past, k, allowed_N, popularity)
        new = self._most_popular(k, allowed_N)
        answers = [new] * len(histories)
        for number, rows_of_user in enumerate(disliked):
            if (rows_of_user >= 0).any():  # of new users; the others have an answer of their own below
                answers[number] = self._most_popular(k, self._without(allowed_N, rows_of_user))
        for user, answer in zip(met, found, strict=True):
            answers[user] = answer
        for number, ids in unknown.items():
            answers[number] = replace(answers[number], unknown_ids=ids)
        return answers

    def _found(self, sequences: Sequences, k: int, allowed_N: np.ndarray | None, popularity: float) -> list[Recommendation]:
        if not sequences.num_users:
            return []
        return self._recommendations(*self._retriever.search(sequences, k, allowed_N, popularity))

    def _recommendations(self, items_UK: np.ndarray, scores_UK: np.ndarray) -> list[Recommendation]:
        left_UK = items_UK >= 0
        ids = iter(self._retriever.item_ids.take(items_UK[left_UK]).to_pylist())
        return [
            Recommendation(list(islice(ids, int(left.sum()))), scores[left].tolist(), fallback=False)
            for left, scores in zip(left_UK, scores_UK, strict=True)
        ]

    def _most_popular(self, k: int, allowed_N: np.ndarray | None) -> Recommendation:
        rows, shares = self._popular
        if allowed_N is not None:
            there = allowed_N[rows]
            rows, shares = rows[there], shares[there]
        return Recommendation(self._retriever.item_ids.take(rows[:k]).to_pylist(), shares[:k].tolist(), fallback=True)

    def _check_popularity(self, weight: Any) -> None:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= _MOST_POPULARITY:
            raise ValueError(f"popularity: expected a number from 0 to {_MOST_POPULARITY:g}, got {weight!r}")
        if weight != 1 and not self._retriever.has_popularity:
            raise ValueError("popularity: the items of this bundle have none that could be weighed; leave it out")

    def _allowed(self, k: int | None) -> int:
        k, most = self.about["k"] if k is None else k, self.about["max_k"]
        if not 1 <= k <= most:
            raise ValueError(f"k must be from 1 to {most}, the most that this bundle was built for, got {k}")
        return k


def _check_ids(ids: Any, what: str) -> None:
    if not isinstance(ids, list | tuple | np.ndarray) or not all(isinstance(item, str) for item in ids):
        raise ValueError(f"{what}: expected a list of item ids (strings), got {str(ids)[:80]!r}")


def _pairs(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """User and item int64 [P] of each user's rows; -1 is no row."""
    known = [np.unique(of_user[of_user >= 0]) for of_user in rows]
    users = np.repeat(np.arange(len(known)), [len(of_user) for of_user in known])
    items = np.concatenate([np.zeros(0, np.int64), *known])
    return torch.from_numpy(users), torch.from_numpy(items.astype(np.int64))


def _unknown_of_each(items: list[str], rows: np.ndarray, lengths: list[int]) -> dict[int, list[str]]:
    """For each user with ids that the catalogue does not have: these ids, each once; users are in ascending order."""
    found: dict[int, dict[str, None]] = {}
    places = np.flatnonzero(rows < 0)
    owners = np.searchsorted(np.cumsum(lengths), places, side="right")
    for user, place in zip(owners.tolist(), places.tolist(), strict=True):
        found.setdefault(user, {})[items[place]] = None
    return {user: list(ids) for user, ids in found.items()}


def _known_of_each(rows: np.ndarray, lengths: list[int]) -> np.ndarray:
    """int64 [U], how many items of each history the catalogue has."""
    counts = np.concatenate([[0], np.cumsum(rows >= 0)])
    ends = np.cumsum([0, *lengths])
    return np.diff(counts[ends])
