"""The config of a command: where it comes from, and what happens when it cannot be used."""

from collections.abc import Iterator, Mapping
from typing import NoReturn

import click
from pydantic import BaseModel, ValidationError

from gateway.cli.exits import Exit
from gateway.config.errors import ConfigError, Problem
from gateway.config.load import default_data, from_mapping, load
from gateway.config.model import Config
from gateway.config.server import Server
from gateway.config.store_url import IN_MEMORY
from gateway.config.wording import say
from gateway.executors.registry import executor_class, executor_types

BUILT_IN = "built-in default"

config_option = click.option(
    "--config", "file", metavar="FILE", help="The YAML config; without it, the built-in default."
)


class ExecutorModels(Mapping[str, type[BaseModel]]):
    """The config model of each executor type; a plug-in is imported when its model is asked for."""

    def __getitem__(self, type_name: str) -> type[BaseModel]:
        return executor_class(type_name).Config

    def __iter__(self) -> Iterator[str]:
        return iter(executor_types())

    def __len__(self) -> int:
        return len(list(executor_types()))


def read_config(file: str | None) -> Config:
    """Return the config; print every problem and leave with exit code 2 if there are any."""
    try:
        if file is None:
            return from_mapping(default_data(), ExecutorModels(), BUILT_IN)
        return load(file, ExecutorModels())
    except ConfigError as exc:
        refuse(exc)


def with_options(config: Config, options: Mapping[str, object]) -> Config:
    """Return *config* with *options* over its `server`, judged as strictly; raise `ConfigError`.

    What is wrong is said of the option: `--host: must not be empty`.
    """
    if config.server.socket is not None:
        given = [name for name in ("host", "port") if name in options]
        message = "server.socket of the config listens instead; remove one of the two"
        if given:
            raise ConfigError([Problem(f"--{name}", None, (), message) for name in given])
    try:
        server = Server.model_validate({**dict(config.server), **options}, strict=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        raise ConfigError(
            [
                Problem(f"--{error['loc'][0]}", None, (), say(error, Server, None))
                for error in errors
            ]
        ) from exc
    if server.workers > 1 and config.store.url == IN_MEMORY:
        message = "store.url is in the memory of one worker, which others cannot share"
        raise ConfigError([Problem("--workers", None, (), message)])
    return config.model_copy(update={"server": server})


def refuse(error: ConfigError) -> NoReturn:
    """Print the problems and leave with exit code 2."""
    for problem in error.problems:
        click.secho(str(problem), fg="red", err=True)
    raise click.exceptions.Exit(Exit.USAGE) from error
