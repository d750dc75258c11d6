"""Listings of an executor that are no listings: the fallback's counts, and no name gets out."""

import pytest

from tests.doubles import faults
from tests.doubles.fault_proxy import Fault
from tests.faults.stage import OPERATIONS, SMALL, staged
from tests.faults.subjects import SUBJECTS

_NAME = b"small.bin"
_SIZE = str(len(SMALL)).encode()

NAMES = {
    "climbs": b"../x",
    "climbs far": b"../../../../etc/passwd",
    "is the one above": b"..",
    "is itself": b".",
    "is empty": b"",
    "is absolute": b"/etc/passwd",
    "has a NUL": b"a\\u0000b",
    "is half a character": b"\\ud800",
    "is there twice": b"big.bin",
    "is a path": b"a//b",
    "is not UTF-8": b"\xff\xfe",
    "breaks the line": b"a\nb",
}

SIZES = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "1e999": b"1e999",
    "negative": b"-1",
    "2^63": b"9223372036854775808",
    "half a byte": b"1.5",
    "text": b'"many"',
    "true": b"true",
    "a list": b"[3007]",
    "without end": b"1" * 10_000,
    "missing": b"",
}

DOCUMENTS: dict[str, Fault] = {
    "nothing": faults.body(b""),
    "null": faults.body(b"null"),
    "a number": faults.body(b"1"),
    "an error": faults.body(b'{"error":"secret detail"}'),
    "an error that is a success": faults.body(b'{"success":false,"error":"secret detail"}'),
    "HTML": faults.body(b"<html>secret detail</html>"),
    "HTML that says so": faults.header("Content-Type", "text/html"),
    "no type": faults.header("Content-Type", ""),
    "cut and well framed": faults.changed(lambda a: a.with_body(a.body[:-20])),
    "followed by more": faults.changed(lambda a: a.with_body(a.body + b"{}")),
    "twice": faults.changed(lambda a: a.with_body(a.body * 2)),
    "deep": faults.body(b'{"files":' + b"[" * 200_000),
    "deep objects": faults.body(b'{"a":' * 200_000),
    "one string of 20 MB": faults.body(b'{"files":[{"path":"/in/' + b"a" * (20 << 20)),
    "20 MB of blanks": faults.body(b'{"files":[' + b" " * (20 << 20) + b"]}"),
    "UTF-16": faults.changed(lambda a: a.with_body(a.body.decode().encode("utf-16"))),
    "with a byte order mark": faults.changed(lambda a: a.with_body(b"\xef\xbb\xbf" + a.body)),
}


LISTINGS = {
    f"{name}-{listing}": (subject, OPERATIONS[listing])
    for name, subject in SUBJECTS.items()
    for listing in ("list", "tree")
}


@pytest.fixture(params=LISTINGS)
def listing(request):
    return LISTINGS[request.param]


async def listed_by_fallback(listing, fault, tmp_path):
    subject, operation = listing
    async with staged(subject, tmp_path, fault) as stage:
        answer = await operation.ask(stage.gateway)

    assert operation.is_exact(answer)
    assert answer.header("X-Workspace-Source") == "local"
    assert answer.header("X-Workspace-Fallback") == "protocol"
    assert b"secret" not in answer.body


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
@pytest.mark.parametrize("of", [of for of, (subject, _) in LISTINGS.items() if subject.plain_names])
async def test_a_name_that_cannot_be_one_spoils_the_listing(of, name, tmp_path):
    await listed_by_fallback(LISTINGS[of], faults.swapped(_NAME, name), tmp_path)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
async def test_a_size_that_cannot_be_one_spoils_the_listing(listing, size, tmp_path):
    await listed_by_fallback(listing, faults.swapped(_SIZE, size), tmp_path)


@pytest.mark.parametrize("name", [name for name in LISTINGS if "http_profile" not in name])
async def test_a_size_in_quotes_spoils_the_listing(name, tmp_path):
    """Not a profile's: many APIs write theirs so."""
    await listed_by_fallback(LISTINGS[name], faults.swapped(_SIZE, b'"%s"' % _SIZE), tmp_path)


@pytest.mark.parametrize("fault", DOCUMENTS.values(), ids=DOCUMENTS.keys())
async def test_what_is_no_listing_is_not_listed(listing, fault, tmp_path):
    await listed_by_fallback(listing, fault, tmp_path)


@pytest.mark.parametrize("operation", ["list", "tree"])
async def test_a_listing_of_a_gateway_must_be_in_order(operation, tmp_path):
    """Pages go on behind the last path: out of order, entries would be lost."""
    listing = SUBJECTS["gateway"], OPERATIONS[operation]

    await listed_by_fallback(listing, faults.swapped(_NAME, b"aaa"), tmp_path)
