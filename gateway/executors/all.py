"""The executors that ship with the gateway: a line each, imported when a config names them."""

EXECUTORS: dict[str, str] = {
    "local": "gateway.executors.local.local:Local",
    "firecracker": "gateway.executors.firecracker.firecracker:Firecracker",
}
