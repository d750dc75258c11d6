"""`workspace-gateway serve`: the gateway."""

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import click

from gateway.cli.config_file import ExecutorModels, refuse, with_options
from gateway.cli.first_start import config_beside, keys_file
from gateway.config.errors import ConfigError
from gateway.config.load import load
from gateway.config.model import Config
from gateway.domain.errors import GatewayError
from gateway.listeners import Address


def run(
    config: Config,
    *,
    reload: Callable[[], Config] | None = None,
    on_ready: Callable[[], None] = lambda: None,
    listen: Address | None = None,
) -> int:
    """Serve *config*, or what it says at *listen*, until SIGTERM or SIGINT; return the exit code.

    *reload* gives the config that SIGHUP brings into force; without it, SIGHUP is a SIGTERM.
    """
    if reload is None and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        reload = config.model_copy  # nohup: a closed terminal is to change nothing
    with ExitStack() as stack:
        if config.server.workers > 1:
            directory = tempfile.TemporaryDirectory(prefix="workspace-gateway-")
            # Read by prometheus_client when it is imported, which is why the imports stand below.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(directory)
        from gateway import systemd
        from gateway.listeners import PortTaken
        from gateway.server import run_loop
        from gateway.server import serve as serve_alone
        from gateway.telemetry.logging import configure
        from gateway.workers import Workers

        configure(for_good=True)
        gc.freeze()  # what is loaded stays: each full collection would hold all up for 50 ms
        try:
            if config.server.workers > 1:
                return Workers(config, reload).run(on_ready)
            serving = serve_alone(config, reload, systemd, on_ready, shared=False, listen=listen)
            run_loop(serving, listen)
        except (PortTaken, GatewayError) as exc:
            click.echo(str(exc), err=True)
            return 1
    return 0


@click.command(
    epilog="""\b
Examples:
  workspace-gateway serve --root ./workspaces
  workspace-gateway serve --config /etc/workspace-gateway/gateway.yaml
  workspace-gateway serve --config gateway.yaml --port 9000 --workers 2
"""
)
@click.option("--config", "-c", "file", metavar="FILE", help="The config; SIGHUP reads it again.")
@click.option("--root", metavar="DIR", help="Serve DIR without a config; makes a key at first.")
@click.option("--host", metavar="HOST", help="Overrides server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Overrides server.port.")
@click.option("--workers", type=click.IntRange(1), help="Overrides server.workers.")
def serve(
    file: str | None, root: str | None, host: str | None, port: int | None, workers: int | None
) -> int:
    """Run the gateway.

    Without --config, the local directory --root (default: ./workspaces) is served; the key that
    is made on the first start is shown once, and its digest kept beside the directory.
    """
    if file is not None and root is not None:
        raise click.UsageError("--root is for a start without --config; set executors.local.root")
    given = {"host": host, "port": port, "workers": workers}
    overrides = {name: value for name, value in given.items() if value is not None}
    if file is not None:
        return _serve_file(file, overrides)
    directory = root or "workspaces"
    try:
        config, new_key = config_beside(directory, overrides)
    except ConfigError as exc:
        refuse(exc)
    if new_key is not None:
        click.echo(f"made a key, shown only now; its digest is in {keys_file(directory)}", err=True)
        click.echo(new_key)
    return run(config)


def _serve_file(file: str, options: Mapping[str, object]) -> int:
    def read() -> Config:
        return with_options(load(file, ExecutorModels()), options)

    try:
        config = read()
    except ConfigError as exc:
        refuse(exc)
    return run(config, reload=read)
