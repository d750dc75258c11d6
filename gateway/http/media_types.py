"""What kind of file it is: content decides the family, the name refines text."""

import codecs

import filetype

# WHATWG MIME Sniffing section 3.1: bytes that do not occur in text.
_BINARY = bytes((*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)))
# Bytes that decide the family. Many more, and a chain of empty zstd frames takes filetype 1.2.0
# beyond Python's recursion limit; the charset is judged on all that is at hand.
_SNIFFED = 4096
_UTF16_MARKS = (b"\xfe\xff", b"\xff\xfe")
_TEXT_LIKE_MAGIC = ((b"%PDF-", "application/pdf"), (b"%!PS-Adobe-", "application/postscript"))

_TEXT_TYPES = {
    "c": "text/x-c",
    "cc": "text/x-c++",
    "cfg": "text/plain",
    "conf": "text/plain",
    "cpp": "text/x-c++",
    "cs": "text/x-csharp",
    "css": "text/css",
    "csv": "text/csv",
    "diff": "text/x-diff",
    "eml": "message/rfc822",
    "geojson": "application/geo+json",
    "go": "text/x-go",
    "h": "text/x-c",
    "hpp": "text/x-c++",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "ini": "text/plain",
    "ipynb": "application/x-ipynb+json",
    "java": "text/x-java",
    "js": "text/javascript",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "jsx": "text/jsx",
    "kt": "text/x-kotlin",
    "log": "text/plain",
    "lua": "text/x-lua",
    "markdown": "text/markdown",
    "md": "text/markdown",
    "mjs": "text/javascript",
    "ndjson": "application/x-ndjson",
    "patch": "text/x-diff",
    "php": "text/x-php",
    "pl": "text/x-perl",
    "py": "text/x-python",
    "pyi": "text/x-python",
    "r": "text/x-r",
    "rb": "text/x-ruby",
    "rs": "text/x-rust",
    "rst": "text/x-rst",
    "rtf": "application/rtf",
    "scala": "text/x-scala",
    "sh": "text/x-shellscript",
    "sql": "application/sql",
    "svg": "image/svg+xml",
    "swift": "text/x-swift",
    "tex": "text/x-tex",
    "toml": "application/toml",
    "ts": "text/x-typescript",
    "tsv": "text/tab-separated-values",
    "tsx": "text/x-typescript",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "vtt": "text/vtt",
    "xhtml": "application/xhtml+xml",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}


def media_type(name: str, head: bytes, complete: bool) -> str:
    """The `Content-Type` of the file *name* that begins with *head*; *complete*: that is all of it.

    Text is what has no binary data bytes (WHATWG MIME Sniffing), also when it is empty. A charset
    is named for `text/*` alone (RFC 8259: JSON has none), and only if *head* is UTF-8.
    """
    if head.startswith(_UTF16_MARKS):
        return "text/plain"
    for magic, kind in _TEXT_LIKE_MAGIC:
        if head.startswith(magic):
            return kind
    # The library comes second: by its short magics "BM hello" and "MZ, a novel" are no text.
    if not is_text(head):
        return filetype.guess_mime(head[:_SNIFFED]) or "application/octet-stream"
    kind = _TEXT_TYPES.get(name.rpartition(".")[2].lower(), "text/plain")
    return f"{kind}; charset=utf-8" if kind.startswith("text/") and _utf8(head, complete) else kind


def is_text(head: bytes) -> bool:
    """Whether a file that begins with *head* is text, in whatever encoding but UTF-16."""
    start = head[:_SNIFFED]
    return len(start.translate(None, _BINARY)) == len(start)


def _utf8(head: bytes, complete: bool) -> bool:
    try:
        codecs.utf_8_decode(head, "strict", complete)
    except UnicodeDecodeError:
        return False
    return True
