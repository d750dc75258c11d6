"""The executors that ship with the gateway: a line each, imported when a config names them."""

EXECUTORS: dict[str, str] = {
    "gateway": "gateway.executors.gateway.gateway:Gateway",
    "http_profile": "gateway.executors.http_profile.http_profile:HttpProfile",
    "local": "gateway.executors.local.local:Local",
    "firecracker": "gateway.executors.firecracker.firecracker:Firecracker",
}
