"""Sizes and times as people write them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config.units import Duration, Mode, Network, Size

SIZE: TypeAdapter[int] = TypeAdapter(Size)
DURATION: TypeAdapter[float] = TypeAdapter(Duration)
MODE: TypeAdapter[str] = TypeAdapter(Mode)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("0", 0),
        ("1B", 1),
        ("1kB", 1000),
        ("1KB", 1000),
        ("100MB", 100_000_000),
        ("100 MiB", 104_857_600),
        ("1.5KiB", 1536),
        ("2.3MB", 2_300_000),
        ("1TiB", 1024**4),
    ],
)
def test_sizes(written, expected):
    size = SIZE.validate_python(written)

    assert size == expected
    assert isinstance(size, int)


@pytest.mark.parametrize(
    "written",
    [True, None, [], -1, 1.5, "-1", "0.5B", "1mb", "1M", "1 000", "", "MiB", "1e3", "9" * 5000,
     "999999999TiB", float("nan"), float("inf"), "１MB"],
)  # fmt: skip
def test_what_is_no_size(written):
    with pytest.raises(ValidationError, match="must be a size such as"):
        SIZE.validate_python(written)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (3, 3.0),
        (0.25, 0.25),
        ("3", 3.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("1h", 3600.0),
    ],
)
def test_durations(written, expected):
    assert DURATION.validate_python(written) == expected


@pytest.mark.parametrize("written", [True, None, "3d", "1m30s", "s", -1, "-1s", float("inf")])
def test_what_is_no_duration(written):
    with pytest.raises(ValidationError, match="must be a time such as"):
        DURATION.validate_python(written)


@pytest.mark.parametrize("written", ["0660", "660", "0600", "777"])
def test_modes(written):
    assert MODE.validate_python(written) == written


@pytest.mark.parametrize("written", [0o660, 660, "0o660", "1777", "8", "", "0668", None, True])
def test_what_is_no_mode(written):
    with pytest.raises(ValidationError, match='must be a mode in quotes such as "0660"'):
        MODE.validate_python(written)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, b"0"), (1000, b"1000"), (1536, b"1536"), (1024, b'"1KiB"'), (1024**3, b'"1GiB"')],
)
def test_sizes_are_written_as_people_do(value, written):
    assert SIZE.dump_json(value) == written
    assert SIZE.validate_json(written) == value


@pytest.mark.parametrize(("value", "written"), [(0.5, b'"0.5s"'), (120.0, b'"120s"')])
def test_durations_are_written_with_their_unit(value, written):
    assert DURATION.dump_json(value) == written
    assert DURATION.validate_json(written) == value


def test_a_network_is_taken_as_it_is():
    adapter: TypeAdapter[Network] = TypeAdapter(Network)
    network = adapter.validate_python("10.0.0.0/8")

    assert adapter.validate_python(network) is network
