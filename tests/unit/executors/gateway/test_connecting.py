"""How a backend is reached: whose certificate is accepted, and the way into a microVM."""

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

from gateway.domain.errors import Unreachable
from gateway.executors.gateway.gateway import GatewayConfig
from gateway.listeners import Unix
from tests import gateways
from tests.doubles.microvm import microvm
from tests.doubles.raw_http import answer, raw_http
from tests.gateways import plant
from tests.unit.executors.gateway.asking import content, executor

OK = answer(200, b"bytes")
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """`tls:` of an executor that trusts the private authority and nobody else."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return {"ca": str(file)}


async def test_a_private_authority_is_believed_when_it_is_named(authority, ca) -> None:
    tls = server_side(authority.issue_cert("127.0.0.1"))
    async with (
        raw_http(OK, tls=tls) as there,
        executor(f"https://127.0.0.1:{there.port}", tls=ca) as edge,
    ):
        assert await content(edge) == b"bytes"


async def refused(url: str, **settings: object) -> None:
    async with executor(url, token=None, **settings) as edge:
        with pytest.raises(Unreachable) as raised:
            await content(edge)
    assert "certificate verify failed" in str(raised.value.__cause__)


async def test_a_private_authority_is_not_believed_unasked(authority) -> None:
    tls = server_side(authority.issue_cert("127.0.0.1"))
    async with raw_http(OK, tls=tls) as there:
        await refused(f"https://127.0.0.1:{there.port}")
        assert there.heads == []


async def test_an_authority_that_is_named_is_the_only_one(ca) -> None:
    tls = server_side(trustme.CA().issue_cert("127.0.0.1"))
    async with raw_http(OK, tls=tls) as there:
        await refused(f"https://127.0.0.1:{there.port}", tls=ca)
        assert there.heads == []


async def test_an_expired_certificate_is_refused(authority, ca) -> None:
    tls = server_side(authority.issue_cert("127.0.0.1", not_after=YESTERDAY))
    async with raw_http(OK, tls=tls) as there:
        await refused(f"https://127.0.0.1:{there.port}", tls=ca)
        assert there.heads == []


async def test_the_certificate_of_another_host_is_refused(authority, ca) -> None:
    tls = server_side(authority.issue_cert("sandbox.example"))
    async with raw_http(OK, tls=tls) as there:
        await refused(f"https://127.0.0.1:{there.port}", tls=ca)
        assert there.heads == []


@pytest.fixture
async def guest(root: Path, tmp_path: Path) -> AsyncIterator[Path]:
    """A sidecar that listens where the double's guest does."""
    plant(root, {"s1/f": b"from the guest"})
    path = tmp_path / "guest.sock"
    async with gateways.running(root, at=Unix(str(path))):
        yield path


def token(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "token"
    file.write_text(gateways.KEY)
    return {"file": str(file)}


async def test_a_guest_is_reached_by_its_port(guest: Path, tmp_path: Path) -> None:
    url = f"vsock+unix://{tmp_path}/v.sock?port=52"
    async with (
        microvm(tmp_path / "v.sock", 52, guest),
        executor(url, token=token(tmp_path)) as edge,
    ):
        for _ in range(3):
            assert await content(edge) == b"from the guest"


async def test_a_port_on_which_nobody_listens_is_no_connection(guest, tmp_path) -> None:
    """The VMM accepts, and hangs up when it is told the port."""
    async with (
        microvm(tmp_path / "v.sock", 52, guest),
        executor(f"vsock+unix://{tmp_path}/v.sock?port=53") as edge,
    ):
        with pytest.raises(Unreachable):
            await content(edge)


@pytest.mark.parametrize("word", [b"NO\n", b"OK\n", b"OK x\n", b"HTTP/1.1 200 OK\r\n", b"x" * 99])
async def test_a_word_that_is_none_is_no_connection(guest, tmp_path, word: bytes) -> None:
    async with (
        microvm(tmp_path / "v.sock", 52, guest, word),
        executor(f"vsock+unix://{tmp_path}/v.sock?port=52") as edge,
    ):
        with pytest.raises(Unreachable):
            await content(edge)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sidecar.sock",
        "unix://run/sidecar.sock",
        "unix:sidecar.sock",
        "unix:///run/s.sock?port=5",
        "unix:///run/s.sock#x",
        "vsock+unix:///run/v.sock",
        "vsock+unix:///run/v.sock?port=0",
        "vsock+unix:///run/v.sock?port=4294967295",
        "vsock+unix:///run/v.sock?port=52&port=53",
        "vsock+unix:///run/v.sock?port=x",
        "vsock+unix://run/v.sock?port=52",
        "http://",
        "http://u:p@host",
        "http://host?port=52",
        "http://host:99999",
        "ftp://host",
    ],
)
def test_a_url_that_names_no_way_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        GatewayConfig.model_validate({"type": "gateway", "url": url})
