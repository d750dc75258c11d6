"""The executors that ship with the gateway: one line each, imported only when a config names them."""

EXECUTORS: dict[str, str] = {
    "local": "gateway.executors.local.local:Local",
}
