"""A bounded pool of daemon threads: one that hangs in an open or a read never holds up the exit."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class Pool(Executor):
    """At most *threads* threads, started when they are needed.

    `concurrent.futures.ThreadPoolExecutor` joins its threads at interpreter exit, and a thread
    in a read of a hung network file system cannot be joined.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._due = 0  # calls that are queued or being made
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Queue a call; raise RuntimeError if the pool is shut down, or can have no thread."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the pool {self._name} is shut down")
            if len(self._threads) < min(self._most, self._due + 1):
                self._start_thread()
            self._due += 1
            self._jobs.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with *wait*, return when the running ones are done."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._cancel_queued()
            for _ in self._threads:
                self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no memory for another, or the limit of processes
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _cancel_queued(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is not None:
                job[0].cancel()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as exc:  # noqa: BLE001  # the caller's, by way of the future
                    future.set_exception(exc)
                else:
                    future.set_result(result)
                    del result
            # An idle thread must not keep the last call's arguments and result alive.
            del job, future, call
            with self._lock:
                self._due -= 1
