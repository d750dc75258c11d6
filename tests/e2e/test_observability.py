"""What an operator sees: log lines, metrics, a terminal."""

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import needs, wire
from tests.e2e.archiving import ARCHIVE, packing
from tests.e2e.operating import FILES, Clients, accepts, eventually, log_of, logged
from tests.gateways import AUTH, KEY, Process, command, settings
from tests.ports import free_port

HOSTILE = "a\nb\r\x1b[31m\x1b]0;owned\x07\x9b2J\u202egpj.exe"
RAW = "a%0Ab%0D%1B[31m%1B]0;owned%07%C2%9B2J%E2%80%AEgpj.exe"
PREFIX = "workspace_gateway_"
LISTING = "/api/v1/sessions/{session_id}/files"
DOWNLOAD = LISTING + "/{path}"

MALFORMED = [
    "GET / HTTP/1.1\r\nHost: x\r\nX-API-Key : canary\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: canary\0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary\x01\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\ncanary\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n: canary\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nCanary: " + "x" * 20_000 + "\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nCookie: canary\r\nContent-Length: x\r\n\r\n",
    "canary / HTTP/1.1\r\nHost x\r\n\r\n",
    "GET /canary\0 HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.fixture
def observed(tmp_path: Path, root: Path) -> Iterator[tuple[Process, int]]:
    """The command with a small rate, and the port of its admin listener."""
    admin = free_port()
    changes = {
        "server": {"admin": {"host": "127.0.0.1", "port": admin}},
        "limits": {"requests_per_minute": 6},
    }
    (root / "s1" / "a.txt").write_bytes(b"12345")
    (root / "s1" / HOSTILE).write_bytes(b"x")
    with command(tmp_path, root, changes) as process:
        yield process, admin


async def test_a_request_is_one_line_with_these_fields(observed: tuple[Process, int]) -> None:
    """As `operations.md` lists them; tools of operators rely on the names."""
    process, _ = observed
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await wire.ask(
        process.port,
        FILES + "/a.txt?x=1",
        AUTH,
        "X-Request-ID: r-1",
        f"traceparent: 00-{trace}-00f067aa0ba902b7-01",
    )
    (line,) = await logged(process, "http_request")
    (audit,) = await logged(process, "audit.download")

    assert answer.header("X-Request-ID") == "r-1"
    for name in ("timestamp", "duration_ms", "ttfb_ms"):
        line.pop(name)
    assert line == {
        "event": "http_request",
        "level": "info",
        "request_id": "r-1",
        "trace_id": trace,
        "method": "GET",
        "route": "/api/v1/sessions/{session_id}/files/{path}",
        "status": 200,
        "bytes_sent": 5,
        "dialect": "shannon",
        "key_id": "test",
        "org": "acme",
        "session_id": "s1",
        "executor": "local",
        "fallback": None,
        "outcome": "ok",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", audit.pop("timestamp"))
    assert audit == {
        "event": "audit.download",
        "logger": "audit",
        "level": "info",
        "request_id": "r-1",
        "key_id": "test",
        "org": "acme",
        "session_id": "s1",
        "path": "/a.txt",
    }


@pytest.mark.parametrize(
    ("method", "target", "credential", "expected"),
    [
        ("GET", FILES + "/none", AUTH, ("refused", 404, DOWNLOAD, "shannon")),
        ("GET", FILES, "X-API-Key: wrong", ("refused", 401, LISTING, "shannon")),
        ("POST", FILES, AUTH, ("refused", 405, LISTING, "shannon")),
        ("DELETE", FILES + "/none", AUTH, ("refused", 405, DOWNLOAD, "shannon")),
        ("DELETE", FILES + "/none", "X-API-Key: wrong", ("refused", 401, DOWNLOAD, "shannon")),
        ("GET", "/no/such/route", AUTH, ("refused", 404, "unmatched", "native")),
        ("POST", "/livez", AUTH, ("refused", 405, "unmatched", "native")),
        ("GET", "/livez", AUTH, ("ok", 200, "/livez", "native")),
    ],
)
async def test_refusals_are_logged_like_answers(
    observed: tuple[Process, int],
    method: str,
    target: str,
    credential: str,
    expected: tuple[object, ...],
) -> None:
    """One line, and nothing of the key that was tried or of the path that was asked for."""
    process, admin = observed
    await wire.ask(process.port, target, credential, method=method)

    (line,) = await logged(process, "http_request")
    metrics = (await wire.ask(admin, "/metrics")).body.decode()

    assert (line["outcome"], line["status"], line["route"], line["dialect"]) == expected
    _, status, route, _ = expected
    counted = f'http_requests_total{{code="{status}",method="{method}",route="{route}"}} 1.0'
    assert PREFIX + counted in metrics
    text = process.log.read_text()
    assert KEY not in text
    assert "wrong" not in text
    assert "none" not in text


async def test_a_client_that_leaves_is_logged_once(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients
) -> None:
    """Without a traceback: it is no error."""
    with command(tmp_path, big_root[0]) as process:
        await clients.slow(process.port, FILES + "/big.bin")
        await logged(process, "audit.download")
        await clients.leave()

        (line,) = await logged(process, "http_request")

        assert line["outcome"] == "client_left"
        assert "Traceback" not in process.log.read_text()


async def test_a_hostile_name_stays_data_on_one_line(observed: tuple[Process, int]) -> None:
    """Escaped, so that it means nothing to the terminal of who reads the log, either."""
    process, _ = observed
    assert (await wire.ask(process.port, f"{FILES}/{RAW}", AUTH)).body == b"x"

    (audit,) = await logged(process, "audit.download")

    assert audit["path"] == "/" + HOSTILE
    raw = process.log.read_text()
    assert not set(raw) & set("\x1b\x07\r\x9b\u202e")
    assert len(raw.splitlines()) == len(log_of(process))


async def test_malformed_requests_are_one_line_each(observed: tuple[Process, int]) -> None:
    """aiohttp would log them with a traceback and the bytes, in which a key may stand."""
    process, _ = observed
    async with await wire.Wire.connect(process.port) as connection:
        await connection.send(f"GET / HTTP/1.1\r\n{AUTH}\x01\r\n\r\n".encode())
        assert (await connection.answer()).status == 400

    (line,) = await logged(process, "request_malformed")

    assert re.fullmatch("[0-9a-f]{32}", line.pop("request_id"))
    assert re.fullmatch(r"\w+", line.pop("error"))
    del line["timestamp"]
    assert line == {"event": "request_malformed", "level": "info"}
    assert KEY not in process.log.read_text()
    assert not [line for line in log_of(process) if "exception" in line]


@pytest.mark.parametrize("sent", MALFORMED, ids=ascii)
async def test_a_malformed_head_leaves_none_of_its_bytes_in_the_log(
    observed: tuple[Process, int], sent: str
) -> None:
    process, _ = observed
    async with await wire.Wire.connect(process.port) as connection:
        await connection.send(sent.encode("latin-1"))
        answer = await connection.answer()

    await logged(process, "request_malformed")

    assert (answer.status, answer.json) == (400, {"error": "malformed request"})
    assert "canary" not in process.log.read_text().lower()


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        ("removed", "FileNotFoundError"),
        ("a file", "NotADirectoryError"),
        ("unreadable", "PermissionError"),
    ],
)
async def test_an_executor_that_cannot_answer_is_logged_with_its_cause(
    tmp_path: Path, root: Path, trouble: str, cause: str
) -> None:
    """The client learns that there is no answer; the operator, why; nobody, with which key."""
    (root / "s1" / "a.txt").write_bytes(b"x")
    launcher: tuple[str, ...] = ()
    if os.geteuid() == 0:
        powers = "-dac_override,-dac_read_search"
        launcher = (needs.program("setpriv"), f"--bounding-set={powers}", f"--inh-caps={powers}")
    with command(tmp_path, root, launcher=launcher) as process:
        assert (await wire.ask(process.port, FILES + "/a.txt", AUTH)).body == b"x"
        if trouble == "unreadable":
            root.chmod(0)
        else:
            root.rename(tmp_path / "elsewhere")
        if trouble == "a file":
            root.touch()
        answers = [
            await wire.ask(process.port, target, AUTH, f"X-Request-ID: {number}")
            for number, target in enumerate((FILES, FILES + "/a.txt"))
        ]
        if trouble == "unreadable":
            root.chmod(0o755)
        lines = await logged(process, "no_answer", 2)

    said = "the workspace root cannot be read"
    for number, (answer, line) in enumerate(zip(answers, lines, strict=True)):
        assert (answer.status, answer.json) == (502, {"error": said})
        assert (line["reason"], line["request_id"], line["level"]) == (said, str(number), "warning")
        assert line["cause"].startswith(cause + "(")
    assert KEY not in process.log.read_text()


