"""Structured logs: one JSON object a line, or colours on a terminal; UTC; on standard error."""

import json
import logging
import os
from datetime import UTC, datetime
from functools import lru_cache
from time import gmtime, strftime, time_ns
from typing import Any, NamedTuple

import orjson
import structlog
from structlog.processors import format_exc_info
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.telemetry.correlation import REQUEST_ID
from gateway.telemetry.sink import Sink

_LONG = frozenset({"exception", "stack"})  # what the console shows over several lines


class _Lines(NamedTuple):
    """Where lines go. *name* tells the audit log from the rest."""

    sink: Sink
    name: str | None


class _Logger(structlog.BoundLoggerBase):
    """structlog's own, without what binds values to a logger: a third of the work for a line."""

    def info(self, event: str, **more: object) -> None:
        """Write a line."""
        self._write("info", event, more)

    def warning(self, event: str, **more: object) -> None:
        """Write a line."""
        self._write("warning", event, more)

    def error(self, event: str, **more: object) -> None:
        """Write a line."""
        self._write("error", event, more)

    def exception(self, event: str, **more: object) -> None:
        """Write a line about the exception that is being handled."""
        self._write("error", event, {"exc_info": True, **more})

    def _write(self, method: str, event: str, more: EventDict) -> None:
        more["event"] = event
        line: Any = more
        try:
            for processor in self._processors:
                line = processor(self._logger, method, line)
        except structlog.DropEvent:
            return
        # Bytes have their end already.
        self._logger.sink.write(line if isinstance(line, bytes) else _bytes(line))


class _Handler(logging.Handler):
    """Writes the records of other libraries' loggers."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as a line."""
        self._sink.write(_bytes(self.format(record)))


def configure(*, for_good: bool = False) -> None:
    """Send structlog's events and every other library's records to standard error, in one form.

    What is configured *for_good* makes lines with less work; loggers in use cannot be changed then.
    """
    sink = Sink(_lost)
    own: list[Processor] = [_render]
    foreign: list[Processor] = [_text]
    if os.isatty(2):
        console = structlog.dev.ConsoleRenderer(
            colors="NO_COLOR" not in os.environ,
            exception_formatter=structlog.dev.plain_traceback,
        )
        own = foreign = [_printable, console]
    structlog.configure(
        processors=[_complete, *own],
        wrapper_class=_Logger,
        logger_factory=lambda name=None: _Lines(sink, name),
        cache_logger_on_first_use=for_good,
    )
    handler = _Handler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _complete],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *foreign],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def _complete(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add what every line has. One step instead of five: there are two lines to a request."""
    if isinstance(logger, _Lines) and logger.name is not None:
        event["logger"] = logger.name
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event["request_id"] = request_id
    event["level"] = method
    seconds, microseconds = divmod(time_ns() // 1000, 1_000_000)
    event["timestamp"] = f"{_utc(seconds)}.{microseconds:06}Z"
    return format_exc_info(logger, method, event) if "exc_info" in event else event


@lru_cache(2)
def _utc(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))


def _render(_: WrappedLogger, __: str, event: EventDict) -> str | bytes:
    """One line of JSON. What a terminal would obey is escaped: people look at logs with `cat`."""
    try:
        line = orjson.dumps(event, default=repr, option=orjson.OPT_APPEND_NEWLINE)
        if line.isascii() and b"\x7f" not in line:  # orjson has escaped the other controls
            return line
        text = line[:-1].decode()
    except orjson.JSONEncodeError:  # lone surrogates, integers beyond 64 bits
        text = json.dumps(event, default=repr, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """The same as the standard library's formatter wants it: as text, without the line's end."""
    line = _render(logger, method, event)
    return line if isinstance(line, str) else line[:-1].decode()


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
