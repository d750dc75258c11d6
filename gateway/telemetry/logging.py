"""Structured logs: one JSON object a line, or colours on a terminal; UTC; on standard error."""

import json
import logging
import os
from datetime import UTC, datetime

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.telemetry.correlation import add_request_id
from gateway.telemetry.sink import Sink

_LONG = frozenset({"exception", "stack"})  # what the console shows over several lines


class _Logger:
    """What structlog calls with a rendered line. *name* tells the audit log from the rest."""

    def __init__(self, sink: Sink, name: str | None) -> None:
        self.name = name
        self._sink = sink

    def info(self, line: str) -> None:
        """Write the line."""
        self._sink.write(_bytes(line))

    debug = warning = error = critical = info


class _Handler(logging.Handler):
    """Writes the records of other libraries' loggers."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as a line."""
        self._sink.write(_bytes(self.format(record)))


def configure() -> None:
    """Send structlog's events and every other library's records to standard error, in one form."""
    sink = Sink(_lost)
    shared: list[Processor] = [
        add_request_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [structlog.processors.format_exc_info, _render]
    if os.isatty(2):
        console = structlog.dev.ConsoleRenderer(
            colors="NO_COLOR" not in os.environ,
            exception_formatter=structlog.dev.plain_traceback,
        )
        last[1:] = [_printable, console]
    structlog.configure(
        processors=[_add_name, *shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda name=None: _Logger(sink, name),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def _add_name(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
    if logger.name is not None:
        event["logger"] = logger.name
    return event


def _render(_: WrappedLogger, __: str, event: EventDict) -> str:
    """One line of JSON. What a terminal would obey is escaped: people look at logs with `cat`."""
    try:
        line = orjson.dumps(event, default=repr)
        if line.isascii():
            return line.decode("ascii")
        text = line.decode()
    except orjson.JSONEncodeError:  # lone surrogates, integers beyond 64 bits
        text = json.dumps(event, default=repr, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Foreign text must not speak to the terminal."""
    return {
        key: _escaped(value, keep="\n" if key in _LONG else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _escaped(text: str, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def _lost(count: int) -> bytes:
    now = datetime.now(UTC).isoformat()
    event = {"event": "log_lines_lost", "count": count, "level": "error", "timestamp": now}
    return orjson.dumps(event) + b"\n"


def _bytes(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
