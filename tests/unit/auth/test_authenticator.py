"""Who holds a key."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from gateway.auth.api_key import digest, new_key
from gateway.auth.authenticator import Authenticator, ConfigKeys, Credential
from gateway.domain.errors import CredentialsRejected, StoreUnavailable
from gateway.domain.model import Principal, Scope

NOW = datetime.now(UTC)
TOKEN = b"eyJhbGciOiJub25lIn0.e30.c2ln"


def holder(name: str, expires: datetime | None = None) -> Principal:
    return Principal(name, "acme", frozenset({Scope.FILES_READ}), expires=expires)


def listed(keys: Mapping[str, Principal]) -> ConfigKeys:
    return ConfigKeys((digest(key), principal) for key, principal in keys.items())


async def who(authenticator: Authenticator, key: str | bytes, *, is_bearer: bool = False) -> str:
    """The id of whoever presents *key*."""
    value = key.encode() if isinstance(key, str) else key
    return (await authenticator.identify(Credential(value, is_bearer))).key_id


class Asked:
    """A source that knows one key, and counts how often it is asked."""

    def __init__(self, key: str, principal: Principal) -> None:
        self._known = {digest(key): principal}
        self.times = 0

    async def holder(self, key_digest: bytes) -> Principal | None:
        self.times += 1
        return self._known.get(key_digest)


class Down:
    """A source that cannot be reached."""

    async def holder(self, key_digest: bytes) -> Principal | None:
        raise StoreUnavailable


class Issuer:
    """Takes every token for a good one."""

    async def identify(self, token: bytes) -> Principal:
        return holder("a token's")


async def test_each_key_is_its_holder_s() -> None:
    one, other = new_key("one"), "sk_foreign"
    authenticator = Authenticator([listed({one: holder("one"), other: holder("other")})])

    assert await who(authenticator, one) == "one"
    assert await who(authenticator, other, is_bearer=True) == "other"


@pytest.mark.parametrize(
    "key",
    [b"", b"sk_tes", b"sk_test ", b"SK_TEST", b"sk_test\x00", b"\xff\xfe", digest("sk_test")],
)
async def test_nothing_else_is(key: bytes) -> None:
    """Not even the digest, which whoever reads the config knows."""
    authenticator = Authenticator([listed({"sk_test": holder("test")})])

    with pytest.raises(CredentialsRejected) as rejected:
        await who(authenticator, key)

    assert rejected.value.reason == "unknown"


async def test_a_slip_of_the_pen_is_told_from_a_stranger() -> None:
    """In metrics alone: the client is told the same."""
    key = new_key("ci")
    authenticator = Authenticator([listed({key: holder("ci")})])
    reasons = []

    for wrong in (new_key("ci"), key[:-1], key.replace("wsg_ci", "wsg_cj"), "wsg_"):
        with pytest.raises(CredentialsRejected) as rejected:
            await who(authenticator, wrong)
        reasons.append(rejected.value.reason)
        assert rejected.value.message == CredentialsRejected("unknown").message

    assert reasons == ["unknown", "mistyped", "mistyped", "mistyped"]


async def test_nobody_is_known_without_keys() -> None:
    for sources in ([], [ConfigKeys([])]):
        with pytest.raises(CredentialsRejected):
            await who(Authenticator(sources), b"")


async def test_sources_are_asked_in_turn() -> None:
    first, second = Asked("one", holder("first")), Asked("two", holder("second"))
    authenticator = Authenticator([first, second])

    assert await who(authenticator, "one") == "first"
    assert (first.times, second.times) == (1, 0)
    assert await who(authenticator, "two") == "second"
    assert (first.times, second.times) == (2, 1)


async def test_a_source_that_is_down_is_no_stranger_s_fault() -> None:
    """Who is known before it is asked still gets in; nobody else is called unknown."""
    authenticator = Authenticator([listed({"one": holder("first")}), Down()])

    assert await who(authenticator, "one") == "first"
    with pytest.raises(StoreUnavailable):
        await who(authenticator, "two")


@pytest.mark.parametrize(
    ("expires", "good"),
    [
        (None, True),
        (NOW + timedelta(hours=1), True),
        (NOW - timedelta(seconds=1), False),
    ],
)
async def test_a_key_is_good_until_it_expires(expires: datetime | None, good: bool) -> None:
    """The client is told the same as for an unknown one; no other source is asked."""
    later = Asked("k", holder("later"))
    authenticator = Authenticator([listed({"k": holder("k", expires)}), later])

    if good:
        assert await who(authenticator, b"k") == "k"
        return
    with pytest.raises(CredentialsRejected) as rejected:
        await who(authenticator, b"k")
    assert rejected.value.reason == "expired"
    assert rejected.value.message == CredentialsRejected("unknown").message
    assert later.times == 0


async def test_a_bearer_of_that_form_is_a_token() -> None:
    authenticator = Authenticator([listed({TOKEN.decode(): holder("a key's")})], Issuer())

    assert await who(authenticator, TOKEN, is_bearer=True) == "a token's"
    assert await who(authenticator, TOKEN) == "a key's"


async def test_without_an_issuer_there_are_no_tokens() -> None:
    """A foreign key of that form works as it did before."""
    authenticator = Authenticator([listed({TOKEN.decode(): holder("a key's")})])

    assert await who(authenticator, TOKEN, is_bearer=True) == "a key's"


@pytest.mark.parametrize(
    "key",
    [
        "wsg_a.b.c_0123456789abcdefghijkl_000000",
        "sk_foreign",
        "aaa.bbb.ccc",
        "eyJhbGciOiJub25lIn0.e30",
        "eyJhbGciOiJub25lIn0.e30.c2ln.c2ln",
        "eyJhbGciOiJub25lIn0.e30.c2ln=",
        "eyJhbGciOiJub25lIn0.e30.c2+n",
        "eyJhbGciOiJub25lIn0.e30.c2ln\n",
    ],
)
async def test_what_has_another_form_is_a_key(key: str) -> None:
    authenticator = Authenticator([listed({key: holder("a key's")})], Issuer())

    assert await who(authenticator, key, is_bearer=True) == "a key's"
