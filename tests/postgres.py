"""A real PostgreSQL server of the tests' own, which can be stopped and started again."""

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from glob import glob
from urllib.parse import quote

from tests import needs
from tests.ports import free_port

_USER = "gateway"
_PASSWORD = "p@ss:wörd/%"
_STARTING_S = 60
_AT_ONCE = 8  # databases: to start psql takes longer than to make one
_MEMORY = "/dev/shm"
_MOST_BYTES = 8 << 30  # of the servers of several test processes, and as much again
# Nothing of it is to outlive the machine.
_FAST = ("-F", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class Server:
    """Listens on a port of this host, with a password, until the tests end."""

    def __init__(self, programs: str) -> None:
        self._programs = programs
        self._home = tempfile.mkdtemp(prefix="postgres-", dir=_in_memory())
        self._data = os.path.join(self._home, "data")
        self._account: str | None = None
        if os.geteuid() == 0:  # as whom PostgreSQL refuses to run
            self._account = "postgres"
            shutil.chown(self._home, self._account)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._unused: list[str] = []
        self._initialize()
        self.start()
        atexit.register(self._end)

    def url(self, database: str) -> str:
        """The address of *database*."""
        return f"postgresql://{_USER}:{quote(_PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The address of a new, empty database."""
        if not self._unused:
            self._unused = [f"store_{secrets.token_hex(4)}" for _ in range(_AT_ONCE)]
            self.execute(*(f"CREATE DATABASE {name}" for name in self._unused))
        return self.url(self._unused.pop())

    def execute(self, *statements: str, database: str = "postgres") -> str:
        """What psql prints for *statements*."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        words = [word for statement in statements for word in ("-c", statement)]
        done = subprocess.run(
            [*command, *words, self.url(database)],
            capture_output=True,
            text=True,
            timeout=_STARTING_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dump(self, url: str) -> bytes:
        """All rows of the database at *url*."""
        command = [self._program("pg_dump"), "--data-only", "--inserts", url]
        return subprocess.run(command, check=True, capture_output=True, timeout=_STARTING_S).stdout

    def start(self) -> None:
        """Return when it answers."""
        options = ["-D", self._data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self._home]
        with open(os.path.join(self._home, "log"), "ab") as log:
            self._process = subprocess.Popen(
                [self._program("postgres"), *options, *_FAST],
                cwd=self._home,
                user=self._account,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _STARTING_S
        while True:
            try:
                self.execute("SELECT 1")
            except AssertionError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Break every connection and be gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_STARTING_S)
        self._process = None

    def _initialize(self) -> None:
        password = os.path.join(self._home, "password")
        with open(password, "w", encoding="utf-8") as file:
            file.write(_PASSWORD)
        options = ["-D", self._data, "-U", _USER, "-A", "scram-sha-256", "--pwfile", password]
        subprocess.run(
            [self._program("initdb"), *options, "-E", "UTF8", "--locale", "C.UTF-8", "-N"],
            cwd=self._home,
            user=self._account,
            check=True,
            capture_output=True,
            timeout=_STARTING_S,
        )

    def _program(self, name: str) -> str:
        return os.path.join(self._programs, name)

    def _end(self) -> None:
        if self._process is not None:
            self.stop()
        shutil.rmtree(self._home)


@cache
def server() -> Server:
    """The one server of this process."""
    found = sorted(glob("/usr/lib/postgresql/*/bin"))
    on_path = shutil.which("initdb")
    if on_path is None and not found:
        needs.missing("needs a PostgreSQL server")
    needs.program("psql")
    return Server(os.path.dirname(os.path.realpath(on_path)) if on_path else found[-1])


def _in_memory() -> str | None:
    """Where hundreds of databases are made and removed at once, if there is room."""
    has_room = os.path.isdir(_MEMORY) and shutil.disk_usage(_MEMORY).free > _MOST_BYTES
    return _MEMORY if has_room else None
