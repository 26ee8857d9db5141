"""What the contracts feed to adapters: ids and values that went wrong somewhere, and helpers to say what is expected."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
import anyio.lowlevel

from prefsync.document import Document, Subject
from prefsync.merge import difference
from prefsync.ports import Outcome, RequestRecord, Write
from prefsync.strictjson import Limits, canonical, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.document import Values
    from prefsync.ports import PreferenceRepository

__all__ = [
    "CANCELLED_BY",
    "EXACT_VALUES",
    "HOSTILE_SUBJECTS",
    "NOW",
    "PATIENCE",
    "a_little",
    "cut_short",
    "fresh_subject",
    "is_same",
    "other_tasks",
    "record",
    "settled",
    "step",
    "store",
]

CancelledBy: TypeAlias = Literal["scope", "task"]

CANCELLED_BY: Final[tuple[CancelledBy, ...]] = ("scope", "task")
"""The ways to cancel a call: anyio's, which asks until it ends, and asyncio's, which asks once and passes shields."""

NOW: Final = 1_795_000_000_000
"""The time at which the contracts write, in ms since 1970; what they trim is far older."""

PATIENCE: Final = 20.0
"""Seconds after which something that should have come by itself counts as missing."""

HOSTILE_SUBJECTS: Final = tuple(
    Subject(user, tenant)
    for user, tenant in [
        ("a", "b"),
        ("b", "a"),
        ("ab", None),
        ("b", None),
        ("a", None),
        ("A", None),  # a case-insensitive collation takes it for the one before
        ("a ", None),  # and one that pads strings, this
        (" a", None),
        ("tb", None),
        ("b:a", None),
        ("a", "b:"),
        (":a", "b"),
        ("b/a", None),
        ("a}", "{b"),
        ("{b}a", None),
        ("*", None),
        ("?", None),
        ("%", None),
        ("_", None),
        ("[a-z]", None),
        ("None", None),
        ("null", "None"),
        ("0", None),
        ("00", None),
        ("0.0", None),
        ("' OR '1'='1", None),
        ("'; DROP TABLE user_preferences; --", "x'"),
        ('"', '"'),
        ("\\", "\\\\"),
        ("\\u0061", None),
        ("$1", ":user"),
        ("%s", "%(user)s"),
        ("caf\u00e9", None),  # composed
        ("cafe\u0301", None),  # decomposed: looks the same and is another user
        ("\u00c5", None),
        ("\u212b", None),  # the angstrom sign, which NFC turns into the one before
        ("ﬁ", None),
        ("fi", None),
        ("ß", None),
        ("SS", None),
        ("\u0130", None),
        ("i\u0307", None),
        ("\u200b", None),  # no width
        ("\u202e", None),  # right to left
        ("\ufeff", None),
        ("\ufffd", None),
        ("\uffff", None),
        ("\U0001f469\u200d\U0001f680", None),
        ("\U0001f469", None),
        ("\U0010ffff", None),
        ("x" * 255, None),
        ("x" * 254, None),
        ("x" * 255, "x" * 255),
        ("\U0001f600" * 255, None),
        ("\U0001f600" * 255, "\U0001f600" * 255),
    ]
)
"""Subjects that are all different, each to be confused with another by some careless way to build a key."""


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"": value}
    return value


EXACT_VALUES: Final[dict[str, Any]] = {
    "null": None,
    "true": True,
    "one": 1,
    "one point": 1.0,
    "zero": 0,
    "minus zero": -0.0,
    "tenth": 0.1,
    "thirds": 1 / 3,
    "largest safe": 2**53 - 1,
    "smallest safe": -(2**53) + 1,
    "beyond safe": 2.0**53,
    "1e15": 1e15,
    "1e16": 1e16,
    "1e21": 1e21,
    "1e22": 1e22,
    "1e23": 1e23,
    "1e308": 1e308,
    "largest": 1.7976931348623157e308,
    "smallest normal": 2.2250738585072014e-308,
    "smallest": 5e-324,
    "minus smallest": -5e-324,
    "1e-7": 1e-7,
    "123456789012345680": 123456789012345680.0,
    "9007199254740993.0": 9007199254740993.0,
    "4.35": 4.35,
    "0.30000000000000004": 0.30000000000000004,
    "empty string": "",
    "string of a number": "1e22",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\u2028\u2029",
    "quotes": "\"'`\\/\\u0041\\n",
    "markup": "<script>alert('&amp;')</script>",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "astral": "\U0001f469\u200d\U0001f680\U0010ffff",
    "edges": "\ud7ff\ue000\ufdd0\ufeff\ufffe\uffff",
    "spaces": "  \t\n\r x \u00a0\u3000",
    "long": "x" * 16_000,
    "empty list": [],
    "empty object": {},
    "empty name": {"": {"": ""}},
    "names": {
        "b": 1,
        "a": 2,
        "B": 3,
        "\u00e9": 4,
        "e\u0301": 5,
        "aa": 6,
        "\U0001f600": 7,
        "\uffff": 8,
        "a.b": 9,
        "$": 0,
    },
    "mixed": [None, True, False, 0, 1, 1.5, "", [], {}, [[[]]], {"a": [{"b": [None]}]}],
    "deep": _nested(60),
    "wide": list(range(1_000)),
}
"""JSON values that some database, driver or serializer changes on the way."""


def fresh_subject(tenant: str | None = None) -> Subject:
    """Return a subject that nobody has used before."""
    return Subject(f"user-{secrets.token_hex(8)}", tenant)


def record(key: str, *, at: int = NOW, answer: bytes = b"answer") -> RequestRecord:
    """Return an idempotency key's record."""
    return RequestRecord(key, key.encode()[:32].ljust(32, b"\xff"), answer, at)