async def test_metrics_have_the_names_and_labels_that_are_documented(
    observed: tuple[Process, int],
) -> None:
    """`operations.md`; dashboards rely on them. Nothing names a session, a path or a key."""
    process, admin = observed
    for target, credential in (
        (FILES + "/a.txt", AUTH),
        (FILES, AUTH),
        (FILES + "/none", AUTH),
        (FILES, "X-API-Key: wrong"),
        (FILES, "X-Other: none"),
        ("/no/such/route", AUTH),
    ):
        await wire.ask(process.port, target, credential)
    statuses = [(await wire.ask(process.port, FILES, AUTH)).status for _ in range(4)]
    await wire.ask(process.port, "/x", method="PROPFIND")

    answer = await wire.ask(admin, "/metrics")
    text = answer.body.decode()
    samples = dict(re.findall(rf"^{PREFIX}(\S+(?: \S+)*) (\S+)$", text, re.MULTILINE))
    listing = 'route="/api/v1/sessions/{session_id}/files"'
    download = 'route="/api/v1/sessions/{session_id}/files/{path}"'

    assert (answer.header("Content-Type") or "").startswith("text/plain; version=")
    assert statuses == [200, 200, 200, 429]
    requests = "http_requests_total{"
    assert samples[requests + f'code="200",method="GET",{download}}}'] == "1.0"
    assert samples[requests + f'code="404",method="GET",{download}}}'] == "1.0"
    assert samples[requests + f'code="200",method="GET",{listing}}}'] == "4.0"
    assert samples[requests + f'code="401",method="GET",{listing}}}'] == "2.0"
    assert samples[requests + f'code="429",method="GET",{listing}}}'] == "1.0"
    assert samples[requests + 'code="404",method="other",route="unmatched"}'] == "1.0"
    assert samples[f"http_response_bytes_total{{{download}}}"] == str(
        5.0 + len(b'{"error":"path not found"}')
    )
    assert samples[f"http_request_duration_seconds_count{{{download}}}"] == "2.0"
    assert samples[f"http_first_byte_seconds_count{{{download}}}"] == "2.0"
    assert samples["http_requests_in_flight"] == "1.0"
    assert samples['auth_failures_total{reason="unknown"}'] == "1.0"
    assert samples['auth_failures_total{reason="missing"}'] == "1.0"
    assert samples['throttled_total{limit="requests_per_minute"}'] == "1.0"
    opens = 'executor_requests_total{executor="local",operation="open",outcome='
    assert (samples[opens + '"ok"}'], samples[opens + '"refused"}']) == ("1.0", "1.0")
    opened = 'executor_request_duration_seconds_count{executor="local",operation="open"}'
    assert samples[opened] == "2.0"
    assert samples['executor_circuit_state{executor="local"}'] == "0.0"
    assert [v for name, v in samples.items() if name.startswith("build_info{")] == ["1.0"]
    labels = set(re.findall(r"[{,](\w+)=", text))
    assert labels <= {"route", "method", "code", "le", "limit", "reason", "version"} | {
        "python", "implementation", "major", "minor", "patchlevel", "generation"
    } | {"executor", "operation", "outcome"
    }  # fmt: skip
    assert "acme" not in text
    assert "a.txt" not in text


