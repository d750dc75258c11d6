"""In front of every dialect route: no handler runs before the caller is known."""

from collections.abc import Sequence

from aiohttp import web

from gateway.auth.authenticator import Authenticator, Credential
from gateway.domain.errors import CredentialsRejected, LinkNotFound
from gateway.domain.model import Principal
from gateway.http.addresses import Network, client_address
from gateway.http.answers import Response
from gateway.http.context import EXCHANGE
from gateway.http.dialects.base import Dialect, Identify, Route
from gateway.http.throttle import Crowding, Throttle, address_bucket


class Gate:
    """Lets a request through to its handler with the principal that its credential names.

    *anonymous*, if it is given, is who a request without any credential comes from.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        anonymous: Principal | None,
        failures: Throttle,
        requests: Throttle,
        crowding: Crowding,
        trusted_proxies: Sequence[Network],
    ) -> None:
        self._authenticator = authenticator
        self._anonymous = anonymous
        self._failures = failures
        self._requests = requests
        self._crowding = crowding
        self._trusted_proxies = trusted_proxies

    async def admit(self, request: web.BaseRequest, identify: Identify) -> Principal:
        """The caller as *identify* tells, who has to `leave`.

        Raises `CredentialsRejected`, `LinkNotFound` or a `RetryLater`.
        """
        address = address_bucket(client_address(request, self._trusted_proxies))
        self._failures.check(address)
        try:
            principal = await identify(request)
        except (CredentialsRejected, LinkNotFound):
            self._failures.take(address)
            raise
        exchange = request[EXCHANGE]
        exchange.key_id, exchange.org = principal.key_id, principal.org
        # Whoever uses its links does not use up a key's own rate.
        self._requests.take(exchange.link_id or f"{principal.org} {principal.key_id}")
        self._crowding.enter(principal.org)
        return principal

    def leave(self, principal: Principal) -> None:
        """The caller's request is done with."""
        self._crowding.leave(principal.org)

    async def identify(self, request: web.BaseRequest) -> Principal:
        """Whose the credential is; raise `CredentialsRejected` or `IdentityUnavailable`."""
        presented = credential(request)
        if presented is not None:
            return await self._authenticator.identify(presented)
        if self._anonymous is None:
            raise CredentialsRejected("missing")
        return self._anonymous


GATE = web.RequestKey("gate", Gate)


class Endpoint:
    """The routes of one template behind the gate."""

    def __init__(self, dialect: Dialect, routes: Sequence[Route], gate: Gate) -> None:
        self.name = routes[0].name
        self.dialect = dialect
        self._gate = gate
        self._identify = routes[0].identify or gate.identify
        self._handlers = {method: route.handler for route in routes for method in route.methods}

    async def answer(self, request: web.BaseRequest) -> Response:
        """Admit the caller, or raise what `Gate.admit` raises; then answer."""
        principal = await self._gate.admit(request, self._identify)
        try:
            handler = self._handlers.get(request.method)
            if handler is None:
                raise web.HTTPMethodNotAllowed(request.method, self._handlers)
            return await handler(request, principal)
        finally:
            self._gate.leave(principal)


def credential(request: web.BaseRequest) -> Credential | None:
    """What the one caller presents, or None; raise `CredentialsRejected` if in doubt.

    Two different keys, or one header twice, are refused: a proxy in front and the gateway could
    otherwise take the request for two different callers'.
    """
    api_keys = request.headers.getall("X-API-Key", ())
    authorizations = request.headers.getall("Authorization", ())
    if len(api_keys) > 1 or len(authorizations) > 1:
        raise CredentialsRejected("ambiguous")
    key = api_keys[0] if api_keys else None
    if authorizations:
        scheme, _, token = authorizations[0].partition(" ")
        if scheme.lower() != "bearer":
            raise CredentialsRejected("malformed")
        token = token.strip(" ")
        if key not in (None, token):
            raise CredentialsRejected("ambiguous")
        key = token
    if key is None:
        return None
    if not key:
        raise CredentialsRejected("malformed")
    # Header bytes that are not UTF-8 arrive as surrogates; they go back to the bytes they were.
    return Credential(key.encode("utf-8", "surrogateescape"), is_bearer=not api_keys)
