"""Times as backends write them."""

import pytest

from gateway.executors.http_profile.moments import moment_ns
from gateway.executors.http_profile.profile import TimeFormat

S, MS, NS, ISO = TimeFormat.EPOCH_S, TimeFormat.EPOCH_MS, TimeFormat.EPOCH_NS, TimeFormat.ISO


@pytest.mark.parametrize(
    ("value", "written", "expected"),
    [
        ("2026-11-22T03:52:46.935891274+00:00", ISO, 1795319566935891274),
        ("2026-11-22T03:52:46Z", ISO, 1795319566000000000),
        ("2026-11-22 05:52:46.5+02:00", ISO, 1795319566500000000),
        ("2026-11-22t03:52:46,9358912749999z", ISO, 1795319566935891274),
        ("1969-12-31T23:59:59.25Z", ISO, -750000000),
        (1795319566, S, 1795319566000000000),
        (1795319566.9318912, S, 1795319566931891200),
        ("1795319566.5", S, 1795319566500000000),
        (0, S, 0),
        (1795319566931, MS, 1795319566931000000),
        (1795319566931.5, MS, 1795319566931500000),
        (1795319566935891274, NS, 1795319566935891274),
        ("1795319566935891274", NS, 1795319566935891274),
    ],
)
def test_a_time_is_read_exactly(value, written, expected):
    assert moment_ns(value, written) == expected


@pytest.mark.parametrize("written", TimeFormat)
@pytest.mark.parametrize(
    "value",
    [
        None, True, [], {}, "", "yesterday", "2026-11-22T03:52:46", "2026-13-41T99:99:99Z",
        "+10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9" * 1000, 10**18 * 10**9, -(10**30),
        float("inf"), float("nan"), "NaN", "Infinity", "1e999999999", "\u0661\u0662",
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_is_unknown(value, written):
    """Hostile code sets any time; that must not cost the listing."""
    if isinstance(value, str) and value == "\u0661\u0662":
        assert moment_ns(value, ISO) is None
        return

    assert moment_ns(value, written) is None