async def test_fallbacks_and_archives_have_the_metrics_that_are_documented(
    tmp_path: Path, root: Path
) -> None:
    """`operations.md`: the file and both archives come from the second executor of the route."""
    (root / "s1" / "a.txt").write_bytes(b"12345")
    url = f"http://127.0.0.1:{free_port()}"
    changes = packing(
        {
            "executors": {"remote": {"type": "firecracker", "url": url}},
            "placement": {"default": {"executor": "remote", "fallback": ["local"]}},
        }
    )
    with command(tmp_path, root, changes) as process:
        answers = [await wire.ask(process.port, FILES + "/a.txt", AUTH)]
        answers += [await wire.ask(process.port, ARCHIVE, AUTH) for _ in range(2)]
        samples: dict[str, str] = {}
        async with asyncio.timeout(10):
            # The last to be known: when it is, all that came before is.
            while float(samples.get("spool_bytes", 0)) < len(answers[-1].body):
                page = await wire.ask(changes["server"]["admin"]["port"], "/metrics")
                found = re.findall(rf"^{PREFIX}(\S+) (\S+)$", page.body.decode(), re.MULTILINE)
                samples = dict(found)

    assert [answer.status for answer in answers] == [200, 200, 200]
    fallbacks = 'executor_fallbacks_total{from="remote",reason="unreachable",to="local"}'
    assert samples[fallbacks] == "3.0"
    assert samples['archive_builds_total{format="zip",outcome="ok"}'] == "1.0"
    assert samples["archive_input_bytes_total"] == "5.0"
    assert samples["archive_build_seconds_count"] == "1.0"
    assert samples['spool_requests_total{result="miss"}'] == "1.0"
    assert samples['spool_requests_total{result="hit"}'] == "1.0"