def step(
    before: Document, values: Values, *, now: int = NOW, origin: str | None = None, key: str | None = None
) -> Write:
    """Return the write that leads from a document to one with other values."""
    found = difference(before, canonical(values), now=now, origin=origin, limits=Limits(document=2**30))
    assert found is not None, "a step has to change something"
    after, change = found
    return Write(before, after, change, None if key is None else record(key, at=now))


async def store(
    repository: PreferenceRepository,
    subject: Subject,
    values: Values,
    *,
    now: int = NOW,
    origin: str | None = None,
    key: str | None = None,
) -> Write:
    """Write values upon what is stored, and return the write that did it."""
    write = step(await repository.load(subject), values, now=now, origin=origin, key=key)
    assert await repository.write(subject, write) is Outcome.WRITTEN
    return write


def is_same(one: Document, other: Document) -> bool:
    """Tell whether two documents are the same to the byte."""
    return (
        one.revision == other.revision
        and dict(one.revisions) == dict(other.revisions)
        and encode(canonical(one.values)) == encode(canonical(other.values))
    )


async def cut_short(steps: int, kind: CancelledBy, *calls: Callable[[], Awaitable[object]]) -> None:
    """Make calls at once and cancel them a little later, a little later still with each step.

    The first steps are rounds of the event loop, which are few where no server has to answer; the later ones are time.

    Args:
        steps: How long to wait; from 0 to 30 covers what a call does.
        kind: ``scope`` cancels as anyio does, until the call gives up; ``task`` as asyncio does, once.
        calls: What to cancel.
    """
    if kind == "scope":
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(call)  # type: ignore[arg-type]  # any awaitable will do
            await a_little(steps)
            tasks.cancel_scope.cancel()
        return
    running = [asyncio.ensure_future(call()) for call in calls]
    await a_little(steps)
    for one in running:
        one.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def a_little(steps: int) -> None:
    """Wait for a few rounds of the event loop, or from 12 steps on for a quarter of a millisecond for each."""
    if steps < 12:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
    else:
        await anyio.sleep((steps - 11) * 0.000_25)


async def settled(done: Callable[[], bool], failure: str) -> None:
    """Wait until something is so; fail where it does not become so.

    Raises:
        AssertionError: It is still not so after a generous time.
    """
    with anyio.move_on_after(PATIENCE):
        while not done():
            await anyio.sleep(0.002)
    assert done(), failure


def other_tasks() -> set[asyncio.Task[Any]]:
    """Return all tasks of the event loop but this one and those of anyio's pytest plugin."""
    return {
        task
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task()
        and "TestRunner." not in getattr(task.get_coro(), "__qualname__", "")
    }
