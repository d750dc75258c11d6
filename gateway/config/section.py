"""What all parts of the config have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1)]


class Section(BaseModel):
    """A part of the config: frozen, and every key must be known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
