"""What is known of a backend whose answers cannot be read: enough to log it, and no more."""

import pytest

from gateway.domain.errors import Outage
from gateway.executors.engines.connecting import RemoteConfig
from gateway.executors.engines.rest import Ask, RestEngine
from tests.doubles.raw_http import raw_http

_CREDENTIAL = {"Authorization": "Bearer KEY-CANARY"}
_FIELDS = [b"X-%d: %s\r\n" % (number, b"A" * 7000) for number in range(100)]


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>" * 10_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"A" * 60_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: KEY-CANARY\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: KEY-CANARY\r\n" + b"".join(_FIELDS),
    ],
    ids=["no HTTP", "a long field", "a key for a length", "half a head"],
)
async def test_the_cause_of_an_outage_holds_no_credential_and_is_short(answer):
    """It is logged, and what is not HTTP may come from whoever is between."""
    async with raw_http(answer) as backend:
        config = RemoteConfig(type="gateway", url=f"http://127.0.0.1:{backend.port}")
        async with RestEngine.running(config, _CREDENTIAL) as engine:
            with pytest.raises(Outage) as raised:
                async with engine.ask(Ask("GET", "/")):
                    pass

    cause = repr(raised.value.__cause__)
    assert "KEY-CANARY" not in cause
    assert len(cause) < 200
