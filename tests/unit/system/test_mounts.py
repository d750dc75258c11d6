"""What is known of mounts."""

import os

import pytest

from gateway.system.mounts import is_in_memory


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="there is no tmpfs")
def test_a_tmpfs_is_in_memory() -> None:
    assert is_in_memory(os.stat("/dev/shm").st_dev)


def test_other_file_systems_are_not_known_to_be_in_memory() -> None:
    assert not is_in_memory(os.stat("/proc").st_dev)
    assert not is_in_memory(os.makedev(4000, 4000))
