"""Other people's programs, which test archives, and extract them."""

import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.domain.archives import Format
from tests import needs

Found = Mapping[bytes, tuple[bytes, int, bool] | None]
"""By path: content, modification time in whole seconds and whether it can be executed, or None."""

_ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(program: str, *arguments: str | Path) -> str:
    """Run it and return what it says; it must be content, and not even warn."""
    done = subprocess.run(
        [needs.program(program), *arguments],
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said
    return said


def check(form: Format, path: Path) -> None:
    """Have all that know the format test the archive."""
    for arguments in _CHECKS[form]:
        said = run(arguments[0], *arguments[1:], path)
        assert "warning" not in said.lower()
    if form is Format.ZIP:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


def found_in(directory: Path) -> Found:
    """What lies below a directory."""
    top = os.fsencode(directory)
    found: dict[bytes, tuple[bytes, int, bool] | None] = {}
    for above, directories, files in os.walk(top):
        prefix = above[len(top) + 1 :] + b"/" if len(above) > len(top) else b""
        found |= {prefix + name: None for name in directories}
        for name in files:
            where = above + b"/" + name
            stat = os.stat(where)
            content = Path(os.fsdecode(where)).read_bytes()
            found[prefix + name] = content, int(stat.st_mtime), bool(stat.st_mode & 0o111)
    return found


def _unzip(path: Path, into: Path) -> None:
    run("unzip", "-q", path, "-d", into)


def _seven_zip(path: Path, into: Path) -> None:
    run("7z", "x", f"-o{into}", path)


def _bsdtar(path: Path, into: Path) -> None:
    into.mkdir()
    run("bsdtar", "-x", "-p", "-f", path, "-C", into)


def _tar(path: Path, into: Path) -> None:
    into.mkdir()
    run("tar", "-x", "-p", "-f", path, "-C", into)


def _zipfile(path: Path, into: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(into)


def _tarfile(path: Path, into: Path) -> None:
    with tarfile.open(path) as archive:
        # Python before 3.11.4, such as Debian 12's, has no filters.
        archive.extractall(into, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


EXTRACTORS: Mapping[Format, Mapping[str, Callable[[Path, Path], None]]] = {
    Format.ZIP: {"unzip": _unzip, "7z": _seven_zip, "bsdtar": _bsdtar, "zipfile": _zipfile},
    Format.TAR: {"tar": _tar, "7z": _seven_zip, "bsdtar": _bsdtar, "tarfile": _tarfile},
    Format.TAR_GZ: {"tar": _tar, "bsdtar": _bsdtar, "tarfile": _tarfile},
    Format.TAR_ZST: {"tar": _tar, "bsdtar": _bsdtar},
}

_CHECKS: Mapping[Format, tuple[tuple[str, ...], ...]] = {
    Format.ZIP: (("unzip", "-t", "-q"), ("zipinfo", "-v"), ("7z", "t"), ("bsdtar", "-tvf")),
    Format.TAR: (("tar", "-tvf"), ("7z", "t"), ("bsdtar", "-tvf")),
    Format.TAR_GZ: (("gzip", "-t"), ("7z", "t"), ("tar", "-tvzf"), ("bsdtar", "-tvf")),
    Format.TAR_ZST: (("zstd", "-t", "-q"), ("tar", "--zstd", "-tvf"), ("bsdtar", "-tvf")),
}
