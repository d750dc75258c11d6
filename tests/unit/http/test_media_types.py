"""Content decides the family, the name refines text."""

import gzip
import io
import tarfile
import time
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.media_types import media_type

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.txt", PNG, "image/png"),
        ("a.png", b"hello", "text/plain; charset=utf-8"),
        ("page.png", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("noextension", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("evil.html", b"<script>alert(1)</script>", "text/html; charset=utf-8"),
        ("evil.html", PNG, "image/png"),
        ("x.svg", b"<svg/>", "image/svg+xml"),
        ("results.csv", b"a,b\n1,2\n", "text/csv; charset=utf-8"),
        ("README.MD", b"# hi", "text/markdown; charset=utf-8"),
        ("main.py", b"print()", "text/x-python; charset=utf-8"),
        ("a.json", b"{}", "application/json"),
        ("a.jsonl", b"{}\n{}\n", "application/x-ndjson"),
        ("a.ipynb", b"{}", "application/x-ipynb+json"),
        ("a.yaml", b"a: 1", "application/yaml"),
        ("a.xml", b"<a/>", "application/xml"),
        ("app.ts", b"let x = 1", "text/x-typescript; charset=utf-8"),
        ("video.ts", b"G\x40\x00\x10\x00", "application/octet-stream"),
        ("Makefile", b"all:\n\ttrue\n", "text/plain; charset=utf-8"),
        (".gitignore", b"*.log\n", "text/plain; charset=utf-8"),
        ("a.", b"x", "text/plain; charset=utf-8"),
        ("log", b"\x1b[31mred\x1b[0m\x0c", "text/plain; charset=utf-8"),
        ("a.bin", b"\x00\x01\x02", "application/octet-stream"),
        ("a.csv", b"a,b\x00", "application/octet-stream"),
        ("report", b"%PDF-1.7 text", "application/pdf"),
        ("report.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\x00", "application/pdf"),
        ("fig", b"%!PS-Adobe-3.0\n", "application/postscript"),
        ("a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        ("a.wasm", b"\x00asm\x01\x00\x00\x00\x00", "application/wasm"),
    ],
)
def test_a_file_has_its_type(name, head, expected):
    assert media_type(name, head, complete=True) == expected


@pytest.mark.parametrize(
    "head", [b"BM hello", b"MZ, a novel", b"GIF8 is short", b"ID3 ways", b"PK"]
)
def test_text_that_begins_like_a_format_stays_text(head):
    assert media_type("a", head, complete=True) == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("head", "complete", "expected"),
    [
        ("é".encode(), True, "text/plain; charset=utf-8"),
        ("é".encode()[:1], False, "text/plain; charset=utf-8"),
        ("é".encode()[:1], True, "text/plain"),
        (b"caf\xe9 latin-1", False, "text/plain"),
        (b"\xc0\xae\xc0\xae", True, "text/plain"),
        (b"\xed\xa0\x80", True, "text/plain"),
        ("\ufeffa".encode(), True, "text/plain; charset=utf-8"),
        ("hello".encode("utf-16"), True, "text/plain"),
        (b"\xfe\xff\x00h\x00i", True, "text/plain"),
        (b"x" * 5000 + b"\xe9", True, "text/plain"),
    ],
)
def test_the_charset_is_named_only_if_it_is_utf_8(head, complete, expected):
    assert media_type("a.txt", head, complete) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("__init__.py", "text/x-python; charset=utf-8"),
        ("empty.json", "application/json"),
        ("empty", "text/plain; charset=utf-8"),
        ("empty.png", "text/plain; charset=utf-8"),
    ],
)
def test_an_empty_file_is_text_of_its_name(name, expected):
    assert media_type(name, b"", complete=True) == expected


def test_archives_go_by_their_bytes():
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.txt", "a")
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))

    assert media_type("a.txt", zipped.getvalue(), complete=True) == "application/zip"
    assert media_type("a.txt", tarred.getvalue(), complete=True) == "application/x-tar"
    assert media_type("a.tar.gz", gzip.compress(b"a"), complete=True) == "application/gzip"


@given(st.text(max_size=9), st.binary(max_size=99), st.booleans())
def test_any_bytes_have_a_type_that_fits_a_header(name, head, complete):
    kind = media_type(name, head, complete)

    assert kind.isascii()
    assert kind.isprintable()
    assert kind.count("/") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"\x50\x2a\x4d\x18\x00\x00\x00\x00" * 32768,  # empty zstd frames: recursion in filetype
        b"PK\x03\x04" * 65535 + b"\x00",
        b"\x89PNG\r\n\x1a\n" + bytes(262_136),
        b"\x00\x00\x1f\xf0ftyp" + b"abcd" * 65534,
        b"\x1aE\xdf\xa3" + b"\x42\x82" * 131_070 + b"\x00",
    ],
)
def test_hostile_bytes_are_judged_at_once(head):
    started = time.process_time()

    media_type("a", head, complete=False)

    assert time.process_time() - started < 0.1
