"""The blocking runtime in processes that fork, that never close what they opened, and that are interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.blocking.conftest import Ended

pytestmark = pytest.mark.once

# Parent and child each write a field of their own, 20 times, and read it back.
BOTH_GO_ON = """
pid = os.fork()
field = "size" if pid else "weight"
for number in range(20):
    mine.update(Appearance, **{field: number})
    assert getattr(mine.get(Appearance), field) == number
if pid:
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"
    end = time.monotonic() + 30  # without Redis, another process is heard of about a second late
    while mine.get(Appearance).weight != 19:
        assert time.monotonic() < end, mine.get(Appearance)
        time.sleep(0.05)
    assert mine.get(Appearance).size == 19
    mine.update(Appearance, theme="dark")
    assert preferences.health().database
"""


@pytest.mark.parametrize("first", ["", "mine.get(Appearance)"], ids=["before first use", "after first use"])
def test_parent_and_child_go_on(program: Callable[[str], Ended], first: str) -> None:
    """After a fork both processes read and write, lose nothing of one another's, and end in order."""
    ended = program(first + BOTH_GO_ON)
    assert (ended.code, ended.err) == (0, "")


def test_children_of_children_and_of_threads_go_on(program: Callable[[str], Ended]) -> None:
    """A child's child works, and so do children forked by a thread while other threads are in the middle of calls."""
    ended = program("""
stop = threading.Event()
def write():
    number = 0
    while not stop.is_set():
        mine.update(Appearance, size=(number := number + 1))
threads = [threading.Thread(target=write) for _ in range(4)]
mine.get(Appearance)
for thread in threads:
    thread.start()
def fork_and_use(deeper):
    pid = os.fork()
    if pid == 0:
        mine.get(Appearance)
        mine.update(Appearance, theme="dark")
        if deeper:
            fork_and_use(False)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
for _ in range(3):
    fork_and_use(True)
stop.set()
for thread in threads:
    thread.join()
assert mine.get(Appearance).theme == "dark"
""")
    assert (ended.code, ended.err) == (0, "")


def test_nothing_is_opened_before_the_first_use(program: Callable[[str], Ended]) -> None:
    """A program that only declares its preferences has one thread and no connection."""
    ended = program("""
import psutil
assert threading.active_count() == 1
assert not psutil.Process().net_connections()
""")
    assert (ended.code, ended.err) == (0, "")


def test_a_program_that_never_closes_ends(program: Callable[[str], Ended]) -> None:
    """It ends within 2 s of its last line, with code 0, and prints nothing."""
    ended = program("mine.update(Appearance, size=1)")
    assert (ended.code, ended.err) == (0, "")
    assert ended.took < 2


def test_a_program_whose_threads_are_in_the_middle_of_calls_ends(program: Callable[[str], Ended]) -> None:
    """Daemon threads that read and write without end hold nothing up and print nothing."""
    ended = program("""
def use():
    try:
        while True:
            mine.update(Appearance, size=int(time.monotonic() * 1000))
    except Exception as error:
        ends.append(error)
ends = []
mine.get(Appearance)
for _ in range(4):
    threading.Thread(target=use, daemon=True).start()
time.sleep(0.3)
assert not ends, ends
""")
    assert (ended.code, ended.err) == (0, "")
    assert ended.took < 2


def test_closing_and_opening_again(program: Callable[[str], Ended]) -> None:
    """What was closed opens again with the next use, as often as one likes, and leaves no thread or connection."""
    ended = program("""
import psutil
for number in range(5):
    with preferences:
        mine.update(Appearance, size=number)
assert mine.get(Appearance).size == 4
preferences.close()
preferences.close()
assert not psutil.Process().net_connections()
assert {thread.name for thread in threading.enumerate()} <= {"MainThread", "prefsync"}, threading.enumerate()
""")
    assert (ended.code, ended.err) == (0, "")


def test_an_interrupt_ends_a_call_and_nothing_else(program: Callable[[str], Ended]) -> None:
    """Ctrl+C while a call waits raises KeyboardInterrupt at once; the next call works."""
    ended = program("""
import asyncio
mine.get(Appearance)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell has none
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    preferences.call(asyncio.sleep(10))
except KeyboardInterrupt:
    assert time.monotonic() - began < 5
else:
    raise AssertionError("no KeyboardInterrupt")
mine.update(Appearance, size=1)
assert mine.get(Appearance).size == 1
""")
    assert (ended.code, ended.err) == (0, "")


def test_code_with_a_running_loop_is_told_of_the_async_face(program: Callable[[str], Ended]) -> None:
    """Every call in a coroutine, the first or a later one, raises ConfigurationError at once; beside it all goes on."""
    ended = program("""
import asyncio
from prefsync import ConfigurationError
def refused(call):
    try:
        call()
    except ConfigurationError as error:
        assert "prefsync.Runtime" in str(error) and "asyncio.to_thread" in str(error), error
    else:
        raise AssertionError("not refused")
async def main(is_open):
    refused(lambda: mine.get(Appearance))
    refused(lambda: mine.update(Appearance, size=2))
    refused(lambda: mine.edit(Appearance).__enter__())
    if not is_open:
        refused(preferences.open)
    else:
        refused(preferences.close)
        assert (await asyncio.to_thread(mine.get, Appearance)).size == 1
asyncio.run(main(False))
mine.update(Appearance, size=1)
asyncio.run(main(True))
assert mine.get(Appearance).size == 1
""")
    assert (ended.code, ended.err) == (0, "")


def test_many_threads_share_one_runtime(program: Callable[[str], Ended]) -> None:
    """200 threads that begin with the first use get right answers of their own, and leave no connection in use."""
    ended = program("""
gate = threading.Barrier(200)
wrong = []
def use(number):
    own = preferences.handle(Subject(f"user-{number}"))
    gate.wait()
    for step in range(3):
        own.update(Appearance, size=number * 10 + step)
        found = own.get(Appearance).size
        if found != number * 10 + step:
            wrong.append((number, step, found))
threads = [threading.Thread(target=use, args=(number,)) for number in range(200)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong, wrong
""")
    assert (ended.code, ended.err) == (0, "")
