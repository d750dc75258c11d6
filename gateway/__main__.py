"""`python -m gateway` is `workspace-gateway`."""

from gateway.cli import main

main(prog_name="workspace-gateway")
