"""Names in archives: nothing outside, all unique, whatever system extracts them."""

import re
import time
import zipfile
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.archive.helpers import Helpers
from gateway.archive.names import names_for
from gateway.domain.archives import Format, Member
from gateway.domain.errors import TooLarge
from tests.unit.archive import tools
from tests.unit.archive.trees import members_of, packed, plan_of, write


def named(form: Format, *paths: bytes) -> list[str]:
    """The names of files, or of directories where a path ends in a slash, in order of the paths."""
    members = sorted(
        Member(tuple(path.rstrip(b"/").split(b"/")), path.endswith(b"/"), 0, None, 0)
        for path in paths
    )
    return [*names_for(form, members)]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"..\\..\\e.bat", ".._.._e.bat"),
        (b"C:\\x", "C__x"),
        (b"a:b", "a_b"),
        (b'<>"|?*', "______"),
        (b"CON", "_CON"),
        (b"con.txt", "_con.txt"),
        (b"nul .tar.gz", "_nul .tar.gz"),
        ("COM¹".encode(), "_COM¹"),
        (b"CONOUT$", "_CONOUT$"),
        (b"aux/prn/x", "_aux/_prn/x"),
        (b"console", "console"),
        (b"com10", "com10"),
        (b"con ", "con_"),
        (b"con:", "con_"),
        (b"dot.", "dot_"),
        (b"dots...", "dots.._"),
        (b"space ", "space_"),
        (b"dir./x", "dir_/x"),
        (b".", "_"),
        (b"..", "._"),
        (b"a\nb\tc\x7f", "a_b_c_"),
        ("\u202etxt.exe".encode(), "_txt.exe"),
        ("a\u2028b\x85c\ufeff".encode(), "a_b_c_"),
        (b"caf\xe9", "caf\uefe9"),
        (b"\xed\xa0\x80", "\uefed\uefa0\uef80"),
        ("cafe\u0301".encode(), "cafe\u0301"),
        (b"-rf", "-rf"),
        (b".bashrc", ".bashrc"),
    ],
)
def test_a_name_in_a_zip_is_safe_everywhere(path: bytes, name: str) -> None:
    assert named(Format.ZIP, path) == [name]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"..\\..\\e.bat", ".._.._e.bat"),
        (b"CON", "CON"),
        (b"a:b", "a:b"),
        (b"a\nb ", "a\nb "),
        (b"caf\xe9", "caf\uefe9"),
    ],
)
def test_a_name_in_a_tar_is_one_that_unix_has(path: bytes, name: str) -> None:
    assert named(Format.TAR, path) == [name]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([b"A", b"a"], ["A", "a~2"]),
        ([b"A.txt", b"a.txt", b"a.TXT"], ["A.txt", "a~2.TXT", "a~3.txt"]),
        ([b"A/", b"A/x", b"a/", b"a/x"], ["A/", "A/x", "a~2/", "a~2/x"]),
        ([b"A/x", b"a/x"], ["A/x", "a~2/x"]),
        ([b"A", b"a/", b"a/x"], ["A", "a~2/", "a~2/x"]),
        ([b"a", b"a~2", b"A"], ["A", "a~2", "a~2~2"]),
        ([b"a:", b"a?", b"a_"], ["a_", "a_~2", "a_~3"]),
        ([b"con", b"_con"], ["_con", "_con~2"]),
        ([b".A", b".a"], [".A", ".a~2"]),
        ([b"a.b/x", b"A.b/x"], ["A.b/x", "a~2.b/x"]),
        (["é".encode(), "e\u0301".encode()], ["e\u0301", "é~2"]),
        (["É".encode(), "e\u0301".encode()], ["e\u0301", "É~2"]),
        (["straße".encode(), b"STRASSE"], ["STRASSE", "straße~2"]),
        (["\u1fb4".encode(), "α\u0345\u0301".encode()], ["α\u0345\u0301", "\u1fb4~2"]),
        ([b"\xe9", "\uefe9".encode()], None),
    ],
)
def test_names_that_would_be_one_file_somewhere_are_told_apart(
    paths: list[bytes], names: list[str] | None
) -> None:
    found = named(Format.ZIP, *paths)

    assert names is None or found == names
    assert_unique(found)


def test_a_backslash_that_becomes_another_name_is_told_apart_in_a_tar() -> None:
    assert named(Format.TAR, b"a\\b", b"a_b", b"A_b") == ["A_b", "a_b", "a_b~2"]


@pytest.mark.parametrize("form", [Format.ZIP, Format.TAR])
@pytest.mark.parametrize(
    "name",
    [
        b"\xff" * 255,
        b"\xff" * 250 + b".tar",
        b"con." + b"x" * 251,
        b"con" + b" " * 251 + b"\xff",
        b"\xff" * 80 + b"." * 175,
        b"a." + b"\xff" * 253,
        ("ü" * 127).encode() + b"\xff",
    ],
)
def test_no_part_of_a_name_is_longer_than_a_file_system_takes(form: Format, name: bytes) -> None:
    """Also where bytes that are not UTF-8 become three, and with a number."""
    names = named(form, name, b"d/" + name, b"d/" + name.upper(), b"d/" + name[:-1] + b"\\")

    assert all(len(part.encode()) <= 255 for name in names for part in name.split("/"))
    assert_unique(names, form)
    if form is Format.ZIP:
        assert_safe(names)


