"""What is measured: requests to prefsync, what stands beside them, and what is asked of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from tests.bench.floor import UPSERT
from tests.bench.stage import CONSTANT, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.bench.crowd import Crowd, User

__all__ = ["Ask", "Case", "Traffic", "cases", "real_answers"]

PATH: Final = "/preferences"
WRITES_IN_MIX: Final = 0.05

_NEAR: Final = "prefsync, near"
_BY_HAND: Final = "written by hand"

_ACCENT: Final = re.compile(rb'"accent": ?"(#[0-9a-f]{6})"')
_ETAG: Final = re.compile(rb'\r\netag: ("[^"]*")', re.IGNORECASE)
_TOKEN: Final = re.compile(rb"\r\nAuthorization: Bearer (\S+)")

# As long as a real one, so that the floor reads as many bytes.
_NO_ETAG: Final = '"' + 20 * "0" + '"'


class Ask(Protocol):
    """Sends requests to one server, each once."""

    def __call__(self, requests: Iterable[bytes], status: bytes = b"200") -> dict[bytes, bytes]:
        """Return the answers by request, all of them with this status."""
        ...


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of one kind to one server.

    Attributes:
        server: Its name on the stage.
        label: What answers, as the table names it.
        requests: Makes ready what they need (full caches, current entity tags), and returns them, without end.
        check: Raises where an answer is not the right one for its request.
        status: What every answer must have.
    """

    server: str
    label: str
    requests: Callable[[Ask], Iterator[bytes]]
    check: Callable[[bytes, bytes], None]
    status: bytes = b"200"


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, beside its floor.

    Attributes:
        name: As ``--only`` takes it.
        title: As the table has it.
        work: What is measured.
        floor: What it is compared with.
        target: The part of the floor's requests a second that it is to reach.
        by_hand: The same requests to the server that was written by hand.
        times: How many times its requests a second are to be reached.
        slower: How many times the floor's median latency it may take.
        statements: How many database statements a request may cost.
        connections: How many; ``None`` for the usual number.
    """

    name: str
    title: str
    work: Traffic
    floor: Traffic
    target: float | None = None
    by_hand: Traffic | None = None
    times: float | None = None
    slower: float | None = None
    statements: float | None = None
    connections: int | None = None


def cases(crowd: Crowd) -> list[Case]:
    """Return all that is measured, in order."""
    names = {user.token.encode(): user.name for user in crowd.users}

    def check(request: bytes, answer: bytes) -> None:
        values = json.loads(_body(answer))["values"]
        assert values["plugins"]["owner"] == names[_found(_TOKEN, request)], "somebody else's document"
        sent = _ACCENT.search(_body(request))
        assert sent is None or values["appearance"]["accent"] == sent[1].decode(), (
            "not the state that it left"
        )

    def cached(ask: Ask) -> Iterator[bytes]:
        ask(crowd.read(PATH, user) for user in crowd.users)
        return crowd.reads(PATH)

    def unchanged(ask: Ask) -> Iterator[bytes]:
        requests = {crowd.read(PATH, user): user.name for user in crowd.users}
        etags = {
            requests[request]: _found(_ETAG, answer).decode() for request, answer in ask(requests).items()
        }
        return crowd.reads(PATH, etags)

    def mixed(ask: Ask) -> Iterator[bytes]:
        return crowd.mixed(cached(ask), crowd.patches(_path), WRITES_IN_MIX)

    def floor_unchanged(_: Ask) -> Iterator[bytes]:
        return crowd.reads(UNCHANGED, dict.fromkeys((user.name for user in crowd.users), _NO_ETAG))

    def to(server: str, label: str, requests: Callable[[Ask], Iterator[bytes]]) -> Traffic:
        return Traffic(server, label, requests, check)

    def replaces(_: Ask) -> Iterator[bytes]:
        return crowd.replaces(_path)

    def patches(_: Ask) -> Iterator[bytes]:
        return crowd.patches(_path)

    get, get_near = to("prefsync", "prefsync", cached), to("near", _NEAR, cached)
    get_by_hand = to("handwritten", _BY_HAND, cached)
    constant = Traffic("floor", "constant answer", lambda _: crowd.reads(CONSTANT), _check_length)
    constant_view = Traffic("flask_floor", "constant view", lambda _: crowd.reads(CONSTANT), _check_length)
    upsert = "bare upsert"
    return [
        Case("get", "cached GET", get, constant, target=0.35, by_hand=get_by_hand, times=6),
        Case(
            "get-near",
            "cached GET, near cache",
            get_near,
            constant,
            target=0.65,
            by_hand=get_by_hand,
            times=12,
        ),
        Case(
            "304",
            "GET with If-None-Match, 304",
            Traffic("prefsync", "prefsync", unchanged, _check_unchanged, b"304"),
            Traffic("floor", "constant answer", floor_unchanged, _check_length, b"304"),
        ),
        Case(
            "put",
            "PUT",
            to("prefsync", "prefsync", replaces),
            Traffic("floor", upsert, lambda _: crowd.replaces(_upsert_path), _check_echo),
            target=0.5,
            by_hand=to("handwritten", _BY_HAND, replaces),
            times=8,
        ),
        Case(
            "patch",
            "PATCH",
            to("prefsync", "prefsync", patches),
            Traffic("floor", upsert, lambda _: crowd.patches(_upsert_path), _check_echo),
            target=0.5,
            by_hand=to("handwritten", _BY_HAND, patches),
            times=8,
        ),
        Case(
            "mix",
            "95 % GET, 5 % PATCH",
            to("prefsync", "prefsync", mixed),
            constant,
            target=0.3,
            by_hand=to("handwritten", _BY_HAND, mixed),
            statements=0.055,
        ),
        Case(
            "mix-near",
            "95 % GET, 5 % PATCH, near cache",
            to("near", _NEAR, mixed),
            constant,
            target=0.5,
            statements=0.055,
        ),
        Case(
            "flask",
            "Flask: cached GET",
            to("flask", "prefsync", cached),
            constant_view,
            target=0.7,
        ),
        Case(
            "flask-put",
            "Flask: PUT",
            to("flask", "prefsync", replaces),
            constant_view,
        ),
        Case("get1", "GET on one connection", get, constant, slower=3, connections=1),
        Case(
            "get1-near",
            "GET on one connection, near cache",
            get_near,
            constant,
            slower=1.5,
            connections=1,
        ),
    ]


def real_answers(crowd: Crowd, ask: Ask) -> dict[str, bytes]:
    """Store every user's document, and return what the floor is to repeat, by path."""
    ask(crowd.stores(_path))
    get = crowd.read(PATH, crowd.users[0])
    answer = ask([get])[get]
    conditional = crowd.read(PATH, crowd.users[0], _found(_ETAG, answer).decode())
    return {CONSTANT: answer, UNCHANGED: ask([conditional], b"304")[conditional]}


def _path(_: User) -> str:
    return PATH


def _upsert_path(user: User) -> str:
    return UPSERT + user.name


def _body(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def _found(pattern: re.Pattern[bytes], text: bytes) -> bytes:
    found = pattern.search(text)
    assert found is not None, f"{pattern.pattern!r} is not in {text!r}"
    return found[1]


def _check_unchanged(request: bytes, answer: bytes) -> None:
    assert b"\r\nIf-None-Match: %b\r\n" % _found(_ETAG, answer) in request, "another state than the client's"


def _check_length(_: bytes, answer: bytes) -> None:
    assert answer[9:12] == b"304" or _body(answer), "no body"


def _check_echo(request: bytes, answer: bytes) -> None:
    assert _body(answer) == _body(request), "not the document that was sent"
