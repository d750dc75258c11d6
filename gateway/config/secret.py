"""Secrets of the config: where they are is written down, what they are never is."""

import os

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Secret(BaseModel):
    """`{env: NAME}` or `{file: PATH}`; it must be there when the config is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _is_there(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise PydanticCustomError("secret", "must be {env: NAME} or {file: PATH}")
        try:
            self.read()
        except OSError as exc:
            reason = {"file": self.file, "reason": exc.strerror}
            raise PydanticCustomError("secret", "cannot read {file}: {reason}", reason) from exc
        except ValueError as exc:
            raise PydanticCustomError("secret", str(exc)) from exc
        return self

    def read(self) -> str:
        """The secret without the white space around it; raise OSError or ValueError.

        It is printable ASCII without blanks, so that it can stand in a header.
        """
        if self.env is not None:
            place, text = f"the environment variable {self.env}", os.environ.get(self.env, "")
        else:
            assert self.file is not None
            with open(self.file, encoding="utf-8", errors="replace") as file:
                place, text = self.file, file.read(64 * 1024)
        return one_line(text, place)


def one_line(text: str, place: str) -> str:
    """*text* without the white space around it, if it can stand in a header; else ValueError."""
    text = text.strip()
    if not text:
        raise ValueError(f"{place} holds no secret")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"{place} must hold one line of printable ASCII without blanks")
    return text
