"""Which executor a session is on."""

import pytest

from gateway.domain.model import parse_session_id
from gateway.service.placement import Placement
from tests.unit.executors.scripted import Scripted

DEFAULT, EDGE, CLOUD = Scripted("default"), Scripted("edge"), Scripted("cloud")


@pytest.mark.parametrize(
    ("session", "executor"),
    [("s1", DEFAULT), ("k8s-1", EDGE), ("k8s-", EDGE), ("K8S-1", DEFAULT), ("k9s-1", CLOUD)],
)
def test_the_first_rule_that_matches_counts(session, executor):
    placement = Placement(DEFAULT, [("k8s-*", EDGE), ("k?s-*", CLOUD)])

    assert placement.executor_of(parse_session_id(session)) is executor
