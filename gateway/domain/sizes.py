"""Numbers of bytes as messages write them."""


def size_text(count: int) -> str:
    """A limit as people write it: Shannon's documentation calls 100 MiB `100MB`."""
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if count % unit == 0:
            return f"{count // unit}{name}"
    return f"{count} bytes"
