"""The peers by the names that the rows and the table call them."""

from tests.benchmarks.peers import (
    Peer,
    fileresponse,
    gateway,
    go,
    nginx,
    starlette,
    starlette_threads,
)
from tests.benchmarks.peers.archivers import ARCHIVERS
from tests.benchmarks.peers.offload import gateway_offload
from tests.benchmarks.peers.proxied import (
    gateway_proxied,
    gateway_unix,
    go_proxied,
    nginx_proxied,
    nginx_unix,
)
from tests.benchmarks.peers.stored import gateway_postgres, gateway_sqlite

PEERS: dict[str, Peer] = ARCHIVERS | {
    peer.__name__.replace("_", "-"): peer
    for peer in (
        gateway,
        go,
        nginx,
        starlette,
        starlette_threads,
        fileresponse,
        gateway_proxied,
        nginx_proxied,
        go_proxied,
        gateway_unix,
        nginx_unix,
        gateway_offload,
        gateway_sqlite,
        gateway_postgres,
    )
}
