"""The published APIs that are spoken, and the agents that one of them knows."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

from gateway.config.section import Section, Text

SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]


def _sandbox_path(path: str) -> str:
    first, *parts = path.split("/")
    if first or not parts or {"", ".", ".."}.intersection(parts):
        message = "must be an absolute path such as /workspace, without a slash at its end"
        raise PydanticCustomError("sandbox_path", message)
    return path


class Shannon(Section):
    """Nothing to set: what its documentation says."""


class Dari(Section):
    """Nothing to set: what its documentation says."""


class Blackbox(Section):
    """*root* is where its clients believe the workspace to be."""

    root: Annotated[str, AfterValidator(_sandbox_path)] = "/vercel/sandbox"


class Dialects(Section):
    """The published APIs that are spoken."""

    shannon: Shannon = Shannon()
    dari: Dari = Dari()
    blackbox: Blackbox = Blackbox()


class AgentSandbox(Section):
    """What a session of the agent has unless it says otherwise, and which secrets may reach it."""

    internet_access: bool = False
    secrets: tuple[SecretName, ...] = ()


class Agent(Section):
    """An agent at its active version; *executor* has the workspaces, or None: by placement."""

    version: Text
    executor: str | None = None
    sandbox: AgentSandbox = AgentSandbox()
