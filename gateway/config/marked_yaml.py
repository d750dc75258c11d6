"""Reads YAML and remembers the line of every value, so that any later complaint can name it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.errors import ConfigError, Loc, Problem
from gateway.config.variables import substitute

_MOST_BYTES = 1024**2
_MOST_VALUES = 100_000
_DEEPEST = 64

_PLAIN = "plain"
_STRUCTURE = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"})
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FRACTION = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}")
_WORDS: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "true": True, "false": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says: values, the line of each, and where a value came from a variable.

    *unread* are the places whose value could not be told; a problem says why.
    """

    source: str
    data: object
    lines: dict[Loc, int] = field(default_factory=dict)
    written: dict[Loc, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unread: set[Loc] = field(default_factory=set)

    def problem(self, loc: Loc, message: str) -> Problem:
        """Return the problem with the line of *loc*, or of the nearest thing around it."""
        around = (loc[:end] for end in range(len(loc), -1, -1))
        line = next((self.lines[near] for near in around if near in self.lines), None)
        return Problem(self.source, line, loc, message)


def read_file(file: str) -> Document:
    """Read the YAML file at *file*, with the environment's variables; raise `ConfigError`."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise _unusable(file, None, f"cannot be read: {reason}") from exc
    if len(content) > _MOST_BYTES:
        raise _unusable(file, None, f"is larger than {_MOST_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise _unusable(file, line, "is not UTF-8 text") from exc
    return read_text(text, file, os.environ)


def read_text(text: str, source: str, environment: Mapping[str, str]) -> Document:
    """Read one YAML document; raise `ConfigError` if it is none.

    Duplicate keys, bad variables and tags do not stop the reading: they are the document's
    `problems`.
    """
    root = _compose(text, source)
    if root is None:
        return Document(source, None, {(): 1})
    reading = _Reading(source, environment)
    data = reading.value(root, (), root.start_mark.line + 1)
    return Document(source, data, reading.lines, reading.written, reading.problems, reading.unread)


class _Loader(yaml.SafeLoader):
    """Composes nodes only; plain scalars stay recognisable and nesting is bounded."""

    depth = 0

    def resolve(self, kind: type[Node], value: str | None, implicit: object) -> str:
        if kind is ScalarNode and isinstance(implicit, tuple) and implicit[0]:
            return _PLAIN
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]  # PyYAML

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Compose a node, of a bounded depth; raise `yaml.MarkedYAMLError` beyond it."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem="is nested too deeply",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]  # PyYAML
            )
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str, source: str) -> Node | None:
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else None
        said = exc.problem or exc.context or "cannot be read"
        hint = _hint(text, line)
        raise _unusable(source, line, f"not YAML: {said}{hint}") from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise _unusable(source, line, "not YAML: a control character") from exc
    except (ValueError, OverflowError) as exc:
        # PyYAML's scanner lets these out for escapes and directives that hold absurd numbers.
        line = loader.line + 1 if loader else None
        raise _unusable(source, line, "not YAML: a number or escape out of range") from exc


def _hint(text: str, line: int | None) -> str:
    """Braces inside flow style are the one trap that `${VAR}` has in YAML."""
    lines = text.splitlines()
    if line is None or line > len(lines) or "${" not in lines[line - 1]:
        return ""
    return " (inside {...} or [...], ${VAR} needs quotes or a line of its own)"


def _unusable(source: str, line: int | None, message: str) -> ConfigError:
    return ConfigError([Problem(source, line, (), message)])


class _Reading:
    """Turns nodes into values, noting lines and problems by the way."""

    def __init__(self, source: str, environment: Mapping[str, str]) -> None:
        self.source = source
        self.environment = environment
        self.lines: dict[Loc, int] = {}
        self.written: dict[Loc, str] = {}
        self.problems: list[Problem] = []
        self.unread: set[Loc] = set()
        self.values = 0

    def value(self, node: Node, loc: Loc, line: int) -> object:
        """What *node* at *loc* stands for; raise `ConfigError` for a bomb or a loop of aliases."""
        self.values += 1
        # An alias is read again wherever it stands: both bounds are what ends a bomb or a loop.
        if self.values > _MOST_VALUES or len(loc) > _DEEPEST:
            raise _unusable(self.source, line, "holds too many values, or an alias of itself")
        self.lines[loc] = line
        if node.tag not in _STRUCTURE | {_PLAIN}:
            self._unread(loc, line, f"the tag {node.tag!r} is not supported")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, SequenceNode):
            return [
                self.value(item, (*loc, number), item.start_mark.line + 1)
                for number, item in enumerate(node.value)
            ]
        return self._scalar(node, loc, line)

    def _mapping(self, node: MappingNode, loc: Loc) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or not _is_unicode(key_node.value):
                self._complain(loc, line, "a key must be text")
                continue
            key = key_node.value
            if key in found:
                first = self.lines[(*loc, key)]
                self._complain((*loc, key), line, f"is there twice, first on line {first}")
                continue
            found[key] = self.value(value_node, (*loc, key), line)
        return found

    def _scalar(self, node: Node, loc: Loc, line: int) -> object:
        written = node.value
        try:
            text = substitute(written, self.environment)
        except ValueError as exc:
            self._unread(loc, line, str(exc))
            return None
        if not _is_unicode(text):
            self._unread(loc, line, "is not text that UTF-8 can hold")
            return None
        if text != written:
            self.written[loc] = written
        return text if node.tag != _PLAIN else _plain(text)

    def _unread(self, loc: Loc, line: int, message: str) -> None:
        self._complain(loc, line, message)
        self.unread.add(loc)

    def _complain(self, loc: Loc, line: int, message: str) -> None:
        self.problems.append(Problem(self.source, line, loc, message))


def _plain(text: str) -> object:
    """Type an unquoted scalar as YAML 1.2 does: `yes`, `010` and `1:30` are text."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text)
    return text


def _is_unicode(text: str) -> bool:
    """Escapes in YAML and undecodable environment variables can hold half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