async def test_metrics_are_not_for_clients(observed: tuple[Process, int]) -> None:
    process, admin = observed

    assert (await wire.ask(process.port, "/metrics", AUTH)).status == 404
    assert (await wire.ask(admin, FILES, AUTH)).status == 404
    assert (await wire.ask(admin, "/readyz")).status == 200


async def test_an_empty_bucket_says_when_to_come_back(observed: tuple[Process, int]) -> None:
    """6 a minute: the next token comes in 10 seconds."""
    process, _ = observed
    answers = await asyncio.gather(*(wire.ask(process.port, FILES, AUTH) for _ in range(8)))

    answers.sort(key=lambda answer: answer.status)
    assert [answer.status for answer in answers] == [200] * 6 + [429] * 2
    assert answers[-1].header("Retry-After") in ("9", "10")
    assert list(answers[-1].json) == ["error"]


async def test_failed_logins_are_throttled_by_address(tmp_path: Path, root: Path) -> None:
    """The right key has to wait as well; another address behind a trusted proxy has not."""
    changes = {
        "server": {"trusted_proxies": ["127.0.0.0/8"]},
        "limits": {"auth_failures_per_minute": 3},
    }
    with command(tmp_path, root, changes) as process:
        here, there = "X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2"
        statuses = [
            (await wire.ask(process.port, FILES, "X-API-Key: wrong", here)).status for _ in range(4)
        ]
        throttled = await wire.ask(process.port, FILES, AUTH, here)

        assert statuses == [401, 401, 401, 429]
        assert throttled.status == 429
        assert 15 <= int(throttled.header("Retry-After") or 0) <= 20
        assert (await wire.ask(process.port, FILES, AUTH, there)).status == 200


async def test_a_terminal_shows_colours_but_obeys_no_name(tmp_path: Path, root: Path) -> None:
    """The console form; a file's name must not clear the screen or set the title."""
    for name in (HOSTILE, "\x1b[2Jred"):
        (root / "s1" / name).write_bytes(b"x")
    data = settings(root, {"server": {"port": free_port()}})
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(data))
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "-c", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env={k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"},
    )
    os.close(follower)
    os.set_blocking(leader, False)
    shown = b""

    def screen() -> bytes:
        nonlocal shown
        with contextlib.suppress(OSError):
            shown += os.read(leader, 1 << 20)
        return shown

    try:
        port = data["server"]["port"]
        await eventually(lambda: screen() is not None and accepts(port))
        for raw in (RAW, "%1B[2Jred"):
            assert (await wire.ask(port, f"{FILES}/{raw}", AUTH)).body == b"x"
        await eventually(lambda: screen().count(b"http_request") == 2)
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, 10)
        os.close(leader)

    text = shown.decode()
    colours = re.findall("\x1b\\[[0-9;]*m", text)
    assert colours
    assert "\x1b" not in re.sub("\x1b\\[[0-9;]*m", "", text)
    assert r"/\x1b[2Jred" in text
    assert not set(text) & set("\x07\x9b\u202e")
    assert r"\x1b[31m\x1b]0;owned\x07\x9b2J\u202egpj.exe" in text
    assert not text.startswith("{")
