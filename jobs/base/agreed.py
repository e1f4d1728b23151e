"""The settings that a person has agreed to after a search (`jobs.tuning`), and how they come into force.

They lie in one file of the home folder, with who agreed, when, why and to what. Every job reads the file when it loads its
settings. A value in it goes before the default, and after the environment and all that a run is given (`jobs.base.settings`).
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from jobs.base.errors import DataError
from jobs.base.settings_text import explain, nest

SECTIONS = ("sampling", "training")  # nobody can agree to another address or another folder by way of this file
Value = bool | int | float | str
_REMEDY = "correct the file, or remove it: then the settings hold that were in force before somebody agreed to others."


class Agreement(BaseModel):
    """What a person agreed to.

    Attributes:
        settings: `section.name -> value` of every setting that is to differ from environment and defaults.
        by: who agreed.
        at: when.
        reason: why.
        date: logical date of the search.
        proposal: name of the proposal (`jobs.tuning.proposal`).
        trial: number of the trial that found the settings.
        trials: how many trials the search had finished.
        metric: what was measured on validation, such as `validation_recall_50`.
        before: its value with the settings that were in force at the time.
        found: its value with these settings.
    """

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Value] = Field(min_length=1)
    by: str
    at: dt.datetime
    reason: str
    date: dt.date
    proposal: str
    trial: int
    trials: int
    metric: str
    before: float
    found: float


def agreed_file(home: Path) -> Path:
    """Where the agreed settings of a home folder lie."""
    return home / "agreed_settings.json"


def read_agreement(home: Path, schema: type[BaseSettings]) -> Agreement | None:
    """What was agreed to in a home folder; None if nothing was.

    Args:
        home: the home folder.
        schema: class of the settings, by whose sections each value is checked.

    Raises:
        DataError: the file cannot be read, or a setting in it is unknown, may not be agreed to, or has a value that the schema
            refuses. The message names the file and the setting.
    """
    file = agreed_file(home)
    try:
        found = Agreement.model_validate(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"does not hold agreed settings: {explain(error)}.", file=file, remedy=_REMEDY) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error}).", file=file, remedy=_REMEDY) from error
    outside = [name for name in found.settings if name.partition(".")[0] not in SECTIONS]
    if outside:
        raise DataError(
            f"{', '.join(outside)}: only settings of the sections {' and '.join(SECTIONS)} can be agreed to.",
            file=file,
            remedy=_REMEDY,
        )
    for name, values in nest(found.settings).items():
        section: Any = schema.model_fields[name].annotation
        try:
            section.model_validate(values)
        except ValidationError as error:
            raise DataError(f"{explain(error, section=name)}.", file=file, remedy=_REMEDY) from error
    return found


class AgreedSource(PydanticBaseSettingsSource):
    """The agreed settings of the home folder that the sources before this one name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Nothing: all values come at once (`__call__`)."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The agreed values, by section. Raises `DataError` as `read_agreement` does."""
        home = self.current_state.get("home") or self.settings_cls.model_fields["home"].default
        found = read_agreement(Path(home).expanduser(), self.settings_cls)
        return nest(found.settings) if found else {}
