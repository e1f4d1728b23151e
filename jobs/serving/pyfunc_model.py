"""The registered model as code: MLflow runs this file when it loads a version, so nothing is ever pickled.

It imports only MLflow, `esans_core` (which is stored beside it) and what these need. The pipeline need not be installed.

The version knows the folder of the published bundles of the home that registered it. Once its own bundle is in force there, it
follows each promotion and rollback, and answers from the bundle that is in force. Until then it answers from its own bundle.
The environment variable `ESANS_FOLLOW` names another folder, which is followed at once; `off` follows none.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel
from pydantic import BaseModel

from esans_core.serving.bundle import ServingBundle, checked
from esans_core.serving.published import PublishedBundle, Served

FOLLOW = "ESANS_FOLLOW"
FOLDER = "serving_folder"  # key of the configuration that `register_version` gives


class Answer(BaseModel):
    """The answer to one history (`esans_core.serving.bundle.Recommendation`), and the name of the bundle that gave it."""

    item_id: list[str]
    score: list[float]
    fallback: bool
    unknown_item_id: list[str]
    bundle: str


class RetrievalModel(PythonModel):
    """The model that MLflow serves. It takes histories of item ids and gives recommendations."""

    def load_context(self, context: Any) -> None:
        """Open the bundle, after a check that its files are those that were registered; then follow, if that is asked for."""
        folder = Path(context.artifacts["bundle"])
        content = checked(folder)
        self.loaded = Served(_name(folder, content), ServingBundle(folder))
        asked = os.environ.get(FOLLOW, "")
        published = asked or str((context.model_config or {}).get(FOLDER, ""))
        self.published = None
        if published and asked != "off":
            self.published = PublishedBundle(Path(published), self.loaded, once_in_force=not asked)

    def predict(self, context: Any, model_input: list[list[str]], params: dict[str, Any] | None = None) -> list[Answer]:
        """One answer for each history.

        Args:
            context: not read.
            model_input: item ids of each user, oldest first. Ids that the catalogue does not have are listed in the answer,
                which rests on the other ids. A data frame with one column of lists works as well.
            params: `k`, the number of items; `strict`, whether to refuse a history with an unknown id (false by default);
                `exclude`, ids of items that are in no answer; `filter`, what attributes must be, as the text of a JSON object
                (MLflow has no type for an object whose names it does not know), such as `{"category": ["shoes"]}`;
                `users`, what is known of the user of each history, as the text of a JSON array, such as `[{"country": "DE"}]`;
                `unwanted`, items that the user of each history does not want, as the text of a JSON array of lists;
                `popularity`, the weight of the items' popularity in the scores (1.0 by default).
        """
        asked, served = params or {}, self.loaded if self.published is None else self.published.served
        try:
            answers = served.bundle.recommend(
                model_input,
                asked.get("k"),
                strict=bool(asked.get("strict", False)),
                exclude=asked.get("exclude", []),
                filter=_read("filter", asked.get("filter"), '{"category": ["shoes"]}'),
                users=_read("users", asked.get("users"), '[{"country": "DE"}]'),
                unwanted=_read("unwanted", asked.get("unwanted"), '[["item-9"], []]'),
                popularity=asked.get("popularity", 1.0),
            )
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return [
            Answer(
                item_id=found.item_ids,
                score=found.scores,
                fallback=found.fallback,
                unknown_item_id=found.unknown_ids,
                bundle=served.name,
            )
            for found in answers
        ]


def _name(folder: Path, content: dict[str, Any]) -> str:
    """The name that the published bundle has: date, number of the version (as MLflow notes it beside its files) and digest."""
    noted = folder.parents[1] / "registered_model_meta"
    found = re.search(r"^model_version: *'?(\d+)", noted.read_text(), re.MULTILINE) if noted.exists() else None
    return "-".join([content["about"]["date"], *([f"v{found[1]}"] if found else []), content["digest"][:8]])


def _read(name: str, text: Any, example: str) -> Any:
    """A parameter from the text of JSON; None if there is no text."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise ValueError(f"{name}: expected JSON such as {example}, got {text[:80]!r} ({error})") from error


mlflow.models.set_model(RetrievalModel())
