"""What a profile may say: frozen values, each explained in `README.md`."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from gateway.config.section import Section
from gateway.executors.base import Proof
from gateway.executors.http_profile.pointer import MISSING, Pointer, found
from gateway.executors.http_profile.request import HeaderName, Request


class Means(StrEnum):
    """What an error of a backend means."""

    PATH_NOT_FOUND = "path_not_found"
    NOT_A_FILE = "not_a_file"
    NOT_A_DIRECTORY = "not_a_directory"
    NOT_READABLE = "not_readable"
    TOO_LARGE = "too_large"
    UNCLEAR = "unclear"  # there are several causes; the listing of the directory above tells which
    WORKSPACE_GONE = "workspace_gone"
    UNAVAILABLE = "unavailable"
    AUTH_REJECTED = "auth_rejected"
    UNSUPPORTED = "unsupported"


class Operation(StrEnum):
    """What was asked for when an error came."""

    LIST = "list"
    EXISTS = "exists"
    STAT = "stat"
    DOWNLOAD = "download"
    ARCHIVE = "archive"


def _scalar(value: JsonValue) -> JsonValue:
    if isinstance(value, dict | list):
        raise PydanticCustomError("scalar", "must be text, a number, true, false or null")
    return value


class Test(Section):
    """Whether the value at a pointer is this one, or is text that starts so.

    There is no test for text *within*: backends put paths into their messages, and a file may be
    named as an error reads.
    """

    at: Pointer
    equals: Annotated[JsonValue, AfterValidator(_scalar)] = None
    starts_with: Annotated[str, StringConstraints(min_length=1)] | None = None

    @model_validator(mode="after")
    def _says_one(self) -> "Test":
        if len({"equals", "starts_with"} & self.model_fields_set) != 1:
            raise PydanticCustomError("test", "needs either `equals` or `starts_with`")
        return self

    def holds(self, data: object) -> bool:
        """Whether it is so in *data*; nothing there is nothing that equals."""
        value = found(data, self.at)
        if self.starts_with is not None:
            return isinstance(value, str) and value.startswith(self.starts_with)
        # JSON's true is not its 1, though Python's is.
        same_kind = isinstance(value, bool) is isinstance(self.equals, bool)
        return value is not MISSING and same_kind and value == self.equals


class TimeFormat(StrEnum):
    """How a backend writes a moment; ISO 8601 needs its zone."""

    ISO = "iso"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    EPOCH_NS = "epoch_ns"


class Modified(Section):
    """Where the time of the last change stands, and how it is written."""

    at: Pointer
    format: TimeFormat


class Facts(Section):
    """Where an entry says what it is; *size* is a number, or a number as text."""

    directory: Test
    size: Pointer | None = None
    modified: Modified | None = None


class Fields(Facts):
    """The same in a listing, which also has the name: one component, never a path."""

    name: Pointer


class Links(StrEnum):
    """How a listing shows symbolic links: as what they lead to, or as files of their own length."""

    FOLLOWED = "followed"
    AS_FILES = "as_files"


class Listing(Section):
    """How the direct children of a directory are had; *entries* points to an array of objects."""

    request: Request
    entries: Pointer
    fields: Fields
    links: Links = Links.FOLLOWED


class Stat(Section):
    """How one entry is had, links followed; *entry* points to an object."""

    request: Request
    entry: Pointer = ""
    fields: Facts


class Content(Section):
    """Where in a JSON answer a file's content stands, and how; *text* only if that is exact."""

    at: Pointer
    encoding: Literal["text", "base64"]


class Download(Section):
    """How a file is had: as the body, whose media type must be *type*, or in a JSON answer."""

    request: Request
    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.+-]+/[a-z0-9.+-]+$")] | None = None
    content: Content | None = None


def _prefix(text: str) -> str:
    plain = text.replace("{name}", "n")
    if {"", ".", ".."} & set(plain.split("/")) or {"{", "}", "\0"} & set(plain):
        raise PydanticCustomError(
            "prefix", "must be names with slashes between them; {name} is the directory's own"
        )
    return text


class Archive(Section):
    """How all that lies in a directory is had as one tar.

    The names in it begin with *prefix*. *exclude* is a query parameter that takes the name of what
    is left out, at any depth. *made* is a file that the backend adds. The header *of*, where it is
    sent, holds what was packed, percent-encoded.
    """

    request: Request
    format: Literal["tar", "tar.gz"]
    prefix: Annotated[str, AfterValidator(_prefix)] | None = None
    exclude: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    made: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    of: HeaderName | None = None

    def prefix_of(self, directory: str) -> tuple[bytes, ...]:
        """What the names begin with in the tar of *directory*, which is absolute in the sandbox."""
        text = (self.prefix or "").replace("{name}", directory.rpartition("/")[2])
        return tuple(name for name in text.encode().split(b"/") if name)


class Rule(Section):
    """What an answer means that is of this *status*, or passes the test *answer*, or both."""

    on: Operation | None = None
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    answer: Test | None = None
    means: Means

    @model_validator(mode="after")
    def _says_something(self) -> "Rule":
        if self.status is None and self.answer is None:
            raise PydanticCustomError("rule", "needs `status`, `answer`, or both")
        return self

    def applies(self, operation: Operation, status: int, data: object) -> bool:
        """Whether an answer is meant; *data* is `MISSING` if it is not JSON."""
        if self.on not in (None, operation) or self.status not in (None, status):
            return False
        return self.answer is None or self.answer.holds(data)


class Auth(Section):
    """The header that the token goes into, behind the word *scheme* if there is one."""

    header: HeaderName
    scheme: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}$")] | None = None


class Health(Section):
    """What answers 200 to a GET when the backend works; it must not need a workspace."""

    path: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]*$")]


class Declared(Section):
    """What the backend can do beyond the least; see `Capabilities`."""

    ranges: bool = False
    versions: bool = False
    proof: Proof = Proof.LENGTH
    isolates: bool = True


class Profile(Section):
    """A whole profile.

    *exists* is answered with 200 for a directory that is there: without a *list*, nothing else
    tells a missing workspace from a missing file.
    """

    auth: Auth | None = None
    list: Listing | None = None
    exists: Request | None = None
    stat: Stat | None = None
    download: Download
    archive: Archive | None = None
    errors: tuple[Rule, ...] = ()
    health: Health | None = None
    capabilities: Declared = Declared()

    @model_validator(mode="after")
    def _fits_together(self) -> "Profile":
        if self.list is None and any(rule.means is Means.UNCLEAR for rule in self.errors):
            raise PydanticCustomError("profile", "`means: unclear` needs a `list`")
        if self.list is not None and (self.list.links is Links.AS_FILES) != (self.stat is not None):
            raise PydanticCustomError("profile", "`stat` goes with `links: as_files` in `list`")
        if self.list is not None and self.exists is not None:
            raise PydanticCustomError("profile", "`exists` is for profiles without a `list`")
        declared = self.capabilities
        if self.download.content is not None and (declared.ranges or declared.versions):
            hint = "`ranges` and `versions` are of downloads without `content`"
            raise PydanticCustomError("profile", hint)
        return self
