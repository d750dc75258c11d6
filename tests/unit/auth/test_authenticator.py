"""Who holds a key."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.auth.api_key import digest, new_key
from gateway.auth.authenticator import Authenticator
from gateway.domain.errors import CredentialsRejected
from gateway.domain.model import Principal, Scope

NOW = datetime.now(UTC)


def holder(name: str, expires: datetime | None = None) -> Principal:
    return Principal(name, "acme", frozenset({Scope.FILES_READ}), expires=expires)


def test_each_key_is_its_holder_s() -> None:
    one, other = new_key("one"), "sk_foreign"
    authenticator = Authenticator([(digest(one), holder("one")), (digest(other), holder("other"))])

    assert authenticator.identify(one.encode()).key_id == "one"
    assert authenticator.identify(other.encode()).key_id == "other"


@pytest.mark.parametrize(
    "key",
    [b"", b"sk_tes", b"sk_test ", b"SK_TEST", b"sk_test\x00", b"\xff\xfe", digest("sk_test")],
)
def test_nothing_else_is(key: bytes) -> None:
    """Not even the digest, which whoever reads the config knows."""
    authenticator = Authenticator([(digest("sk_test"), holder("test"))])

    with pytest.raises(CredentialsRejected) as rejected:
        authenticator.identify(key)

    assert rejected.value.reason == "unknown"


def test_nobody_is_known_without_keys() -> None:
    with pytest.raises(CredentialsRejected):
        Authenticator([]).identify(b"")


@pytest.mark.parametrize(
    ("expires", "good"),
    [
        (None, True),
        (NOW + timedelta(hours=1), True),
        (NOW - timedelta(seconds=1), False),
    ],
)
def test_a_key_is_good_until_it_expires(expires: datetime | None, good: bool) -> None:
    """The client is told the same as for an unknown one."""
    authenticator = Authenticator([(digest("k"), holder("k", expires))])

    if good:
        assert authenticator.identify(b"k").key_id == "k"
        return
    with pytest.raises(CredentialsRejected) as rejected:
        authenticator.identify(b"k")
    assert rejected.value.reason == "expired"
    assert rejected.value.message == CredentialsRejected("unknown").message
