"""Whatever an agent calls its files, they are listed and fetched under that name, or refused."""

from gateway.domain.errors import Outage, Unsupported
from gateway.domain.model import Kind
from tests.contract.asking import at, content, listed, refusal
from tests.rigs import Rig

NAMES = [
    *("plain.txt", "a b", " lead", "trail ", "tab\there", "new\nline", "cr\rhere", "\x01\x1f\x7f"),
    *("100%", "%41", "%2F", "%2e%2e", "%00", "%", "a%zz", "a+b", "?", "a?b=c&d", "#", "a#b", "a;b"),
    *('"', "'", "`id`", "$HOME", "${x}", "$(id)", "|", "&", "<b>", "*", "[a]", "{}", "!", "^", "~"),
    *(
        "\\",
        "a\\b",
        "C:",
        "a:b",
        "=",
        ",",
        "@",
        "-",
        "-rf",
        "--",
        ".hidden",
        "trail.",
        "con",
    ),
    *("caf\u00e9", "cafe\u0301", "日本語", "😀", "\u202ertl", "\ufeffbom", "\u2028", "\uef80", "ß"),
    *("n" * 255, "ü" * 127, "😀" * 63, "'\"\\\n%?#+&"),
]
RAW = [b"\xff", b"a\xfeb", b"caf\xe9", b"\xed\xb2\x80", b"\xc0\xaf"]
DOTTED = ["...", "a..b", "..a", "a..", "....txt"]


async def test_a_name_is_a_name(rig: Rig) -> None:
    files = {f"d/{name}": f"content of {name}".encode() for name in NAMES}
    rig.plant(files)

    entries = await listed(rig, "d", depth=1)

    assert [entry.path for entry in entries] == sorted(map(at, files))
    assert {(entry.kind, entry.problem) for entry in entries} == {(Kind.FILE, None)}
    for path, expected in files.items():
        assert await content(rig, path) == expected, path


async def test_a_directory_may_be_called_so_too(rig: Rig) -> None:
    files = {f"d/{name}/{name}": name.encode() for name in NAMES}
    rig.plant(files)

    entries = await listed(rig, "d", depth=2)

    assert [entry.path for entry in entries] == sorted(
        {at(f"d/{name}") for name in NAMES} | {*map(at, files)}
    )
    for name in NAMES:
        below = await listed(rig, f"d/{name}", depth=1)
        assert [entry.path for entry in below] == [at(f"d/{name}/{name}")], name
        assert await content(rig, f"d/{name}/{name}") == name.encode(), name


async def test_a_way_may_be_long(rig: Rig) -> None:
    above = "/".join(f"{number:0150}" for number in range(20))
    rig.plant({f"{above}/f": b"far down"})

    assert len(await listed(rig)) == 21
    assert await content(rig, f"{above}/f") == b"far down"


async def test_a_name_that_is_no_text_is_listed_and_fetched_or_refused(rig: Rig) -> None:
    """Whatever the backend makes of it, one hostile name may not hide the others."""
    capabilities = rig.executor.capabilities
    rig.plant({b"d/" + name: name for name in RAW} | {b"d/r\xff/f": b"below", "d/ok": b"ok"})

    if capabilities.raw_names:
        entries = await listed(rig, "d")
        names = [*RAW, b"r\xff", b"r\xff/f", b"ok"]
        assert [entry.path for entry in entries] == sorted(at(b"d/" + name) for name in names)
        assert {entry.problem for entry in entries} == {None}
        for name in RAW:
            assert await content(rig, b"d/" + name) == name
        assert await content(rig, b"d/r\xff/f") == b"below"
        return

    if capabilities.isolates:
        assert at("d/ok") in [entry.path for entry in await listed(rig, "d", depth=1)]
    else:
        refused = await refusal(rig.executor.walk(rig.workspace, at("d"), depth=1))
        assert issubclass(refused, Outage)
    for name in RAW:
        assert await refusal(rig.executor.open(rig.workspace, at(b"d/" + name))) is Unsupported
    assert await content(rig, "d/ok") == b"ok"


async def test_two_dots_in_a_name_climb_nowhere(rig: Rig) -> None:
    rig.plant({f"d/{name}": name.encode() for name in DOTTED} | {"d/ok": b"ok"})

    paths = [entry.path for entry in await listed(rig, "d")]

    if not rig.executor.capabilities.double_dots:
        assert at("d/ok") in paths
        for name in DOTTED:
            opening = rig.executor.open(rig.workspace, at(f"d/{name}"))
            assert await refusal(opening) is Unsupported
        return
    assert paths == sorted(at(f"d/{name}") for name in [*DOTTED, "ok"])
    for name in DOTTED:
        assert await content(rig, f"d/{name}") == name.encode()
