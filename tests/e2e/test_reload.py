"""SIGHUP: a new config comes into force between two requests, or nothing changes at all."""

import asyncio
import gc
import hashlib
import signal
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gateway.server import Generation
from tests import wire
from tests.e2e.operating import (
    FILES,
    Clients,
    descriptors,
    eventually,
    log_of,
    logged,
    rewrite,
    without_descriptors,
    without_threads,
)
from tests.gateways import AUTH, Process, command, config_for, key_entry, plant, running

OTHER_KEY = "sk_test_another"
OTHER_AUTH = f"X-API-Key: {OTHER_KEY}"


async def test_a_reload_changes_who_gets_in(served: Process, clients: Clients) -> None:
    """A removed key fails at once, on connections that were open before, too."""
    used, fresh = await clients.connect(served.port), await clients.connect(served.port)
    assert (await used.ask(FILES, AUTH)).status == 200
    assert (await used.ask(FILES, OTHER_AUTH)).status == 401

    rewrite(served, {"auth": {"keys": [key_entry(OTHER_KEY)]}})
    served.signal(signal.SIGHUP)
    await logged(served, "reloaded")

    for connection in (used, fresh, await clients.connect(served.port)):
        assert (await connection.ask(FILES, OTHER_AUTH)).status == 200
        assert (await connection.ask(FILES, AUTH)).status == 401


async def test_a_link_lives_and_dies_with_its_makers_key_in_the_config(
    tmp_path: Path, root: Path
) -> None:
    """As that is since the last reload: changed, gone, and back again."""
    plant(root, {"s1/a": b"a"})
    maker = key_entry(scopes=["files:read", "links:write"])
    keys = {
        "gone": [key_entry(OTHER_KEY, id="other")],
        "may make no links": [key_entry(scopes=["files:read"])],
        "may read nothing": [key_entry(scopes=["links:write"])],
        "another organisation's": [{**maker, "org": "umbrella"}],
        "expired": [{**maker, "expires": "2020-01-01T00:00:00Z"}],
        "back": [maker],
    }
    told = {}
    with command(tmp_path, root, {"auth": {"keys": [maker]}}) as process:
        async with await wire.Wire.connect(process.port) as connection:
            body = b'{"path":"a"}'
            lines = AUTH, f"Content-Length: {len(body)}"
            target = "/api/v1/sessions/s1/links"
            await connection.send(wire.head(target, *lines, method="POST") + body)
            url = (await connection.answer()).json["url"]
            assert (await connection.ask(url)).status == 200
            for count, (what, entries) in enumerate(keys.items(), 1):
                rewrite(process, {"auth": {"keys": entries}})
                process.signal(signal.SIGHUP)
                await logged(process, "reloaded", count)
                told[what] = (await connection.ask(url)).status

    assert told == {**dict.fromkeys(keys, 404), "back": 200}


async def test_a_running_download_survives_a_reload_that_removes_its_key(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients
) -> None:
    """Byte for byte; its connection then serves by the new config."""
    root, digest = big_root
    with command(tmp_path, root) as process:
        reader = await clients.slow(process.port, FILES + "/big.bin")
        await logged(process, "audit.download")

        rewrite(process, {"auth": {"keys": [key_entry(OTHER_KEY)]}})
        process.signal(signal.SIGHUP)
        await logged(process, "reloaded")

        answer = await reader.answer()
        assert hashlib.sha256(answer.body).hexdigest() == digest
        assert (await reader.ask(FILES, AUTH)).status == 401


async def test_a_download_of_an_old_config_ends_at_its_drain_limit(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients
) -> None:
    """Or reloads would pile up old configs behind readers that never finish."""
    with command(tmp_path, big_root[0], {"server": {"drain": "500ms"}}) as process:
        reader = await clients.slow(process.port, FILES + "/big.bin")
        await logged(process, "audit.download")

        process.signal(signal.SIGHUP)
        await logged(process, "http_request")

        assert (await reader.rest())[1] == "reset"
        assert [line["count"] for line in log_of(process, "connections_broken")] == [1]
        assert (await wire.ask(process.port, FILES, AUTH)).status == 200


async def test_a_bad_config_changes_nothing(served: Process, clients: Clients) -> None:
    """All of its problems are logged, once, and none of its good parts is applied."""
    rewrite(
        served,
        {
            "auth": {"keys": [key_entry(OTHER_KEY)]},
            "limits": {"depth": "deep", "list_entrys": 1},
        },
    )
    served.signal(signal.SIGHUP)

    (failed,) = await logged(served, "reload_failed")
    assert "limits.depth" in failed["problems"]
    assert "list_entrys" in failed["problems"]
    assert (await wire.ask(served.port, FILES, AUTH)).status == 200
    assert (await wire.ask(served.port, FILES, OTHER_AUTH)).status == 401

    rewrite(served, {"limits": {"depth": 5, "list_entrys": 1}})
    served.log.with_name("gateway.yaml").unlink()
    served.signal(signal.SIGHUP)

    assert len(await logged(served, "reload_failed", 2)) == 2
    assert (await wire.ask(served.port, FILES, AUTH)).status == 200
    assert not log_of(served, "reloaded")


