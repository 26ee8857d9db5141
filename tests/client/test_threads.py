"""What only one of the two clients is asked: threads, forks, garbage; tasks and cancellation."""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest

from prefsync.client import AsyncPreferencesClient, PreferencesClient
from prefsync.errors import ConfigurationError
from tests.client.conftest import PATIENCE, token_for
from tests.client.scripted import Asked, Scripted, document, event, problem, reset, respond, stream_head
from tests.http.conftest import load_example

if TYPE_CHECKING:
    from tests.servers import ServerProcess

pytestmark = pytest.mark.once


def network_threads() -> int:
    """Count the threads of blocking clients."""
    return sum(thread.name == "prefsync-client" for thread in threading.enumerate())


def test_eight_threads_share_a_client(server: ServerProcess, user: str) -> None:
    """Eight threads that write at once lose nothing, read their writes, and ask for one token."""
    asked: list[int] = []

    def token() -> str:
        asked.append(threading.get_ident())
        return token_for(user)

    with PreferencesClient(f"{server.url}/preferences", token) as prefs:

        def work(name: str) -> None:
            for number in range(10):
                revision = prefs.patch("plugins", {name: number}).revision
                state = prefs.read("plugins")
                assert state.values[name] == number
                assert state.revision >= revision

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, "abcdefgh"))
        assert prefs.get("plugins") == dict.fromkeys("abcdefgh", 9)
        assert len(asked) == 1
        assert network_threads() == 1
    assert network_threads() == 0


def test_it_works_inside_a_running_loop(server: ServerProcess, user: str) -> None:
    """A notebook runs a loop already: the blocking client does not mind."""

    async def main() -> object:
        with PreferencesClient(f"{server.url}/preferences", token_for(user)) as prefs:
            return prefs.get("plugins")

    assert anyio.run(main) == {}


def test_closing_from_another_thread_ends_calls() -> None:
    """Whoever waits in a call when the client is closed is told so at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    prefs = PreferencesClient(f"http://127.0.0.1:{listener.getsockname()[1]}/preferences", "a.b.c")
    with listener, ThreadPoolExecutor(1) as pool:
        call = pool.submit(prefs.get)
        connection, _ = listener.accept()  # it has begun
        with connection:
            started = time.monotonic()
            prefs.close()
            with pytest.raises(RuntimeError, match="closed"):
                call.result(PATIENCE)
            assert time.monotonic() - started < 5


def test_garbage_takes_its_thread_along(server: ServerProcess, user: str) -> None:
    """A client that nobody holds any more ends its thread; a watch holds its client."""
    prefs = PreferencesClient(f"{server.url}/preferences", token_for(user))
    events = prefs.watch()
    del prefs
    gc.collect()
    next(events)
    assert network_threads() == 1
    events.close()
    del events
    limit = time.monotonic() + PATIENCE
    while (
        network_threads() and time.monotonic() < limit
    ):  # what closes the connection holds the watch until it has
        gc.collect()
        time.sleep(0.01)
    assert network_threads() == 0


FORKING = """
import os, sys, warnings
from prefsync.client import PreferencesClient
warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads is the point
prefs = PreferencesClient(sys.argv[1], sys.argv[2])
prefs.patch("plugins", {"parent": 1})
child = os.fork()
if child == 0:
    prefs.patch("plugins", {"child": 1})
    prefs.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert prefs.get("plugins") == {"parent": 1, "child": 1}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_makes_connections_of_its_own(server: ServerProcess, user: str) -> None:
    """A client that was used before a fork works in the child and in the parent, and both end."""
    arguments = [sys.executable, "-W", "error", "-c", FORKING, f"{server.url}/preferences", token_for(user)]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_program_may_end_in_the_midst(server: ServerProcess, user: str) -> None:
    """A script that closes nothing ends at once, and quietly."""
    script = (
        "import sys; from prefsync.client import PreferencesClient; "
        "prefs = PreferencesClient(*sys.argv[1:]); events = prefs.watch(); next(events)"
    )
    arguments = [sys.executable, "-W", "error", "-c", script, f"{server.url}/preferences", token_for(user)]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_coroutine_function_is_for_the_other_client() -> None:
    """What the blocking client could not call is refused at once."""

    async def token() -> str:
        return "a.b.c"

    with pytest.raises(ConfigurationError, match="AsyncPreferencesClient"):
        PreferencesClient("http://127.0.0.1:9/preferences", token)  # type: ignore[arg-type]


def test_a_token_function_without_more_tokens() -> None:
    """A function that raises ``StopIteration``, an iterator's for one, does not end a call as if it had succeeded."""
    with PreferencesClient("http://127.0.0.1:9/preferences", iter([]).__next__) as prefs:
        with pytest.raises(RuntimeError, match="no more tokens"):
            prefs.get()
        with pytest.raises(RuntimeError, match="no more tokens"):
            next(prefs.watch())


@pytest.mark.anyio
async def test_a_coroutine_function_gives_tokens() -> None:
    """The async client awaits a coroutine function, once for all calls that wait for it."""
    asked: list[int] = []

    async def token() -> str:
        asked.append(1)
        await anyio.sleep(0.05)
        return f"token-{len(asked)}"

    async def answer(asked: Asked) -> None:
        is_good = asked.headers["authorization"] == "Bearer token-2"
        await asked.send(document() if is_good else problem(401, "unauthenticated"))

    async with Scripted(answer) as server, AsyncPreferencesClient(server.url, token) as prefs:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(prefs.get)
        assert len(asked) == 2


@pytest.mark.anyio
async def test_a_cancelled_iteration_loses_nothing() -> None:
    """After a time limit cut an iteration short, the next one joins again and goes on."""

    async def answer(asked: Asked) -> None:
        await asked.send(stream_head() + event("reset", reset(5 + asked.number)))
        await asked.hang()

    async with Scripted(answer) as server, AsyncPreferencesClient(server.url, "a.b.c") as prefs:
        async with prefs.watch() as events:
            assert (await anext(events)).revision == 5
            with anyio.move_on_after(0.1):
                await anext(events)
            with anyio.fail_after(PATIENCE):
                assert (await anext(events)).revision == 6
            assert server.asked[1].headers["last-event-id"] == "5"


@pytest.mark.anyio
async def test_an_app_in_this_process() -> None:
    """Tests of a host hand over its app, and need no server."""
    app = load_example().app
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with AsyncPreferencesClient(
            "http://test/preferences", token_for("a"), transport=transport
        ) as prefs:
            await prefs.patch("plugins", {"a": 1})
            assert await prefs.get("plugins") == {"a": 1}


@pytest.mark.anyio
async def test_no_cookie_page_or_redirect_is_followed() -> None:
    """The token goes to the address that was given, and nowhere else."""

    async def elsewhere(asked: Asked) -> None:
        await asked.send(document())

    async with Scripted(elsewhere) as other:

        async def answer(asked: Asked) -> None:
            await asked.send(respond(307, b"", {"Location": other.url}))

        async with Scripted(answer) as server, AsyncPreferencesClient(server.url, "a.b.c") as prefs:
            with contextlib.suppress(Exception):
                await prefs.get()
            assert len(server.asked) == 1
            assert other.asked == []
