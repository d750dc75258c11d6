"""Executor models for these tests: what two plug-ins might have."""

from pydantic import BaseModel, ConfigDict, Field

from gateway.config.units import Size, Timeout


class Local(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str


class Timeouts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    connect: Timeout = 2.0


class Rest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    retries: int = Field(default=1, ge=0)
    max_file: Size | None = None
    timeout: Timeouts = Timeouts()

    @property
    def largest_file(self) -> int | None:
        return self.max_file


EXECUTORS: dict[str, type[BaseModel]] = {"local": Local, "rest": Rest}