@pytest.mark.parametrize("without", [without_descriptors, without_threads])
async def test_a_reload_that_lacks_something_changes_nothing(
    served: Process, clients: Clients, without: Callable[[int], AbstractContextManager[None]]
) -> None:
    """It can be tried again later; to end would break what runs."""
    connection = await clients.connect(served.port)
    assert (await connection.ask(FILES, OTHER_AUTH)).status == 401
    rewrite(served, {"auth": {"keys": [key_entry(OTHER_KEY)]}})

    with without(served.popen.pid):
        served.signal(signal.SIGHUP)
        await logged(served, "reload_failed")

    assert (await connection.ask(FILES, AUTH)).status == 200
    served.signal(signal.SIGHUP)
    await logged(served, "reloaded")
    assert (await connection.ask(FILES, OTHER_AUTH)).status == 200


async def test_what_needs_a_restart_is_said_each_time(served: Process) -> None:
    """Until it is restarted, and no longer once the config is as it was."""
    port = served.port
    for attempt in (1, 2):
        rewrite(served, {"server": {"port": 1, "workers": 3, "header_timeout": "9s"}})
        served.signal(signal.SIGHUP)
        reloaded = await logged(served, "reloaded", attempt)
        assert reloaded[-1]["needs_restart"] == ["server.port", "server.workers"]

    rewrite(served, {"server": {"port": port, "workers": 1}})
    served.signal(signal.SIGHUP)

    assert (await logged(served, "reloaded", 3))[-1]["needs_restart"] == []
    assert (await wire.ask(port, FILES, AUTH)).status == 200


async def test_no_request_is_lost_to_reloads(served: Process, root: Path) -> None:
    """Not on new connections, and not on those that are kept alive."""
    (root / "s1" / "a.bin").write_bytes(bytes(300_000))
    stop = asyncio.Event()

    async def keep_asking() -> int:
        answered = 0
        async with await wire.Wire.connect(served.port) as kept:
            while not stop.is_set():
                for answer in (
                    await kept.ask(FILES + "/a.bin", AUTH),
                    await wire.ask(served.port, FILES + "/a.bin", AUTH),
                ):
                    assert (answer.status, len(answer.body)) == (200, 300_000)
                    answered += 1
        return answered

    clients = [asyncio.create_task(keep_asking()) for _ in range(4)]
    for count in range(1, 16):
        served.signal(signal.SIGHUP)
        await logged(served, "reloaded", count)
        await asyncio.sleep(0.05)
    stop.set()

    assert sum(await asyncio.gather(*clients)) > 100


async def test_fifty_reloads_leak_nothing(served: Process, clients: Clients) -> None:
    """Neither descriptors nor threads, with connections open all the time."""
    pid = served.popen.pid
    idle = [await clients.connect(served.port) for _ in range(5)]
    for connection in idle:
        await connection.ask(FILES, AUTH)

    def threads() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("Threads:")[2].split()[0])

    async def reload(first: int, last: int) -> tuple[int, int]:
        for count in range(first, last + 1):
            served.signal(signal.SIGHUP)
            await logged(served, "reloaded", count)
            await idle[0].ask(FILES, AUTH)
        return descriptors(pid), threads()

    few = await reload(1, 3)
    await reload(4, 50)

    # One that each reload had left would make 47 more; some may be on their way, in or out.
    await eventually(lambda: descriptors(pid) < few[0] + 25)
    await eventually(lambda: threads() < few[1] + 25)
    for connection in idle:
        assert (await connection.ask(FILES, AUTH)).status == 200


async def test_a_retired_generation_is_garbage(root: Path) -> None:
    """Its applications and tasks go with it."""
    config = config_for(root)
    async with running(root) as gateway:
        current = Generation(config)
        await current.start([], [])
        tasks = len(asyncio.all_tasks())
        retired = []
        for _ in range(10):
            following = Generation(config)
            await following.succeed(current)
            await current.retire()
            retired.append(weakref.ref(current))
            current = following
        assert (await gateway.files()).status == 200

        def is_gone() -> bool:
            gc.collect()
            return not any(each() for each in retired) and len(asyncio.all_tasks()) <= tasks

        await eventually(is_gone, 10)
        await current.end()