def test_a_name_as_long_as_file_systems_take_stays_as_it_is() -> None:
    name = b"n" * 251 + b".txt"

    assert named(Format.ZIP, name) == [name.decode()]
    assert named(Format.ZIP, name, name.upper())[1] == "n" * 243 + "~2.txt"


@pytest.mark.parametrize("length", [3, 255])
def test_thousands_of_names_that_differ_in_unsafe_marks_take_no_time(length: int) -> None:
    """A search from the first number for each of them would take minutes."""
    marks = [bytes([mark]) for mark in b'\x01\x02\x03\x04\x05\x06\x07:<>"|?*']
    paths = [a + b + c for a in marks for b in marks for c in marks]
    paths = [(path * 85)[:length] + tail for path in paths for tail in (b"", b".", b".a", b" ")]
    paths = [path[-255:] for path in paths]
    began = time.process_time()

    names = named(Format.ZIP, *set(paths))

    assert time.process_time() - began < 2
    assert_unique(names)


def test_a_directory_far_below_all_that_was_asked_for_has_its_name() -> None:
    deep = b"/".join([b"d"] * 2000)

    assert named(Format.ZIP, deep + b"/", deep + b"/x") == [
        f"{deep.decode()}/",
        f"{deep.decode()}/x",
    ]


def test_a_path_that_no_zip_can_hold_is_refused() -> None:
    member = Member((b"d" * 255,) * 257, False, 0, None, 0)

    with pytest.raises(TooLarge, match="longer than 65535 bytes"):
        plan_of([member], Format.ZIP)
    plan_of([Member(member.parts[1:], False, 0, None, 0)], Format.ZIP, stored=True)


_HOSTILE = st.one_of(
    st.sampled_from(
        [b"A", b"a", b"a~2", b"con", b"a:", b"a_", b"a.", b"a ", b".a", b"\xe9", b"A.B"]
    ),
    st.binary(min_size=1, max_size=255),
    st.text(min_size=1, max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
).filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))
_PATHS = st.lists(
    st.lists(_HOSTILE, min_size=1, max_size=3).map(b"/".join), min_size=1, max_size=12
)


@pytest.mark.parametrize("form", [Format.ZIP, Format.TAR])
@settings(max_examples=50)
@given(paths=_PATHS)
def test_whatever_names_there_are_all_come_out_safe_and_unique(
    form: Format, paths: list[bytes]
) -> None:
    directories = {
        b"/".join(parts[:depth]) + b"/"
        for parts in (path.split(b"/") for path in paths)
        for depth in range(1, len(parts))
    }
    files = {path for path in paths if path + b"/" not in directories}

    names = named(form, *directories, *files)

    assert_unique(names, form)
    assert all(len(part.encode()) <= 255 for name in names for part in name.split("/"))
    above = {name.rstrip("/").rpartition("/")[0] for name in names} - {""}
    assert above == {name.rstrip("/") for name in names if name.endswith("/")}
    if form is Format.ZIP:
        assert_safe(names)


async def test_row_26_extracts_into_nothing_but_its_directory(
    tmp_path: Path, helpers: Helpers
) -> None:
    root, outside = tmp_path / "tree", tmp_path / "out"
    names = [
        b"..\\..\\e.bat",
        b"CON",
        b"a:b",
        b"A",
        b"a",
        b"\xff" * 255,
        b"x\ny",
        b"d/..\\f",
        b"D/f",
    ]
    names += ["é".encode(), "e\u0301".encode(), b"caf\xe9", b"aux/nul.txt", b"dot./space ", b"-C"]
    write(root, {name: name for name in names})
    (root / "link").symlink_to("A")  # which a walk tells as the file that it leads to
    expected = sorted([*names, b"A"])

    for form in Format:
        path = tmp_path / f"archive.{form.value}"
        await packed(root, form, helpers, path)
        for name, extract in tools.EXTRACTORS[form].items():
            into = outside / form.value / name
            into.parent.mkdir(parents=True, exist_ok=True)
            extract(path, into)
            found = {member: was[0] for member, was in tools.found_in(into).items() if was}
            assert sorted(found.values()) == expected, (form, name)
            assert_unique([member.decode() for member in found], form)
    assert sorted(entry.name for entry in outside.iterdir()) == sorted(
        form.value for form in Format
    )
    assert len([*tmp_path.iterdir()]) == 2 + len(Format)
    with zipfile.ZipFile(tmp_path / "archive.zip") as archive:
        assert len(archive.namelist()) == len(members_of(root))


def assert_unique(names: list[str], form: Format = Format.ZIP) -> None:
    """No two are one file, on Linux or, in a zip, where case or composition do not count."""
    plain = [name.rstrip("/") for name in names]
    for normal in ("NFC", "NFD"):
        for fold in (str.casefold, str.lower) if form is Format.ZIP else (str,):
            folded = {normalize(normal, fold(normalize(normal, name))) for name in plain}
            assert len(folded) == len(plain)


def assert_safe(names: list[str]) -> None:
    """Every part is a name that Windows takes as it is."""
    for part in (part for name in names for part in name.rstrip("/").split("/")):
        assert part
        assert part[-1] not in ". "
        assert not re.search(r'[\x00-\x1f\x7f-\x9f\\:<>"|?*\u202a-\u202e\u2066-\u2069]', part)
        stem = part.partition(".")[0].rstrip(" ").upper()
        assert stem not in {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
        assert not re.fullmatch("(COM|LPT)[0-9¹²³]", stem)
