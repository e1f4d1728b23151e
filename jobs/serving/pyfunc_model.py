"""The registered model as code: MLflow runs this file when it loads a version, so nothing is ever pickled.

It imports only MLflow, `esans_core` (which is stored beside it) and what these need. The pipeline need not be installed.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel
from pydantic import BaseModel

from esans_core.serving.bundle import ServingBundle, checked


class Answer(BaseModel):
    """The answer to one history; see `esans_core.serving.bundle.Recommendation`."""

    item_id: list[str]
    score: list[float]
    fallback: bool
    unknown_item_id: list[str]


class RetrievalModel(PythonModel):
    """The model that MLflow serves. It takes histories of item ids and gives recommendations."""

    def load_context(self, context: Any) -> None:
        """Open the bundle, after a check that its files are those that were registered."""
        folder = Path(context.artifacts["bundle"])
        checked(folder)
        self.bundle = ServingBundle(folder)

    def predict(self, context: Any, model_input: list[list[str]], params: dict[str, Any] | None = None) -> list[Answer]:
        """One answer for each history.

        Args:
            context: not read.
            model_input: item ids of each user, oldest first. Ids that the catalogue does not have are listed in the answer,
                which rests on the other ids. A data frame with one column of lists works as well.
            params: `k`, the number of items; `strict`, whether to refuse a history with an unknown id (false by default);
                `exclude`, ids of items that are in no answer; `filter`, what attributes must be, as the text of a JSON object
                (MLflow has no type for an object whose names it does not know), such as `{"category": ["shoes"]}`;
                `users`, what is known of the user of each history, as the text of a JSON array, such as `[{"country": "DE"}]`.
        """
        asked = params or {}
        try:
            answers = self.bundle.recommend(
                model_input,
                asked.get("k"),
                strict=bool(asked.get("strict", False)),
                exclude=asked.get("exclude", []),
                filter=_read("filter", asked.get("filter"), '{"category": ["shoes"]}'),
                users=_read("users", asked.get("users"), '[{"country": "DE"}]'),
            )
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return [
            Answer(item_id=found.item_ids, score=found.scores, fallback=found.fallback, unknown_item_id=found.unknown_ids)
            for found in answers
        ]


def _read(name: str, text: Any, example: str) -> Any:
    """A parameter from the text of JSON; None if there is no text."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise ValueError(f"{name}: expected JSON such as {example}, got {text[:80]!r} ({error})") from error


mlflow.models.set_model(RetrievalModel())
