"""What all sections of the settings have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings. Unknown names are refused, so that a typing error is never ignored."""

    model_config = ConfigDict(extra="forbid", validate_default=True)
