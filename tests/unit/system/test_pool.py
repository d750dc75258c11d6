"""The pool of daemon threads."""

import subprocess
import sys
import threading
import time

import pytest

from gateway.system.pool import Pool


def test_results_and_errors_come_by_the_future() -> None:
    with Pool("test", 2) as pool:
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()


def test_no_more_threads_than_allowed_and_no_more_than_needed() -> None:
    gate = threading.Event()
    with Pool("counted", 3) as pool:
        for _ in range(20):
            pool.submit(int).result()
            time.sleep(0.001)
        few = threads_of("counted")

        waiting = [pool.submit(gate.wait) for _ in range(20)]
        many = threads_of("counted")
        gate.set()
        assert all(future.result() for future in waiting)

    assert few <= 2
    assert many == 3


def threads_of(pool: str) -> int:
    return sum(thread.name.startswith(f"{pool}-") for thread in threading.enumerate())


def test_a_call_that_was_cancelled_in_the_queue_is_not_made() -> None:
    gate, made = threading.Event(), []
    with Pool("test", 1) as pool:
        pool.submit(gate.wait)
        queued = pool.submit(made.append, 1)
        assert queued.cancel()
        gate.set()

    assert made == []


def test_a_stopped_pool_cancels_what_waits_and_takes_no_more() -> None:
    gate = threading.Event()
    pool = Pool("test", 1)
    running = pool.submit(gate.wait)
    while not running.running():
        time.sleep(0.001)
    queued = pool.submit(int)

    pool.shutdown(wait=False, cancel_futures=True)

    assert queued.cancelled()
    with pytest.raises(RuntimeError):
        pool.submit(int)
    gate.set()
    assert running.result()


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    program = """
import threading
from gateway.system.pool import Pool
Pool("test", 1).submit(threading.Event().wait)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=10)


def test_a_pool_that_could_have_no_thread_has_one_later() -> None:
    """What was asked for meanwhile is refused, and not done behind the caller's back."""
    program = """
import resource, threading
from gateway.system.pool import Pool
pool, made = Pool("test", 1), []
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
threading.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
try:
    pool.submit(made.append, 1)
except RuntimeError as exc:
    assert "start new thread" in str(exc), exc
else:
    raise AssertionError("there is a thread")
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert pool.submit(int).result(5) == 0
assert made == []
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


def test_a_pool_that_could_have_no_more_threads_has_them_later() -> None:
    program = """
import resource, threading
from gateway.system.pool import Pool
pool, gate = Pool("test", 3), threading.Event()
pool.submit(gate.wait)
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
threading.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
queued = [pool.submit(int) for _ in range(5)]
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
threading.stack_size(0)
meeting = threading.Barrier(2)
met = [pool.submit(meeting.wait, 10) for _ in range(2)]
assert sorted(each.result(10) for each in met) == [0, 1]
assert [each.result(10) for each in queued] == [0] * 5
gate.set()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
