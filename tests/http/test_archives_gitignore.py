"""`gitignore=true` on the wire, against a real tree."""

import io
import zipfile
from pathlib import Path

from tests.gateways import key_entry, running

SCOPES = {"auth": {"keys": [key_entry(scopes=["archives:read"])]}}


async def test_an_archive_leaves_out_what_git_would(root: Path):
    for path in (".git/HEAD", "app/node_modules/x", "app/main.py", "app/a.log", "app/keep.log"):
        (root / "s1" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "s1" / path).write_text(path)
    (root / "s1" / ".gitignore").write_text("*.log\n")
    (root / "s1" / "app" / ".gitignore").write_text("node_modules/\n!keep.log\n")

    async with running(root, SCOPES) as gateway:
        answer = await gateway.ask(
            "/api/v1/sessions/s1/archive?path=app&gitignore=1&exclude=!a.log"
        )

    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
    assert files == {"app/.gitignore", "app/a.log", "app/keep.log", "app/main.py"}
