"""The exit codes of the command line, one table for every command."""

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CREDENTIALS = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    INTEGRITY = 6
    INTERRUPTED = 130
