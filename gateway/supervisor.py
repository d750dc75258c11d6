"""What a serving process tells whoever started it: systemd, or the workers' parent."""

from typing import Protocol


class Supervisor(Protocol):
    """Whoever started this process is told how far it is."""

    def ready(self) -> None:
        """It serves, or serves again after a reload."""

    def reloading(self) -> None:
        """A reload has begun; `ready` or `refused` has to follow."""

    def refused(self) -> None:
        """It serves as before: the new config cannot be used."""

    def stopping(self) -> None:
        """It is on its way out."""
