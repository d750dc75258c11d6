"""Requests with bodies, and gateways with agents and several organisations."""

import json
from collections.abc import Mapping
from typing import Any

from tests.gateways import Gateway, key_entry
from tests.wire import Answer, Wire, head

ACME, GLOBEX, ANA = "sk_acme", "sk_globex", "sk_ana"
EVERYTHING = ["sessions:read", "sessions:write", "files:read", "archives:read", "links:write"]
SESSIONS = "/v1/agents/agt_123/sessions"


def with_agents(**sections: Any) -> dict[str, Any]:
    """Changes of a config: two organisations with a key each, and an agent."""
    keys = [
        key_entry(ACME, id="acme", org="acme", scopes=EVERYTHING),
        key_entry(GLOBEX, id="globex", org="globex", scopes=EVERYTHING),
    ]
    agent = {"version": "ver_9", "sandbox": {"secrets": ["GITHUB_TOKEN", "OTHER"]}}
    return {"auth": {"keys": keys}, "agents": {"agt_123": agent}, **sections}


async def send(
    gateway: Gateway,
    target: str,
    body: bytes | Mapping[str, Any] = b"",
    *headers: str,
    key: str = ACME,
    method: str = "POST",
) -> Answer:
    """A request with a body, which is sent as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = ("Content-Type: application/json",) if data else ()
    lines = (f"X-API-Key: {key}", f"Content-Length: {len(data)}", *kind, *headers)
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head(target, *lines, method=method) + data)
        return await wire.answer(method)


async def created(gateway: Gateway, body: Mapping[str, Any] | None = None, **o: Any) -> str:
    """The id of a new session."""
    answer = await send(gateway, SESSIONS, body or b"", **o)
    assert answer.status == 201, answer.body
    session_id: str = answer.json["id"]
    return session_id


async def read(gateway: Gateway, target: str, key: str = ACME, method: str = "GET") -> Answer:
    """A request without a body."""
    async with await Wire.connect(gateway.port) as wire:
        return await wire.ask(target, f"X-API-Key: {key}", method=method)
